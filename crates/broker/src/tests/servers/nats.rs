//! NATS, plain and with JetStream.

use alula_model::trigger::{self, Batching, NatsSource};
use serde_json::Value;
use tokio::process::Command;

use super::open;
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port, program};
use crate::tests::suite::{self, Broker, batching, bodies};
use crate::tests::world::World;

struct Nats {
    server: Server,
    port: u16,
    kept_by: KeptBy,
}

impl Nats {
    async fn start(kept_by: KeptBy) -> Option<Self> {
        let (binary, port) = (program("nats-server")?, free_port());
        let server = Server::start(port, move |folder| {
            let mut command = Command::new(&binary);
            command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--user", "me", "--pass", "s3cret", "--jetstream", "--store_dir"]).arg(folder);
            command
        });
        Some(Self { server: server.await, port, kept_by })
    }

    async fn client(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password("me".into(), "s3cret".into());
        options.connect(format!("127.0.0.1:{}", self.port)).await.unwrap()
    }

    fn stated(&self, case: &str, batch: Batching) -> trigger::Source {
        trigger::Source::Nats(NatsSource {
            url: format!("nats://me:${{PASSWORD}}@127.0.0.1:{}", self.port),
            subject: format!("{case}.>"),
            group: None,
            stream: (self.kept_by == KeptBy::Broker).then(|| case.to_owned()),
            batch,
        })
    }
}

impl Broker for Nats {
    fn place(&self, case: &str, batching: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let (case, source) = (case.to_owned(), open(case, &self.stated(case, batching)));
        Box::pin(async move {
            if self.kept_by == KeptBy::Broker {
                let context = async_nats::jetstream::new(self.client().await);
                let config = async_nats::jetstream::stream::Config {
                    subjects: vec![format!("{case}.>")],
                    name: case,
                    ..Default::default()
                };
                context.get_or_create_stream(config).await.unwrap();
            }
            source
        })
    }

    fn kept_by(&self) -> KeptBy {
        self.kept_by
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let client = self.client().await;
            let context = async_nats::jetstream::new(client.clone());
            for body in bodies {
                let (subject, body) = (format!("{case}.new"), body.clone().into());
                match self.kept_by {
                    KeptBy::Broker => drop(context.publish(subject, body).await.unwrap().await.unwrap()),
                    KeptBy::Nobody => client.publish(subject, body).await.unwrap(),
                }
            }
            client.flush().await.unwrap();
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart())
    }

    fn documented(&self) -> Option<&'static str> {
        match self.kept_by {
            KeptBy::Broker => Some("nats"),
            KeptBy::Nobody => None,
        }
    }

    fn text(&self) -> fn(&Value) -> String {
        |item| item["body"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_subjects() {
    let Some(nats) = Nats::start(KeptBy::Nobody).await else { return };
    suite::run(&nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_jetstream() {
    let Some(nats) = Nats::start(KeptBy::Broker).await else { return };
    suite::run(&nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_not_shown() {
    let Some(nats) = Nats::start(KeptBy::Nobody).await else { return };
    let world = World::new(nats.text());
    let trigger::Source::Nats(mut stated) = nats.stated("wrong", batching(1, 1)) else { unreachable!() };
    stated.url = format!("nats://me:${{WRONG}}@127.0.0.1:{}", nats.port);
    let stated = trigger::Source::Nats(stated);
    let watching = world.watch(open("wrong", &stated), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    assert!(error.contains("authorization") && !error.contains("secret"), "{error}");
    assert_eq!(world.taken(), bodies("", 0));
}
