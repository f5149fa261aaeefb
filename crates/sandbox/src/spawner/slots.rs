//! Who has which range of users: numbered slots, the one that was free longest first.
//!
//! A number is used again as late as possible, so that a file that one cell left somewhere does not soon
//! belong to another.

use std::collections::VecDeque;

use super::CELLS_MAX;

/// Free numbers.
#[derive(Debug)]
pub(super) struct Slots {
    free: VecDeque<u32>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { free: (0..).take(CELLS_MAX).collect() }
    }

    /// `None` when there are [`CELLS_MAX`] cells.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop_front()
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_last_and_there_is_an_end() {
        let mut slots = Slots::new();
        let first = slots.take().unwrap();
        slots.give_back(first);
        let mut taken = Vec::new();
        while let Some(slot) = slots.take() {
            taken.push(slot);
        }
        assert_eq!(taken.len(), CELLS_MAX);
        assert_eq!(taken.last(), Some(&first));
    }
}
