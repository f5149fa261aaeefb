//! Running functions as processes: a sandboxed cell, a language, and one of four ways to talk.
//!
//! [`ProcessBackend`] makes a [`Room`] for each instance (the cell, its environment, its log) and hands it to the
//! kind that the language's manifest names: `events` speaks the guest protocol with a shim, `exec` runs one
//! process a call, `http` talks to any server, `lambda` serves the AWS Lambda Runtime API. What is the same for
//! all four (start and init times, the init timeout, stopping, usage, the reason of a death) is here and in
//! `room`, so a kind is only its protocol.
//!
//! How a cell keeps its guests in is the launcher's business; how many instances there are is the pool's.

mod arena;
mod breeding;
mod cells;
mod command;
mod environment;
mod events;
mod exec;
mod http;
mod lambda;
mod one_hop;
mod pipes;
mod relay;
mod room;
mod stems;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Clock, ErrorCode, Fault, InstanceId, SpecError};
use tokio::time::Instant;

use crate::language::{Language, Languages, Protocol};
use crate::{
    Ahead, Answer, Backend, BoxFuture, Bred, Buffers, Call, DOOR_PORT, Door, Instance, Launcher, LogSink,
    Started, StopGrace, Usage, VersionPlan,
};

pub use environment::{build_without_processes, validate as validate_environment};
pub use events::check_command;
#[cfg(feature = "fuzzing")]
pub use lambda::fuzzing::lambda_api;
pub use pipes::{FLOOD_PAUSE, Lines, Output};
pub(crate) use room::{Room, Running};
pub use stems::{StemOptions, Stems};

/// Starts instances as processes in cells.
#[derive(Debug, Clone)]
pub struct ProcessBackend {
    /// Makes the cells.
    pub launcher: Arc<dyn Launcher>,
    /// What can be run.
    pub languages: Arc<Languages>,
    /// Where the lines go that instances write.
    pub log: Arc<dyn LogSink>,
    /// Tells when a line was read.
    pub clock: Arc<dyn Clock>,
    /// The memory for request bodies that are gathered.
    pub buffers: Buffers,
    /// Longest body that goes to a guest through its socket where it could go through shared memory.
    pub socket_body_bytes_max: u64,
    /// Cells that are prepared ahead.
    pub stems: Stems,
    /// Where functions call the platform.
    pub door: Door,
}

/// One way of talking to the processes of an instance. Everything else about an instance is the [`Room`]'s.
pub(crate) trait Guest: Send + Sync + std::fmt::Debug {
    /// Runs one call; see [`Instance::call`].
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>>;

    /// See [`Instance::takes_ahead`].
    fn takes_ahead(&self) -> bool {
        false
    }

    /// See [`Instance::call_ahead`].
    fn call_ahead(&self, call: Call) -> BoxFuture<'_, Ahead> {
        Box::pin(async move { Ahead::at_once(self.call(call).await) })
    }

    /// See [`Instance::hint_waiting`].
    fn hint_waiting(&self, _waiting: usize) {}

    /// See [`Instance::settled`].
    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Has the guest give back what it can and what only makes calls faster, before it is frozen. Returns when it has, or
    /// has been waited for long enough.
    fn rest(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Asks the guest to end by itself within `grace`, where its protocol has words for it. Returns when it has
    /// ended or need not be waited for; the room is destroyed afterwards in any case.
    fn finish(&self, grace: Duration) -> BoxFuture<'_, ()>;
}

impl Backend for ProcessBackend {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        let language = self.languages.get(&plan.spec.runtime).ok_or_else(|| SpecError {
            field: "runtime",
            reason: format!("{:?} is not known here", plan.spec.runtime),
        })?;
        language.check_available()?;
        environment::validate(plan)?;
        self.stems.expect(&language);
        match language.protocol() {
            Protocol::Frames => events::validate(plan, &language),
            Protocol::Exec => exec::validate(plan, &language),
            Protocol::Http if cells::takes_door(&plan.spec) => Err(SpecError {
                field: "port",
                reason: format!(
                    "{DOOR_PORT} is where functions call the platform; calls = \"none\" frees it"
                ),
            }),
            Protocol::Http => command::resolve(plan, &language, http::DEFAULT_PROGRAMS).map(drop),
            Protocol::Provided => command::resolve(plan, &language, lambda::DEFAULT_PROGRAMS).map(drop),
            Protocol::Component => Err(SpecError {
                field: "runtime",
                reason: format!("{} is not run as processes", plan.spec.runtime),
            }),
        }
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(self.start_instance(plan, id))
    }

    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        Box::pin(breeding::breed(self.clone(), plan, id))
    }
}

impl ProcessBackend {
    async fn start_instance(&self, plan: Arc<VersionPlan>, id: InstanceId) -> Result<Started, Fault> {
        let began = Instant::now();
        let language = self.language_of(&plan)?;
        let _replacing = self.stems.replace_after(&language);
        finish_start(Room::open(self, plan, language, id).await?, began).await
    }

    fn language_of(&self, plan: &VersionPlan) -> Result<Arc<Language>, Fault> {
        let unknown = || format!("no runtime is called {:?}", plan.spec.runtime);
        self.languages.get(&plan.spec.runtime).ok_or_else(|| Fault::new(ErrorCode::RuntimeUnknown, unknown()))
    }
}

/// Starts the guest of a room; the start as a whole began at `began`.
async fn finish_start(room: Arc<Room>, began: Instant) -> Result<Started, Fault> {
    let init_timeout = Duration::from_millis(room.plan.spec.init_timeout_ms);
    let guest = match tokio::time::timeout(init_timeout, greet(&room)).await {
        Ok(guest) => guest.map_err(|fault| room.output.masked(fault))?,
        Err(_) => return Err(room.init_timeout()),
    };
    let ready = Instant::now();
    let launched = room.launched().unwrap_or(ready);
    let tier = room.tier;
    let instance = Arc::new(ProcessInstance { room, guest: Arc::from(guest) });
    Ok(Started { instance, tier, start: launched - began, init: ready - launched })
}

/// Starts the guest of the room's language and waits until it is ready.
async fn greet(room: &Arc<Room>) -> Result<Box<dyn Guest>, Fault> {
    match room.language.protocol() {
        Protocol::Frames => events::start(room).await,
        Protocol::Exec => exec::start(room),
        Protocol::Http => http::start(room).await,
        Protocol::Provided => lambda::start(room).await,
        Protocol::Component => {
            let message = format!("{} is not run as processes", room.plan.spec.runtime);
            Err(Fault::new(ErrorCode::RuntimeUnavailable, message))
        }
    }
}

/// A room with a guest in it.
#[derive(Debug)]
struct ProcessInstance {
    room: Arc<Room>,
    guest: Arc<dyn Guest>,
}

impl Instance for ProcessInstance {
    fn id(&self) -> &InstanceId {
        &self.room.id
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move {
            let id = call.id.clone();
            self.guest.call(call).await.map_err(|fault| self.room.told_to(&id, fault))
        })
    }

    fn takes_ahead(&self) -> bool {
        self.guest.takes_ahead()
    }

    fn call_ahead(&self, call: Call) -> BoxFuture<'_, Ahead> {
        Box::pin(async move {
            let id = call.id.clone();
            match self.guest.call_ahead(call).await {
                Ahead::Ended { result, waited } => {
                    let result = result.map_err(|fault| self.room.told_to(&id, fault));
                    Ahead::Ended { result, waited }
                }
                returned @ Ahead::Returned(_) => returned,
            }
        })
    }

    fn hint_waiting(&self, waiting: usize) {
        self.guest.hint_waiting(waiting);
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        self.guest.settled()
    }

    fn rest(&self) {
        let (room, guest) = (Arc::clone(&self.room), Arc::clone(&self.guest));
        room.expect_freeze();
        tokio::spawn(async move {
            guest.rest().await;
            room.freeze();
        });
    }

    fn weigh(&self, percent: u32) {
        let weight = u64::from(self.room.plan.spec.cpu_weight()) * u64::from(percent) / 100;
        self.room.cell.set_cpu_weight(u32::try_from(weight).unwrap_or(u32::MAX));
    }

    fn usage(&self) -> Usage {
        self.room.cell.usage()
    }

    fn is_gone(&self) -> bool {
        self.room.is_gone()
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.room.gone())
    }

    fn stop(&self, grace: StopGrace) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.room.wake_to_end();
            // The guest keeps to the grace by itself; the timeout holds even where it does not.
            let _ = tokio::time::timeout(grace.0, self.guest.finish(grace.0)).await;
            self.room.close().await;
        })
    }
}
