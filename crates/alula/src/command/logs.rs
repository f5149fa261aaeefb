//! `alula logs`: what functions logged, and what the platform said about them.

use std::pin::pin;

use alula_model::{Qualifier, Timestamp};
use alula_sdk::wire::query::Logs;
use alula_sdk::wire::{LogLevel, LogLine, LogStream};
use clap::Args;
use futures_util::StreamExt;

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Colour, Tone, printable};
use crate::session::{Session, Target};

/// What `alula logs` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula logs hello                         the last 100 lines
  alula logs hello --follow                and every new one, until Ctrl-C
  alula logs --since 10m --search error    of all functions
  alula logs hello:3 --invocation 01981e9c-...")]
pub(crate) struct Arguments {
    /// The function, and its version after a colon
    name: Option<Target>,
    /// Go on with new lines
    #[arg(long, short)]
    follow: bool,
    /// Only from this moment on: 30s, 10m, 2h30m, 1d, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    until: Option<String>,
    /// Only of this call
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// Only of this instance
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Only of this version
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    /// Only lines that hold this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// The newest so many lines
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
}

/// Prints the lines as they come.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = match &arguments.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let query = query(arguments, session.now())?;
    let mut lines = pin!(client.logs(query).await?);
    let mut is_empty = true;
    while let Some(line) = lines.next().await {
        is_empty = false;
        print(&line?, session)?;
    }
    if is_empty {
        session.output.say("no log lines; `alula list` shows the functions there are");
    }
    Ok(())
}

/// Prints one line.
pub(super) fn print(line: &LogLine, session: &Session) -> Result<()> {
    let output = session.output;
    if output.is_json() {
        output.json(line)?
    } else {
        output.line(&format(line, output.colour))?
    }
    Ok(())
}

fn query(arguments: Arguments, now: Timestamp) -> Result<Logs> {
    let moment = |text: Option<String>| match text {
        Some(text) => human::parse_moment(&text, now).map(|at| Some(at.as_millis())).map_err(Failure::usage),
        None => Ok(None),
    };
    Ok(Logs {
        namespace: None,
        version: arguments.version.or(version_of(arguments.name.as_ref())?),
        function: arguments.name.map(|target| target.name.to_string()),
        instance: arguments.instance,
        invocation: arguments.invocation,
        since_ms: moment(arguments.since)?,
        until_ms: moment(arguments.until)?,
        search: arguments.search,
        limit: Some(arguments.limit),
        follow: arguments.follow.then_some(true),
    })
}

/// The version in `NAME:VERSION`. An alias moves, so what it named when a line was written is not known.
pub(super) fn version_of(target: Option<&Target>) -> Result<Option<u64>> {
    match target.map(|target| &target.qualifier) {
        None | Some(Qualifier::Latest) => Ok(None),
        Some(Qualifier::Version(number)) => Ok(Some(*number)),
        Some(Qualifier::Alias(alias)) => {
            Err(Failure::usage(format!("{alias} is an alias, which names other versions over time"))
                .remedy("name the version by its number"))
        }
    }
}

fn format(line: &LogLine, colour: Colour) -> String {
    let tone = match (line.level, line.stream) {
        (LogLevel::Error, _) => Tone::Bad,
        (LogLevel::Warn, _) | (_, LogStream::Platform) => Tone::Warn,
        (LogLevel::Debug, _) => Tone::Dim,
        (LogLevel::Info, _) => Tone::Plain,
    };
    let text = match line.stream {
        LogStream::Platform => format!("[alula] {}", printable(&line.text)),
        LogStream::Stdout | LogStream::Stderr => printable(&line.text),
    };
    let time = colour.paint(Tone::Dim, &human::time_of_day(Timestamp(line.at_ms)));
    format!("{time} {}:{} {}", line.function, line.version, colour.paint(tone, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_names_no_version_of_the_past() {
        let version = |text: &str| version_of(Some(&text.parse().unwrap()));
        assert_eq!(version("hello:3").unwrap(), Some(3));
        assert_eq!(version("hello").unwrap(), None);
        assert!(version("hello:live").is_err());
    }

    #[test]
    fn a_function_cannot_paint_the_terminal() {
        let line = LogLine {
            at_ms: 0,
            namespace: "default".to_owned(),
            function: "hello".to_owned(),
            version: 3,
            instance: "i".to_owned(),
            invocation: None,
            stream: LogStream::Platform,
            level: LogLevel::Info,
            text: "a\x1b[2J\rb".to_owned(),
        };
        assert!(format(&line, Colour::Off).ends_with("hello:3 [alula] a[2Jb"));
    }
}
