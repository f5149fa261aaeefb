//! A cluster of three brokers that the client library simulates, all of which go at once. Its groups are slow to change, so
//! the rest of the suite is left to the real broker.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use alula_model::trigger::Batching;
use alula_runtime::{Egress, EgressError};
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{OUTAGE, place, publish, text};
use crate::BoxFuture;
use crate::network::Network;
use crate::source::{KeptBy, Source};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

const BROKERS: i32 = 3;

enum Order {
    Topic(String),
    Down,
    Up,
}

/// The cluster may only be touched by one thread, which takes orders.
struct Simulated {
    brokers: String,
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
}

impl Simulated {
    async fn start() -> Self {
        let (orders, taken) = mpsc::channel::<(Order, oneshot::Sender<()>)>();
        let (started, brokers) = oneshot::channel();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(BROKERS).unwrap();
            started.send(cluster.bootstrap_servers()).unwrap();
            for (order, done) in taken {
                match order {
                    // It is there already when the place is opened a second time.
                    Order::Topic(name) => drop(cluster.create_topic(&name, 1, 1)),
                    Order::Down => (1..=BROKERS).for_each(|broker| cluster.broker_down(broker).unwrap()),
                    Order::Up => (1..=BROKERS).for_each(|broker| cluster.broker_up(broker).unwrap()),
                }
                // Who gave the order may have stopped to wait.
                let _ = done.send(());
            }
        });
        Self { brokers: brokers.await.unwrap(), orders }
    }

    async fn order(&self, order: Order) {
        let (done, waits) = oneshot::channel();
        self.orders.send((order, done)).unwrap();
        waits.await.unwrap();
    }
}

impl Broker for Simulated {
    fn place(&self, case: &str, batch: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let case = case.to_owned();
        Box::pin(async move {
            self.order(Order::Topic(case.clone())).await;
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
        Box::pin(async move {
            self.order(Order::Down).await;
            tokio::time::sleep(OUTAGE).await;
            self.order(Order::Up).await;
        })
    }

    fn documented(&self) -> Option<&'static str> {
        None
    }

    fn text(&self) -> fn(&Value) -> String {
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_a_simulated_cluster() {
    let cluster = Simulated::start().await;
    suite::delivers_in_batches(&cluster).await;
    suite::loses_nothing_when_the_broker_restarts(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_said() {
    let world = World::new(|_| String::new());
    let watching = world.watch(place("127.0.0.1:1", "nowhere", batching(1, 1)), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    assert!(error.contains("connecting"), "{error}");
}

/// A network in which one port is allowed and no other.
#[derive(Debug)]
struct OnlyPort(u16);

impl Egress for OnlyPort {
    fn connect<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn alula_runtime::Connection>, EgressError>> {
        Box::pin(std::future::ready(Err(EgressError::Refused("unused"))))
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        let allowed = (port == self.0).then(|| SocketAddr::new(host.parse().unwrap(), port));
        Box::pin(std::future::ready(
            allowed.map(|address| vec![address]).ok_or(EgressError::Refused("private")),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_cannot_lead_where_the_policy_forbids() {
    let cluster = Simulated::start().await;
    let first = cluster.brokers.split(',').next().unwrap().to_owned();
    cluster.order(Order::Topic("t".to_owned())).await;
    let port = first.rsplit(':').next().unwrap().parse().unwrap();
    let network = Network { egress: Arc::new(OnlyPort(port)), tls: None };
    let error = place(&first, "t", batching(1, 1)).connect(&network).await.err().unwrap();
    assert!(error.to_string().contains("private"), "{error}");
}
