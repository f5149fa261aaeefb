//! Objects that come and go call functions: the built binary and a real S3 client.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::platform::{Platform, client, eventually, folder_function, free_port, python_clients, root, text};
use crate::sink::{Sink, TELLER, word};

/// Kills in the middle of puts.
const KILLS: u64 = 4;

/// Puts an object into the bucket that it is called for, signed as S3 asks, and hands its lineage on.
const CIRCLE: &str = r#"
import datetime, hashlib, hmac, os, urllib.request

os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""

def handler(event, context):
    host, secret = os.environ["S3_HOST"], os.environ["S3_SECRET"]
    size = event["Records"][0]["s3"]["object"]["size"]
    body = b"x" * (size + 1)
    now = datetime.datetime.now(datetime.timezone.utc)
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    head = f"host:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{moment}\n"
    names = "host;x-amz-content-sha256;x-amz-date"
    request = f"PUT\n/circle/again\n\n{head}\n{names}\n{digest}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + secret).encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    headers = {
        "host": host, "x-amz-date": moment, "x-amz-content-sha256": digest, "x-alula-lineage": context.lineage,
        "authorization": f"AWS4-HMAC-SHA256 Credential={os.environ['S3_ID']}/{scope}, "
                         f"SignedHeaders={names}, Signature={signature}",
    }
    request = urllib.request.Request(f"http://{host}/circle/again", data=body, headers=headers, method="PUT")
    urllib.request.urlopen(request, timeout=5).read()
    print("wrote", size + 1)
"#;

/// A platform with an endpoint for S3 clients, and a key for it.
struct Endpoint {
    platform: Platform,
    port: u16,
    id: String,
    secret: String,
}

fn start(data_dir: &Path, port: u16) -> Platform {
    let listen = format!("127.0.0.1:{port}");
    let settings =
        [("ALULA_LISTEN_S3", listen.as_str()), ("ALULA_SANDBOX_EGRESS_ALLOW", "[\"127.0.0.1/32\"]")];
    Platform::start_configured(data_dir, &settings)
}

impl Endpoint {
    fn start(data_dir: &Path) -> Self {
        let port = free_port();
        let platform = start(data_dir, port);
        let key: Value =
            serde_json::from_str(&platform.alula_ok(&["bucket", "key", "create", "--json"])).unwrap();
        let field = |name: &str| key[name].as_str().unwrap().to_owned();
        Self { id: field("id"), secret: field("secret"), platform, port }
    }

    fn client(&self, python: &Path) -> Command {
        let mut client = Command::new(python);
        client
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", &self.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("NO_PROXY", "127.0.0.1");
        client
    }

    /// Runs lines of Python with `client`, a client of boto3.
    fn python(&self, python: &Path, lines: &str) {
        let program = format!("import boto3\nclient = boto3.client('s3')\n{lines}");
        let output = self.client(python).args(["-c", &program]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

fn teller(platform: &Platform, sink: &Sink, trigger: &str) {
    let manifest = format!(
        "runtime = \"python3\"\nnetwork = \"internet\"\n[env]\nSINK = \"http://127.0.0.1:{}/\"\n\
        [async.retry]\nattempts = 20\nfirst_ms = 20\nlongest_ms = 200\n\
        [[triggers]]\nname = \"arrived\"\nkind = \"bucket\"\nbucket = \"incoming\"\n{trigger}\n",
        sink.port
    );
    folder_function(platform, "teller", &[("alula.toml", &manifest), ("main.py", TELLER)]);
}

/// The ids of the calls that each object made, by what happened and its key.
fn calls(sink: &Sink) -> BTreeMap<String, Vec<String>> {
    sink.calls(|record| format!("{} {}", word(&record["eventName"]), word(&record["s3"]["object"]["key"])))
}

/// What the platform exports.
fn metrics(platform: &Platform) -> String {
    let url = format!("http://127.0.0.1:{}/metrics", platform.control_port);
    let asked = client().get(url).bearer_auth(platform.token()).send();
    tokio::runtime::Runtime::new().unwrap().block_on(async { asked.await.unwrap().text().await.unwrap() })
}

#[test]
fn objects_that_come_and_go_call_with_the_event_of_s3() {
    let Some(python) = python_clients("s3").map(|programs| programs.join("python")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(&folder.path().join("data"));
    let sink = Sink::start();
    let platform = &endpoint.platform;
    platform.alula_ok(&["bucket", "create", "incoming"]);
    teller(platform, &sink, "on = [\"put\", \"delete\"]\nprefix = \"jpg/\"\nsuffix = \".jpg\"");
    endpoint.python(
        &python,
        "put = lambda key, body: client.put_object(Bucket='incoming', Key=key, Body=body)\n\
         put('jpg/a b.jpg', b'cat')\n\
         put('png/a.jpg', b'x')\n\
         put('jpg/a.png', b'x')\n\
         client.copy_object(Bucket='incoming', Key='jpg/copy.jpg', CopySource={'Bucket': 'incoming', 'Key': 'png/a.jpg'})\n\
         client.delete_object(Bucket='incoming', Key='jpg/a b.jpg')\n\
         client.delete_object(Bucket='incoming', Key='jpg/never.jpg')\n\
         client.delete_objects(Bucket='incoming', Delete={'Objects': [{'Key': 'jpg/copy.jpg'}, {'Key': 'jpg/a.png'}]})\n",
    );
    platform.wait_until_idle();
    let calls = calls(&sink);
    let expected = [
        "ObjectCreated:Copy jpg/copy.jpg",
        "ObjectCreated:Put jpg/a+b.jpg",
        "ObjectRemoved:Delete jpg/a+b.jpg",
        "ObjectRemoved:Delete jpg/copy.jpg",
    ];
    assert_eq!(calls.keys().collect::<Vec<_>>(), expected);
    assert!(calls.values().all(|ids| ids.len() == 1), "{calls:?}");
    let told = sink.told();
    let put =
        told.iter().find(|told| told["event"]["Records"][0]["eventName"] == "ObjectCreated:Put").unwrap();
    let record = &put["event"]["Records"][0];
    assert_eq!((&record["eventSource"], &record["eventVersion"]), (&"aws:s3".into(), &"2.1".into()));
    assert_eq!(record["s3"]["bucket"]["name"], "incoming");
    assert_eq!(record["s3"]["object"]["eTag"], "d077f244def8a70e5ea758bd8352fcd8");
    assert_eq!(record["userIdentity"]["principalId"], endpoint.id);

    let audit = platform.alula_ok(&["audit"]);
    assert!(audit.contains("bucket.create") && audit.contains("bucket_key.create"), "{audit}");
    let metrics = metrics(platform);
    for line in
        ["alula_bucket_events_total{change=\"put\"} 2", "alula_bucket_events_total{change=\"delete\"} 2"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn every_object_that_is_there_has_made_one_call_however_often_the_platform_is_killed() {
    let Some(python) = python_clients("s3").map(|programs| programs.join("python")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut endpoint = Endpoint::start(&data_dir);
    let sink = Sink::start();
    endpoint.platform.alula_ok(&["bucket", "create", "incoming"]);
    teller(&endpoint.platform, &sink, "");
    let script = root().join("tests/clients/s3/put_under_fire.py");
    let mut client =
        endpoint.client(&python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    for kill in 0..KILLS {
        // In the middle of puts: some have been acknowledged since the last start.
        said.extend(lines.by_ref().take(5 + 3 * kill as usize));
        std::thread::park_timeout(Duration::from_millis(7 * kill));
        endpoint.platform.kill();
        endpoint.platform = start(&data_dir, endpoint.port);
    }
    said.extend(lines.by_ref().take(5));
    drop(client.stdin.take());
    said.extend(lines);
    assert!(client.wait().unwrap().success());
    let of = |word: &str| -> Vec<String> {
        said.iter().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::to_owned)).collect()
    };
    let (acknowledged, there) = (of("put"), of("there"));
    assert!(acknowledged.iter().all(|key| there.contains(key)), "an acknowledged object is lost");

    endpoint.platform.wait_until_idle();
    let calls = calls(&sink);
    let expected: Vec<String> = there.iter().map(|key| format!("ObjectCreated:Put {key}")).collect();
    assert_eq!(calls.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let twice: Vec<_> = calls.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(twice.is_empty(), "objects with several calls: {twice:?}");
}

#[test]
fn a_function_that_writes_into_the_bucket_that_calls_it_is_stopped() {
    let Some(python) = python_clients("s3").map(|programs| programs.join("python")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(&folder.path().join("data"));
    let platform = &endpoint.platform;
    platform.alula_ok(&["bucket", "create", "circle"]);
    let manifest = format!(
        "runtime = \"python3\"\nnetwork = \"internet\"\n\
        [env]\nS3_HOST = \"127.0.0.1:{}\"\nS3_ID = \"{}\"\nS3_SECRET = \"{}\"\n\
        [[triggers]]\nname = \"again\"\nkind = \"bucket\"\nbucket = \"circle\"\n",
        endpoint.port, endpoint.id, endpoint.secret
    );
    folder_function(platform, "circle", &[("alula.toml", &manifest), ("main.py", CIRCLE)]);
    endpoint.python(&python, "client.put_object(Bucket='circle', Key='first', Body=b'')");
    let dead = eventually("the circle is stopped", || {
        let dead = platform.alula_ok(&["dead", "list", "circle"]);
        dead.contains("called itself too often").then_some(dead)
    });
    assert_eq!(dead.matches("called itself too often").count(), 1, "{dead}");
    let logs = eventually("its last call is in the log", || {
        let logs = platform.alula_ok(&["logs", "circle", "--limit", "1000"]);
        logs.contains("wrote 16").then_some(logs)
    });
    assert!(!logs.contains("wrote 17"), "{logs}");
}
