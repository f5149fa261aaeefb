//! Event handlers: what they are given and what becomes of what they return.

use alula_script::{CallInfo, Request, ScriptError};
use serde_json::{Value, json};

use crate::world::{get, post, run, text, world};

async fn called(source: &str, request: Request) -> Result<(u16, String, String), ScriptError> {
    let response = world().script(source).call(request).await?;
    Ok((response.status, response.headers.clone(), text(response).await?))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_request_is_an_event_of_the_usual_shape() {
    run(async {
        let request = Request {
            method: "POST".to_owned(),
            headers: "host\0shop.example\0content-type\0text/plain\0x-two\0a\0x-two\0b\0cookie\0c=1; d=2\0\
                x-alula-caller\0jwt:u1\0x-alula-claims\0eyJzdWIiOiLDvD4_Iiwic2NvcGUiOiJhIGIifQ"
                .to_owned(),
            call: CallInfo {
                id: "call-1".to_owned(),
                remote: "192.0.2.1".to_owned(),
                parameters: vec![("item".to_owned(), "grün".to_owned())],
                is_event: false,
            },
            ..post("/a%20b?x=1&x=2&y=", "hello ä")
        };
        let (status, headers, body) =
            called("export const handler = (event) => event", request).await.unwrap();
        assert_eq!((status, &*headers), (200, "content-type\0application/json"));
        let event = parsed(&body);
        assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/a%20b"), &json!("x=1&x=2&y=")));
        assert_eq!(event["queryStringParameters"], json!({ "x": "1,2", "y": "" }));
        assert_eq!(event["pathParameters"], json!({ "item": "grün" }));
        assert_eq!(event["cookies"], json!(["c=1", "d=2"]));
        assert_eq!(event["headers"]["x-two"], "a,b");
        assert!(event["headers"].get("cookie").is_none());
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("hello ä"), &json!(false)));
        let context = &event["requestContext"];
        assert_eq!((&context["requestId"], &context["domainPrefix"]), (&json!("call-1"), &json!("shop")));
        let told = json!({"claims": {"sub": "ü>?", "scope": "a b"}, "scopes": ["a", "b"]});
        assert_eq!(context["authorizer"], json!({"principalId": "jwt:u1", "jwt": told}));
        assert_eq!(context["http"]["sourceIp"], "192.0.2.1");
        assert_eq!(context["http"]["method"], "POST");
    });
}

#[test]
fn bodies_that_are_no_text_come_in_base64() {
    run(async {
        let source = "export const handler = ({ body, isBase64Encoded }) => ({ statusCode: 200, body, isBase64Encoded })";
        let all: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let response = world().script(source).call(post("/", all.clone())).await.unwrap();
        assert_eq!(crate::world::bytes(response).await.unwrap(), all, "there and back");
    });
}

#[test]
fn an_event_is_the_handler_s_argument_and_its_value_the_answer() {
    run(async {
        let event = |body: &'static str| Request {
            call: CallInfo { is_event: true, id: "id-7".to_owned(), ..CallInfo::default() },
            ..post("/", body)
        };
        let source = "export async function handler(event, context) {
            return [event, context.awsRequestId, context.getRemainingTimeInMillis() > 0, context.signal.aborted] }";
        let (_, _, body) = called(source, event("{\"statusCode\":3,\"ä\":[1]}")).await.unwrap();
        assert_eq!(parsed(&body), json!([{ "statusCode": 3, "ä": [1] }, "id-7", true, false]));
        let (_, _, body) = called("export const handler = (event) => event", event("")).await.unwrap();
        assert_eq!(body, "null");
        let (_, _, body) = called("export const handler = () => {}", event("1")).await.unwrap();
        assert_eq!(body, "null", "no value");
        let error = called("export const handler = (event) => event", event("{")).await.unwrap_err();
        assert!(error.to_string().starts_with("SyntaxError"), "{error}");
    });
}

#[test]
fn a_value_with_a_status_is_a_response() {
    run(async {
        for (value, expected) in [
            (
                "{ statusCode: 201, headers: { 'x-a': 1 }, body: 'b' }",
                (201, "x-a\x001\0content-type\0application/json", "b"),
            ),
            (
                "{ statusCode: 200, headers: { 'Content-Type': 'text/html' }, body: '<p>' }",
                (200, "content-type\0text/html", "<p>"),
            ),
            ("{ statusCode: 200, body: { a: 1 } }", (200, "content-type\0application/json", "{\"a\":1}")),
            ("{ statusCode: '204' }", (204, "content-type\0application/json", "")),
            ("'text'", (200, "content-type\0application/json", "\"text\"")),
        ] {
            let source = format!("export const handler = async () => ({value})");
            let (status, headers, body) = called(&source, get("/")).await.unwrap();
            assert_eq!((status, &*headers, &*body), expected, "{value}");
        }
        let cookies = "export const handler = () => ({ statusCode: 200, cookies: ['a=1', 'b=2'] })";
        let (_, headers, _) = called(cookies, get("/")).await.unwrap();
        assert_eq!(headers.matches("set-cookie").count(), 2, "{headers}");
    });
}

#[test]
fn a_value_that_cannot_be_answered_is_refused() {
    run(async {
        for value in [
            "{ statusCode: 'many' }",
            "{ statusCode: 99 }",
            "{ statusCode: 200, headers: { 'a b': 1 } }",
            "{ statusCode: 200, headers: { a: '\\0' } }",
            "{ statusCode: 200, body: '%', isBase64Encoded: true }",
            "1n",
            "(() => { const a = {}; a.a = a; return a })()",
        ] {
            let source = format!("export const handler = () => ({value})");
            let error = called(&source, get("/")).await.unwrap_err();
            assert!(matches!(error, ScriptError::BadResponse { .. }), "{value}: {error:?}");
        }
        let thrown = called("export const handler = () => { throw new RangeError('no') }", get("/"))
            .await
            .unwrap_err();
        assert_eq!(thrown.to_string(), "RangeError: no");
    });
}

#[test]
fn the_form_follows_the_name_of_the_export() {
    run(async {
        for (export, takes_events) in [
            ("export default (it) => Response.json(it.rawPath ?? null)", false),
            ("export const fetch = (it) => Response.json(it.rawPath ?? null)", false),
            ("export const handler = (it) => it.rawPath ?? null", true),
            ("export const handler = { fetch: (it) => Response.json(it.rawPath ?? null) }", false),
        ] {
            let (_, _, body) = called(export, get("/path")).await.unwrap();
            assert_eq!(body, if takes_events { "\"/path\"" } else { "null" }, "{export}");
        }
    });
}
