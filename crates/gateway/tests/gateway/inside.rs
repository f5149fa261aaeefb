//! Requests that come out of sandboxes: whose they are, and where they may go.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use alula_gateway::{Asker, Objects, Options, Service};
use alula_invoke::LineageSeal;
use alula_model::{FunctionSpec, InstanceId, InvocationId, Name, Network, VersionKey};
use alula_runtime::{
    Body, BoxFuture, Caller, Door, RunningCall, VersionPlan, Visit, Visitors, Waiters, door,
};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::support::{Behind, Reply, SECRET, get, get_once, parts, post, text, within};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Answers every request for objects, and keeps who asked.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<String>>);

impl Objects for Kept {
    fn answer(&self, request: Request<Incoming>, asker: Asker) -> BoxFuture<'_, Response<Body>> {
        let Asker { namespace, lineage } = asker;
        self.0.lock().unwrap().push(format!("{} {namespace} {lineage}", request.uri().path()));
        Box::pin(async { Response::new(Body::full("an object")) })
    }
}

/// The function `a.shop` in one instance, and the gateway behind its door. The function that it calls answers
/// `TARGET LINEAGE WAITERS TRACE`.
struct Inside {
    door: Door,
    caller: Arc<Caller>,
    visitors: Arc<Visitors>,
    behind: Behind,
    objects: Arc<Kept>,
}

impl Inside {
    fn start(network: Network) -> Self {
        let key = VersionKey {
            namespace: Name::new("shop").unwrap(),
            function: Name::new("a").unwrap(),
            version: 1,
        };
        let spec = FunctionSpec { network, ..FunctionSpec::new("exec") };
        let plan = Arc::new(VersionPlan::new(key.clone(), spec, PathBuf::new()));
        let caller = Arc::new(Caller::new(plan));
        let visitors = Arc::new(Visitors::one(&InstanceId::new("i-1"), Arc::clone(&caller)));
        let (behind, objects) = (Behind::default(), Arc::new(Kept::default()));
        let called = move |invocation: alula_invoke::Invocation| {
            let trace = invocation.headers["traceparent"].to_str().unwrap();
            let told = format!(
                "{} {} {} {trace}",
                invocation.target,
                invocation.lineage,
                invocation.waiters.of(&key)
            );
            async move { Ok(text(200, &[], told.leak())) }
        };
        let parts = parts(called, &behind.later, &behind.events, &behind.counts, &behind.identity);
        let (door, visits) = door();
        let service = Service::new(Options::default(), parts).unwrap();
        tokio::spawn(service.run_inside(visits, Arc::clone(&objects) as _, CancellationToken::new()));
        Self { door, caller, visitors, behind, objects }
    }

    /// A call of `a` begins, that `chain` led to, itself the last.
    fn begin(&self, id: &str, chain: &str) {
        let lineage = LineageSeal::new(SECRET).sign(&chain.parse().unwrap());
        let traceparent = Some(HeaderValue::from_static(TRACE));
        let id = InvocationId::new(id).unwrap();
        self.caller.begin(RunningCall {
            id,
            lineage: Some(lineage),
            traceparent,
            waiters: Waiters::default(),
        });
    }

    async fn say(&self, request: impl AsRef<[u8]>) -> String {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let visitors = Arc::clone(&self.visitors);
        assert!(self.door.enter(Visit { connection: Box::new(theirs), visitors, place: None }).await);
        ours.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        within(ours.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(&self, request: impl AsRef<[u8]>) -> Reply {
        Reply::parse(&self.say(request).await)
    }
}

#[tokio::test]
async fn a_call_has_the_lineage_and_the_trace_of_the_call_that_makes_it_whatever_is_claimed() {
    let inside = Inside::start(Network::None);
    inside.begin("call-1", "b.shop>a.shop");
    let expected = format!("c.shop:latest b.shop>a.shop@call-1 1 {TRACE}");
    let forged = LineageSeal::new(SECRET).sign(&"a.shop".parse().unwrap());
    for claim in [
        String::new(),
        "X-Alula-Lineage: 1:x.shop:AAAAAAAAAAAAAAAAAAAAAA\r\n".to_owned(),
        format!("X-Alula-Lineage: {}\r\n", forged.to_str().unwrap()),
        "X-Alula-Instance: i-2\r\nX-Alula-Parent: call-9\r\n".to_owned(),
    ] {
        let reply = inside.ask(post("/function/c", &claim, "")).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, expected.as_str()), "{claim}");
    }
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let reply = inside.ask(post("/function/c", &format!("traceparent: {own}\r\n"), "")).await;
    assert!(reply.body.ends_with(own), "{}", reply.body);
}

#[tokio::test]
async fn what_may_be_from_several_calls_has_the_longest_chain_and_no_parent() {
    let inside = Inside::start(Network::None);
    inside.begin("call-1", "a.shop");
    inside.begin("call-2", "b.shop*7>a.shop");
    let reply = inside.ask(get_once("/function/c")).await;
    assert!(reply.body.starts_with("c.shop:latest b.shop*7>a.shop 0 "), "{}", reply.body);
    let named = LineageSeal::new(SECRET).sign(&"a.shop".parse().unwrap());
    let named = format!("X-Alula-Lineage: {}\r\n", named.to_str().unwrap());
    let reply = inside.ask(post("/function/c", &named, "")).await;
    assert!(reply.body.starts_with("c.shop:latest a.shop@call-1 1 "), "{}", reply.body);
}

#[tokio::test]
async fn a_name_means_the_own_namespace_and_no_other_is_reached() {
    let inside = Inside::start(Network::Internet);
    inside.begin("call-1", "a.shop");
    for path in ["/function/c", "/function/c.shop", "/function/c%2Eshop:latest"] {
        assert!(inside.ask(get_once(path)).await.body.starts_with("c.shop:latest "), "{path}");
    }
    assert_eq!(inside.ask(post("/topic/orders", "", "{}")).await.status, 202);
    assert_eq!(inside.behind.events.published.lock().unwrap()[0].namespace.as_str(), "shop");
    assert_eq!(inside.ask(post("/async-function/c", "", "{}")).await.status, 202);
    let later = inside.behind.later.0.lock().unwrap().pop().unwrap();
    assert_eq!(
        (later.target.to_string().as_str(), later.lineage.to_string().as_str()),
        ("c.shop:latest", "a.shop@call-1")
    );
    for (path, status) in [
        ("/function/c.default", 404),
        ("/function/c%2edefault", 404),
        ("/async-function/c.default", 404),
        ("/topic/orders.default", 404),
        ("/users/7", 404),
        ("/webhook/shop/pay/stripe", 404),
        ("/v1/functions", 404),
        ("/_alula/livez", 405),
        ("http://alula.test/function/c", 400),
        ("http://169.254.169.254/", 400),
    ] {
        assert_eq!(inside.ask(post(path, "", "{}")).await.status, status, "{path}");
    }
    let tunnel = "CONNECT alula.test:80 HTTP/1.1\r\nHost: alula.test:80\r\nConnection: close\r\n\r\n";
    assert_eq!(inside.ask(tunnel).await.status, 405);
}

#[tokio::test]
async fn a_function_without_a_network_cannot_name_an_address_for_a_result() {
    for (network, status) in [(Network::None, 400), (Network::Internet, 202)] {
        let inside = Inside::start(network);
        let asked = post("/async-function/c", "X-Callback-Url: https://a.test/\r\n", "{}");
        assert_eq!(inside.ask(asked).await.status, status);
    }
}

#[tokio::test]
async fn requests_signed_for_s3_are_for_the_objects_of_the_namespace() {
    let inside = Inside::start(Network::None);
    inside.begin("call-1", "a.shop");
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=x\r\n";
    for (path, headers) in [("/photos/cat", signed), ("/photos/cat?a=b&X-Amz-Algorithm=AWS4-HMAC-SHA256", "")]
    {
        assert_eq!(inside.ask(post(path, headers, "")).await.body, "an object");
    }
    assert_eq!(*inside.objects.0.lock().unwrap(), ["/photos/cat shop a.shop@call-1"; 2]);
    assert_eq!(inside.ask(post("/photos/cat", "Authorization: Bearer x\r\n", "")).await.status, 404);
}

#[tokio::test]
async fn one_request_is_one_request_however_its_length_is_told() {
    let inside = Inside::start(Network::None);
    let hidden = get("/function/hidden");
    let head = "POST /function/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 9\r\n",
        "Content-Length: 0, 9\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length : 9\r\n",
    ] {
        let answer = inside.say(format!("{head}{lengths}\r\n0\r\n\r\n{hidden}")).await;
        assert!(!answer.contains("hidden.shop"), "{lengths} {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{lengths} {answer}");
    }
}

#[tokio::test]
async fn a_function_of_another_namespace_is_reached_where_it_lets_the_caller_in() {
    let inside = Inside::start(Network::None);
    inside.begin("call-1", "a.shop");
    for (path, status) in [
        ("/function/only-a.bank", 200),
        ("/function/everybody.bank", 200),
        ("/function/only-namespace.shop", 200),
        ("/function/only-b.bank", 404),
        ("/function/only-namespace.bank", 404),
        ("/function/only-namespace.bank:1", 404),
        ("/function/only-inside.bank", 404),
        ("/function/says-nothing.bank", 404),
    ] {
        for claim in ["", "X-Alula-Caller: function:shop/b\r\n", "Authorization: Bearer alula_admin_1\r\n"] {
            let reply = inside.ask(post(path, claim, "")).await;
            assert_eq!(reply.status, status, "{path} {claim}: {}", reply.body);
        }
    }
}
