//! Queues of RabbitMQ.

use alula_model::trigger::{self, AmqpSource, Batching};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::open;
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port, program};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

struct Rabbit {
    server: Server,
    port: u16,
    /// Tells Erlang's nodes of each other; left to itself, one would stay behind.
    _names: Child,
}

impl Rabbit {
    async fn start() -> Option<Self> {
        let (binary, names) = (program("rabbitmq-server")?, program("epmd")?);
        let (port, names_port, nodes_port) = (free_port(), free_port(), free_port());
        let mut starting = Command::new(names);
        starting.args(["-address", "127.0.0.1", "-port", &names_port.to_string()]).kill_on_drop(true);
        let names = starting.spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = "default_user = me\ndefault_pass = s3cret\nlog.console = true\nlog.file = false\n";
        std::fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        std::fs::write(folder.path().join("plugins"), "[].").unwrap();
        // A queue that was made within the last moments is not on the disk yet when the server is killed: what it loses then
        // is no affair of ours, so it is told to end.
        let server = Server::start_in(folder, port, "TERM", move |folder| {
            let mut command = Command::new(&binary);
            // With this the script becomes the server rather than standing before it.
            command.env("RUNNING_UNDER_SYSTEMD", "1").env("HOME", folder);
            command.env("ERL_EPMD_PORT", names_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
            command.env("RABBITMQ_NODENAME", format!("alula{port}@localhost"));
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", port.to_string());
            command.env("RABBITMQ_DIST_PORT", nodes_port.to_string());
            command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
            command.env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"));
            command.env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"));
            command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("RABBITMQ_LOG_BASE", folder);
            command
        });
        Some(Self { server: server.await, port, _names: names })
    }

    async fn connection(&self) -> Connection {
        let url = format!("amqp://me:s3cret@127.0.0.1:{}/%2f", self.port);
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    }

    fn stated(&self, case: &str, batch: Batching) -> AmqpSource {
        let url = format!("amqp://me:${{PASSWORD}}@127.0.0.1:{}", self.port);
        AmqpSource { url, queue: case.to_owned(), batch }
    }
}

impl Broker for Rabbit {
    fn place(&self, case: &str, batching: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let queue = case.to_owned();
        let source = open(case, &trigger::Source::Amqp(self.stated(case, batching)));
        Box::pin(async move {
            let channel = self.connection().await.create_channel().await.unwrap();
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
            source
        })
    }

    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let connection = self.connection().await;
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            let (options, durable) =
                (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
            for body in bodies {
                let (queue, body) = (case.into(), body.as_bytes());
                let published = channel.basic_publish("".into(), queue, options, body, durable.clone()).await;
                assert!(published.unwrap().await.unwrap().is_ack());
            }
            connection.close(200, "OK".into()).await.unwrap();
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart())
    }

    fn documented(&self) -> Option<&'static str> {
        Some("amqp")
    }

    fn text(&self) -> fn(&Value) -> String {
        |item| String::from_utf8(STANDARD.decode(item["data"].as_str().unwrap()).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_rabbitmq() {
    let Some(rabbit) = Rabbit::start().await else { return };
    suite::run(&rabbit).await;
    a_wrong_password_is_said_and_not_shown(&rabbit).await;
    a_queue_that_is_not_there_is_said(&rabbit).await;
}

async fn a_wrong_password_is_said_and_not_shown(rabbit: &Rabbit) {
    let url = format!("amqp://me:${{WRONG}}@127.0.0.1:{}", rabbit.port);
    let error = wrong(rabbit, AmqpSource { url, ..rabbit.stated("wrong", batching(1, 1)) }).await;
    assert!(error.contains("ACCESS_REFUSED") && !error.contains("secret"), "{error}");
}

async fn a_queue_that_is_not_there_is_said(rabbit: &Rabbit) {
    let error = wrong(rabbit, rabbit.stated("nowhere", batching(1, 1))).await;
    assert!(error.contains("no queue 'nowhere'"), "{error}");
}

async fn wrong(rabbit: &Rabbit, stated: AmqpSource) -> String {
    let world = World::new(rabbit.text());
    let watching = world.watch(open("wrong", &trigger::Source::Amqp(stated)), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    error
}
