//! Who is to be told what now: alarms of one rule are one message, silences hold, what lasts is repeated.
//!
//! What somebody has been told is noted in the alarm itself when the message has arrived, so nothing is forgotten when the
//! process is killed in between, and a receiver that was down is told how things are when it is back, not how they were.

use std::collections::{BTreeMap, HashMap};

use alula_model::alarm::Audience;
use alula_model::{Contact, Name, Timestamp};

use crate::alarm::{Alarm, State};
use crate::engine::AlarmKey;
use crate::options::{Options, ReceiverOptions};
use crate::ports::Trust;
use crate::silence::Silence;

/// How often a Prometheus Alertmanager is told of everything again: it takes what it has not heard of for over.
pub(crate) const ALERTMANAGER_EVERY_MS: u64 = 60_000;
/// After a message that did not arrive, so long nothing is tried for the same group.
const PAUSE_MS: i64 = 60_000;

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Receiver {
    /// What notes of who was told are kept under.
    pub(crate) key: String,
    pub(crate) address: Address,
    pub(crate) trust: Trust,
}

/// Where somebody is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Address {
    Mail(String),
    Webhook(String),
    Slack(String),
    Alertmanager(String),
}

/// What one message is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parcel {
    pub(crate) receiver: Receiver,
    /// The rule, or nothing where it is about all.
    pub(crate) rule: Option<Name>,
    pub(crate) firing: Vec<Alarm>,
    pub(crate) resolved: Vec<Alarm>,
}

/// What is told together.
pub(crate) type GroupKey = (String, Option<Name>);

/// What is known of messages that were sent.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    groups: HashMap<GroupKey, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// A message is on its way.
    is_busy: bool,
    last_sent: Option<Timestamp>,
    not_before: Option<Timestamp>,
}

impl Address {
    fn of(contact: &Contact) -> Self {
        match contact {
            Contact::Mail(address) => Self::Mail(address.clone()),
            Contact::Webhook(url) => Self::Webhook(url.clone()),
            Contact::Slack(url) => Self::Slack(url.clone()),
        }
    }
}

impl Receiver {
    /// As the operator states it; nothing where neither address is stated.
    pub(crate) fn of_operator(options: &ReceiverOptions) -> Option<Self> {
        let address = match (&options.contact, &options.alertmanager) {
            (Some(contact), _) => Address::of(contact),
            (None, Some(url)) => Address::Alertmanager(url.clone()),
            (None, None) => return None,
        };
        Some(Self { key: options.name.to_string(), address, trust: Trust::Operator })
    }

    fn of_owner(contact: &Contact) -> Self {
        // No name holds a colon, so this is no operator's.
        Self { key: format!("owner:{contact}"), address: Address::of(contact), trust: Trust::Owner }
    }

    fn is_alertmanager(&self) -> bool {
        matches!(self.address, Address::Alertmanager(_))
    }
}

/// Everybody who is told of an alarm.
fn receivers(options: &Options, alarm: &Alarm) -> Vec<Receiver> {
    let owners = match alarm.to {
        Audience::Operators => Vec::new(),
        Audience::Owner | Audience::Everybody => alarm.contacts.iter().map(Receiver::of_owner).collect(),
    };
    let is_operators = alarm.to != Audience::Owner || owners.is_empty();
    let is_meant = |receiver: &&ReceiverOptions| {
        let is_in = |name: &Name| receiver.namespaces.contains(name);
        let is_there = receiver.namespaces.is_empty() || alarm.subject.namespace.as_ref().is_some_and(is_in);
        // An Alertmanager has routes of its own.
        is_there && alarm.severity >= receiver.severity && (is_operators || receiver.alertmanager.is_some())
    };
    let operators = options.receivers.iter().filter(is_meant).filter_map(Receiver::of_operator);
    owners.into_iter().chain(operators).collect()
}

impl Planner {
    /// The messages that are due.
    pub(crate) fn due(
        &mut self,
        now: Timestamp,
        options: &Options,
        alarms: &BTreeMap<AlarmKey, Alarm>,
        silences: &[Silence],
    ) -> Vec<Parcel> {
        let mut groups: BTreeMap<(Receiver, Option<Name>), Vec<&Alarm>> = BTreeMap::new();
        let told = alarms.values().filter(|alarm| alarm.state != State::Pending);
        for alarm in told.filter(|alarm| !silences.iter().any(|silence| silence.covers(alarm, now))) {
            for receiver in receivers(options, alarm) {
                let rule = (!receiver.is_alertmanager()).then(|| alarm.rule.clone());
                groups.entry((receiver, rule)).or_default().push(alarm);
            }
        }
        self.groups
            .retain(|_, group| group.is_busy || group.last_sent.is_some_and(|at| !is_old(now, at, options)));
        let due = groups.into_iter().filter_map(|((receiver, rule), alarms)| {
            let group = self.groups.entry((receiver.key.clone(), rule.clone())).or_default();
            let is_due = !group.is_busy
                && group.not_before.is_none_or(|at| now >= at)
                && if receiver.is_alertmanager() {
                    is_due_there(now, group, &receiver, &alarms)
                } else {
                    is_due(now, options, group, &receiver, &alarms)
                };
            if !is_due {
                return None;
            }
            group.is_busy = true;
            Some(parcel(receiver, rule, &alarms))
        });
        due.collect()
    }

    /// A message has ended; whether it has arrived.
    pub(crate) fn ended(&mut self, group: &GroupKey, now: Timestamp, has_arrived: bool) {
        let group = self.groups.entry(group.clone()).or_default();
        group.is_busy = false;
        group.last_sent = Some(now);
        group.not_before = (!has_arrived).then(|| now.plus_millis(PAUSE_MS));
    }
}

/// After a repeat has been due twice, nothing needs to be known of a group.
fn is_old(now: Timestamp, at: Timestamp, options: &Options) -> bool {
    now.millis_since(at) > options.repeat_ms.max(options.group_interval_ms).saturating_mul(2)
}

fn is_new(alarm: &Alarm, receiver: &Receiver) -> bool {
    alarm.state == State::Firing && !alarm.told.contains_key(&receiver.key)
}

fn is_news(alarm: &Alarm, receiver: &Receiver) -> bool {
    let is_over = alarm.state == State::Resolved && alarm.told.contains_key(&receiver.key);
    is_over || is_new(alarm, receiver)
}

fn is_due(now: Timestamp, options: &Options, group: &Group, receiver: &Receiver, alarms: &[&Alarm]) -> bool {
    let news = alarms.iter().filter(|alarm| is_news(alarm, receiver));
    let first = news.filter_map(|alarm| alarm.resolved_at.or(alarm.raised_at)).min();
    if let Some(first) = first {
        let has_rested = group.last_sent.is_none_or(|at| now.millis_since(at) >= options.group_interval_ms);
        return has_rested && now.millis_since(first) >= options.group_wait_ms;
    }
    let is_forgotten = |alarm: &&&Alarm| {
        let told = alarm.told.get(&receiver.key);
        alarm.state == State::Firing
            && alarm.acknowledged.is_none()
            && told.is_some_and(|at| now.millis_since(*at) >= options.repeat_ms)
    };
    alarms.iter().any(|alarm| is_forgotten(&alarm))
}

/// An Alertmanager groups and repeats by itself: it is told of every change at once, and of everything every minute.
fn is_due_there(now: Timestamp, group: &Group, receiver: &Receiver, alarms: &[&Alarm]) -> bool {
    alarms.iter().any(|alarm| is_news(alarm, receiver))
        || group.last_sent.is_none_or(|at| now.millis_since(at) >= ALERTMANAGER_EVERY_MS)
}

fn parcel(receiver: Receiver, rule: Option<Name>, alarms: &[&Alarm]) -> Parcel {
    let cloned =
        |state: State| alarms.iter().filter(move |alarm| alarm.state == state).map(|alarm| (*alarm).clone());
    // Who did not hear of the beginning need not hear of the end; an Alertmanager may have lost what it was told.
    let is_told = |alarm: &Alarm| receiver.is_alertmanager() || alarm.told.contains_key(&receiver.key);
    let resolved = cloned(State::Resolved).filter(is_told).collect();
    Parcel { firing: cloned(State::Firing).collect(), resolved, rule, receiver }
}
