//! What every back end must do, checked against any of them.
//!
//! The suite runs one program that does what the path of its request says; each back end brings that program in
//! its own language (see [`Fixtures`]). A check panics where the contract of [`crate::Backend`] is broken, so the
//! suite is called from tests only. Speed is not checked here, nor what a sandbox keeps in.
//!
//! | path | what the program does |
//! |---|---|
//! | `/echo` | answers with the request's body |
//! | `/env?NAME` | answers with the value of a variable |
//! | `/log?TEXT` | writes `TEXT` as a log line, answers anything |
//! | `/fail` | fails as its language has it: an exception, an exit status, a status 500 |
//! | `/crash` | kills its own process |
//! | `/hang` | never answers |
//! | `/garbage` | answers something that is not an answer |
//! | `/big?BYTES` | answers with so many bytes |
//! | `/pace` | answers `ready` at once, and `done` when the request's body ends |

mod checks;
mod collected;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{FunctionSpec, InvocationId, Name, Timestamp, VersionKey};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use crate::{Backend, Body, Call, CallEvents, VersionPlan, Waiters};
pub use collected::{CollectedLog, FixedClock};

/// Time that any call of the suite may take before it is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// The programs to check a back end with.
#[derive(Debug, Clone)]
pub struct Fixtures {
    /// The program of the module's table. Its spec sets the variable `CONFORMANCE` to `yes`.
    pub plan: Arc<VersionPlan>,
    /// A program that ends before it is ready, after it has written the line `cannot start`.
    pub broken: Option<Arc<VersionPlan>>,
    /// A program that is never ready; its init timeout is short.
    pub never_ready: Option<Arc<VersionPlan>>,
    /// Where the back end's log lines go.
    pub log: Arc<CollectedLog>,
    /// What the back end has besides what all have.
    pub has: Traits,
}

/// What not every back end has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits {
    /// Runs a program that has an environment, writes log lines and uses memory.
    pub processes: bool,
    /// Passes both bodies on while they come.
    pub streams_both_ways: bool,
    /// Gathers responses, so `response_bytes_max` (1 MiB in the fixture's spec) is checked.
    pub limits_responses: bool,
    /// Can be given an answer that is none.
    pub refuses_garbage: bool,
}

/// Runs every check that `fixtures` allow, one after the other, and panics at the first that fails.
pub async fn check(backend: &dyn Backend, fixtures: &Fixtures) {
    let suite = Suite { backend, fixtures };
    suite.answers().await;
    suite.passes_large_bodies().await;
    suite.tells_that_user_code_began().await;
    suite.times_out().await;
    suite.can_be_cancelled().await;
    suite.reports_a_crash().await;
    suite.reports_a_failure().await;
    suite.stops().await;
    suite.runs_calls_side_by_side().await;
    suite.refuses_what_fails_to_start().await;
    if fixtures.has.streams_both_ways {
        suite.streams_both_ways().await;
        suite.ends_a_stream_at_the_deadline().await;
    }
    if fixtures.has.limits_responses {
        suite.limits_responses().await;
    }
    if fixtures.has.refuses_garbage {
        suite.refuses_garbage().await;
    }
    if fixtures.has.processes {
        suite.gives_an_environment().await;
        suite.captures_logs().await;
        suite.reports_usage().await;
    }
}

struct Suite<'a> {
    backend: &'a dyn Backend,
    fixtures: &'a Fixtures,
}

/// A call of `target` with `body`, with time enough.
#[must_use]
pub fn call(target: &'static str, body: Body) -> Call {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    #[expect(clippy::expect_used, reason = "letters and digits are an id")]
    let id = InvocationId::new(&format!("call-{number}")).expect("letters and digits are an id");
    Call {
        id,
        method: Method::POST,
        target: Uri::from_static(target),
        headers: HeaderMap::new(),
        body,
        remote: None,
        parameters: Vec::new(),
        is_event: false,
        deadline: Instant::now() + PATIENCE,
        deadline_at: Timestamp(i64::MAX),
        events: CallEvents::default(),
        waiters: Waiters::default(),
    }
}

/// Version 1 of a function `conformance` without code, with the defaults of `runtime` and what `change` makes of
/// them.
#[must_use]
pub fn plan(runtime: &str, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let mut spec = FunctionSpec::new(runtime);
    change(&mut spec);
    #[expect(clippy::expect_used, reason = "lower-case letters are a name")]
    let function = Name::new("conformance").expect("lower-case letters are a name");
    let key = VersionKey { namespace: Name::default_namespace(), function, version: 1 };
    Arc::new(VersionPlan::new(key, spec, PathBuf::new()))
}

/// A body of `count` pieces of `piece`, made as they are asked for.
pub fn pieces(piece: Bytes, count: usize) -> Body {
    let frames =
        futures_util::stream::iter((0..count).map(move |_| Ok(http_body::Frame::data(piece.clone()))));
    Body::stream(http_body_util::StreamBody::new(frames))
}
