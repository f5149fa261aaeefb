//! All guards of a call, in one place and one order.

use crate::{Ask, Ended, Origin, Refusal};

/// Decides whether calls may run. Cheap to clone; all clones are the same.
///
/// The default has no limits and blocks nobody.
#[derive(Debug, Clone, Default)]
pub struct Guard {}

impl Guard {
    /// Whether whoever this is would be refused whatever they asked for. It counts nothing, so an edge may ask before it
    /// does work for a request; [`admit`](Self::admit) asks again.
    pub fn peek(&self, _origin: Origin<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Lets a call run, or refuses it. What it is given counts until it is dropped or [ended](Admission::end).
    pub fn admit(&self, _ask: &Ask<'_>) -> Result<Admission, Refusal> {
        Ok(Admission {})
    }
}

/// The right of one call to run. What it holds of any limit is given back when it is dropped.
#[derive(Debug)]
#[must_use = "the call counts as ended when this is dropped"]
pub struct Admission {}

impl Admission {
    /// The call has ended.
    pub fn end(self, _ended: &Ended) {}
}
