//! The two sources from outside that everything else is handed: the wall clock and randomness.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use alula_model::{Clock, Timestamp};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Random bits are asked for in blocks of this size: one system call for some hundred calls.
const BLOCK_BYTES: usize = 4096;
const DRAW_BYTES: usize = size_of::<u128>();

/// Random bytes of this thread that were not used yet. Bytes are given out once and never kept.
struct Block {
    bytes: [u8; BLOCK_BYTES],
    left: usize,
}

thread_local! {
    static BLOCK: RefCell<Block> = const { RefCell::new(Block { bytes: [0; BLOCK_BYTES], left: 0 }) };
}

/// 128 random bits of the system's generator.
pub(crate) fn random() -> u128 {
    BLOCK.with_borrow_mut(|block| {
        if block.left < DRAW_BYTES {
            fill(&mut block.bytes);
            block.left = BLOCK_BYTES;
        }
        block.left -= DRAW_BYTES;
        let drawn = &mut block.bytes[block.left..block.left + DRAW_BYTES];
        let mut bits = [0; DRAW_BYTES];
        bits.swap_with_slice(drawn);
        u128::from_ne_bytes(bits)
    })
}

#[expect(clippy::expect_used, reason = "without random bits no id or token is safe, so nothing may go on")]
fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).expect("the kernel gives random bits");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_draw_is_given_twice() {
        let draws: std::collections::HashSet<u128> = (0..1_000).map(|_| random()).collect();
        assert_eq!(draws.len(), 1_000);
    }
}
