//! `alula protect`: block and throttle whoever does harm, at once; look at breakers and hold them.

use std::time::Duration;

use alula_model::Timestamp;
use alula_sdk::wire::{NewProtection, ProtectionInfo};
use clap::{Args, Subcommand};

use super::breakers;
use super::limit::{Amount, in_words};
use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// What `alula protect` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula protect block source/203.0.113.0/24 --reason \"scans for passwords\" --for 1h
  alula protect block caller/key:deploy --reason \"leaked\"
  alula protect throttle function/shop/search --requests-per-second 50 --reason \"spike\" --for 30m
  alula protect block caller/key:bot --within shop --reason \"crawls\"
  alula protect list
  alula protect lift 3f9c2a7be01d4458
  alula protect breakers
  alula protect breaker orders open --reason \"the payment service is down\"
  alula protect degrade orders on

Whom: caller/NAME, source/ADDRESS, source/NETWORK/BITS, namespace/NAME, function/NAMESPACE/NAME.
It is in force when the command returns, and within a second on other nodes. Callers are told the
reason. Operators of a namespace may protect its functions, and with --within it against callers
and sources; the rest is for administrators.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Refuse every call
    Block(Whom),
    /// Let through only so many calls
    Throttle(Throttle),
    /// List who is blocked or throttled, why, until when, and how many calls it refused
    #[command(visible_alias = "ls")]
    List(List),
    /// End it
    Lift {
        /// Its id, as `alula protect list` shows it
        id: String,
    },
    /// Show breakers, what they do and why, and limits that follow latency
    Breakers(breakers::List),
    /// Hold a breaker open or closed by hand, or let it go
    Breaker(breakers::Hold),
    /// Give callers a function's degraded answer, or its own again
    Degrade(breakers::Degrade),
}

#[derive(Debug, Args)]
struct Whom {
    /// Whom: caller/NAME, source/NETWORK, namespace/NAME or function/NAMESPACE/NAME
    subject: String,
    /// Why; callers are told
    #[arg(long)]
    reason: String,
    /// Ends by itself after this time (10m, 2h, 1d); lasts until it is lifted without it
    #[arg(long = "for", value_name = "TIME", value_parser = human::parse_duration)]
    lasts: Option<Duration>,
    /// Only in calls of this namespace's functions
    #[arg(long, value_name = "NAMESPACE")]
    within: Option<String>,
}

#[derive(Debug, Args)]
struct Throttle {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Debug, Args)]
struct List {
    /// Only those of the namespace that --namespace names
    #[arg(long)]
    here: bool,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let made = match arguments.action {
        Action::Block(whom) => client.protect(&new(whom, None)).await?,
        Action::Throttle(Throttle { whom, amount }) => client.protect(&new(whom, Some(amount))).await?,
        Action::List(List { here }) => {
            let namespace = here.then(|| client.namespace());
            return show(&client.protections(namespace).await?.protections, session);
        }
        Action::Breakers(arguments) => return breakers::list(arguments, session).await,
        Action::Breaker(arguments) => return breakers::hold(arguments, session).await,
        Action::Degrade(arguments) => return breakers::degrade(arguments, session).await,
        Action::Lift { id } => {
            client.lift_protection(&id).await?;
            session.output.say(&format!("{id} is lifted"));
            return Ok(());
        }
    };
    if session.output.is_json() {
        return Ok(session.output.json(&made)?);
    }
    let until = until_words(&made);
    session.output.say(&format!(
        "{}: {} {until}; `alula protect lift {}` ends it",
        made.subject,
        what(&made),
        made.id
    ));
    Ok(())
}

fn new(whom: Whom, amount: Option<Amount>) -> NewProtection {
    let Whom { subject, reason, lasts, within } = whom;
    NewProtection {
        subject,
        within,
        throttle: amount.map(Amount::limit),
        reason,
        for_ms: lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn what(protection: &ProtectionInfo) -> String {
    match &protection.throttle {
        None => "blocked".to_owned(),
        Some(limit) => format!("throttled to {}", in_words(limit)),
    }
}

fn until_words(protection: &ProtectionInfo) -> String {
    match protection.until_ms {
        Some(until) => format!("until {}", human::moment(Timestamp(until))),
        None => "until it is lifted".to_owned(),
    }
}

fn show(protections: &[ProtectionInfo], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(protections.iter().try_for_each(|it| session.output.json(it))?);
    }
    if protections.is_empty() {
        session.output.say("nobody is blocked or throttled");
        return Ok(());
    }
    let mut table = Table::new(&["ID", "WHOM", "WITHIN", "WHAT", "UNTIL", "REFUSED", "BY", "WHY"]);
    for it in protections {
        let until = it.until_ms.map_or_else(|| "lifted".to_owned(), |until| human::moment(Timestamp(until)));
        table.row([
            it.id.as_str().into(),
            it.subject.as_str().into(),
            it.within.as_deref().unwrap_or("").into(),
            what(it).into(),
            until.into(),
            it.refused.to_string().into(),
            it.by.as_str().into(),
            it.reason.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}
