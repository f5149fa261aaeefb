//! Records that wait to be one event together: so many, so large, so long. Knows no time but what it is told.

use std::collections::VecDeque;
use std::time::Duration;

use alula_model::trigger::Batching;
use tokio::time::Instant;

use crate::source::Record;

/// Items of one event in bytes at the most; a single larger one goes alone. Lambda's batches end at 6 MB as well.
pub(crate) const EVENT_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Records that have come and are in no call yet, in their order.
#[derive(Debug)]
pub(crate) struct Gatherer {
    len_max: usize,
    window: Duration,
    waiting: VecDeque<(Record, Instant)>,
    bytes: usize,
}

impl Gatherer {
    /// Gathers as a trigger states it.
    pub(crate) fn new(batching: &Batching) -> Self {
        Self {
            len_max: batching.max as usize,
            window: Duration::from_millis(batching.window_ms),
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A record has come.
    pub(crate) fn push(&mut self, record: Record, now: Instant) {
        self.bytes += record.item.len();
        self.waiting.push_back((record, now));
    }

    /// When what waits is to be sent: at once where it is enough, else when the first has waited long enough; `None` where
    /// nothing waits.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let (_, came) = self.waiting.front()?;
        let is_enough = self.waiting.len() >= self.len_max || self.bytes >= EVENT_BYTES_MAX;
        Some(if is_enough { *came } else { *came + self.window })
    }

    /// The records of the next event, at least one where any waits.
    pub(crate) fn take(&mut self) -> Vec<Record> {
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(self.len_max).take_while(|(record, _)| {
            bytes += record.item.len();
            bytes <= EVENT_BYTES_MAX
        });
        let count = fitting.count().max(1).min(self.waiting.len());
        let taken: Vec<_> = self.waiting.drain(..count).map(|(record, _)| record).collect();
        self.bytes -= taken.iter().map(|record| record.item.len()).sum::<usize>();
        taken
    }

    /// Everything that waits.
    pub(crate) fn take_all(&mut self) -> Vec<Record> {
        self.bytes = 0;
        self.waiting.drain(..).map(|(record, _)| record).collect()
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Record> {
        self.waiting.iter().map(|(record, _)| record)
    }

    /// Bytes of what waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gatherer(max: u32, window_ms: u64) -> Gatherer {
        Gatherer::new(&Batching { max, window_ms, ..Batching::default() })
    }

    fn record(token: u64, bytes: usize) -> Record {
        Record { token, id: token.to_string(), group: String::new(), item: "x".repeat(bytes) }
    }

    fn tokens(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.token).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_record_waits_for_the_window_unless_there_are_enough() {
        let mut gatherer = gatherer(3, 50);
        let now = Instant::now();
        assert_eq!(gatherer.due_at(), None);
        gatherer.push(record(1, 1), now);
        gatherer.push(record(2, 1), now + Duration::from_millis(40));
        assert_eq!(gatherer.due_at(), Some(now + Duration::from_millis(50)));
        gatherer.push(record(3, 1), now + Duration::from_millis(45));
        gatherer.push(record(4, 1), now + Duration::from_millis(45));
        assert_eq!(gatherer.due_at(), Some(now));
        assert_eq!(tokens(&gatherer.take()), [1, 2, 3]);
        assert_eq!(gatherer.due_at(), Some(now + Duration::from_millis(95)));
        assert_eq!(tokens(&gatherer.take_all()), [4]);
        assert_eq!((gatherer.due_at(), gatherer.bytes()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_stays_within_its_bytes_and_a_giant_goes_alone() {
        let mut gatherer = gatherer(10, 1_000);
        let now = Instant::now();
        for (token, bytes) in [(1, 10), (2, EVENT_BYTES_MAX + 1), (3, EVENT_BYTES_MAX - 5), (4, 5), (5, 1)] {
            gatherer.push(record(token, bytes), now);
        }
        assert_eq!(gatherer.due_at(), Some(now));
        assert_eq!(tokens(&gatherer.take()), [1]);
        assert_eq!(tokens(&gatherer.take()), [2]);
        assert_eq!(tokens(&gatherer.take()), [3, 4]);
        assert_eq!(gatherer.due_at(), Some(now + Duration::from_secs(1)));
    }
}
