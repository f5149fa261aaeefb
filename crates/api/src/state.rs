//! What the handlers share: the handles of the platform's components and the limits of this edge.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use alula_control::Control;
use alula_guard::protect::Book;
use alula_identity::calling::Gate;
use alula_identity::{Identity, Tokens};
use alula_invoke::later::Calls;
use alula_invoke::{Hands, Invoker};
use alula_model::{Clock, ErrorCode, Fault, InvocationId, Timestamp};
use alula_pool::Pool;
use alula_runtime::Launcher;
use alula_runtime::language::Languages;
use alula_store::History;
use alula_telemetry::logs::LogHandle;
use alula_telemetry::metrics::Metrics;
use alula_telemetry::runs::RunRecorder;
use alula_telemetry::signals::Signals;
use alula_trigger::TriggerKey;
use alula_wire::BrokerState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Deploys at once: each holds an upload on disk, and what is behind them waits for the builds anyway.
const DEPLOYS_AT_ONCE: usize = 16;
/// Clients that follow logs at once: each holds a connection and a place in the broadcast of lines.
pub(crate) const FOLLOWERS_MAX: usize = 128;
/// Clients that wait for a call at once: each holds a connection and looks now and then.
const WAITERS_MAX: usize = 256;

/// Makes invocation ids; must be cheap and never give the same id twice.
pub type IdSource = Arc<dyn Fn() -> InvocationId + Send + Sync>;

/// Settings of the control API.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; uploads are files in `tmp/` below it while they are deployed.
    pub data_dir: PathBuf,
    /// Largest upload, in bytes.
    pub package_bytes_max: u64,
    /// Whether `/metrics` answers without a token, for scrapers inside a trusted network.
    pub metrics_open: bool,
    /// Where functions are called from outside, without a slash at the end.
    pub data_plane_url: String,
    /// Where browsers find the control API, `https://alula.example.com`, where a proxy stands before it.
    pub public_url: Option<String>,
    /// Where S3 clients find the buckets, if the platform listens for them.
    pub s3_url: Option<String>,
    /// The version of the platform.
    pub version: String,
    /// When the platform was started.
    pub started_at: Timestamp,
}

/// Where triggers stand that watch brokers.
pub trait Brokers: Send + Sync + fmt::Debug {
    /// Where one stands; `None` where it is not watched.
    fn state(&self, key: &TriggerKey) -> Option<BrokerState>;

    /// Triggers were paused or resumed.
    fn pauses_changed(&self);
}

/// Watches no brokers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBrokers;

impl Brokers for NoBrokers {
    fn state(&self, _key: &TriggerKey) -> Option<BrokerState> {
        None
    }

    fn pauses_changed(&self) {}
}

/// Everything the API is built from.
pub struct Parts {
    /// Functions, versions, aliases, deploys.
    pub control: Control,
    /// Runs calls.
    pub invoker: Invoker,
    /// Keeps what operators hold by hand.
    pub hands: Hands,
    /// Knows the calls that nobody waits for.
    pub calls: Calls,
    /// Knows the schedules.
    pub schedules: alula_trigger::schedule::Handle,
    /// Knows the watched folders.
    pub folders: alula_trigger::folder::Handle,
    /// Publishes to topics.
    pub topics: alula_trigger::topic::Topics,
    /// Knows the buckets.
    pub buckets: alula_bucket::Buckets,
    /// Knows the brokers that are watched.
    pub brokers: Arc<dyn Brokers>,
    /// Knows the instances.
    pub pool: Pool,
    /// Log lines.
    pub logs: LogHandle,
    /// Finished runs.
    pub history: Arc<dyn History>,
    /// Holds runs that are not in the history yet.
    pub recorder: RunRecorder,
    /// The language runtimes.
    pub languages: Arc<Languages>,
    /// Knows what protects this machine.
    pub launcher: Arc<dyn Launcher>,
    /// The figures.
    pub metrics: Metrics,
    /// Success and latency.
    pub signals: Signals,
    /// What functions used.
    pub usage: alula_telemetry::usage::Service,
    /// What goes wrong, and who is told.
    pub alarms: alula_alarm::Alarms,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes invocation ids.
    pub ids: IdSource,
    /// Administrators by the configuration.
    pub tokens: Tokens,
    /// Who else may ask, and for what.
    pub identity: Identity,
    /// Limits, and who is blocked or throttled.
    pub book: Book,
    /// Who may call functions from outside.
    pub gate: Gate,
    /// What namespaces may reach.
    pub ceilings: Arc<dyn crate::network::Ceilings>,
    /// Secrets of functions.
    pub vault: alula_vault::Vault,
    /// What everything is signed with which is sent out.
    pub signing_key: String,
    /// Cancelled when the platform begins to shut down: streams without an end are ended then.
    pub draining: CancellationToken,
}

/// The control API. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Api {
    pub(crate) parts: Arc<Parts>,
    pub(crate) options: Arc<Options>,
    pub(crate) deploys: TaskTracker,
    deploy_slots: Arc<Semaphore>,
    follow_slots: Arc<Semaphore>,
    wait_slots: Arc<Semaphore>,
}

impl Api {
    /// An API over these components.
    #[must_use]
    pub fn new(options: Options, parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            options: Arc::new(options),
            deploys: TaskTracker::new(),
            deploy_slots: Arc::new(Semaphore::new(DEPLOYS_AT_ONCE)),
            follow_slots: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            wait_slots: Arc::new(Semaphore::new(WAITERS_MAX)),
        }
    }

    /// Waits until every deploy that has begun has ended, also those whose clients have gone. Call it after the
    /// server has stopped taking requests.
    pub async fn finish(&self) {
        self.deploys.close();
        self.deploys.wait().await;
    }

    /// The right to run one more deploy.
    pub(crate) fn deploy_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        slot(&self.deploy_slots, "deploys_at_once", DEPLOYS_AT_ONCE)
    }

    /// The right to follow logs.
    pub(crate) fn follow_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        slot(&self.follow_slots, "log_followers_max", FOLLOWERS_MAX)
    }

    /// The right to wait for a call.
    pub(crate) fn wait_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        slot(&self.wait_slots, "call_waiters_max", WAITERS_MAX)
    }
}

fn slot(slots: &Arc<Semaphore>, name: &str, max: usize) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(slots).try_acquire_owned().map_err(|_| {
        let message = format!("{max} of these requests are running already: try again when one has ended");
        Fault::limit(ErrorCode::ConcurrencyExceeded, message, name, max as u64, "fixed in this version")
    })
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("options", &self.options).finish_non_exhaustive()
    }
}
