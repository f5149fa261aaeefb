//! A control API that answers from a list and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};

/// The token that it knows.
pub(crate) const TOKEN: &str = "alula_admin_0123456789abcdef0123456789abcdef";

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Says {
    pub(crate) fn json(body: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    pub(crate) fn bytes(body: &[u8]) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_vec() }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","blame":"caller","retryable":false,
            "help":"docs/errors/{code}.md"}}}}"#
        );
        Self::json(&body).status(status).header("x-alula-error", code)
    }
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Says>>,
    asked: Mutex<Vec<Asked>>,
}

/// A running fake.
#[derive(Debug)]
pub(crate) struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Fake {
    /// Listens on a free port for as long as the tests run.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { address, shared }
    }

    /// Answers `METHOD /path` like this from now on.
    pub(crate) fn on(self, route: &str, says: Says) -> Self {
        self.shared.answers.lock().unwrap().insert(route.to_owned(), says);
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The only request that there was.
    pub(crate) fn asked_once(&self) -> Asked {
        let asked = self.shared.asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: query(parts.uri.query().unwrap_or_default()),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap(),
    };
    let route = format!("{} {}", asked.method, asked.path);
    let is_public = asked.path.starts_with("/function/");
    let knows = asked.headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    shared.asked.lock().unwrap().push(asked);
    let says = if is_public || knows {
        let says = shared.answers.lock().unwrap().get(&route).cloned();
        says.unwrap_or_else(|| Says::error(404, "not_found", &format!("the fake has no {route}")))
    } else {
        Says::error(401, "unauthenticated", "this token is not known")
    };
    let mut response = Response::new(Body::from(says.body));
    *response.status_mut() = StatusCode::from_u16(says.status).unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in says.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
    }
    response
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}
