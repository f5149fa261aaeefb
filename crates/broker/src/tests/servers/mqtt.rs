//! MQTT, with and without a session at the broker.

use std::process::Stdio;

use alula_model::trigger::{self, Batching, MqttSource};
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, MqttOptions, PublishOptions};
use serde_json::Value;
use tokio::process::Command;

use super::open;
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port, program};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

struct Mqtt {
    server: Server,
    port: u16,
    kept_by: KeptBy,
}

impl Mqtt {
    async fn start(kept_by: KeptBy) -> Option<Self> {
        let (binary, passwords) = (program("mosquitto")?, program("mosquitto_passwd")?);
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = folder.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\nallow_anonymous false\npassword_file {path}/passwords\n\
             persistence true\npersistence_location {path}/\nautosave_on_changes true\nautosave_interval 1\n\
             max_queued_messages 0\n"
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        let mut passwords = Command::new(passwords);
        passwords.args(["-c", "-b", &format!("{path}/passwords"), "me", "s3cret"]).stdout(Stdio::null());
        assert!(passwords.status().await.unwrap().success());
        let server = Server::start_in(folder, port, "KILL", move |folder| {
            let mut command = Command::new(&binary);
            command.arg("-c").arg(folder.join("config"));
            command
        });
        Some(Self { server: server.await, port, kept_by })
    }

    fn stated(&self, case: &str, batch: Batching) -> MqttSource {
        MqttSource {
            url: format!("mqtt://me:${{PASSWORD}}@127.0.0.1:{}", self.port),
            topic: format!("{case}/#"),
            qos: if self.kept_by == KeptBy::Broker { 1 } else { 0 },
            batch,
        }
    }
}

impl Broker for Mqtt {
    fn place(&self, case: &str, batching: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let source = open(case, &trigger::Source::Mqtt(self.stated(case, batching)));
        Box::pin(async move { source })
    }

    fn kept_by(&self) -> KeptBy {
        self.kept_by
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut options = MqttOptions::new("publisher", ("127.0.0.1", self.port));
            options.set_credentials("me", "s3cret");
            let (client, mut words) = AsyncClient::builder(options).capacity(10).build();
            let driving = tokio::spawn(async move { while words.poll().await.is_ok() {} });
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let topic = format!("{case}/new");
            let mut published = Vec::new();
            for body in bodies {
                let tracked = client.publish_tracked(topic.as_str(), body.clone(), options.clone()).await;
                published.push(tracked.unwrap());
            }
            for published in published {
                published.wait_completion_async().await.unwrap();
            }
            driving.abort();
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart())
    }

    fn documented(&self) -> Option<&'static str> {
        match self.kept_by {
            KeptBy::Broker => Some("mqtt"),
            KeptBy::Nobody => None,
        }
    }

    fn text(&self) -> fn(&Value) -> String {
        |item| item["body"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_without_a_session() {
    let Some(mqtt) = Mqtt::start(KeptBy::Nobody).await else { return };
    suite::run(&mqtt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_with_a_session() {
    let Some(mqtt) = Mqtt::start(KeptBy::Broker).await else { return };
    suite::run(&mqtt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_not_shown() {
    let Some(mqtt) = Mqtt::start(KeptBy::Nobody).await else { return };
    let world = World::new(mqtt.text());
    let url = format!("mqtt://me:${{WRONG}}@127.0.0.1:{}", mqtt.port);
    let stated = trigger::Source::Mqtt(MqttSource { url, ..mqtt.stated("wrong", batching(1, 1)) });
    let watching = world.watch(open("wrong", &stated), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    assert!(error.contains("NotAuthorized") && !error.contains("secret"), "{error}");
}
