//! What every back end must do, as tests that take a back end.
//!
//! Each function wants an empty store and panics at the first thing that the ports' contracts forbid. A back end is
//! done when it passes all of them; what only one back end can promise (surviving a crash) is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the suite panics where a back end does not conform"
)]

mod history;
mod packages;
mod queue;
mod records;

pub use history::history;
pub use packages::packages;
pub use queue::queue;
pub use records::records;
