//! Who is let in by every way in, what the function is told of it, and what it never sees.

use std::sync::{Arc, Mutex};

use alula_gateway::Options;
use alula_identity::Principal;
use alula_identity::calling::NewAddress;
use alula_invoke::Invocation;
use alula_model::{AccessSpec, Caller, Name, Way};

use crate::support::{Gateway, Reply, TOKEN, get_once, post, text};

/// `exp` is in the year 2100.
const GOOD_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EudGVzdCIsImF1ZCI6InNob3AiLCJzdWIiOiJ1MSIsImV4cCI6NDEwMjQ0NDgwMH0.SIGNATURE";

type Seen = Arc<Mutex<Vec<Invocation>>>;

/// A gateway whose function keeps what it was called with.
async fn gateway() -> (Gateway, Seen) {
    let seen = Seen::default();
    let keeps = Arc::clone(&seen);
    let gateway = Gateway::start(Options::default(), move |invocation| {
        keeps.lock().unwrap().push(invocation);
        async { Ok(text(200, &[], "called")) }
    })
    .await;
    (gateway, seen)
}

async fn ask(gateway: &Gateway, path: &str, headers: &str) -> Reply {
    Reply::parse(&gateway.exchange(post(path, headers, "")).await)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[tokio::test]
async fn every_way_to_a_function_asks_for_a_token_before_anything_is_done() {
    let (gateway, seen) = gateway().await;
    for path in [
        "/function/only-namespace",
        "/function/only-namespace.shop/x?y",
        "/function/only-namespace:live",
        "/function/only-namespace:1",
        "/async-function/only-namespace",
        "/function/%6fnly-namespace",
    ] {
        for headers in [
            String::new(),
            bearer("alula_admin_2"),
            bearer(""),
            "Authorization: Basic YTpi\r\n".to_owned(),
            format!("{}{}", bearer(TOKEN), bearer("x")),
            "Prefer: respond-async\r\n".to_owned(),
            "X-Alula-Caller: admin\r\nX-Forwarded-For: 127.0.0.1\r\n".to_owned(),
        ] {
            let reply = ask(&gateway, path, &headers).await;
            assert_eq!(reply.status, 401, "{path} {headers}: {}", reply.body);
            assert_eq!(reply.json()["error"]["code"], "unauthenticated", "{path}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"alula\"", "{path}");
        }
        let reply = ask(&gateway, path, &bearer(TOKEN)).await;
        assert!([200, 202].contains(&reply.status), "{path}: {}", reply.body);
    }
    assert_eq!(seen.lock().unwrap().len(), 5, "only those with the token came through");
    assert_eq!(gateway.later.0.lock().unwrap().len(), 1);
    assert_eq!(ask(&gateway, "/function/only-inside", &bearer(TOKEN)).await.status, 403);
}

#[tokio::test]
async fn the_platforms_own_token_goes_no_further_and_a_functions_own_is_left_alone() {
    let (gateway, seen) = gateway().await;
    ask(&gateway, "/function/only-namespace", &bearer(TOKEN)).await;
    ask(&gateway, "/function/everybody", &format!("{}X-Alula-Caller: root\r\n", bearer("my-own"))).await;
    ask(&gateway, "/async-function/only-namespace", &bearer(TOKEN)).await;
    let calls = seen.lock().unwrap();
    assert!(!calls[0].headers.contains_key("authorization"));
    assert_eq!(calls[0].caller, Caller::Known("admin".into()));
    assert_eq!(calls[1].headers["authorization"], "Bearer my-own");
    assert_eq!(calls[1].caller, Caller::Public);
    assert!(!calls[1].headers.contains_key("x-alula-caller"), "outsiders do not say who they are");
    let later = gateway.later.0.lock().unwrap();
    assert!(!later[0].headers.contains_key("authorization"));
    assert_eq!(later[0].caller, Caller::Known("admin".into()));
}

#[tokio::test]
async fn a_signed_address_is_called_without_its_signature() {
    let (gateway, seen) = gateway().await;
    let (default, only_signed) = (Name::default_namespace(), name("only-signed"));
    let admin = Principal::administrator("admin");
    let new = NewAddress {
        method: "GET",
        namespace: &default,
        function: &only_signed,
        path_and_query: "/function/only-signed/a%20b?c=d",
        lifetime_s: 60,
    };
    let (address, _) = gateway.identity.sign_address(&admin, new).await.unwrap();
    let reply = Reply::parse(&gateway.exchange(get_once(&address)).await);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(seen.lock().unwrap()[0].uri, "/a%20b?c=d");
    let other = address.replace("c=d", "c=e");
    let stripped = address.split("&alula-signature").next().unwrap();
    let twice = format!("{address}&{}", address.split_once('?').unwrap().1);
    for forged in [other.as_str(), stripped, &twice, "/function/only-signed/a%20b?c=d"] {
        let reply = Reply::parse(&gateway.exchange(get_once(forged)).await);
        assert_eq!(reply.status, 401, "{forged}");
    }
    assert_eq!(ask(&gateway, &address, "").await.status, 401, "it is for GET");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_vouched_for_is_told_to_the_function_with_the_token() {
    let (gateway, seen) = gateway().await;
    let token = token();
    let headers = format!("{}X-Alula-Claims: e30\r\n", bearer(&token));
    assert_eq!(ask(&gateway, "/function/only-token", &headers).await.status, 200);
    for forged in [token.replace("eyJpc3M", "eyJpc3N"), token[..token.rfind('.').unwrap() + 1].to_owned()] {
        assert_eq!(ask(&gateway, "/function/only-token", &bearer(&forged)).await.status, 401, "{forged}");
    }
    let calls = seen.lock().unwrap();
    assert_eq!(calls[0].caller, Caller::Vouched("jwt:u1".into()));
    assert_eq!(calls[0].headers["authorization"], format!("Bearer {token}"));
    let claims = calls[0].headers.get_all("x-alula-claims").iter().collect::<Vec<_>>();
    assert_eq!(claims.len(), 1, "what the caller said of itself is gone");
    let claims =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims[0].as_bytes());
    let claims: serde_json::Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    assert_eq!((&claims["sub"], &claims["aud"]), (&"u1".into(), &"shop".into()));
}

/// A token that is good, signed with the key in [`crate::support::ISSUER_OF_TOKENS`].
fn token() -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let (signed, _) = GOOD_TOKEN.rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"thirty-two characters of a secret!");
    format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()))
}

#[tokio::test]
async fn events_are_published_by_whoever_may_call_where_the_namespace_is_not_public() {
    let (gateway, _) = gateway().await;
    let event = |headers: &str| post("/topic/orders.closed", headers, "{}");
    assert_eq!(Reply::parse(&gateway.exchange(event("")).await).status, 202);
    let admin = Principal::administrator("admin");
    let namespace = AccessSpec::only(Way::Namespace);
    gateway.identity.set_default_access(&admin, &name("closed"), Some(namespace)).await.unwrap();
    assert_eq!(Reply::parse(&gateway.exchange(event("")).await).status, 401);
    assert_eq!(Reply::parse(&gateway.exchange(event(&bearer(TOKEN))).await).status, 202);
    assert_eq!(gateway.events.published.lock().unwrap().len(), 2);
    assert_eq!(
        ask(&gateway, "/function/nothing-there.closed", "").await.status,
        401,
        "nor is told what is there"
    );
}
