//! The first example of the page about brokers, over a real server that comes late, goes, and comes again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use async_nats::jetstream::{self, stream};
use serde_json::Value;

use crate::platform::{Platform, eventually, free_port, root, text};

pub(crate) const SERVER: &str = "/usr/sbin/nats-server";

/// A server of NATS, ended on drop.
pub(crate) struct Nats {
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Nats {
    /// One that does not run yet.
    pub(crate) fn new() -> Self {
        Self { port: free_port(), folder: tempfile::tempdir().unwrap(), child: None }
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(SERVER);
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string(), "--user", "shop"]);
        command.args(["--pass", "s3cret", "--jetstream", "--store_dir"]).arg(self.folder.path());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("NATS takes connections", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) async fn stream(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::with_user_and_password("shop".into(), "s3cret".into());
        let client = options.connect(format!("127.0.0.1:{}", self.port)).await.unwrap();
        let context = jetstream::new(client);
        let subjects = vec!["orders.>".to_owned()];
        let config = stream::Config { name: "ORDERS".to_owned(), subjects, ..stream::Config::default() };
        context.get_or_create_stream(config).await.unwrap();
        context
    }

    async fn order(&self, id: u32, amount: u32) {
        let order = format!("{{\"id\": {id}, \"amount\": {amount}}}");
        self.stream().await.publish("orders.new", order.into()).await.unwrap().await.unwrap();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first example of the page, with an address and a password that are there.
pub(crate) fn write_example(folder: &Path, address: &str) {
    let page = std::fs::read_to_string(root().join("docs/brokers.md")).unwrap();
    let block = |language: &str| {
        let rest = page.split(&format!("```{language}\n")).nth(1).unwrap();
        rest.split("```").next().unwrap().to_owned()
    };
    let manifest = block("toml").replace("nats.example:4222", address).replace("\"...\"", "\"s3cret\"");
    std::fs::write(folder.join("alula.toml"), manifest).unwrap();
    std::fs::write(folder.join("pay.py"), block("python")).unwrap();
}

fn trigger(platform: &Platform) -> Value {
    serde_json::from_str(&platform.alula_ok(&["triggers", "list", "pay", "--json"])).unwrap()
}

pub(crate) fn until_connected(platform: &Platform) {
    eventually("the trigger is connected", || trigger(platform)["broker"]["connected_ms"].as_i64());
}

fn until_logged(platform: &Platform, line: &str) {
    let logged = || platform.alula_ok(&["logs", "pay"]).contains(line).then_some(());
    eventually(line, logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_paid_whenever_their_broker_comes_and_goes() {
    if !Path::new(SERVER).exists() {
        writeln!(std::io::stderr(), "SKIPPED: {SERVER} is not installed (./check installs it)").unwrap();
        return;
    }
    let mut nats = Nats::new();
    let folder = tempfile::tempdir().unwrap();
    write_example(folder.path(), &format!("127.0.0.1:{}", nats.port));
    let platform = Platform::start_with(&[("ALULA_BROKER_ALLOW", "[\"127.0.0.1\"]")]);
    platform.alula_ok(&["deploy", folder.path().to_str().unwrap()]);
    let shown = eventually("what is wrong is shown", || {
        let shown = platform.alula_ok(&["triggers"]);
        shown.contains("not connected: connecting").then_some(shown)
    });
    assert!(!shown.contains("s3cret"), "{shown}");

    nats.start();
    nats.order(1, 5).await;
    nats.order(2, 0).await;
    nats.order(3, 7).await;
    until_connected(&platform);
    until_logged(&platform, "paid 1");
    until_logged(&platform, "paid 3");
    eventually("the order without an amount is given up", || {
        let dead = platform.alula_ok(&["dead", "list", "pay"]);
        dead.contains("5 attempts failed").then_some(())
    });

    platform.alula_ok(&["triggers", "pause", "pay/orders"]);
    nats.order(4, 1).await;
    assert_eq!(trigger(&platform)["paused"]["by"], "admin");
    nats.kill();
    nats.start();
    platform.alula_ok(&["triggers", "resume", "pay/orders"]);
    until_logged(&platform, "paid 4");
    assert_eq!(platform.alula_ok(&["logs", "pay"]).matches("paid ").count(), 3, "each order once");
    let metrics = platform.alula_ok(&["triggers", "list", "pay"]);
    assert!(metrics.contains("connected"), "{metrics}");
}

#[test]
fn a_broker_that_is_not_allowed_is_not_reached_and_bad_settings_are_refused() {
    let platform = Platform::start();
    let folder = tempfile::tempdir().unwrap();
    write_example(folder.path(), "127.0.0.1:4222");
    platform.alula_ok(&["deploy", folder.path().to_str().unwrap()]);
    eventually("the rule is named", || {
        let shown = platform.alula_ok(&["triggers"]);
        shown.contains("the rule loopback of the network policy forbids 127.0.0.1").then_some(())
    });
    let manifest = std::fs::read_to_string(folder.path().join("alula.toml")).unwrap();
    for (from, to, expected) in [
        ("${NATS_PASSWORD}", "s3cret", "orders: url: the address holds a password"),
        ("${NATS_PASSWORD}", "${NOBODY}", "orders: url: ${NOBODY} is not in the function's env"),
        ("orders.>", "orders..new", "orders: subject: a part between its dots is empty"),
        ("max = 100", "max = 0", "orders: batch.max 0 is out of bounds"),
    ] {
        std::fs::write(folder.path().join("alula.toml"), manifest.replace(from, to)).unwrap();
        let output = platform.alula(&["deploy", folder.path().to_str().unwrap()]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{to}: {said}");
    }
}
