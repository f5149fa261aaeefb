//! `alula protect breakers|breaker|degrade`: what breakers do and why, and holding them by hand.

use alula_model::Timestamp;
use alula_sdk::wire::{
    AdaptiveLimit, Breaker, BreakerChange, BreakerCounts, BreakerHand, BreakerHold, BreakerList,
    BreakerRequest,
};
use clap::{Args, ValueEnum};

use crate::failure::Result;
use crate::human;
use crate::output::{Colour, Tone};
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// Which breakers to show.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula protect breakers
  alula protect breakers orders
  alula protect breakers --json | jq '.breakers[] | select(.state != \"closed\")'

A version whose calls have not failed for long has no breaker.")]
pub(crate) struct List {
    /// Only of this function, with every change that is remembered
    name: Option<Target>,
}

/// Which breaker to hold, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula protect breaker orders open --reason 'the payment service is down'
  alula protect breaker orders:live closed
  alula protect breaker orders auto

What is held stays so over restarts, until it is let go with `auto`. A version or an alias
means only the calls that run on it or name it; the narrowest that is held counts.")]
pub(crate) struct Hold {
    /// The function, with a version or an alias if only those calls are meant
    name: Target,
    /// What is done with calls
    how: How,
    /// Why, for the audit record
    #[arg(long, default_value = "")]
    reason: String,
}

/// What is done with calls.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Refuse all, probes too
    Open,
    /// Refuse none, whatever fails
    Closed,
    /// What the breaker says
    Auto,
}

/// Which function is to give its degraded answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula protect degrade orders on --reason 'maintenance until 14:00'
  alula protect degrade orders off

The function must state what it answers, in [functions.NAME.degraded]. Calls that nobody waits
for wait until it is switched off.")]
pub(crate) struct Degrade {
    /// The function, with a version or an alias if only those calls are meant
    name: Target,
    /// Whether its callers are given the degraded answer
    switch: OnOff,
    /// Why, for the audit record
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnOff {
    On,
    Off,
}

/// Shows breakers.
pub(crate) async fn list(arguments: List, session: &Session) -> Result<()> {
    let (client, function) = match &arguments.name {
        Some(target) => (session.client_for(target)?, Some(target.whole()?.to_owned())),
        None => (session.client()?, None),
    };
    let list = client.breakers(function).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&list)?);
    }
    let is_one = arguments.name.is_some();
    for line in lines(&list, session.output.colour, is_one) {
        session.output.line(&line)?;
    }
    if list == BreakerList::default() {
        session.output.say("no calls have failed lately, and nothing is held by hand");
    }
    Ok(())
}

/// Holds a breaker, or lets it go.
pub(crate) async fn hold(arguments: Hold, session: &Session) -> Result<()> {
    let (hold, words) = match arguments.how {
        How::Open => (BreakerHold::Open, "refused until you say otherwise"),
        How::Closed => (BreakerHold::Closed, "let through, whatever fails"),
        How::Auto => (BreakerHold::Auto, "up to the breaker again"),
    };
    set(&arguments.name, hold, arguments.reason, session).await?;
    session.output.say(&format!("calls of {} are {words}", named(&arguments.name)));
    Ok(())
}

/// Switches the degraded answer.
pub(crate) async fn degrade(arguments: Degrade, session: &Session) -> Result<()> {
    let (hold, words) = match arguments.switch {
        OnOff::On => (BreakerHold::Degraded, "are given its degraded answer"),
        OnOff::Off => (BreakerHold::Auto, "are given its own answers again"),
    };
    set(&arguments.name, hold, arguments.reason, session).await?;
    session.output.say(&format!("callers of {} {words}", named(&arguments.name)));
    Ok(())
}

async fn set(target: &Target, hold: BreakerHold, reason: String, session: &Session) -> Result<()> {
    let qualifier = target.qualifier.to_string();
    let qualifier = (qualifier != "latest").then_some(qualifier);
    let request = BreakerRequest { hold, qualifier, reason };
    session.client_for(target)?.hold_breaker(target.name.as_str(), &request).await?;
    Ok(())
}

fn named(target: &Target) -> String {
    match target.qualifier.to_string().as_str() {
        "latest" => target.name.to_string(),
        qualifier => format!("{}:{qualifier}", target.name),
    }
}

fn lines(list: &BreakerList, colour: Colour, is_one: bool) -> Vec<String> {
    let mut lines: Vec<String> = list.hands.iter().map(hand).collect();
    lines.extend(list.adaptive.iter().map(adaptive));
    if !list.breakers.is_empty() {
        lines.extend(table(&list.breakers).lines(colour));
    }
    if is_one {
        lines.extend(list.breakers.iter().flat_map(|breaker| breaker.changes.iter().map(change)));
    }
    lines
}

fn hand(hand: &BreakerHand) -> String {
    let BreakerHand { function, scope, held, by, at_ms, reason, namespace: _ } = hand;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let scope = if scope == "*" { String::new() } else { format!(":{scope}") };
    format!("{function}{scope} is held {held} by {by} since {}{why}", human::moment(Timestamp(*at_ms)))
}

fn adaptive(limit: &AdaptiveLimit) -> String {
    let AdaptiveLimit { function, version, limit, in_flight, usual_us, namespace: _ } = limit;
    let usual_ms = *usual_us as f64 / 1_000.0;
    format!(
        "{function}:{version} may run {limit} calls at once, runs {in_flight}, usually takes {usual_ms:.1} ms"
    )
}

fn table(breakers: &[Breaker]) -> Table {
    let mut table =
        Table::new(&["FUNCTION", "CALLS", "STATE", "REFUSED", "GOOD", "FAILED", "SLOW", "PLATFORM", "SINCE"]);
    for breaker in breakers {
        let Breaker { function, version, scope, state, window, changes, .. } = breaker;
        let BreakerCounts { good, failed, slow, platform, .. } = window;
        let tone = if state == "closed" { Tone::Good } else { Tone::Bad };
        let state = match breaker.open_for_ms {
            Some(left_ms) => format!("{state} for {}", human::millis(left_ms)),
            None => state.clone(),
        };
        let calls = if *scope == version.to_string() { "all".to_owned() } else { format!("by {scope}") };
        table.row([
            format!("{function}:{version}").into(),
            calls.into(),
            Cell::toned(tone, state),
            format!("{:.0} %", breaker.refused_percent).into(),
            good.to_string().into(),
            failed.to_string().into(),
            slow.to_string().into(),
            platform.to_string().into(),
            changes.last().map(|last| human::moment(Timestamp(last.at_ms))).unwrap_or_default().into(),
        ]);
    }
    table
}

/// A change in words, for `alula explain` too.
pub(super) fn change(change: &BreakerChange) -> String {
    let BreakerChange { at_ms, from, to, why, counts } = change;
    let BreakerCounts { good, failed, slow, platform, refused } = counts;
    format!(
        "{}  {from} to {to}: {why} ({good} good, {failed} failed, {slow} slow, {platform} failed through the \
         platform, {refused} refused)",
        human::moment(Timestamp(*at_ms))
    )
}
