//! The unified difference of two texts.

use std::time::{Duration, Instant};

use similar::TextDiff;

/// Lines of context around each change, as usual.
const CONTEXT_LINES: usize = 3;
/// Time that all texts of one comparison take together; what is compared later is shown coarser than necessary.
const EFFORT: Duration = Duration::from_secs(1);

/// When the effort for a comparison that begins now is spent.
#[expect(
    clippy::disallowed_methods,
    reason = "the library takes only this clock; a test has no need to pause it"
)]
pub(super) fn effort_ends() -> Instant {
    Instant::now() + EFFORT
}

/// The difference with its two headers, for a file called `path`.
pub(super) fn unified(path: &str, from: &str, to: &str, until: Instant) -> String {
    let diff = TextDiff::configure().deadline(until).diff_lines(from, to);
    diff.unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(&format!("a/{path}"), &format!("b/{path}"))
        .to_string()
}
