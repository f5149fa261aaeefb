//! Rules over samples: what begins, lasts, ends. Without a clock, a store or a network.

use std::collections::{BTreeMap, HashMap, HashSet};

use alula_model::alarm::{AlarmRule, Severity, Signal};
use alula_model::{Contact, Name, Timestamp};

use crate::alarm::{Acknowledgement, Alarm, Change, IsCleared, State};
use crate::history::Event;
use crate::ports::Watch;
use crate::rules::Rules;
use crate::sample::{Round, Sample, Subject};

/// Alarms that are held at once: every function with some of them. Further ones are not begun.
pub(crate) const ALARMS_MAX: usize = 20_000;
/// How long a resolved alarm is held, so that all receivers learn that it is over: what Prometheus keeps to as well.
pub(crate) const RESOLVED_KEEP_MS: u64 = 15 * 60_000;

/// What an alarm is found by.
pub(crate) type AlarmKey = (Name, Subject);

/// Every alarm.
#[derive(Debug)]
pub(crate) struct Engine {
    rules: Rules,
    pub(crate) alarms: BTreeMap<AlarmKey, Alarm>,
    /// What has changed since it was last written, and what is gone.
    pub(crate) changed: HashSet<AlarmKey>,
    /// Before it, calls cannot have been counted: windows that reach further back say nothing yet.
    started_at: Timestamp,
}

/// What has happened to an alarm.
pub(crate) type Happened = (AlarmKey, Event);

impl Engine {
    pub(crate) fn new(rules: Rules, started_at: Timestamp) -> Self {
        Self { rules, alarms: BTreeMap::new(), changed: HashSet::new(), started_at }
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Looks at everything that was measured at `now`.
    pub(crate) fn look(&mut self, now: Timestamp, round: &Round, watches: &[Watch]) -> Vec<Happened> {
        let by_function: ByFunction<'_> =
            watches.iter().map(|watch| ((&watch.namespace, &watch.function), watch)).collect();
        let (mut seen, mut happened) = (HashSet::new(), Vec::new());
        let rules = self.rules.clone();
        // Nearly all of what is looked at is well and was: it is passed over without a lookup.
        let raised: HashSet<Name> = self.alarms.keys().map(|(rule, _)| rule.clone()).collect();
        for sample in &round.samples {
            let watch = watch_of(&by_function, &sample.subject);
            for rule in rules.for_sample(sample, watch) {
                if !is_bad(rule, sample.value) && !raised.contains(&rule.name) {
                    continue;
                }
                let key = (rule.name.clone(), sample.subject.clone());
                let contacts = || watch.map(|watch| watch.contacts.clone()).unwrap_or_default();
                self.look_at(now, rule, sample, (key.clone(), contacts), &mut happened);
                seen.insert(key);
            }
        }
        self.ease_unseen(now, round, (&seen, &by_function), &mut happened);
        self.forget_resolved(now);
        happened
    }

    fn look_at(
        &mut self,
        now: Timestamp,
        rule: &AlarmRule,
        sample: &Sample,
        (key, contacts): (AlarmKey, impl FnOnce() -> Vec<Contact>),
        happened: &mut Vec<Happened>,
    ) {
        let is_enough = sample.calls.is_none_or(|calls| calls >= rule.min_calls);
        let is_bad = is_enough && is_bad(rule, sample.value);
        let (alarms, is_early) = (self.alarms.len(), is_early(rule, self.started_at, now));
        let known = self.alarms.get_mut(&key);
        let change = match (known, is_bad) {
            (None, false) => return,
            // Too few calls since the start say nothing.
            (Some(_), false) if !is_enough && is_early => return,
            (None, true) if alarms >= ALARMS_MAX => return,
            (None, true) => {
                let mut alarm = Alarm::begin(rule, sample, contacts(), now);
                let change = alarm.holds(rule, now);
                self.alarms.insert(key.clone(), alarm);
                self.changed.insert(key.clone());
                change
            }
            (Some(alarm), true) => {
                alarm.see(sample);
                alarm.contacts = contacts();
                (alarm.severity, alarm.to) = (rule.severity, rule.to);
                alarm.holds(rule, now)
            }
            (Some(alarm), false) => {
                if alarm.state != State::Resolved {
                    alarm.see(sample);
                }
                let is_cleared = !is_enough || is_cleared(rule, sample.value);
                alarm.eases(rule, now, if is_cleared { IsCleared::Yes } else { IsCleared::No })
            }
        };
        self.note(key, change, happened);
    }

    /// What was not measured is well again, unless it could not be measured.
    fn ease_unseen(
        &mut self,
        now: Timestamp,
        round: &Round,
        (seen, by_function): (&HashSet<AlarmKey>, &ByFunction<'_>),
        happened: &mut Vec<Happened>,
    ) {
        let unseen: Vec<AlarmKey> = self.alarms.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        for key in unseen {
            let Some(alarm) = self.alarms.get_mut(&key) else { continue };
            let own = watch_of(by_function, &key.1)
                .and_then(|watch| watch.alarm.rules.iter().find(|rule| rule.name == key.0));
            let rule = own.or_else(|| self.rules.all().find(|rule| rule.name == key.0));
            // Who takes a rule back ends its alarms at once.
            let rule = rule.cloned().unwrap_or_else(|| gone(&key.0, alarm.signal));
            if round.unknown.contains(&alarm.signal) || is_early(&rule, self.started_at, now) {
                continue;
            }
            let change = alarm.eases(&rule, now, IsCleared::Yes);
            self.note(key, change, happened);
        }
    }

    fn note(&mut self, key: AlarmKey, change: Change, happened: &mut Vec<Happened>) {
        match change {
            Change::None => return,
            Change::Vanished => {
                self.alarms.remove(&key);
            }
            Change::Raised => happened.push((key.clone(), Event::Raised)),
            Change::Resolved => happened.push((key.clone(), Event::Resolved)),
        }
        self.changed.insert(key);
    }

    fn forget_resolved(&mut self, now: Timestamp) {
        let changed = &mut self.changed;
        self.alarms.retain(|key, alarm| {
            let is_over = alarm.resolved_at.is_some_and(|at| now.millis_since(at) >= RESOLVED_KEEP_MS);
            if is_over {
                changed.insert(key.clone());
            }
            !is_over
        });
    }

    /// The alarm of this id.
    pub(crate) fn find(&self, id: &str) -> Option<(&AlarmKey, &Alarm)> {
        self.alarms.iter().find(|(_, alarm)| alarm.id == id)
    }

    /// Notes that somebody knows of an alarm; `None` where it does not fire.
    pub(crate) fn acknowledge(&mut self, id: &str, by: Acknowledgement) -> Option<Alarm> {
        let key = self.find(id).map(|(key, _)| key.clone())?;
        let alarm = self.alarms.get_mut(&key).filter(|alarm| alarm.state == State::Firing)?;
        alarm.acknowledged = Some(by);
        self.changed.insert(key);
        Some(alarm.clone())
    }

    /// Alarms of a severity that fire.
    pub(crate) fn firing(&self, severity: Severity) -> usize {
        let fires = |alarm: &&Alarm| alarm.state == State::Firing && alarm.severity == severity;
        self.alarms.values().filter(fires).count()
    }
}

/// Whether the window of a rule reaches back beyond the start, so that calls that are not there may have been.
fn is_early(rule: &AlarmRule, started_at: Timestamp, now: Timestamp) -> bool {
    rule.signal.is_of_calls() && (now.millis_since(started_at) as f64) < rule.window.seconds() * 1_000.0
}

/// What functions state, by namespace and function.
type ByFunction<'a> = HashMap<(&'a Name, &'a Name), &'a Watch>;

fn watch_of<'a>(by_function: &ByFunction<'a>, subject: &Subject) -> Option<&'a Watch> {
    let key = (subject.namespace.as_ref()?, subject.function.as_ref()?);
    by_function.get(&key).copied()
}

/// Stands for a rule that is no more.
fn gone(name: &Name, signal: Signal) -> AlarmRule {
    AlarmRule { clear_for_ms: 0, ..AlarmRule::above(name.clone(), signal, alula_model::Decimal::whole(0)) }
}

fn is_bad(rule: &AlarmRule, value: f64) -> bool {
    rule.above.is_some_and(|above| value > above.as_f64())
        || rule.below.is_some_and(|below| value < below.as_f64())
}

fn is_cleared(rule: &AlarmRule, value: f64) -> bool {
    match (rule.above, rule.below, rule.clear) {
        (Some(_), _, Some(clear)) => value <= clear.as_f64(),
        (None, Some(_), Some(clear)) => value >= clear.as_f64(),
        _ => !is_bad(rule, value),
    }
}
