//! `alula alarm`: what goes wrong, saying that one knows, keeping it quiet for a while, testing who is told.

use alula_model::Timestamp;
use alula_sdk::wire::query::Alarms;
use alula_sdk::wire::{AlarmInfo, AlarmList, NewSilence};
use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula alarm` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --namespace, alarms of all namespaces and of the node are meant, which takes an
administrator's token.

Examples:
  alula alarm list
  alula alarm list hello
  alula alarm show 8f14e45fceea167a
  alula alarm ack 8f14e45fceea167a
  alula alarm silence rule=memory,function=report-* --for 2h --reason 'known, see the ticket'
  alula alarm silences
  alula alarm unsilence 4b227777d4dd
  alula alarm history --limit 20
  alula alarm test")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List alarms, the worst first
    List(Filter),
    /// Show one alarm and what to do about it
    Show {
        /// The alarm's id
        id: String,
    },
    /// Say that somebody knows: it is not repeated
    Ack {
        /// The alarm's id
        id: String,
    },
    /// Keep alarms from being told for a while
    Silence(Silence),
    /// List silences
    Silences,
    /// End a silence
    Unsilence {
        /// The silence's id
        id: String,
    },
    /// Show what has happened to alarms, newest first
    History(Filter),
    /// Send a test to the receivers of the platform's configuration
    Test {
        /// Only this one
        receiver: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// Only about this function
    name: Option<Target>,
    /// How many
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
}

#[derive(Debug, Args)]
struct Silence {
    /// Which: `rule=NAME`, `severity=`, `namespace=`, `app=`, `function=`, joined by commas; `*` at the end for any rest
    matcher: String,
    /// For how long: 30m, 2h, 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = human::parse_duration)]
    duration: std::time::Duration,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Action::List(filter) => list(filter, session).await,
        Action::Show { id } => show(&session.client()?.alarm(&id).await?, session),
        Action::Ack { id } => show(&session.client()?.acknowledge_alarm(&id).await?, session),
        Action::Silence(silence) => add_silence(silence, session).await,
        Action::Silences => silences(session).await,
        Action::Unsilence { id } => {
            session.client()?.end_silence(&id).await?;
            session.output.say(&format!("silence {id} is ended"));
            Ok(())
        }
        Action::History(filter) => history(filter, session).await,
        Action::Test { receiver } => test(receiver, session).await,
    }
}

/// What is asked for: a function is one of a namespace; without either, everything.
fn query(filter: Filter, session: &Session) -> Result<Alarms> {
    let (namespace, function) = match &filter.name {
        Some(target) => {
            (Some(session.client_for(target)?.namespace().to_owned()), Some(target.whole()?.to_owned()))
        }
        None => (session.global.namespace.clone(), None),
    };
    Ok(Alarms { namespace, function, limit: Some(filter.limit) })
}

async fn list(filter: Filter, session: &Session) -> Result<()> {
    let query = query(filter, session)?;
    let AlarmList { alarms } = session.client()?.alarms(&query).await?;
    if session.output.is_json() {
        return Ok(alarms.iter().try_for_each(|alarm| session.output.json(alarm))?);
    }
    if alarms.is_empty() {
        session.output.say("no alarms");
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "STATE", "SEVERITY", "RULE", "ABOUT", "VALUE", "BOUND", "SINCE", "NOTE"]);
    for alarm in &alarms {
        let tone = tone(alarm);
        table.row([
            alarm.id.as_str().into(),
            Cell::toned(tone, alarm.state.as_str()),
            alarm.severity.as_str().into(),
            alarm.rule.as_str().into(),
            alarm.about.as_str().into(),
            format!("{:.2}", alarm.value).into(),
            alarm.bound.as_str().into(),
            human::age(session.now(), Timestamp(alarm.since_ms)).into(),
            remark(alarm).into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

fn tone(alarm: &AlarmInfo) -> Tone {
    match alarm.state.as_str() {
        "firing" if alarm.silenced_by.is_none() => Tone::Bad,
        "resolved" => Tone::Good,
        _ => Tone::Warn,
    }
}

fn remark(alarm: &AlarmInfo) -> String {
    let silenced = alarm.silenced_by.as_ref().map(|id| format!("silenced by {id}"));
    let acknowledged = alarm.acknowledged_by.as_ref().map(|by| format!("known to {by}"));
    silenced.into_iter().chain(acknowledged).collect::<Vec<_>>().join(", ")
}

fn show(alarm: &AlarmInfo, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(alarm)?);
    }
    let at = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), |ms| human::moment(Timestamp(ms)));
    let lines = [
        format!("{} {}: {} ({})", alarm.severity, alarm.rule, alarm.about, alarm.state),
        format!("{} is {:.2}, {}; {}", alarm.signal, alarm.value, alarm.bound, alarm.detail),
        format!(
            "holds since {}, raised {}, resolved {}",
            at(Some(alarm.since_ms)),
            at(alarm.raised_ms),
            at(alarm.resolved_ms)
        ),
        format!("told to {}", alarm.to),
        remark(alarm),
        format!("what to do: {}", alarm.advice),
    ];
    Ok(lines.iter().filter(|line| !line.is_empty()).try_for_each(|line| session.output.line(line))?)
}

async fn add_silence(silence: Silence, session: &Session) -> Result<()> {
    let for_ms = u64::try_from(silence.duration.as_millis()).unwrap_or(u64::MAX);
    let request = NewSilence { matcher: silence.matcher, for_ms, reason: silence.reason };
    let made = session.client()?.silence_alarms(&request).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&made)?);
    }
    let until = human::moment(Timestamp(made.until_ms));
    Ok(session.output.line(&format!("{} {} until {until}", made.id, made.matcher))?)
}

async fn silences(session: &Session) -> Result<()> {
    let list = session.client()?.silences(session.global.namespace.clone()).await?;
    if session.output.is_json() {
        return Ok(list.silences.iter().try_for_each(|silence| session.output.json(silence))?);
    }
    let mut table = Table::new(&["ID", "MATCHER", "UNTIL", "BY", "REASON"]);
    for silence in &list.silences {
        table.row([
            silence.id.as_str().into(),
            silence.matcher.as_str().into(),
            human::moment(Timestamp(silence.until_ms)).into(),
            silence.by.as_str().into(),
            silence.reason.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

async fn history(filter: Filter, session: &Session) -> Result<()> {
    let query = query(filter, session)?;
    let events = session.client()?.alarm_history(&query).await?.events;
    if session.output.is_json() {
        return Ok(events.iter().try_for_each(|event| session.output.json(event))?);
    }
    let mut table = Table::new(&["WHEN", "EVENT", "SEVERITY", "RULE", "ABOUT", "VALUE", "DETAIL"]);
    for event in &events {
        table.row([
            human::moment(Timestamp(event.at_ms)).into(),
            event.event.as_str().into(),
            event.severity.as_str().into(),
            event.rule.as_str().into(),
            event.about.as_str().into(),
            format!("{:.2}", event.value).into(),
            event.detail.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

async fn test(receiver: Option<String>, session: &Session) -> Result<()> {
    let outcomes = session.client()?.test_alarms(receiver).await?.outcomes;
    let mut failed = 0;
    for outcome in &outcomes {
        failed += u32::from(outcome.failure.is_some());
        if session.output.is_json() {
            session.output.json(outcome)?;
        } else {
            let became = outcome.failure.as_deref().unwrap_or("reached");
            session.output.line(&format!("{}: {became}", outcome.receiver))?;
        }
    }
    match (outcomes.is_empty(), failed) {
        (true, _) => Err(Failure::failed("no_receivers", "there is no such receiver in the configuration")
            .remedy("name some under [[alarm.receivers]] in the platform's configuration")),
        (false, 0) => Ok(()),
        (false, _) => {
            Err(Failure::failed("not_reached", format!("{failed} of {} were not reached", outcomes.len())))
        }
    }
}
