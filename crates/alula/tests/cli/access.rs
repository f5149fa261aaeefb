//! Namespaces, people, keys, roles.

use crate::fake::{Asked, Fake, Says};
use crate::terminal::Terminal;

const KEY: &str = r#"{"id":"56789abcdef0","name":"ci","namespace":"shop","grants":[{"namespace":"shop","app":"cart",
    "role":"developer"}],"created_at_ms":0,"created_by":"admin","expires_at_ms":7776000000,"key":"alula_56789abcdef0_00"}"#;

fn json_of(asked: &Asked) -> serde_json::Value {
    serde_json::from_slice(&asked.body).unwrap()
}

#[test]
fn a_new_key_is_all_that_is_on_stdout() {
    let fake = Fake::start().on("POST /v1/keys", Says::json(KEY).status(201));
    let arguments = [
        "key",
        "create",
        "ci",
        "--role",
        "developer",
        "--app",
        "cart",
        "--expires",
        "90d",
        "--namespace",
        "shop",
    ];
    let outcome = Terminal::of(&fake).run(&arguments).exits(0);
    assert_eq!(outcome.text(), "alula_56789abcdef0_00\n");
    assert!(outcome.stderr.contains("not shown again"), "{}", outcome.stderr);
    let asked = fake.asked_once();
    assert_eq!(asked.query["namespace"], "shop");
    assert_eq!(
        json_of(&asked),
        serde_json::json!({"name": "ci", "user": null, "expires_in_s": 7_776_000,
            "grants": [{"namespace": "shop", "app": "cart", "role": "developer"}]})
    );
}

#[test]
fn a_key_without_a_role_needs_a_person() {
    let fake = Fake::start().on("POST /v1/keys", Says::json(KEY).status(201));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["key", "create", "ci"]).exits(2);
    assert!(outcome.stderr.contains("--role"), "{}", outcome.stderr);
    terminal.run(&["key", "create", "laptop", "--user", "anna"]).exits(0);
    assert_eq!(json_of(&fake.asked_once())["user"], "anna");
}

#[test]
fn lists_say_who_may_what() {
    let keys = format!(r#"{{"keys":[{KEY}]}}"#);
    let users = r#"{"users":[{"name":"anna","is_administrator":false,"is_disabled":true,"created_at_ms":0,
        "grants":[{"namespace":"shop","role":"viewer"}]}]}"#;
    let me =
        r#"{"name":"user:anna","is_administrator":false,"grants":[{"namespace":"shop","role":"viewer"}]}"#;
    let fake = Fake::start()
        .on("GET /v1/keys", Says::json(&keys))
        .on("GET /v1/members", Says::json(users))
        .on("GET /v1/whoami", Says::json(me));
    let terminal = Terminal::of(&fake);
    let list = terminal.run(&["key", "list"]).exits(0).text();
    assert!(list.contains("developer of shop/cart") && list.contains("never"), "{list}");
    let members = terminal.run(&["member", "list"]).exits(0).text();
    assert!(members.contains("disabled") && members.contains("viewer of shop"), "{members}");
    assert_eq!(terminal.run(&["whoami"]).exits(0).text(), "user:anna: viewer of shop\n");
}

#[test]
fn what_cannot_be_taken_back_is_asked_first() {
    let fake = Fake::start().on("DELETE /v1/keys/56789abcdef0", Says::json("").status(204));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["key", "revoke", "56789abcdef0"]).exits(2);
    assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    terminal.run(&["key", "revoke", "56789abcdef0", "--yes"]).exits(0);
    fake.asked_once();
}
