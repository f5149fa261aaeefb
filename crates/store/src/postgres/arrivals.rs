//! Telling other nodes that there may be something to claim, and hearing it from them.
//!
//! A connection of its own listens and notifies. Notifying is not part of the transaction that brings a message: the server
//! lets transactions that notify commit one after another, which would cost producers the shared wait for the disk. So a
//! notification may be lost, with its node or with a connection; therefore [`Arrivals::next`] also resolves after every
//! reconnect and once in a while.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::connections::{Connector, Driven};
use crate::Result;

/// Without news for so long, somebody should look all the same.
const QUIET_MAX: Duration = Duration::from_secs(5);
/// Announcements closer together than this are one.
const ANNOUNCED_EVERY: Duration = Duration::from_millis(5);
/// Between tries to connect while the server is gone.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Both directions of the news.
#[derive(Debug)]
pub(super) struct Arrivals {
    news: Arc<News>,
    listener: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct News {
    /// Others may have brought something. Remembers one call until somebody waits.
    arrived: Notify,
    /// We have brought something.
    brought: Notify,
}

impl Arrivals {
    pub(super) fn start(connector: Arc<Connector>) -> Self {
        let news = Arc::<News>::default();
        let listener = connector.clone().spawn(listen_for_ever(connector, Arc::clone(&news)));
        Self { news, listener }
    }

    /// Tells other nodes, soon.
    pub(super) fn announce(&self) {
        self.news.brought.notify_one();
    }

    /// Resolves when there may be something new since the last time.
    pub(super) async fn next(&self) {
        // A timeout is news as well: see above.
        let _ = timeout(QUIET_MAX, self.news.arrived.notified()).await;
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen_for_ever(connector: Arc<Connector>, news: Arc<News>) {
    loop {
        match connector.connect().await {
            Ok((client, connection)) => {
                if let Err(error) = converse(&client, connection, &news).await {
                    tracing::debug!(%error, "listening for arrivals ended");
                }
            }
            Err(error) => tracing::debug!(%error, "listening for arrivals is not possible"),
        }
        sleep(RECONNECT_AFTER).await;
    }
}

/// Listens and announces until the connection ends.
async fn converse(client: &Client, mut connection: Driven, news: &News) -> Result<()> {
    // Our own announcements come back to us; the server says which of its processes sent them.
    let own_process = AtomicI32::new(0);
    let hear = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(heard))) => {
                    if heard.process_id() != own_process.load(Ordering::Relaxed) {
                        news.arrived.notify_one();
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            }
        }
    };
    let tell = async {
        let own = client.query_one("SELECT pg_backend_pid()", &[]).await?;
        own_process.store(own.try_get(0)?, Ordering::Relaxed);
        client.batch_execute("LISTEN alula_arrivals").await?;
        // Something may have come while nobody listened, and gone out while nobody could be told.
        news.arrived.notify_one();
        loop {
            client.batch_execute("NOTIFY alula_arrivals").await?;
            sleep(ANNOUNCED_EVERY).await;
            news.brought.notified().await;
        }
    };
    tokio::select! {
        heard = hear => heard,
        told = tell => told,
    }
}
