//! `alula dead`: calls that were given up: listed, shown with every attempt, run again, forgotten.

use alula_model::{Name, Timestamp};
use alula_sdk::Client;
use alula_sdk::wire::query::ListDeadLetters;
use alula_sdk::wire::{DeadLetterDetail, DeadLetterFilter, DeadLetterPage};
use clap::{Args, Subcommand};

use super::calls;
use crate::confirm::confirm;
use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Tone, printable};
use crate::session::{Session, Target};
use crate::table::Table;

/// Characters of a reason that the list shows.
const REASON_CHARS: usize = 100;

/// What `alula dead` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula dead list
  alula dead list orders --since 1h --search timeout
  alula dead show 01981e9c-5c5e-7cc1-9f2b-3f6f2a1b7c11
  alula dead redrive 01981e9c-5c5e-7cc1-9f2b-3f6f2a1b7c11
  alula dead redrive orders --all --rate 10
  alula dead purge orders --all --until 7d --yes

A call is given up after its last attempt, or when it is too old; it lies here until
somebody runs it again or purges it. With --all a function's name, or nothing, says of
which; --since, --until and --search narrow it further.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List dead letters
    List {
        /// Only of this function
        name: Option<Target>,
        #[command(flatten)]
        filter: Filter,
        /// How many
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: u32,
        /// Go on behind an earlier page
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one with each attempt's error and what they logged
    Show {
        /// Its id
        id: String,
    },
    /// Run dead letters again, on the version that is deployed now
    Redrive {
        #[command(flatten)]
        which: Which,
        /// How many a second, with --all [default: 50]
        #[arg(long, value_name = "COUNT", requires = "all")]
        rate: Option<u32>,
    },
    /// Forget dead letters
    Purge {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// Only those given up from this moment on: 30s, 10m, 2h30m, 1d, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only those given up before this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only those whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

#[derive(Debug, Args)]
struct Which {
    /// Ids of dead letters; with --all, a function
    #[arg(value_name = "ID|NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// All of the function, or of the namespace
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Dead letters that a command is about.
#[expect(clippy::large_enum_variant, reason = "one is made")]
enum Chosen {
    Ids(Vec<String>),
    All { client: Client, which: DeadLetterFilter, words: String },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Action::List { name, filter, limit, cursor } => {
            let client = match &name {
                Some(target) => session.client_for(target)?,
                None => session.client()?,
            };
            let function = name.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?;
            let DeadLetterFilter { function, since_ms, until_ms, search } =
                filter.read(function, session.now())?;
            let limit = Some(limit);
            let query =
                ListDeadLetters { namespace: None, function, since_ms, until_ms, search, limit, cursor };
            print_page(&client.dead_letters(query).await?, session)
        }
        Action::Show { id } => print_one(&session.client()?.dead_letter(&id).await?, session),
        Action::Redrive { which, rate } => redrive(which, rate, session).await,
        Action::Purge { which } => purge(which, session).await,
    }
}

async fn redrive(which: Which, rate: Option<u32>, session: &Session) -> Result<()> {
    let is_sure = which.yes;
    match which.choose(session)? {
        Chosen::Ids(ids) => {
            let client = session.client()?;
            for id in &ids {
                client.redrive(id).await?;
                session.output.say(&format!("{id} runs again"));
            }
            Ok(())
        }
        Chosen::All { client, which, words } => {
            if !is_sure {
                confirm(&format!("run {words} again?"), "nothing was run again")?;
            }
            let count = client.redrive_all(which, rate).await?;
            report(&count, &format!("{} run again", counted(count.count)), session)
        }
    }
}

async fn purge(which: Which, session: &Session) -> Result<()> {
    let is_sure = which.yes;
    match which.choose(session)? {
        Chosen::Ids(ids) => {
            if !is_sure {
                confirm(&format!("forget {} for good?", ids.join(", ")), "nothing was purged")?;
            }
            let client = session.client()?;
            for id in &ids {
                client.purge(id).await?;
                session.output.say(&format!("{id} is gone"));
            }
            Ok(())
        }
        Chosen::All { client, which, words } => {
            if !is_sure {
                confirm(&format!("forget {words} for good?"), "nothing was purged")?;
            }
            let count = client.purge_all(which).await?;
            report(&count, &format!("{} purged", counted(count.count)), session)
        }
    }
}

fn counted(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

fn report(count: &alula_sdk::wire::DeadLetterCount, words: &str, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(count)?);
    }
    session.output.say(words);
    Ok(())
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.search.is_none()
    }

    fn read(self, function: Option<String>, now: Timestamp) -> Result<DeadLetterFilter> {
        let moment = |text: Option<String>| match text {
            Some(text) => {
                human::parse_moment(&text, now).map(|at| Some(at.as_millis())).map_err(Failure::usage)
            }
            None => Ok(None),
        };
        Ok(DeadLetterFilter {
            function,
            since_ms: moment(self.since)?,
            until_ms: moment(self.until)?,
            search: self.search,
        })
    }
}

impl Which {
    fn choose(self, session: &Session) -> Result<Chosen> {
        if !self.all {
            if !self.filter.is_empty() {
                return Err(Failure::usage("--since, --until and --search go with --all"));
            }
            return Ok(Chosen::Ids(self.names));
        }
        let target: Option<Target> = match &self.names[..] {
            [] => None,
            [name] => Some(name.parse().map_err(Failure::usage)?),
            _ => return Err(Failure::usage("--all goes with one function, or with none for the namespace")),
        };
        let client = match &target {
            Some(target) => session.client_for(target)?,
            None => session.client()?,
        };
        let function = target.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?;
        let of = target.map_or_else(
            || format!("the namespace {}", client.namespace()),
            |target: Target| Name::to_string(&target.name),
        );
        let part = if self.filter.is_empty() { "all" } else { "the chosen" };
        let words = format!("{part} dead letters of {of}");
        Ok(Chosen::All { client, which: self.filter.read(function, session.now())?, words })
    }
}

fn print_page(page: &DeadLetterPage, session: &Session) -> Result<()> {
    if session.output.is_json() {
        for letter in &page.letters {
            session.output.json(letter)?;
        }
    } else if page.letters.is_empty() {
        session.output.say("there are no such dead letters");
    } else {
        for line in table(page, session.now()).lines(session.output.colour) {
            session.output.line(&line)?;
        }
    }
    if let Some(next) = &page.next {
        session.output.tell(Tone::Dim, &format!("there may be more: add --cursor {next}"));
    }
    Ok(())
}

fn table(page: &DeadLetterPage, now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "FUNCTION", "KIND", "ATTEMPTS", "GIVEN UP", "SIZE", "WHY"]);
    for letter in &page.letters {
        let reason: String = letter.reason.chars().take(REASON_CHARS).collect();
        table.row([
            letter.id.as_str().into(),
            letter.function.as_str().into(),
            letter.class.as_str().into(),
            letter.attempts.to_string().into(),
            human::age(now, Timestamp(letter.dead_at_ms)).into(),
            human::bytes(letter.content_bytes).into(),
            reason.into(),
        ]);
    }
    table
}

fn print_one(detail: &DeadLetterDetail, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(detail)?);
    }
    let letter = &detail.letter;
    let line = |label: &str, value: &str| format!("{label:<9} {value}");
    let mut lines = vec![
        line("Letter", &letter.id),
        line("Function", &format!("{} (namespace {})", letter.function, letter.namespace)),
        line("Why", &printable(&letter.reason)),
        line("Accepted", &human::moment(Timestamp(letter.accepted_at_ms))),
        line("Given up", &human::moment(Timestamp(letter.dead_at_ms))),
        line("Attempts", &letter.attempts.to_string()),
        line("Content", &human::bytes(letter.content_bytes)),
    ];
    lines.extend(letter.ordering_key.as_ref().map(|key| line("Ordered", &printable(key))));
    lines.extend(letter.url.as_ref().map(|url| line("To", &printable(url))));
    lines.extend(letter.about.as_ref().map(|about| line("About", about)));
    lines.extend(calls::attempts(&letter.failures));
    lines.extend(detail.logs.iter().map(|log| format!("| {}", printable(&log.text))));
    for line in &lines {
        session.output.line(line)?;
    }
    session.output.tell(Tone::Dim, &format!("`alula dead redrive {}` runs it again", letter.id));
    Ok(())
}
