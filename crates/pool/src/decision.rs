//! What the pool decided about a function, and why, in words.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use alula_model::{ErrorCode, Timestamp};

use crate::version_pool::ZygoteEnd;

/// Decisions that are remembered of one function: the last hours of a quiet one, the last minutes of a busy one.
const REMEMBERED_MAX: usize = 50;

/// One decision, or several equal ones in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When, the last time.
    pub at: Timestamp,
    /// About which version.
    pub version: u64,
    /// How often in a row.
    pub times: u64,
    /// What and why.
    pub what: What,
}

/// What was decided, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An instance was started because calls waited that no slot was expected for in time.
    StartedForCalls {
        /// Calls in line.
        waiting: usize,
        /// Slots of the instances that were there.
        slots: usize,
    },
    /// An instance was started ahead of the call that the history expects.
    StartedAhead {
        /// How long the function had been idle.
        idle: Duration,
    },
    /// Instances were started because somebody announced calls.
    StartedOnNotice,
    /// An instance was started to hold the floor.
    StartedForFloor {
        /// The floor.
        min_instances: usize,
    },
    /// An instance was started because the busy ones use most of their memory or of a core.
    StartedForLoad,
    /// A start failed.
    StartFailed {
        /// Why.
        code: ErrorCode,
        /// Failures in a row.
        failures: u32,
        /// How long no other start is tried.
        pause: Duration,
    },
    /// A start waited because the node starts no more instances in a second.
    StartHeldBack {
        /// How long.
        waited: Duration,
    },
    /// A start was refused: a ceiling is reached and nothing can give way.
    StartRefused {
        /// Which limit.
        limit: String,
    },
    /// An instance was let go because the next call is not expected soon enough to be worth its memory.
    LetGoIdle {
        /// How long it had been idle.
        idle: Duration,
    },
    /// An instance was let go because fewer are enough for the calls that come.
    LetGoSpare {
        /// How long it had been idle.
        idle: Duration,
    },
    /// An instance gave way to one of another function.
    GaveWay {
        /// To which function.
        to: String,
    },
    /// An instance was let go because those that are there have grown beyond a ceiling of memory.
    LetGoForMemory {
        /// Whose ceiling.
        scope: String,
    },
    /// An instance was let go because its version cannot be reached any more.
    Retired,
    /// Instances are replaced because they were started with what does not hold any more.
    Renewed {
        /// How many.
        instances: usize,
    },
    /// An instance was started to take the place of such a one.
    StartedToRenew,
    /// A process was made that further instances are forked from.
    Bred {
        /// What loading the code takes otherwise.
        init: Duration,
    },
    /// No such process can be made of this version.
    Unfit {
        /// Why.
        reason: String,
    },
    /// That process is not there any more.
    ZygoteLetGo {
        /// Why.
        end: ZygoteEnd,
    },
    /// There are fewer instances than the floor asks for.
    ShortOfFloor {
        /// Instances that are there.
        actual: usize,
        /// The floor.
        min_instances: usize,
    },
}

fn started_for_calls(f: &mut fmt::Formatter<'_>, waiting: usize, slots: usize) -> fmt::Result {
    let calls = counted(waiting, "call");
    if slots == 0 {
        return write!(f, "started an instance: none was there for {calls}");
    }
    let slots = counted(slots, "slot");
    write!(f, "started an instance: {calls} in line for {slots}, which would take longer than a start")
}

/// How many there are of what, in words.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartedForCalls { waiting, slots } => started_for_calls(f, *waiting, *slots),
            Self::StartedAhead { idle } => {
                write!(
                    f,
                    "started an instance ahead: calls usually come after {} of idleness",
                    Seconds(*idle)
                )
            }
            Self::StartedOnNotice => f.write_str("started an instance ahead of announced calls"),
            Self::StartedForFloor { min_instances } => {
                write!(f, "started an instance: min_instances is {min_instances}")
            }
            Self::StartedForLoad => {
                f.write_str("started an instance: the busy ones use over 80 % of their memory or of a core")
            }
            Self::StartFailed { code, failures, pause } => {
                let (pause, times) = (pause.as_secs_f32(), if *failures == 1 { "time" } else { "times" });
                write!(
                    f,
                    "a start failed with {code}, {failures} {times} in a row: none is tried for {pause:.1} s"
                )
            }
            Self::StartHeldBack { waited } => {
                let waited = waited.as_secs_f32();
                write!(f, "a start waited {waited:.1} s for its turn: pool.starts_per_second is used up")
            }
            Self::StartRefused { limit } => {
                write!(f, "no start: {limit} is reached and nothing that counts there is idle")
            }
            Self::LetGoIdle { idle } => write!(
                f,
                "let an instance go after {}: by its history the next call is not near enough to be worth the memory",
                Seconds(*idle)
            ),
            Self::LetGoSpare { idle } => {
                write!(
                    f,
                    "let an instance go after {}: fewer are enough for the calls that come",
                    Seconds(*idle)
                )
            }
            Self::GaveWay { to } => write!(f, "an idle instance gave way to {to}"),
            Self::LetGoForMemory { scope } => {
                write!(f, "let an idle instance go: instances have grown beyond the memory of {scope}")
            }
            Self::Retired => f.write_str("let an instance go: its version cannot be reached any more"),
            Self::Renewed { instances } => {
                let instances = counted(*instances, "instance");
                write!(f, "{instances} to be replaced: a secret or the network policy is another one now")
            }
            Self::StartedToRenew => f.write_str("started an instance in the place of an outdated one"),
            Self::Bred { init } => {
                let ms = init.as_millis();
                write!(
                    f,
                    "made a zygote: loading the code takes {ms} ms, further instances are forked from it"
                )
            }
            Self::Unfit { reason } => write!(f, "no zygote, every instance loads the code anew: {reason}"),
            Self::ZygoteLetGo { end } => end.fmt(f),
            Self::ShortOfFloor { actual, min_instances } => {
                write!(f, "short of instances: {actual} are there, min_instances is {min_instances}")
            }
        }
    }
}

/// A duration for people.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7_200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{:.1} h", seconds as f64 / 3_600.0),
        }
    }
}

/// The last decisions about one function, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(VecDeque<Decision>);

impl Decisions {
    pub(crate) fn add(&mut self, at: Timestamp, version: u64, what: What) {
        if let Some(last) = self.0.back_mut()
            && last.version == version
            && last.what.is_like(&what)
        {
            (last.at, last.what) = (at, what);
            last.times += 1;
            return;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Decision { at, version, times: 1, what });
    }

    pub(crate) fn list(&self) -> Vec<Decision> {
        self.0.iter().cloned().collect()
    }
}

impl What {
    /// Whether both are the same decision for the same kind of reason: a storm of them is one line.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_line_and_the_ring_is_bounded() {
        let mut decisions = Decisions::default();
        let refused = || What::StartRefused { limit: "instances_max".to_owned() };
        (0..1_000).for_each(|ms| decisions.add(Timestamp(ms), 1, refused()));
        let list = decisions.list();
        assert_eq!((list.len(), list[0].times, list[0].at), (1, 1_000, Timestamp(999)));
        for version in 0..200 {
            decisions.add(Timestamp(0), version, refused());
        }
        assert_eq!(decisions.list().len(), REMEMBERED_MAX);
    }
}
