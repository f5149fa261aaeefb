#![allow(clippy::unwrap_used, reason = "tests may panic")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rule(text: &str) -> NetworkRule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn network(rules: &[&str]) -> Network {
    Network::of(rules.iter().map(|text| rule(text)).collect())
}

#[test]
fn rules_are_read_and_written_alike() {
    for text in [
        "internet",
        "internet:443",
        "api.example.com",
        "api.example.com:443",
        "*.example.com",
        "*.example.com:443",
        "10.1.2.0/24",
        "10.1.2.0/24:5432",
        "fd12::/16",
        "[fd12::/16]:5432",
        "db",
        "_sip.example.com",
        "xn--bcher-kva.example",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
    for (text, means) in [
        ("INTERNET", "internet"),
        ("API.Example.COM.:443", "api.example.com:443"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.3:80", "10.1.2.3/32:80"),
        ("::1", "::1/128"),
        ("[::1]", "::1/128"),
        ("[fd12::1]:80", "[fd12::1/128]:80"),
    ] {
        assert_eq!(rule(text).to_string(), means, "{text}");
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    for text in [
        "",
        ":443",
        "a:",
        "a:0",
        "a:65536",
        "a:+1",
        "a: 1",
        "a:1:2",
        "a b",
        "a..b",
        ".a",
        "a..",
        "-a.b",
        "a-.b",
        "*",
        "*.",
        "*a.b",
        "a.*.b",
        "*.*.b",
        "*.10.0.0.1",
        "bücher.example",
        "a\u{0}b",
        "a\nb",
        "http://a",
        "a/24",
        "a@b",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0",
        "10.0.0.256",
        "0x7f000001",
        "127.1",
        "017700000001",
        "2130706433",
        "1.2.3.0x4",
        "fe80::1%eth0",
        "[fe80::1%eth0]:80",
        "[::1",
        "[::1]80",
        "[::1]:",
        "fd00::/129",
        &"a".repeat(64),
        &"a.".repeat(128),
    ] {
        assert!(text.parse::<NetworkRule>().is_err(), "{text:?}");
    }
}

#[test]
fn the_spec_takes_a_word_or_a_list() {
    let read = |value: serde_json::Value| serde_json::from_value::<Network>(value).map_err(|e| e.to_string());
    assert_eq!(read(json!("none")), Ok(Network::None));
    assert_eq!(read(json!("internet")), Ok(Network::Internet));
    assert_eq!(read(json!([])), Ok(Network::None));
    assert_eq!(read(json!(["internet"])), Ok(Network::Internet));
    assert_eq!(read(json!(["a.b:1", "A.b.:1"])), Ok(network(&["a.b:1"])));
    assert!(read(json!("all")).unwrap_err().contains("unknown variant `all`"));
    assert!(read(json!(["10.0.0.0/99"])).unwrap_err().contains("10.0.0.0/99"));
    assert!(read(json!(vec!["a"; 1_000])).is_ok(), "the same one again is none more");
    let many: Vec<String> = (0..=NETWORK_RULES_MAX).map(|n| format!("h{n}")).collect();
    assert!(read(json!(many)).is_err());
    assert_eq!(serde_json::to_value(network(&["a.b:1", "internet"])).unwrap(), json!(["a.b:1", "internet"]));
}

/// Whether `rules` permit the host at the address: as a function's, and as a ceiling's.
fn permits(rules: &[&str], host: &str, address: &str, port: u16, kind: AddressKind) -> (bool, bool) {
    let host = HostName::new(host).ok();
    let to = NetworkPlace { host: host.as_ref(), address: address.parse().unwrap(), port, kind };
    let network = network(rules);
    (network.permits(&to), network.permits_as_ceiling(&to))
}

#[test]
fn a_place_is_permitted_by_its_name_its_address_and_its_port() {
    use AddressKind::{Named, Private, Public};
    for (rules, host, address, port, kind, expected) in [
        (&["internet"][..], "a.b", "1.1.1.1", 80, Public, (true, true)),
        (&["internet:443"], "a.b", "1.1.1.1", 80, Public, (false, false)),
        (&["internet"], "a.b", "10.0.0.1", 80, Private, (false, false)),
        (&["internet"], "db", "10.0.0.1", 80, Named, (false, false)),
        (&[], "a.b", "1.1.1.1", 80, Public, (false, false)),
        (&["a.b:80"], "a.b", "1.1.1.1", 80, Public, (true, true)),
        (&["a.b:80"], "A.B.", "1.1.1.1", 80, Public, (true, true)),
        (&["a.b:80"], "a.b", "1.1.1.1", 81, Public, (false, false)),
        (&["a.b"], "x.a.b", "1.1.1.1", 80, Public, (false, false)),
        (&["*.a.b"], "x.a.b", "1.1.1.1", 80, Public, (true, true)),
        (&["*.a.b"], "y.x.a.b", "1.1.1.1", 80, Public, (true, true)),
        (&["*.a.b"], "a.b", "1.1.1.1", 80, Public, (false, false)),
        (&["*.a.b"], "xa.b", "1.1.1.1", 80, Public, (false, false)),
        // A name with a private address: the function may name it, the ceiling must have the block or be the operator's.
        (&["a.b"], "a.b", "10.0.0.1", 80, Private, (true, false)),
        (&["db"], "db", "10.0.0.1", 80, Named, (true, true)),
        (&["10.0.0.0/8"], "a.b", "10.0.0.1", 80, Private, (true, true)),
        (&["10.0.0.0/8:80"], "", "10.0.0.1", 81, Private, (false, false)),
        (&["10.0.0.0/8"], "", "11.0.0.1", 80, Public, (false, false)),
        (&["10.0.0.0/8"], "", "::ffff:10.0.0.1", 80, Private, (true, true)),
        (&["fd00::/8"], "", "fd00::1", 80, Private, (true, true)),
        // An address is not its own name.
        (&["a.b"], "", "1.1.1.1", 80, Public, (false, false)),
    ] {
        assert_eq!(permits(rules, host, address, port, kind), expected, "{rules:?} {host} {address} {port}");
    }
}

#[test]
fn a_function_may_ask_for_what_the_ceiling_covers() {
    let beyond = |rules: &[&str], ceiling: &[&str]| {
        network(rules).first_beyond(&network(ceiling)).map(ToString::to_string)
    };
    for (rules, ceiling) in [
        (&[][..], &[][..]),
        (&["internet"], &["internet"]),
        (&["internet:443"], &["internet"]),
        (&["a.b", "*.c.d:1", "1.2.3.0/24:9"], &["internet"]),
        (&["x.a.b:443", "*.x.a.b"], &["*.a.b"]),
        (&["10.1.2.0/24:5432", "10.1.2.3"], &["10.1.0.0/16"]),
        // Which address a name has shows when it is reached.
        (&["db.internal:5432"], &["10.1.0.0/16"]),
    ] {
        assert_eq!(beyond(rules, ceiling), None, "{rules:?} under {ceiling:?}");
    }
    for (rules, ceiling, first) in [
        (&["internet"][..], &[][..], "internet"),
        (&["internet"], &["internet:443"], "internet"),
        (&["internet:80"], &["internet:443"], "internet:80"),
        (&["a.b"], &["*.a.b"], "a.b"),
        (&["*.b"], &["*.a.b"], "*.b"),
        (&["a.b", "10.0.0.0/8"], &["internet"], "10.0.0.0/8"),
        (&["0.0.0.0/0"], &["internet"], "0.0.0.0/0"),
        (&["8.0.0.0/5"], &["internet"], "8.0.0.0/5"),
        (&["169.254.169.254"], &["internet"], "169.254.169.254/32"),
        (&["fd00::1"], &["internet"], "fd00::1/128"),
        (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.0.0.0/8"),
        (&["db:5432"], &["10.1.0.0/16:6379"], "db:5432"),
    ] {
        assert_eq!(beyond(rules, ceiling).as_deref(), Some(first), "{rules:?} under {ceiling:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_a_rule_or_an_error(text in "\\PC{0,40}") {
        if let Ok(rule) = text.parse::<NetworkRule>() {
            prop_assert_eq!(rule.to_string().parse::<NetworkRule>().unwrap(), rule);
        }
    }

    /// A ceiling that covers a rule permits all that the rule permits, but names with addresses of private networks.
    #[test]
    fn covering_is_permitting(
        rules in proptest::collection::vec(a_rule(), 0..4),
        ceiling in proptest::collection::vec(a_rule(), 0..4),
        host in proptest::option::of("[ab]\\.[ab]|[ab]"),
        address in prop_oneof![Just("1.1.1.1"), Just("10.0.0.1"), Just("10.1.0.1"), Just("fd00::1")],
        port in 1_u16..4,
    ) {
        let parse = |texts: Vec<String>| Network::of(texts.iter().map(|text| text.parse().unwrap()).collect());
        let (rules, ceiling) = (parse(rules), parse(ceiling));
        let address: IpAddr = address.parse().unwrap();
        let kind = if address.to_string().starts_with('1') && address.to_string().ends_with("1.1.1") {
            AddressKind::Public
        } else {
            AddressKind::Private
        };
        let host = host.map(|host| HostName::new(&host).unwrap());
        let to = NetworkPlace { host: host.as_ref(), address, port, kind };
        let by_name_only = kind == AddressKind::Private && host.is_some();
        let by_block = ceiling.rules().iter().any(|rule| matches!(rule.to, Target::Subnet(_)));
        if rules.first_beyond(&ceiling).is_none() && rules.permits(&to) && !by_name_only && !by_block {
            prop_assert!(ceiling.permits_as_ceiling(&to), "{} under {} to {:?}", rules, ceiling, to);
        }
        if ceiling.is_none() {
            prop_assert!(!ceiling.permits(&to) && !ceiling.permits_as_ceiling(&to));
        }
    }
}

fn a_rule() -> impl Strategy<Value = String> {
    let place = prop_oneof![
        Just("internet".to_owned()),
        "[ab]\\.[ab]",
        "\\*\\.[ab]",
        Just("10.0.0.0/8".to_owned()),
        Just("10.1.0.0/16".to_owned()),
        Just("[fd00::/8]".to_owned()),
    ];
    (place, proptest::option::of(1_u16..4)).prop_map(|(place, port)| match port {
        Some(port) => format!("{place}:{port}"),
        None => place,
    })
}
