//! What the client library says of itself: that it has lost the whole cluster ends a session, the rest is for the log.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

/// A consumer that listens to what its library says.
pub(super) type Consumer = StreamConsumer<Client>;

/// Listens.
#[derive(Debug, Default)]
pub(super) struct Client {
    lost: Notify,
}

impl Client {
    /// Returns when no broker of the cluster can be reached any more. Alone, the library would go on in silence.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl ClientContext for Client {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the client of Kafka speaks");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the client of Kafka has a problem");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.lost.notify_one();
        }
    }
}

impl ConsumerContext for Client {}
