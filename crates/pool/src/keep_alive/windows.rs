//! The answer of a policy: during which spans of an idle time an instance is held.

use std::time::Duration;

/// Spans of one idle time; the pauses between more of them are not worth the trouble.
pub(crate) const SPANS_MAX: usize = 3;

/// A span of idle time, in seconds since the last call ended. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// When an instance is to be there.
    pub from_s: u32,
    /// When it goes.
    pub until_s: u32,
}

/// During which spans of its idle time a function has an instance. The first starts at zero: the instance that ran the
/// last call; each further one is started ahead of the call that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    spans: [Span; SPANS_MAX],
    count: u8,
}

impl Windows {
    /// Held from the last call on, for `seconds`.
    #[must_use]
    pub fn held_for(seconds: u32) -> Self {
        let mut windows = Self::default();
        windows.push(Span { from_s: 0, until_s: seconds });
        windows
    }

    /// Adds a later span; false where there is no place for it.
    pub(crate) fn push(&mut self, span: Span) -> bool {
        let Some(place) = self.spans.get_mut(usize::from(self.count)) else { return false };
        *place = span;
        self.count += 1;
        true
    }

    /// The spans, in their order.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans[..usize::from(self.count)]
    }

    /// Whether an instance is there when the function has been idle for `idle`.
    #[must_use]
    pub fn is_held_at(&self, idle: Duration) -> bool {
        self.spans().iter().any(|span| idle >= span.from() && idle <= span.until())
    }

    /// For how much of an idle time of `idle` an instance was there.
    #[must_use]
    pub fn held(&self, idle: Duration) -> Duration {
        self.spans().iter().map(|span| span.until().min(idle).saturating_sub(span.from())).sum()
    }
}

impl Span {
    /// When an instance is to be there.
    #[must_use]
    pub fn from(self) -> Duration {
        Duration::from_secs(self.from_s.into())
    }

    /// When it goes.
    #[must_use]
    pub fn until(self) -> Duration {
        Duration::from_secs(self.until_s.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_their_ends_and_nothing_between() {
        let mut windows = Windows::held_for(10);
        windows.push(Span { from_s: 50, until_s: 60 });
        let held = |idle_s| windows.is_held_at(Duration::from_secs(idle_s));
        assert_eq!([0, 10, 11, 49, 50, 60, 61].map(held), [true, true, false, false, true, true, false]);
        let time = |idle_s| windows.held(Duration::from_secs(idle_s)).as_secs();
        assert_eq!([5, 30, 55, 100].map(time), [5, 10, 15, 20]);
    }
}
