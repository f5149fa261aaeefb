//! The network of functions, on the built binary: programs that know no proxy reach by name what rules and ceiling permit,
//! and nothing else; a ceiling is changed while they run.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::platform::{Platform, client, folder_function, text};

/// Connects to each place of its request, says something and tells what came of it.
const CALLER: &str = r#"
import json, os, socket

def attempt(place):
    host, port = place.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(b"ping")
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100).decode() or "closed"
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return type(error).__name__

def handler(event, context):
    return {place: attempt(place) for place in json.loads(event["body"])} | {"AGENT": os.environ.get("AGENT")}
"#;

/// A server on the loopback interface that answers what it is sent, with its name before it.
fn echo(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut stream, mut got) = (stream, [0; 100]);
                let count = stream.read(&mut got).unwrap_or(0);
                let _ =
                    stream.write_all(format!("{name}:{}", String::from_utf8_lossy(&got[..count])).as_bytes());
            });
        }
    });
    port
}

fn deploy(platform: &Platform, name: &str, network: &str) {
    let manifest = format!("runtime = \"python3\"\nnetwork = {network}\n");
    folder_function(platform, name, &[("alula.toml", &manifest), ("main.py", CALLER)]);
}

async fn reach(platform: &Platform, function: &str, places: &[String]) -> Value {
    let request = client().post(platform.url(&format!("/function/{function}"))).json(&places);
    let answer = request.send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{body}\n{}", platform.log());
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn plain_connections_go_where_rules_and_ceiling_permit_and_nowhere_else() {
    let (database, agent, other) = (echo("database"), echo("agent"), echo("other"));
    let platform = Platform::start_with(&[
        ("ALULA_NETWORK_EXTRA_HOSTS", r#"{ "db.internal" = "127.0.0.1", "agent" = "127.0.0.1" }"#),
        ("ALULA_NETWORK_CEILING", r#"["internet", "db.internal"]"#),
        ("ALULA_NETWORK_SERVICES", &format!("[\"agent:{agent}\"]")),
        ("ALULA_NETWORK_ENV", &format!("{{ AGENT = \"agent:{agent}\" }}")),
    ]);
    deploy(&platform, "caller", &format!("[\"db.internal:{database}\"]"));
    deploy(&platform, "lonely", "\"none\"");
    let place = |host: &str, port: u16| format!("{host}:{port}");
    let places = [
        place("db.internal", database),
        place("DB.Internal.", database),
        place("agent", agent),
        // Another port, another name, and the server by its address.
        place("db.internal", other),
        place("localhost", other),
        place("example.com", 80),
        place("127.0.0.1", database),
        "169.254.169.254:80".to_owned(),
        "metadata.google.internal:80".to_owned(),
        place("127.0.0.1", platform.control_port),
    ];
    let reached = reach(&platform, "caller", &places).await;
    assert_eq!(reached[&places[0]], "database:ping", "{reached}\n{}", platform.log());
    assert_eq!(reached[&places[1]], "database:ping", "{reached}");
    assert_eq!(reached[&places[2]], "agent:ping", "{reached}");
    for forbidden in &places[3..] {
        let answer = reached[forbidden].as_str().unwrap();
        assert!(!answer.contains("ping") && answer != "closed", "{forbidden}: {answer}");
    }
    assert_eq!(reached["AGENT"], json!(format!("agent:{agent}")));

    // Every function has the service, and one without a network nothing else.
    let reached = reach(&platform, "lonely", &places).await;
    assert_eq!(reached[&places[2]], "agent:ping", "{reached}");
    assert_eq!(reached[&places[0]], "no such name", "{reached}");

    // A lowered ceiling holds for instances that run.
    platform.alula_ok(&["network", "ceiling", "none"]);
    let reached = reach(&platform, "caller", &places[..3]).await;
    assert!(!reached[&places[0]].as_str().unwrap().contains("ping"), "{reached}");
    assert_eq!(reached[&places[2]], "agent:ping", "a service is above ceilings: {reached}");
    platform.alula_ok(&["network", "reset"]);
    assert_eq!(reach(&platform, "caller", &places[..1]).await[&places[0]], "database:ping");
    assert!(platform.alula_ok(&["audit"]).contains("network.ceiling"));
}

#[tokio::test]
async fn what_asks_for_more_than_the_ceiling_is_not_deployed() {
    let platform =
        Platform::start_with(&[("ALULA_NETWORK_CEILING", r#"["*.example.com:443", "10.1.0.0/16:5432"]"#)]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.py"), CALLER).unwrap();
    for (network, refused) in [
        ("\"internet\"", Some("internet")),
        ("[\"api.example.com:443\"]", None),
        ("[\"api.example.com\"]", Some("api.example.com is more")),
        ("[\"10.1.2.0/24:5432\", \"10.2.0.1\"]", Some("10.2.0.1/32 is more")),
        ("[\"10.1.2.0/24:5432\"]", None),
        ("[\"a b\"]", Some("no network rule")),
    ] {
        let manifest = format!("name = \"wants\"\nruntime = \"python3\"\nnetwork = {network}\n");
        std::fs::write(folder.path().join("alula.toml"), manifest).unwrap();
        let output = platform.alula(&["deploy", folder.path().to_str().unwrap()]);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.success(), refused.is_none(), "{network}: {told}");
        assert!(refused.is_none_or(|reason| told.contains(reason)), "{network}: {told}");
    }
}
