//! Follows what is deployed: one watch for each trigger in force that is not paused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_trigger::{Pauses, TriggerKey};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::declared::{Declared, Deployed};
use crate::place::{Parts, Place, State};
use crate::shares::Shares;
use crate::source;
use crate::watch::Watch;

/// How often the pauses are read without being told: other replicas pause too.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watches the brokers of everything that is deployed.
#[derive(Debug)]
pub struct Service {
    deployed: Arc<dyn Deployed>,
    pauses: Pauses,
    shares: Option<Shares>,
    parts: Parts,
    shared: Arc<Shared>,
    data_plane: tokio::runtime::Handle,
    running: BTreeMap<TriggerKey, Running>,
    ended: JoinSet<()>,
}

#[derive(Debug)]
struct Running {
    declared: Declared,
    stop: CancellationToken,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    states: Mutex<BTreeMap<TriggerKey, Watched>>,
    pauses_changed: Notify,
}

/// A trigger as its handle sees it: watched, or impossible to watch.
#[derive(Debug)]
enum Watched {
    Place(Arc<Place>),
    Impossible(State),
}

/// What others hold of the service. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Where a trigger stands; `None` where it is not watched: unknown, paused or disabled.
    #[must_use]
    pub fn state(&self, key: &TriggerKey) -> Option<State> {
        self.shared.states().get(key).map(|watched| match watched {
            Watched::Place(place) => place.state(),
            Watched::Impossible(state) => state.clone(),
        })
    }

    /// An operator has paused or resumed a trigger.
    pub fn pauses_changed(&self) {
        self.shared.pauses_changed.notify_one();
    }
}

impl Shared {
    /// Held for single changes only, and never across a wait.
    fn states(&self) -> MutexGuard<'_, BTreeMap<TriggerKey, Watched>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// The service and what others hold of it. Brokers are watched on `data_plane`, where calls run. Without `shares` this
    /// node is the only one.
    #[must_use]
    pub fn new(
        deployed: Arc<dyn Deployed>,
        pauses: Pauses,
        shares: Option<Shares>,
        parts: Parts,
        data_plane: tokio::runtime::Handle,
    ) -> (Self, Handle) {
        let shared = Arc::<Shared>::default();
        let handle = Handle { shared: Arc::clone(&shared) };
        let (running, ended) = (BTreeMap::new(), JoinSet::new());
        (Self { deployed, pauses, shares, parts, shared, data_plane, running, ended }, handle)
    }

    /// Runs until `stop`. When it returns, calls have ended and what was not begun is where it came from.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changed = self.deployed.changed();
        while !stop.is_cancelled() {
            changed.borrow_and_update();
            if let Err(error) = self.sync().await {
                tracing::warn!(%error, "which triggers are to be watched cannot be read, it is tried again");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = changed.changed() => {}
                Some(ended) = self.ended.join_next_with_id() => self.forget(ended),
                () = self.shared.pauses_changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.running.values().for_each(|running| running.stop.cancel());
        while let Some(ended) = self.ended.join_next_with_id().await {
            self.forget(ended);
        }
        if let Some(shares) = &mut self.shares
            && let Err(error) = shares.leave().await
        {
            tracing::warn!(%error, "other nodes learn only after a while that this one watches no brokers any more");
        }
    }

    /// Stops what is no longer in force or has changed, and starts what is not running. What is stopping is started anew
    /// when it has ended: two watches of one trigger would take each other's records.
    async fn sync(&mut self) -> alula_store::Result<()> {
        let paused = self.pauses.all().await?;
        let paused: BTreeSet<_> = paused.into_iter().map(|(key, _)| key).collect();
        let in_force = self.deployed.brokers().into_iter().filter(|declared| !paused.contains(&declared.key));
        let mut wanted: BTreeMap<_, _> = in_force.map(|declared| (declared.key.clone(), declared)).collect();
        if let Some(shares) = &mut self.shares {
            let ours = shares.take(&wanted.keys().cloned().collect()).await?;
            wanted.retain(|key, _| ours.contains(key));
        }
        for (key, running) in &self.running {
            if wanted.get(key) != Some(&running.declared) {
                running.stop.cancel();
            }
        }
        self.shared
            .states()
            .retain(|key, watched| matches!(watched, Watched::Place(_)) || wanted.contains_key(key));
        for (key, declared) in wanted {
            if !self.running.contains_key(&key) {
                self.start(declared);
            }
        }
        Ok(())
    }

    fn start(&mut self, declared: Declared) {
        let key = declared.key.clone();
        let opened = source::open(&key, &declared.trigger().source, declared.env());
        let (source, batching) = match (opened, declared.trigger().source.batching()) {
            (Ok(source), Some(batching)) => (source, *batching),
            (Err(error), _) => {
                let problem =
                    crate::place::Problem { at: self.parts.clock.now(), message: error.to_string() };
                let state = State { last_error: Some(problem), ..State::default() };
                self.shared.states().insert(key, Watched::Impossible(state));
                return;
            }
            (Ok(_), None) => return,
        };
        let kind = declared.trigger().source.kind();
        let (target, parts) = (declared.target(), self.parts.clone());
        let place = Place::new(key.clone(), kind, target, batching, source.shape(), parts);
        let place = Arc::new(place);
        self.shared.states().insert(key.clone(), Watched::Place(Arc::clone(&place)));
        let stop = CancellationToken::new();
        let watch = Watch::new(place, source).run(stop.clone());
        let task = self.ended.spawn_on(watch, &self.data_plane);
        self.running.insert(key, Running { declared, stop, task });
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => {
                tracing::error!(%error, "watching a broker ended, it is begun anew");
                error.id()
            }
        };
        let ended = self.running.extract_if(.., |_, running| running.task.id() == id);
        let mut states = self.shared.states();
        for (key, running) in ended {
            states.remove(&key);
            self.parts.observe.gone(&key, running.declared.trigger().source.kind());
        }
    }
}
