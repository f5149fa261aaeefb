//! The documented examples of the language, its corners, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Pattern;

fn matches(pattern: &Value, event: &Value) -> bool {
    Pattern::read(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(event)
}

/// The shape of the event that the language's documentation explains its rules with.
fn ec2() -> Value {
    json!({
        "version": "0", "id": "6a7e8feb", "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2", "account": "111122223333", "time": "2017-12-22T18:43:48Z", "region": "us-west-1",
        "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
        "detail": {
            "instance-id": "i-1234567890abcdef0", "state": "terminated", "x-limit": 301.8, "c-count": 5,
            "source-ip": "10.0.0.33", "eventSource": "", "nothing": null, "Service": "eventbridge-pro",
            "fileName": "photo.JPG", "count": 2,
        },
    })
}

#[test]
fn documented_rules_match_what_they_are_said_to() {
    for (pattern, expected) in [
        (json!({"source": ["aws.ec2"]}), true),
        (json!({"source": ["aws.s3", "aws.ec2"]}), true),
        (json!({"source": ["aws.s3"]}), false),
        (json!({"source": ["aws.ec2"], "detail": {"state": ["terminated"]}}), true),
        (json!({"source": ["aws.ec2"], "detail": {"state": ["running"]}}), false),
        (json!({"resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"]}), true),
        (json!({"time": [{"prefix": "2017-12-22"}]}), true),
        (json!({"source": [{"prefix": {"equals-ignore-case": "AWS."}}]}), true),
        (json!({"detail": {"fileName": [{"suffix": ".JPG"}]}}), true),
        (json!({"detail": {"fileName": [{"suffix": ".jpg"}]}}), false),
        (json!({"detail": {"fileName": [{"suffix": {"equals-ignore-case": ".jpg"}}]}}), true),
        (json!({"detail": {"state": [{"anything-but": "initializing"}]}}), true),
        (json!({"detail": {"state": [{"anything-but": ["stopped", "terminated"]}]}}), false),
        (json!({"detail": {"x-limit": [{"anything-but": [100, 200, 300]}]}}), true),
        (json!({"detail": {"state": [{"anything-but": {"prefix": "term"}}]}}), false),
        (json!({"detail": {"state": [{"anything-but": {"prefix": ["init", "run"]}}]}}), true),
        (json!({"detail": {"fileName": [{"anything-but": {"suffix": [".txt", ".JPG"]}}]}}), false),
        (json!({"detail": {"state": [{"anything-but": {"equals-ignore-case": ["TERMINATED"]}}]}}), false),
        (json!({"detail": {"state": [{"anything-but": {"wildcard": "*init*"}}]}}), true),
        (json!({"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}]}}), true),
        (json!({"detail": {"c-count": [{"numeric": ["<", 5]}]}}), false),
        (json!({"detail": {"x-limit": [{"numeric": ["=", 3.018e2]}]}}), true),
        (json!({"detail": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}), true),
        (json!({"detail": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}), false),
        (json!({"detail": {"state": [{"exists": true}]}}), true),
        (json!({"detail": {"state": [{"exists": false}]}}), false),
        (json!({"detail": {"unknown": [{"exists": false}]}}), true),
        (json!({"detail": {"state": [{"equals-ignore-case": "TerMinated"}]}}), true),
        (json!({"detail": {"eventSource": [""]}}), true),
        (json!({"detail": {"nothing": [null]}}), true),
        (json!({"detail": {"Service": [{"wildcard": "event*-*o"}]}}), true),
        (json!({"detail": {"Service": [{"wildcard": "event*-*x"}]}}), false),
        (
            json!({"detail": {"$or": [{"c-count": [{"numeric": [">", 9]}]}, {"x-limit": [{"numeric": ["<=", 302]}]}]}}),
            true,
        ),
        (json!({"$or": [{"source": ["aws.s3"]}, {"detail": {"state": ["running"]}}]}), false),
        (json!({"source": ["aws.ec2"], "$or": [{"region": ["us-west-1"]}, {"account": ["1"]}]}), true),
    ] {
        assert_eq!(matches(&pattern, &ec2()), expected, "{pattern}");
    }
}

#[test]
fn what_is_absent_matches_only_what_says_so() {
    let event = json!({"a": {"b": 1}});
    for (pattern, expected) in [
        (json!({"x": [{"anything-but": "y"}]}), false),
        (json!({"x": [null]}), false),
        (json!({"x": {"y": [{"exists": false}]}}), true),
        (json!({"x": {"y": [{"exists": false}], "z": [1]}}), false),
        (json!({"a": {"b": {"c": [{"exists": false}]}}}), false),
        (json!({"a": [{"exists": true}]}), false),
        (json!({"a": {"b": [1.0]}}), true),
        (json!({"a": {"b": ["1"]}}), false),
    ] {
        assert_eq!(matches(&pattern, &event), expected, "{pattern}");
    }
    assert!(!Pattern::read(&json!({"a": [{"exists": false}]})).unwrap().matches(&json!("text")));
}

#[test]
fn one_element_of_a_list_must_match_all_that_is_asked_of_it() {
    let event =
        json!({"items": [{"kind": "book", "price": 5}, {"kind": "pen", "price": 50}], "tags": ["a", "b"]});
    let of = |kind: &str| json!({"items": {"kind": [kind], "price": [{"numeric": [">", 10]}]}});
    assert!(matches(&of("pen"), &event));
    assert!(!matches(&of("book"), &event), "the price is another element's");
    assert!(matches(&json!({"tags": ["x", "b"]}), &event));
    assert!(!matches(&json!({"tags": ["x"]}), &event));
    assert!(
        matches(&json!({"a": {"b": [2]}}), &json!({"a": [[{"b": [1, [2]]}]]})),
        "however deep the lists are"
    );
    assert!(!matches(&json!({"tags": [{"exists": true}]}), &json!({"tags": []})));
}

#[test]
fn wildcards_and_blocks_at_their_edges() {
    let wildcard =
        |text: &str, value: &str| matches(&json!({"a": [{"wildcard": text}]}), &json!({"a": value}));
    for (text, value, expected) in [
        ("*", "", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "a", true),
        ("*a", "ba", true),
        ("a*a", "a", false),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*b", "ab", false),
        (r"a\*b", "a*b", true),
        (r"a\*b", "axb", false),
        (r"a\\*", r"a\x", true),
        ("日*語", "日本語", true),
    ] {
        assert_eq!(wildcard(text, value), expected, "{text} {value}");
    }
    let cidr = |block: &str, value: &str| matches(&json!({"a": [{"cidr": block}]}), &json!({"a": value}));
    for (block, value, expected) in [
        ("0.0.0.0/0", "1.2.3.4", true),
        ("1.2.3.4/32", "1.2.3.4", true),
        ("1.2.3.4/32", "1.2.3.5", false),
        ("10.0.0.7/24", "10.0.0.200", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "1.2.3.4", false),
        ("10.0.0.0/8", "no address", false),
    ] {
        assert_eq!(cidr(block, value), expected, "{block} {value}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (pattern, expected) in [
        (json!([]), "filter: a filter is an object"),
        (json!({}), "filter: an empty object"),
        (json!({"a": {}}), "filter.a: an empty object"),
        (json!({"a": "b"}), "filter.a: write the value in a list: [\"b\"]"),
        (json!({"a": []}), "filter.a: an empty list"),
        (json!({"a": [["b"]]}), "filter.a: a list within a list"),
        (json!({"a": [{}]}), "filter.a: a rule has one key"),
        (json!({"a": [{"prefix": "x", "suffix": "y"}]}), "filter.a: a rule has one key"),
        (json!({"a": {"b": [{"prefx": "x"}]}}), "filter.a.b.prefx: no rule has this name"),
        (json!({"a": [{"prefix": 1}]}), "filter.a.prefix: it takes a text"),
        (json!({"a": [{"numeric": [">"]}]}), "filter.a.numeric: it is a list"),
        (json!({"a": [{"numeric": ["!=", 1]}]}), "filter.a.numeric: it is a list"),
        (json!({"a": [{"numeric": [">", "1"]}]}), "filter.a.numeric: it is a list"),
        (json!({"a": [{"exists": "yes"}]}), "filter.a.exists: it is true or false"),
        (json!({"a": [{"cidr": "10.0.0.0/33"}]}), "filter.a.cidr: it is a block"),
        (json!({"a": [{"anything-but": []}]}), "filter.a.anything-but: an empty list"),
        (json!({"a": [{"anything-but": {"numeric": [">", 1]}}]}), "filter.a.anything-but.numeric: no rule"),
        (json!({"a": [{"wildcard": "a**b"}]}), "filter.a.wildcard: two stars"),
        (json!({"a": [{"wildcard": "a\\b"}]}), "filter.a.wildcard: a backslash"),
        (json!({"a": [{"wildcard": "*a".repeat(17)}]}), "filter.a.wildcard: it has over 16 stars"),
        (json!({"$or": [{"a": [1]}]}), "filter.$or: $or needs two"),
        (json!({"$or": {"a": [1]}}), "filter.$or: $or is a list"),
        (json!({"a": ["x".repeat(5_000)]}), "at most 4096"),
    ] {
        let error = Pattern::read(&pattern).unwrap_err().to_string();
        assert!(error.contains(expected), "{pattern}: {error}");
    }
    let deep = (0..40).fold(json!([1]), |below, _| json!({"a": below}));
    assert!(Pattern::read(&deep).unwrap_err().to_string().contains("nested deeper than 16"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c*\\\\.]{0,4}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-c]",
        Just("$or".to_owned()),
        Just("prefix".to_owned()),
        Just("anything-but".to_owned())
    ];
    scalar.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_fail_and_a_value_matches_itself(pattern in any_value(), event in any_value(), text in "\\PC{0,12}") {
        if let Ok(pattern) = Pattern::read(&pattern) {
            let _ = pattern.matches(&event);
        }
        let (same, other) = (json!({"a": [text]}), json!({"a": [{"anything-but": text}]}));
        let event = json!({"a": text});
        prop_assert!(matches(&same, &event));
        prop_assert!(!matches(&other, &event));
    }
}
