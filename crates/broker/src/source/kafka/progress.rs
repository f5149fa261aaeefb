//! How far a group is in each partition: to the first record that has not come to its end. Knows nothing of Kafka.

use std::collections::{BTreeMap, BTreeSet};

/// Records that were delivered, by partition.
#[derive(Debug, Default)]
pub(super) struct Progress {
    next_token: u64,
    open: BTreeMap<u64, (i32, i64)>,
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Offsets that have not come to their end.
    open: BTreeSet<i64>,
    /// The highest offset that has.
    highest: i64,
}

impl Progress {
    /// A record was delivered; it is told apart by what is returned.
    pub(super) fn begin(&mut self, partition: i32, offset: i64) -> u64 {
        self.next_token += 1;
        self.open.insert(self.next_token, (partition, offset));
        self.partitions.entry(partition).or_default().open.insert(offset);
        self.next_token
    }

    /// A record came to its end. Returns the partition and the last offset before the first that has not, where there is one.
    pub(super) fn end(&mut self, token: u64) -> Option<(i32, i64)> {
        let (number, offset) = self.open.remove(&token)?;
        let partition = self.partitions.get_mut(&number)?;
        partition.open.remove(&offset);
        partition.highest = partition.highest.max(offset);
        let done = partition.open.first().map_or(partition.highest, |first| first - 1);
        (done >= 0).then_some((number, done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_stops_before_the_first_record_that_has_not_ended_in_its_partition() {
        let mut progress = Progress::default();
        let tokens: Vec<_> = (5..9).map(|offset| progress.begin(0, offset)).collect();
        let other = progress.begin(1, 0);
        assert_eq!(progress.end(tokens[1]), Some((0, 4)));
        assert_eq!(progress.end(other), Some((1, 0)));
        assert_eq!(progress.end(tokens[0]), Some((0, 6)));
        assert_eq!(progress.end(tokens[3]), Some((0, 6)));
        assert_eq!(progress.end(tokens[2]), Some((0, 8)));
        assert_eq!(progress.end(tokens[2]), None);
    }

    #[test]
    fn nothing_is_done_while_the_first_record_of_all_is_open() {
        let mut progress = Progress::default();
        let (first, second) = (progress.begin(0, 0), progress.begin(0, 1));
        assert_eq!(progress.end(second), None);
        assert_eq!(progress.end(first), Some((0, 1)));
    }
}
