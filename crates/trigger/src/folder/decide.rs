//! What a file calls for, from what was seen of it and what is there now. Pure.

use alula_model::Timestamp;
use alula_model::trigger::Change as Kind;

use super::event::Change;
use super::look::{Found, Sight};
use super::seen::Seen;
use super::{FILE_CLOCK_LAG_MS, REST};

/// Who says that a file is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The kernel: somebody closed, moved or removed it.
    ByKernel,
    /// It lies there; somebody may be writing it.
    ByLook,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past<'a> {
    /// It was never seen.
    Unseen,
    /// It was seen, but the record of that cannot be read.
    Unreadable,
    /// It was seen.
    Seen(&'a Seen),
}

/// What a file calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision<'a> {
    /// Nothing.
    Leave,
    /// To be looked at again when it may have come to rest.
    Later,
    /// To be remembered, without a call.
    Remember(&'a Found),
    /// To be forgotten, without a call.
    Forget,
    /// A call.
    Call(Change<'a>),
}

/// What decides besides the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) told: Told,
    /// Changes that the trigger wants.
    pub(super) on: &'a [Kind],
    /// Since when it is in force.
    pub(super) since: Timestamp,
    pub(super) now: Timestamp,
    /// Somebody writes the file, and the kernel will tell of its end.
    pub(super) is_being_written: bool,
}

/// Decides about one file.
pub(super) fn decide<'a>(past: Past<'_>, sight: &'a Sight, terms: Terms<'_>) -> Decision<'a> {
    let found = match (sight, past) {
        (Sight::Nothing, Past::Unseen) => return Decision::Leave,
        (Sight::Nothing, _) => {
            let is_wanted = terms.on.contains(&Kind::Delete);
            return if is_wanted { Decision::Call(Change::Delete) } else { Decision::Forget };
        }
        (Sight::Changing, _) => return Decision::Later,
        (Sight::File(found), _) => found,
    };
    if terms.is_being_written {
        return Decision::Leave;
    }
    if terms.told == Told::ByLook && !has_rested(found, terms.now) {
        return Decision::Later;
    }
    match past {
        Past::Seen(seen) if seen.mark == found.mark && seen.digest == found.digest => Decision::Leave,
        Past::Seen(seen) if seen.digest == found.digest => Decision::Remember(found),
        Past::Unseen if terms.told == Told::ByLook && is_older(found, terms.since) => {
            Decision::Remember(found)
        }
        _ if !terms.on.contains(&Kind::Put) => Decision::Remember(found),
        _ => Decision::Call(Change::Put(found)),
    }
}

/// Whether nobody has written it for [`REST`]. Where a clock was set back, times that lie ahead say nothing.
fn has_rested(found: &Found, now: Timestamp) -> bool {
    let age_ns = i128::from(now.as_millis()) * NS_PER_MS - found.mark.changed_ns;
    age_ns.unsigned_abs() >= REST.as_nanos()
}

fn is_older(found: &Found, since: Timestamp) -> bool {
    found.mark.changed_ns < i128::from(since.plus_millis(-FILE_CLOCK_LAG_MS).as_millis()) * NS_PER_MS
}

const NS_PER_MS: i128 = 1_000_000;

#[cfg(test)]
mod unit {
    use super::super::look::Mark;
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const BOTH: &[Kind] = &[Kind::Put, Kind::Delete];

    fn found(content: &str, changed: Timestamp) -> Found {
        let changed_ns = i128::from(changed.as_millis()) * NS_PER_MS;
        let mark = Mark { bytes: content.len() as u64, inode: 1, modified_ns: 0, changed_ns };
        Found { mark, digest: content.to_owned() }
    }

    fn terms(told: Told) -> Terms<'static> {
        Terms { told, on: BOTH, since: Timestamp(500_000), now: NOW, is_being_written: false }
    }

    #[test]
    fn a_file_that_was_not_seen_calls_unless_it_lay_there_before() {
        let decided = |changed_ms, told| {
            let sight = Sight::File(found("a", Timestamp(changed_ms)));
            match decide(Past::Unseen, &sight, terms(told)) {
                Decision::Call(Change::Put(_)) => "call",
                Decision::Remember(_) => "remember",
                Decision::Later => "later",
                _ => "other",
            }
        };
        assert_eq!(decided(600_000, Told::ByLook), "call");
        assert_eq!(decided(499_990, Told::ByLook), "call", "the times of files lag behind");
        assert_eq!(decided(499_000, Told::ByLook), "remember");
        assert_eq!(decided(499_000, Told::ByKernel), "call", "somebody closed it just now");
        assert_eq!(decided(999_000, Told::ByLook), "later", "it may not be whole");
        assert_eq!(decided(999_000, Told::ByKernel), "call");
        assert_eq!(decided(9_000_000, Told::ByLook), "call", "the clock was set back");
    }

    #[test]
    fn the_same_content_calls_once() {
        let before = found("a", Timestamp(600_000));
        let seen = Seen::from(&before);
        let touched = Sight::File(found("a", Timestamp(700_000)));
        let written = Sight::File(found("b", Timestamp(700_000)));
        for told in [Told::ByKernel, Told::ByLook] {
            let past = Past::Seen(&seen);
            assert_eq!(decide(past, &Sight::File(before.clone()), terms(told)), Decision::Leave);
            assert!(matches!(decide(past, &touched, terms(told)), Decision::Remember(_)));
            assert!(matches!(decide(past, &written, terms(told)), Decision::Call(Change::Put(_))));
            assert!(matches!(
                decide(Past::Unreadable, &touched, terms(told)),
                Decision::Call(Change::Put(_))
            ));
        }
    }

    #[test]
    fn a_file_on_which_somebody_is_at_work_waits() {
        let sight = Sight::File(found("a", Timestamp(600_000)));
        let being_written = Terms { is_being_written: true, ..terms(Told::ByLook) };
        assert_eq!(decide(Past::Unseen, &sight, being_written), Decision::Leave);
        assert_eq!(decide(Past::Unseen, &Sight::Changing, terms(Told::ByKernel)), Decision::Later);
    }

    #[test]
    fn a_file_that_went_calls_where_that_is_wanted() {
        let seen = Seen::from(&found("a", Timestamp(0)));
        let put_only = Terms { on: &[Kind::Put], ..terms(Told::ByLook) };
        let delete_only = Terms { on: &[Kind::Delete], ..terms(Told::ByKernel) };
        let went = |past, terms| decide(past, &Sight::Nothing, terms);
        assert_eq!(went(Past::Seen(&seen), delete_only), Decision::Call(Change::Delete));
        assert_eq!(went(Past::Seen(&seen), put_only), Decision::Forget);
        assert_eq!(went(Past::Unseen, delete_only), Decision::Leave);
        let sight = Sight::File(found("a", Timestamp(600_000)));
        assert!(matches!(decide(Past::Unseen, &sight, delete_only), Decision::Remember(_)));
    }
}
