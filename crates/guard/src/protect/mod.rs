//! What operators do at once against somebody who does harm: block or throttle them, until a time, for a reason.

mod book;
mod record;
mod rules;

pub use book::{Book, NewProtection, Page, Parts};
pub use record::{Action, Ceiling, Protection, Subject, Target, TargetError};
pub(crate) use rules::{Rule, Rules};
