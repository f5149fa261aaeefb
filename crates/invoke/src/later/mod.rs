//! Calls that nobody waits for: accepted when they are durable, run from the queue, kept until they have ended.
//!
//! ```text
//! Acceptor:  resolve -> check -> message (and whatever else belongs to it) in one commit -> id
//! Worker:    choose a lane -> claim -> run -> settle (done | retry | give back | dead) and outcome in one commit
//! Calls:     look up, wait, cancel; dead letters; pause, drain
//! ```
//!
//! A call's message is its record while it waits and runs: what the queue says of it is its state, so there is nothing
//! that could disagree with it. When it ends, its message goes and its [`Outcome`] comes in the same commit. Every attempt
//! is a run in the history as well; what the message itself carries (its [`Trail`]) survives what the history may lose.
//!
//! Deliberately absent: what makes calls (edges and triggers), HTTP in either direction (the [`Courier`] port takes what
//! leaves), and the decision which instance serves a call (the pool's).

mod acceptor;
mod blobs;
mod budget;
mod calls;
mod dead;
mod deferred;
mod envelope;
mod error;
mod flow;
mod lane;
mod loops;
mod notice;
mod options;
mod outcome;
mod ports;
mod rates;
mod record;
mod trail;
mod verdict;
mod wishes;
mod worker;

pub use acceptor::{Acceptor, AcceptorParts, Prepared};
pub use calls::{Call, CallState, Calls, LaneInfo, QueueInfo};
pub use dead::{DeadCall, DeadCursor, DeadFilter, DeadPage};
pub use deferred::{Accepted, Callback, Deferred, GivenUp, Repeat};
pub use envelope::{Delivery, DeliveryKind};
pub use error::content_fault;
pub use flow::{Flow, FlowKey};
pub use lane::{Lane, LaneClass};
pub use loops::{LoopNotices, LoopReports, LoopWatch, watch_loops};
pub use options::{Options, StoreUse};
pub use outcome::{Outcome, OutcomeStatus};
pub use ports::{BoxFuture, Courier, CourierError, NoTopics, Observe, Publication, Topics, Unobserved};
pub use trail::{Attempt, AttemptEnd, Trail};
pub use verdict::{Hope, Miss};
pub use wishes::{RESPOND_ASYNC, Wishes, prefers_async};
pub use worker::{Service, WorkerParts};
