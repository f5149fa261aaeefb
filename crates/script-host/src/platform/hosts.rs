//! The script hosts that run: at most one for each namespace and what its scripts reach, and so many in all.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{Calls, ErrorCode, Fault, FunctionSpec, Name, Network};
use alula_runtime::{Door, Launcher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ScriptOptions;
use super::host::{Host, Order};
use super::lease::Lease;

/// How long a host that gives way may take to be gone: its cell is destroyed in milliseconds.
const GIVE_WAY_WAIT: Duration = Duration::from_secs(2);

/// All hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    options: ScriptOptions,
    program_dir: PathBuf,
    launcher: Arc<dyn Launcher>,
    door: Door,
    places: Mutex<HashMap<Key, Arc<Place>>>,
    /// Each host holds one until nothing of it is left.
    permits: Arc<Semaphore>,
}

/// The namespace, and what its scripts reach.
type Key = (Name, Reach);

/// What the scripts of one host reach beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reach {
    pub(super) network: Network,
    pub(super) calls: Calls,
}

impl Reach {
    pub(super) fn of(spec: &FunctionSpec) -> Self {
        Self { network: spec.network.clone(), calls: spec.calls }
    }
}

/// Where a host is, or is being started.
#[derive(Debug, Default)]
struct Place {
    /// Held while one is started: many may ask at once.
    starting: tokio::sync::Mutex<()>,
    host: Mutex<Option<Arc<Host>>>,
}

impl Place {
    fn lease(&self) -> Option<Lease> {
        self.host().as_ref()?.lease()
    }

    fn host(&self) -> MutexGuard<'_, Option<Arc<Host>>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Arc<Host>> {
        self.host().as_ref().filter(|host| !host.is_gone()).cloned()
    }
}

impl Hosts {
    pub(super) fn new(
        options: ScriptOptions,
        program_dir: PathBuf,
        launcher: Arc<dyn Launcher>,
        door: Door,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(options.hosts_max));
        Self { options, program_dir, launcher, door, places: Mutex::default(), permits }
    }

    /// A share in the host of `namespace`, which is started where there is none.
    pub(super) async fn of(&self, namespace: &Name, reach: Reach) -> Result<Lease, Fault> {
        let place = self.place(namespace, reach.clone());
        if let Some(lease) = place.lease() {
            return Ok(lease);
        }
        let _one_at_a_time = place.starting.lock().await;
        if let Some(lease) = place.lease() {
            return Ok(lease);
        }
        let order = Order {
            namespace: namespace.clone(),
            reach,
            door: self.door.clone(),
            permit: self.permit().await?,
            options: self.options.clone(),
            program_dir: self.program_dir.clone(),
        };
        let (host, lease) = Host::start(&*self.launcher, order).await?;
        *place.host() = Some(host);
        Ok(lease)
    }

    fn place(&self, namespace: &Name, reach: Reach) -> Arc<Place> {
        let key = (namespace.clone(), reach);
        let mut places = self.places();
        if let Some(place) = places.get(&key) {
            return Arc::clone(place);
        }
        // Nobody else can come to hold a place while the table is locked.
        places.retain(|_, place| place.live().is_some() || Arc::strong_count(place) > 1);
        Arc::clone(places.entry(key).or_default())
    }

    /// Leave to start one more. Where there are as many as there may be, the one that has had nothing to do for the
    /// longest time gives way.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, Fault> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let full = || {
            let message = "all processes for scripts that there may be are busy";
            let hosts_max = self.options.hosts_max as u64;
            Fault::limit(ErrorCode::SandboxFailed, message, "SCRIPT_HOSTS_MAX", hosts_max, "fixed")
        };
        if !self.quietest_gives_way() {
            return Err(full());
        }
        let waited = tokio::time::timeout(GIVE_WAY_WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        waited.ok().and_then(Result::ok).ok_or_else(full)
    }

    fn quietest_gives_way(&self) -> bool {
        let mut hosts: Vec<Arc<Host>> = self.places().values().filter_map(|place| place.live()).collect();
        hosts.sort_by_cached_key(|host| host.quiet_since());
        hosts.iter().any(|host| host.give_way())
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Key, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
