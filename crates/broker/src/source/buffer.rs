//! What a broker that keeps nothing has sent and nobody has taken yet. What comes while it is full is dropped: not to take
//! it would end the connection, or fill up the broker for everybody else.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::SourceError;

/// Records that lie here beyond those in hand.
pub(super) const BUFFER_LEN: usize = 4_096;

/// The side that records come in by.
pub(super) struct Buffer<T> {
    came: mpsc::Sender<T>,
    kind: &'static str,
    is_dropping: bool,
}

impl<T> Buffer<T> {
    /// A buffer for records of this kind of broker, beyond `hand_len` in hand; and where they are taken from.
    pub(super) fn new(kind: &'static str, hand_len: usize) -> (Self, mpsc::Receiver<T>) {
        let (came, records) = mpsc::channel(hand_len + BUFFER_LEN);
        (Self { came, kind, is_dropping: false }, records)
    }

    /// Takes a record, or drops it. Fails when nobody takes them any more.
    pub(super) fn push(&mut self, record: T) -> Result<(), SourceError> {
        let pushed = self.came.try_send(record);
        let was_dropping = std::mem::replace(&mut self.is_dropping, pushed.is_err());
        match pushed {
            Err(TrySendError::Closed(_)) => return Err(SourceError::said("the session ended")),
            Err(TrySendError::Full(_)) if !was_dropping => {
                tracing::warn!(
                    kind = self.kind,
                    "records are dropped: more come than are taken, and the broker keeps none"
                );
            }
            _ => {}
        }
        Ok(())
    }
}
