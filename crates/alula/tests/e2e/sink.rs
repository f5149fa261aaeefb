//! An outside service that functions tell what they do: it is there however often the platform is killed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Tells the sink of every event.
pub(crate) const TELLER: &str = r#"
import json, os, urllib.request

# Here the loopback address is the machine's, behind the proxy.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""

def handler(event, context):
    told = json.dumps({"id": context.aws_request_id, "event": event}).encode()
    urllib.request.urlopen(os.environ["SINK"], data=told, timeout=5).read()
"#;

/// Listens until the test ends and keeps what it is told.
pub(crate) struct Sink {
    pub(crate) port: u16,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = Arc::clone(&keep);
                std::thread::spawn(move || take(stream, &keep));
            }
        });
        Self { port, told }
    }

    /// Every JSON object that was posted so far.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// The ids of the calls that [`TELLER`] told of, by what `name` makes of the record of each. A call that was tried
    /// again is one call.
    pub(crate) fn calls(&self, name: impl Fn(&Value) -> String) -> BTreeMap<String, Vec<String>> {
        let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for told in self.told() {
            let ids = calls.entry(name(&told["event"]["Records"][0])).or_default();
            let id = word(&told["id"]).to_owned();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        calls
    }
}

/// A value that is a text.
pub(crate) fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn take(mut stream: TcpStream, told: &Mutex<Vec<Value>>) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // The bodies are one JSON object each, so where one can be read it has ended.
        let begin = request.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let Some(Ok(body)) = begin.map(|begin| serde_json::from_slice(&request[begin..])) {
            told.lock().unwrap().push(body);
            break;
        }
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}
