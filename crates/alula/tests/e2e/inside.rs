//! Functions that call the platform from inside their sandboxes: what is known of it afterwards, and the buckets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::platform::{LOOK_AGAIN, Platform, client, folder_function};

const CALLER: &str = "#!/bin/sh
curl -s -o /dev/null -w '%{http_code}' -H \"X-Callback-Url: $HTTP_X_WISH\" -d x \"$ALULA_FUNCTIONS_URL$PATH_INFO\"
";

fn exec(platform: &Platform, name: &str, script: &str) {
    platform.alula_ok(&["deploy", "--name", name, "--runtime", "exec", "--code", script]);
}

/// Waits until `alula` with these arguments has said `wanted`.
fn until(platform: &Platform, arguments: &[&str], wanted: &str) -> String {
    for _ in 0..2_000 {
        let said = platform.alula_ok(arguments);
        if said.contains(wanted) {
            return said;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    panic!("alula {arguments:?} never said {wanted}:\n{}\n{}", platform.alula_ok(arguments), platform.log());
}

#[tokio::test]
async fn a_run_names_the_call_that_led_to_it() {
    let platform = Platform::start();
    exec(&platform, "called", "#!/bin/sh\ncat");
    exec(&platform, "caller", CALLER);
    for path in ["/function/called", "/async-function/called"] {
        let asked = client().post(platform.url(&format!("/function/caller{path}"))).body("x");
        let answer = asked.send().await.unwrap();
        let id = answer.headers()["x-alula-invocation-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().starts_with("20"), "{path}");
        let runs = until(&platform, &["runs", "called", "--json"], &id);
        let parent = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["parent"].clone();
        assert!(runs.lines().any(|line| parent(line) == id), "{runs}");
    }
    let runs = platform.alula_ok(&["runs", "caller", "--json"]);
    assert!(!runs.contains("parent"), "nobody called it from inside: {runs}");
}

#[tokio::test]
async fn a_function_without_a_network_has_nothing_sent_outside() {
    let platform = Platform::start();
    exec(&platform, "called", "#!/bin/sh\ncat");
    exec(&platform, "caller", CALLER);
    let url = platform.url("/function/caller/async-function/called");
    let asked = client().post(url).header("x-wish", "https://example.com/").body("x");
    assert_eq!(asked.send().await.unwrap().text().await.unwrap(), "400");
}

#[test]
fn a_call_that_runs_while_the_platform_stops_may_still_call() {
    let mut platform = Platform::start();
    exec(&platform, "called", "#!/bin/sh\necho called");
    exec(
        &platform,
        "caller",
        "#!/bin/sh\nsleep 1.5\nexec curl -s \"$ALULA_FUNCTIONS_URL/function/called\"\n",
    );
    let mut stream = TcpStream::connect(("127.0.0.1", platform.port)).unwrap();
    write!(stream, "GET /function/caller HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    until(&platform, &["instances", "--json"], "busy");
    platform.signal("-TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.contains("called"), "{answer}");
    assert!(platform.wait(), "{}", platform.log());
}

/// Writes one object more for every one that is written, with a signature of version 4.
const WRITER: &str = r#"
import hashlib, hmac, os, time, urllib.error, urllib.request

def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

def put(path, body):
    endpoint = os.environ["ALULA_S3_ENDPOINT"]
    host, at = endpoint.removeprefix("http://"), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    asked = f"PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{at}\n\n{names}\n{digest}"
    scope = f"{at[:8]}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["SECRET"]).encode()
    for part in scope.split("/"):
        key = sign(key, part)
    signature = sign(key, text).hex()
    said = f"AWS4-HMAC-SHA256 Credential={os.environ['KEY']}/{scope}, SignedHeaders={names}, Signature={signature}"
    headers = {"x-amz-date": at, "x-amz-content-sha256": digest, "authorization": said}
    request = urllib.request.Request(endpoint + path, body, headers, method="PUT")
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as answer:
        return f"{answer.code} {answer.read().decode()}"

def handler(event, context):
    print("lineage", context.lineage.split(":")[1])
    return {"put": put(f"/kept/{context.aws_request_id}", b"content")}
"#;

/// Deploys the writer with a new key of `namespace`.
fn deploy_writer(platform: &Platform, name: &str, namespace: &str, trigger: &str) {
    let made = platform.alula_ok(&["bucket", "key", "create", "--namespace", namespace]);
    let value =
        |name: &str| made.lines().find_map(|line| line.split_once(name)?.1.strip_prefix('=')).unwrap();
    let (key, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"));
    let settings = format!(
        "name = '{name}'\nruntime = 'python3'\nhandler = 'main.handler'\nmemory_mb = 64\n\
         env = {{ KEY = '{key}', SECRET = '{secret}' }}\n{trigger}"
    );
    folder_function(platform, name, &[("alula.toml", &*settings), ("main.py", WRITER)]);
}

#[tokio::test]
async fn a_function_reaches_the_buckets_of_its_namespace_and_a_circle_through_one_is_stopped() {
    let platform = Platform::start();
    platform.alula_ok(&["bucket", "create", "kept"]);
    platform.alula_ok(&["bucket", "create", "kept", "--namespace", "others"]);
    deploy_writer(&platform, "stranger", "others", "");
    let refused =
        client().post(platform.url("/function/stranger")).send().await.unwrap().text().await.unwrap();
    assert!(refused.contains("403") && refused.contains("AccessDenied"), "{refused}");
    deploy_writer(
        &platform,
        "writer",
        "default",
        "[[triggers]]\nname = 'again'\nkind = 'bucket'\nbucket = 'kept'\n",
    );
    let put = client().post(platform.url("/function/writer")).send().await.unwrap().text().await.unwrap();
    assert!(put.contains("200"), "{put}");
    until(&platform, &["dead", "list", "writer"], "called itself too often");
    let logged = platform.alula_ok(&["logs", "writer"]);
    assert!(logged.contains("lineage writer.default*16"), "{logged}");
    assert!(!logged.contains("writer.default*17"), "{logged}");
}
