//! The loop: measure, evaluate, tell, remember.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_model::Clock;
use alula_model::alarm::{Severity, Signal};
use alula_store::Records;
use alula_telemetry::signals::Signals;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::handle::{Alarms, Inner, Shared};
use crate::history::History;
use crate::message;
use crate::options::Options;
use crate::outbox::{End, Outbox, note_told};
use crate::plan::Planner;
use crate::ports::{Deliver, Deployed, Measure, Observe, Watch};
use crate::record::Kept;
use crate::rules::Rules;
use crate::sample::{self, Round};
use crate::told::Told;

/// Longest time of one look at what others measure.
const MEASURE_MAX: Duration = Duration::from_secs(30);

/// What the service works with.
#[derive(Debug)]
pub struct Parts {
    /// What the operator has set.
    pub options: Options,
    /// What the node is called.
    pub node: String,
    /// Figures of calls.
    pub signals: Signals,
    /// What is told by whoever knows of it first.
    pub told: Told,
    /// All other figures.
    pub measure: Arc<dyn Measure>,
    /// What functions state.
    pub deployed: Arc<dyn Deployed>,
    /// Takes messages to their receivers.
    pub deliver: Arc<dyn Deliver>,
    /// Keeps alarms over restarts.
    pub records: Arc<dyn Records>,
    /// Is told how things stand.
    pub observe: Arc<dyn Observe>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Evaluates alarms. Runs until it is told to stop.
#[derive(Debug)]
pub struct Service {
    alarms: Alarms,
    signals: Signals,
    measure: Arc<dyn Measure>,
    deployed: Arc<dyn Deployed>,
    observe: Arc<dyn Observe>,
    ends: mpsc::Receiver<End>,
    is_loaded: bool,
}

impl Service {
    /// A service that has not looked at anything, and its handle.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Alarms) {
        let Parts { options, node, signals, told, measure, deployed, deliver, records, observe, clock } =
            parts;
        let (outbox, ends) = Outbox::new(deliver, Arc::clone(&observe));
        let engine = Engine::new(Rules::new(&options), clock.now());
        let inner = Inner {
            engine,
            planner: Planner::default(),
            history: History::default(),
            silences: Vec::new(),
            unwritten: Vec::new(),
        };
        let kept = Kept::new(records, &node);
        let shared = Shared { options, node, clock, kept, outbox, told, state: Mutex::new(inner) };
        let alarms = Alarms { shared: Arc::new(shared) };
        let service =
            Self { alarms: alarms.clone(), signals, measure, deployed, observe, ends, is_loaded: false };
        (service, alarms)
    }

    /// Looks at everything now and then, until it is told to stop.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut ticks = interval(Duration::from_millis(self.alarms.shared.options.interval_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look().await,
                Some(end) = self.ends.recv() => self.note(&end),
                () = cancel.cancelled() => break,
            }
        }
        self.remember().await;
    }

    /// One look: what was measured, what follows, who is told.
    async fn look(&mut self) {
        if !self.is_loaded && !self.load().await {
            return;
        }
        let watches = self.deployed.watches();
        let round = self.round(&watches).await;
        self.evaluate(&round, &watches);
        self.remember().await;
    }

    /// What follows from a round, and who is told.
    fn evaluate(&self, round: &Round, watches: &[Watch]) {
        let now = self.alarms.shared.clock.now();
        let mut state = self.alarms.state();
        for (key, event) in state.engine.look(now, round, watches) {
            let Some(alarm) = state.engine.alarms.get(&key).cloned() else { continue };
            tracing::info!(rule = %alarm.rule, subject = %alarm.subject, value = alarm.value, "alarm {}", event.as_str());
            let detail = alarm.detail.clone();
            state.occurred(now, &alarm, event, &detail);
        }
        for severity in Severity::ALL {
            self.observe.firing(*severity, state.engine.firing(*severity));
        }
        let Inner { engine, planner, silences, .. } = &mut *state;
        silences.retain(|silence| now < silence.until);
        let due = planner.due(now, &self.alarms.shared.options, &engine.alarms, silences);
        for parcel in due {
            let message = message::written(&parcel, &self.alarms.shared.node, now);
            if let Err(dropped) = self.alarms.shared.outbox.send(message, parcel) {
                planner.ended(&dropped.group(), now, false);
            }
        }
    }

    /// Everything that can be measured.
    async fn round(&self, watches: &[Watch]) -> Round {
        let measured = tokio::time::timeout(MEASURE_MAX, self.measure.measure()).await;
        let mut round = measured.unwrap_or_else(|_| {
            tracing::warn!(
                "looking at instances and queues took too long; alarms about them stay as they are"
            );
            let others = Signal::ALL.iter().filter(|signal| !signal.is_of_calls());
            Round { samples: Vec::new(), unknown: others.copied().collect() }
        });
        let wanted: BTreeSet<_> = self.alarms.state().engine.rules().wanted(watches).collect();
        round.samples.extend(sample::of_calls(&self.signals, &wanted));
        round.samples.extend(sample::of_objectives(&self.signals, watches));
        round.samples.extend(self.alarms.shared.told.samples());
        round
    }

    /// Takes in what an earlier run has left; whether that is done.
    async fn load(&mut self) -> bool {
        let kept = &self.alarms.shared.kept;
        let loaded = async {
            Ok::<_, alula_store::Error>((kept.alarms().await?, kept.history().await?, kept.silences().await?))
        };
        match loaded.await {
            Ok((alarms, history, silences)) => {
                let mut state = self.alarms.state();
                let keyed =
                    alarms.into_iter().map(|alarm| ((alarm.rule.clone(), alarm.subject.clone()), alarm));
                state.engine.alarms.extend(keyed);
                state.history = History::restore(history);
                // Somebody may have silenced something before this.
                let known: BTreeSet<_> = state.silences.iter().map(|silence| silence.id.clone()).collect();
                state.silences.extend(silences.into_iter().filter(|silence| !known.contains(&silence.id)));
                self.is_loaded = true;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "alarms of the last run cannot be read yet; none are evaluated until they are");
                false
            }
        }
    }

    /// Notes what became of a message.
    fn note(&self, end: &End) {
        let now = self.alarms.shared.clock.now();
        let mut state = self.alarms.state();
        let Inner { engine, planner, .. } = &mut *state;
        planner.ended(&end.parcel.group(), now, end.has_arrived);
        if !end.has_arrived {
            return;
        }
        note_told(&end.parcel, now, |id, change| {
            let Some(key) = engine.find(id).map(|(key, _)| key.clone()) else { return };
            if let Some(alarm) = engine.alarms.get_mut(&key) {
                change(alarm);
                engine.changed.insert(key);
            }
        });
    }

    /// Writes what has changed; what cannot be written is with the next look.
    async fn remember(&self) {
        let (changed, occurrences) = {
            let mut state = self.alarms.state();
            (std::mem::take(&mut state.engine.changed), std::mem::take(&mut state.unwritten))
        };
        if changed.is_empty() && occurrences.is_empty() {
            return;
        }
        let (mut alarms, mut gone) = (Vec::new(), Vec::new());
        {
            let state = self.alarms.state();
            for key in &changed {
                match state.engine.alarms.get(key) {
                    Some(alarm) => alarms.push(alarm.clone()),
                    None => gone.push(crate::alarm::id_of(&key.0, &key.1)),
                }
            }
        }
        if let Err(error) = self.alarms.shared.kept.save(&alarms, &gone, &occurrences).await {
            tracing::warn!(%error, "alarms cannot be written now; they are kept and tried again");
            let mut state = self.alarms.state();
            state.engine.changed.extend(changed);
            state.unwritten.splice(0..0, occurrences);
        }
    }
}
