//! The broker of Kafka as its makers publish it: one node that is its own controller (KRaft).

use std::path::{Path, PathBuf};

use alula_model::trigger::Batching;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;
use tokio::process::Command;

use super::{OUTAGE, place, publish, text};
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

/// Any will do.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

struct Kafka {
    server: Server,
    brokers: String,
}

/// Where the broker's parts are; `None`, said loudly, where this machine cannot run or bring it.
fn parts() -> Option<PathBuf> {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let folder = target.join("tmp/kafka");
    let bring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/bring.sh");
    let brought = std::process::Command::new(bring).arg(&folder).status().unwrap();
    if brought.code() == Some(3) {
        eprintln!(
            "SKIPPED: java or mvn is not installed, so nothing is shown about Kafka (./check installs them)"
        );
        return None;
    }
    assert!(brought.success(), "the broker could not be brought");
    Some(folder)
}

fn properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         offsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
        folder.join("data").display()
    )
}

fn java(parts: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(parts.join("*"));
    command
}

impl Kafka {
    async fn start() -> Option<Self> {
        let (parts, folder) = (parts()?, tempfile::tempdir().unwrap());
        let (port, controller) = (free_port(), free_port());
        let settings = folder.path().join("server.properties");
        std::fs::write(&settings, properties(folder.path(), port, controller)).unwrap();
        let mut format = java(&parts);
        format
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"])
            .arg(&settings);
        let formatted = format.output().await.unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        let server = Server::start_in(folder, port, "KILL", move |folder| {
            let mut command = java(&parts);
            command.arg("kafka.Kafka").arg(folder.join("server.properties"));
            command
        });
        Some(Self { server: server.await, brokers: format!("127.0.0.1:{port}") })
    }

    async fn make_topic(&self, name: &str) {
        let mut config = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            config.set("bootstrap.servers", &self.brokers).create().unwrap();
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        // It is there already when the place is opened a second time.
        let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        assert_eq!(made.len(), 1);
    }
}

impl Broker for Kafka {
    fn place(&self, case: &str, batch: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let case = case.to_owned();
        Box::pin(async move {
            self.make_topic(&case).await;
            place(&self.brokers, &case, batch)
        })
    }

    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(publish(&self.brokers, case, bodies))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart_after(OUTAGE))
    }

    fn documented(&self) -> Option<&'static str> {
        Some("kafka")
    }

    fn text(&self) -> fn(&Value) -> String {
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_kafka() {
    let Some(kafka) = Kafka::start().await else { return };
    suite::run(&kafka).await;
    a_topic_that_is_not_there_is_said(&kafka).await;
}

async fn a_topic_that_is_not_there_is_said(kafka: &Kafka) {
    let world = World::new(text);
    let watching = world.watch(place(&kafka.brokers, "nosuch", batching(1, 1)), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    assert!(error.contains("no topic nosuch"), "{error}");
}
