//! `alula triggers`: what makes functions run besides callers, what comes next, and pausing it.

use std::str::FromStr;

use alula_model::{Name, Timestamp};
use alula_sdk::wire::{BrokerState, ScheduleState, SlotReadiness, TriggerInfo, UpcomingSlot};
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula triggers` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula triggers
  alula triggers list report
  alula triggers next --limit 5
  alula triggers pause report/nightly
  alula triggers resume report/nightly")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the triggers in force and where each stands
    List {
        /// Only of this function
        name: Option<Target>,
    },
    /// Show the coming slots of schedules
    Next {
        /// Only of this function
        name: Option<Target>,
        /// How many slots
        #[arg(long, default_value_t = 20, value_name = "COUNT")]
        limit: u32,
    },
    /// Keep a trigger from firing until it is resumed
    Pause {
        /// The trigger, as FUNCTION/TRIGGER
        trigger: Named,
    },
    /// Let a paused trigger fire again, from what comes next on
    Resume {
        /// The trigger, as FUNCTION/TRIGGER
        trigger: Named,
    },
}

/// A trigger as it is typed: `FUNCTION/TRIGGER`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    function: Target,
    trigger: Name,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (function, trigger) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} names no trigger: write FUNCTION/TRIGGER"))?;
        let function = function.parse().map_err(|error: alula_model::NameError| error.to_string())?;
        let trigger = Name::new(trigger).map_err(|error| error.to_string())?;
        Ok(Self { function, trigger })
    }
}

/// Does what is asked; without an action it lists.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action.unwrap_or(Action::List { name: None }) {
        Action::List { name } => list(name.as_ref(), session).await,
        Action::Next { name, limit } => next(name.as_ref(), limit, session).await,
        Action::Pause { trigger: Named { function, trigger } } => {
            let client = session.client_for(&function)?;
            let info = client.pause_trigger(function.whole()?, trigger.as_str()).await?;
            told(&info, "is paused", session)
        }
        Action::Resume { trigger: Named { function, trigger } } => {
            let client = session.client_for(&function)?;
            let info = client.resume_trigger(function.whole()?, trigger.as_str()).await?;
            told(&info, "fires again", session)
        }
    }
}

fn told(info: &TriggerInfo, what: &str, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(info)?);
    }
    session.output.say(&format!("{}/{} {what}", info.function, info.name));
    Ok(())
}

async fn list(name: Option<&Target>, session: &Session) -> Result<()> {
    let (client, function) = meant(name, session)?;
    let mut triggers = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.triggers(function.clone(), None, cursor).await?;
        triggers.extend(page.triggers);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if session.output.is_json() {
        for trigger in &triggers {
            session.output.json(trigger)?;
        }
        return Ok(());
    }
    if triggers.is_empty() {
        session.output.say("no triggers; a function states them as [[triggers]] in its alula.toml");
        return Ok(());
    }
    for line in list_table(&triggers, session.now()).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

async fn next(name: Option<&Target>, limit: u32, session: &Session) -> Result<()> {
    let (client, function) = meant(name, session)?;
    let slots = client.next_slots(function, None, Some(limit)).await?.slots;
    if session.output.is_json() {
        for slot in &slots {
            session.output.json(slot)?;
        }
        return Ok(());
    }
    if slots.is_empty() {
        session.output.say("no slot is to come");
        return Ok(());
    }
    for line in next_table(&slots, session.now()).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

fn meant(name: Option<&Target>, session: &Session) -> Result<(alula_sdk::Client, Option<String>)> {
    Ok(match name {
        Some(target) => (session.client_for(target)?, Some(target.whole()?.to_owned())),
        None => (session.client()?, None),
    })
}

fn list_table(triggers: &[TriggerInfo], now: Timestamp) -> Table {
    let mut table = Table::new(&["TRIGGER", "KIND", "WATCHES", "STATE", "NEXT", "LAST"]);
    for trigger in triggers {
        let next = trigger.schedule.as_ref().and_then(|schedule| schedule.next_ms);
        let next = next.filter(|_| trigger.paused.is_none());
        table.row([
            format!("{}/{}", trigger.function, trigger.name).into(),
            trigger.kind.as_str().into(),
            trigger.watches.as_str().into(),
            state(trigger, now),
            next.map_or("-".to_owned(), |next| human::moment(Timestamp(next))).into(),
            last_of(trigger, now).into(),
        ]);
    }
    table
}

fn next_table(slots: &[UpcomingSlot], now: Timestamp) -> Table {
    let mut table = Table::new(&["SLOT", "IN", "TRIGGER", "INSTANCE", "LAST"]);
    for UpcomingSlot { slot_ms, trigger, .. } in slots {
        let schedule = trigger.schedule.as_ref();
        // What is known of the instance is about the next slot only.
        let is_next = schedule.is_some_and(|schedule| schedule.next_ms == Some(*slot_ms));
        table.row([
            human::moment(Timestamp(*slot_ms)).into(),
            human::seconds(Timestamp(*slot_ms).millis_since(now) / 1_000).into(),
            format!("{}/{}", trigger.function, trigger.name).into(),
            schedule.filter(|_| is_next).map_or("-".into(), readiness),
            schedule.map_or("-".to_owned(), last).into(),
        ]);
    }
    table
}

fn state(trigger: &TriggerInfo, now: Timestamp) -> Cell {
    let of_schedule = trigger.schedule.as_ref().and_then(|schedule| schedule.problem.as_ref());
    let problem = of_schedule.or(trigger.problem.as_ref());
    match (&trigger.paused, trigger.enabled, problem) {
        (Some(pause), ..) => {
            let since = human::age(now, Timestamp(pause.at_ms));
            Cell::toned(Tone::Bad, format!("paused by {} {since}", pause.by))
        }
        (None, false, _) => Cell::toned(Tone::Dim, "disabled"),
        (None, true, Some(problem)) => Cell::toned(Tone::Bad, problem.as_str()),
        (None, true, None) => trigger.broker.as_ref().map_or(Cell::toned(Tone::Good, "on"), connection),
    }
}

/// Whether a broker is connected, and if not, why.
fn connection(broker: &BrokerState) -> Cell {
    let lag = broker.lag.filter(|lag| *lag > 0).map_or(String::new(), |lag| format!(", {lag} waiting"));
    match (broker.connected_ms, &broker.last_error) {
        (Some(_), _) => Cell::toned(Tone::Good, format!("connected{lag}")),
        (None, Some(error)) => Cell::toned(Tone::Bad, format!("not connected: {}", error.message)),
        (None, None) => Cell::toned(Tone::Dim, "connecting"),
    }
}

fn readiness(schedule: &ScheduleState) -> Cell {
    match schedule.readiness {
        SlotReadiness::Unknown => "-".into(),
        SlotReadiness::Asked => Cell::toned(Tone::Dim, "asked for"),
        SlotReadiness::Ready => Cell::toned(Tone::Good, "ready"),
        SlotReadiness::NotReady => {
            Cell::toned(Tone::Bad, schedule.not_ready.as_deref().unwrap_or("not ready"))
        }
    }
}

/// What came last: a slot, or a broker's record.
fn last_of(trigger: &TriggerInfo, now: Timestamp) -> String {
    let record = |at_ms| format!("a record {}", human::age(now, Timestamp(at_ms)));
    match (&trigger.schedule, &trigger.broker) {
        (Some(schedule), _) => last(schedule),
        (None, Some(broker)) => broker.last_record_ms.map_or("-".to_owned(), record),
        (None, None) => "-".to_owned(),
    }
}

/// What became of the last slot that was decided.
fn last(schedule: &ScheduleState) -> String {
    let run = schedule.last_run.as_ref().map(|run| (run.slot_ms, format!("called as {}", run.invocation_id)));
    let skip = schedule.last_skip.as_ref().map(|skip| (skip.last_ms, format!("skipped: {}", skip.message)));
    match run.into_iter().chain(skip).max() {
        Some((slot_ms, what)) => format!("{} {what}", human::moment(Timestamp(slot_ms))),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alula_sdk::wire::{BrokerError, SlotRun, SlotSkip, TriggerPause};

    use super::*;
    use crate::output::Colour;

    fn trigger() -> TriggerInfo {
        TriggerInfo {
            namespace: "default".to_owned(),
            function: "report".to_owned(),
            name: "nightly".to_owned(),
            kind: "schedule".to_owned(),
            watches: "at 03:00, Europe/Berlin".to_owned(),
            version: 3,
            qualifier: "latest".to_owned(),
            enabled: true,
            paused: None,
            schedule: Some(ScheduleState {
                next_ms: Some(100_000),
                last_run: Some(SlotRun {
                    slot_ms: 10_000,
                    admitted_ms: 10_001,
                    invocation_id: "i-1".to_owned(),
                }),
                last_skip: Some(SlotSkip {
                    first_ms: 5_000,
                    last_ms: 20_000,
                    decided_ms: 20_001,
                    reason: "overlap".to_owned(),
                    message: "it runs".to_owned(),
                }),
                readiness: SlotReadiness::NotReady,
                not_ready: Some("0 of 1 instances are ready".to_owned()),
                problem: None,
            }),
            problem: None,
            broker: None,
        }
    }

    #[test]
    fn a_line_says_what_comes_and_what_was() {
        let lines = list_table(&[trigger()], Timestamp(40_000)).lines(Colour::Off);
        let expected = "report/nightly  schedule  at 03:00, Europe/Berlin  on     1970-01-01T00:01:40.000Z  \
                        1970-01-01T00:00:20.000Z skipped: it runs";
        assert_eq!(lines[1], expected);
        let paused = TriggerPause { at_ms: 30_000, by: "ops".to_owned() };
        let lines = list_table(&[TriggerInfo { paused: Some(paused), ..trigger() }], Timestamp(40_000))
            .lines(Colour::Off);
        assert!(lines[1].contains("paused by ops 10s ago") && !lines[1].contains("00:01:40"), "{lines:?}");
        let problem = Some("the folder cannot be read".to_owned());
        let lines = list_table(&[TriggerInfo { problem, ..trigger() }], Timestamp(40_000)).lines(Colour::Off);
        assert!(lines[1].contains("the folder cannot be read"), "{lines:?}");
    }

    #[test]
    fn a_broker_says_whether_it_is_connected_and_why_it_is_not() {
        let shown = |broker: BrokerState| {
            let trigger = TriggerInfo { schedule: None, broker: Some(broker), ..trigger() };
            list_table(&[trigger], Timestamp(40_000)).lines(Colour::Off)[1].clone()
        };
        let broker = BrokerState {
            connected_ms: Some(1),
            last_record_ms: Some(30_000),
            last_error: None,
            lag: Some(7),
            delivered: 1,
            parked: 0,
        };
        let line = shown(broker.clone());
        assert!(line.contains("connected, 7 waiting") && line.ends_with("a record 10s ago"), "{line}");
        let error = BrokerError { at_ms: 5, message: "wrong password".to_owned() };
        let gone = shown(BrokerState { connected_ms: None, last_error: Some(error), ..broker.clone() });
        assert!(gone.contains("not connected: wrong password"), "{gone}");
        let new = BrokerState { connected_ms: None, last_record_ms: None, ..broker };
        assert!(shown(new).contains("connecting"));
    }

    #[test]
    fn readiness_is_told_of_the_next_slot_only() {
        let slot = |slot_ms| UpcomingSlot { slot_ms, available_ms: slot_ms, trigger: trigger() };
        let lines = next_table(&[slot(100_000), slot(200_000)], Timestamp(40_000)).lines(Colour::Off);
        assert!(lines[1].contains("1m00s") && lines[1].contains("0 of 1 instances"), "{lines:?}");
        assert!(!lines[2].contains("0 of 1 instances"), "{lines:?}");
    }

    #[test]
    fn triggers_are_named_with_their_function() {
        assert!("report/nightly".parse::<Named>().is_ok());
        for wrong in ["nightly", "report/", "/nightly", "a/b/c", "Report/x"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
