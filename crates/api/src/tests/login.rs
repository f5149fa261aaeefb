//! People log in: by a token, by a cookie; and what keeps other sites from using the cookie.

use axum::body::Body;
use http::Request;
use serde_json::json;

use super::world::{Reply, World, read};

const CHOSEN: &str = "correct horse battery";

/// A platform with the administrator `anna`, who has chosen a password.
async fn world() -> World {
    let world = World::new().await;
    let made = world.ask("PUT", "/v1/users/anna", r#"{"is_administrator": true}"#).await;
    assert_eq!(made.status, 201);
    let once = world.ask("POST", "/v1/users/anna/password", "").await;
    assert_eq!(once.status, 201, "{once:?}");
    let once = once.json()["password"].as_str().unwrap().to_owned();
    let refused = log_in(&world, &once, false).await;
    assert_eq!(refused.error().1, "forbidden", "it is good for its change alone");
    let change = json!({"user": "anna", "password": once, "new_password": CHOSEN}).to_string();
    assert_eq!(send(&world, "POST", "/v1/password", &[], &change).await.status, 204);
    world
}

async fn send(world: &World, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let request = Request::builder().method(method).uri(uri).header("host", "alula.test");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    read(world.send(request.body(Body::from(body.to_owned())).unwrap()).await).await
}

async fn log_in(world: &World, password: &str, cookie: bool) -> Reply {
    let body = json!({"user": "anna", "password": password, "cookie": cookie}).to_string();
    send(world, "POST", "/v1/login", &[], &body).await
}

#[tokio::test]
async fn a_session_is_a_token_until_it_is_logged_out() {
    let world = world().await;
    assert_eq!(log_in(&world, "wrong password", false).await.error().1, "unauthenticated");
    let begun = log_in(&world, CHOSEN, false).await;
    assert_eq!(begun.status, 200, "{begun:?}");
    assert!(!begun.headers.contains_key("set-cookie"));
    let token = begun.json()["token"].as_str().unwrap().to_owned();
    let me = world.ask_as(&token, "GET", "/v1/whoami", "").await.json();
    assert_eq!((&me["name"], &me["is_administrator"]), (&json!("user:anna"), &json!(true)));
    let sessions = world.ask_as(&token, "GET", "/v1/sessions", "").await.json();
    assert_eq!(sessions["sessions"][0]["user"], "anna");
    assert_eq!(world.ask_as(&token, "POST", "/v1/logout", "").await.status, 204);
    assert_eq!(world.ask_as(&token, "GET", "/v1/whoami", "").await.status, 401);
    assert_eq!(world.ask("POST", "/v1/logout", "").await.status, 404, "the admin's token is no session");
}

#[tokio::test]
async fn a_cookie_changes_something_only_for_a_page_of_ours() {
    let world = world().await;
    let begun = log_in(&world, CHOSEN, true).await;
    assert_eq!(begun.json().get("token"), None, "no script sees it");
    let csrf = begun.json()["csrf_token"].as_str().unwrap().to_owned();
    let set = begun.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.contains("; HttpOnly; SameSite=Strict") && !set.contains("Secure"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert_eq!(send(&world, "GET", "/v1/whoami", &[("cookie", cookie)], "").await.status, 200);
    let twice = format!("{cookie}; {cookie}");
    assert_eq!(send(&world, "GET", "/v1/whoami", &[("cookie", &twice)], "").await.status, 401);
    let create = async |headers: &[(&str, &str)]| {
        let headers = [&[("cookie", cookie)], headers].concat();
        send(&world, "PUT", "/v1/namespaces/shop", &headers, "{}").await.status.as_u16()
    };
    for headers in [
        &[][..],
        &[("x-alula-csrf", csrf.as_str())],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-site"), ("x-alula-csrf", csrf.as_str())],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://alula.test"), ("x-alula-csrf", csrf.as_str())],
        &[("sec-fetch-site", "none"), ("x-alula-csrf", csrf.as_str())],
        &[("origin", "http://evil.test"), ("x-alula-csrf", csrf.as_str())],
        &[("origin", "null"), ("x-alula-csrf", csrf.as_str())],
        &[("origin", "http://alula.test"), ("x-alula-csrf", "0")],
    ] {
        assert_eq!(create(headers).await, 403, "{headers:?}");
    }
    assert_eq!(create(&[("sec-fetch-site", "same-origin"), ("x-alula-csrf", csrf.as_str())]).await, 201);
    let ours = [("cookie", cookie), ("origin", "http://alula.test"), ("x-alula-csrf", &*csrf)];
    let gone = send(&world, "POST", "/v1/logout", &ours, "").await;
    assert_eq!(gone.status, 204);
    assert!(gone.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(send(&world, "GET", "/v1/whoami", &[("cookie", cookie)], "").await.status, 401);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_for_tls_only() {
    let world = World::with(|options| options.public_url = Some("https://alula.example.com".into())).await;
    world.ask("PUT", "/v1/users/anna", "{}").await;
    let once = world.ask("POST", "/v1/users/anna/password", "").await;
    let once = once.json()["password"].as_str().unwrap().to_owned();
    let change = json!({"user": "anna", "password": once, "new_password": CHOSEN}).to_string();
    assert_eq!(send(&world, "POST", "/v1/password", &[], &change).await.status, 204);
    let begun = log_in(&world, CHOSEN, true).await;
    let set = begun.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-alula_session=alula_session_") && set.ends_with("; Secure"), "{set}");
}

#[tokio::test]
async fn sessions_are_their_owners_and_the_administrators_business() {
    let world = world().await;
    world.ask("PUT", "/v1/users/bob", "{}").await;
    let bob = world.ask("POST", "/v1/keys", r#"{"name": "k", "user": "bob"}"#).await.json();
    let bob = bob["key"].as_str().unwrap().to_owned();
    log_in(&world, CHOSEN, false).await;
    let sessions = world.ask("GET", "/v1/sessions?user=anna", "").await.json();
    let uri = format!("/v1/sessions/{}", sessions["sessions"][0]["id"].as_str().unwrap());
    assert_eq!(world.ask_as(&bob, "GET", "/v1/sessions?user=anna", "").await.status, 403);
    assert_eq!(world.ask_as(&bob, "GET", "/v1/sessions", "").await.json(), json!({"sessions": []}));
    assert_eq!(world.ask_as(&bob, "DELETE", &uri, "").await.status, 404);
    assert_eq!(world.ask("DELETE", &uri, "").await.status, 204);
    assert_eq!(world.ask("DELETE", &uri, "").await.status, 404);
}
