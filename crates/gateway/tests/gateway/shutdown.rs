//! Stopping: what runs is finished, what is idle is closed, what takes too long is cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alula_gateway::Options;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::support::{Gateway, echo, get, within};

#[tokio::test]
async fn a_running_request_is_finished_and_its_connection_closed() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (tell, wait) = (Arc::clone(&started), Arc::clone(&release));
    let gateway = Gateway::start(Options::default(), move |invocation| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.acquire().await.unwrap().forget();
            echo(invocation).await
        }
    })
    .await;
    let mut idle = gateway.connect().await;
    let mut busy = gateway.connect().await;
    busy.send(get("/function/hello")).await;
    within(started.notified()).await;
    gateway.shutdown.cancel();
    assert_eq!(idle.remainder().await, "");
    assert!(TcpStream::connect(gateway.address).await.is_err(), "the listener is closed");
    assert!(!gateway.running.is_finished());
    release.add_permits(1);
    let reply = busy.response().await;
    assert_eq!((reply.status, reply.headers["connection"].as_str()), (200, "close"));
    assert_eq!(busy.remainder().await, "");
    within(gateway.running).await.unwrap();
    assert_eq!(gateway.counts.opened.load(Ordering::SeqCst), gateway.counts.closed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_outlasts_the_drain_time_is_cut() {
    let gateway = Gateway::start(Options { drain_timeout_ms: 30, ..Options::default() }, |_| async {
        std::future::pending().await
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    crate::support::until(|| gateway.counts.opened.load(Ordering::SeqCst) == 1).await;
    let counts = Arc::clone(&gateway.counts);
    gateway.stop().await;
    assert_eq!(raw.remainder().await, "");
    assert_eq!(counts.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let gateway = Gateway::echo().await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    assert_eq!(raw.response().await.status, 200);
    gateway.stop().await;
    assert_eq!(raw.remainder().await, "");
}
