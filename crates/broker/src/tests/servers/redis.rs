//! Streams of Redis.

use alula_model::trigger::{self, Batching, RedisSource};
use serde_json::Value;
use tokio::process::Command;

use super::open;
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port, program};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

struct Redis {
    server: Server,
    port: u16,
}

impl Redis {
    async fn start() -> Option<Self> {
        let (binary, port) = (program("redis-server")?, free_port());
        let server = Server::start(port, move |folder| {
            let mut command = Command::new(&binary);
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", "s3cret"]);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
            command
        });
        Some(Self { server: server.await, port })
    }
}

impl Broker for Redis {
    fn place(&self, case: &str, batch: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let stated = trigger::Source::Redis(RedisSource {
            url: format!("redis://:${{PASSWORD}}@127.0.0.1:{}/0", self.port),
            stream: case.to_owned(),
            group: "alula".to_owned(),
            batch,
        });
        let source = open(case, &stated);
        Box::pin(async move { source })
    }

    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let client = redis::Client::open(format!("redis://:s3cret@127.0.0.1:{}", self.port)).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            for body in bodies {
                let mut add = redis::cmd("XADD");
                add.arg(case).arg("*").arg("text").arg(body);
                add.exec_async(&mut connection).await.unwrap();
            }
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart())
    }

    fn documented(&self) -> Option<&'static str> {
        Some("redis")
    }

    fn text(&self) -> fn(&Value) -> String {
        |item| {
            let fields: Value = serde_json::from_str(item["body"].as_str().unwrap()).unwrap();
            fields["text"].as_str().unwrap().to_owned()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_redis() {
    let Some(redis) = Redis::start().await else { return };
    suite::run(&redis).await;
    a_wrong_password_is_said_and_not_shown(&redis).await;
}

async fn a_wrong_password_is_said_and_not_shown(redis: &Redis) {
    let stated = RedisSource {
        url: format!("redis://:${{WRONG}}@127.0.0.1:{}/0", redis.port),
        stream: "wrong".to_owned(),
        group: "alula".to_owned(),
        batch: batching(1, 1),
    };
    let world = World::new(redis.text());
    let watching = world.watch(open("wrong", &trigger::Source::Redis(stated)), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    assert!(error.contains("Password authentication failed") && !error.contains("secret"), "{error}");
}
