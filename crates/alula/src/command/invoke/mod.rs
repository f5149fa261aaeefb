//! `alula invoke`: calls a function and hands on its answer byte for byte.
//!
//! A call goes through the control API, as an event or as bytes. With a method, a path or headers of its own it
//! goes to the public address, as everybody's calls do.

pub(super) mod input;
mod later;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;

use alula_model::Qualifier;
use alula_sdk::wire::query::LogMode;
use alula_sdk::{Answer, Client, Invocation, PublicCall};
use base64::Engine;
use clap::Args;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::failure::{Failure, Result};
use crate::output::{Output, Tone, printable};
use crate::session::{Session, Target};

use input::Input;

/// What `alula invoke` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula invoke hello --data '{\"name\": \"Ada\"}'
  alula invoke thumbnails --file photo.jpg --output small.jpg
  cat big.json | alula invoke countries > table.tsv
  alula invoke api --method GET --path '/users/7?full=1' --header 'accept: text/plain'
  alula invoke hello:3 --data @event.json --log
  alula invoke report --async --data @order.json --key order-7
  alula invoke report --async --delay 10m --callback https://example.org/done
  alula invoke report --async --wait > report.pdf

The answer's body goes to standard output as it is. JSON is handed to an event handler as
its event; other data reach the function as an HTTP POST to /, no data as a GET. The exit
status is 1 where the function failed or answered with an HTTP status of 400 or more.")]
pub(crate) struct Arguments {
    /// The function, and a version or an alias after a colon
    name: Target,
    /// What to send; @FILE reads it from a file
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file")]
    data: Option<String>,
    /// A file to send, of any size
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Media type of what is sent
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// HTTP method, for a call on the public address
    #[arg(long, short = 'X')]
    method: Option<Method>,
    /// Path and query below the function, for a call on the public address
    #[arg(long)]
    path: Option<String>,
    /// A header, for a call on the public address; may be given often
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Show the call's last log lines
    #[arg(long)]
    log: bool,
    /// Write the answer's body to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show status, id, version and where the time went
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    later: later::Options,
}

/// Calls the function and waits for the end of its answer.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let input = Input::choose(arguments.data.clone(), arguments.file.clone())?;
    let is_public = arguments.method.is_some() || arguments.path.is_some() || !arguments.header.is_empty();
    if is_public && arguments.log {
        return Err(Failure::usage("--log goes with a call through the control API").remedy(
            "leave out --method, --path and --header, or use `alula logs --invocation ID` afterwards",
        ));
    }
    if arguments.later.asynchronous {
        if is_public || arguments.log {
            let message = "--async goes with a call through the control API, and has no log yet";
            return Err(Failure::usage(message).remedy("leave out --method, --path, --header and --log"));
        }
        let invocation = invocation(&arguments, input).await?;
        let file = arguments.output.as_deref();
        return later::run(&arguments.later, invocation, file, &client, session.output).await;
    }
    let answer = if is_public {
        client.call(public_call(&arguments, input, &client).await?).await?
    } else {
        client.invoke(invocation(&arguments, input).await?).await?
    };
    report(&answer, &arguments, session.output);
    let status = answer.status();
    copy(answer, arguments.output.as_deref()).await?;
    if status.is_client_error() || status.is_server_error() {
        let message = format!("{} answered {status}", arguments.name.name);
        let remedy = format!("`alula logs {}` shows what it logged", arguments.name.name);
        return Err(Failure::failed("function_status", message).remedy(remedy));
    }
    Ok(())
}

async fn invocation(arguments: &Arguments, input: Input) -> Result<Invocation> {
    let qualifier = match &arguments.name.qualifier {
        Qualifier::Latest => None,
        other => Some(other.to_string()),
    };
    let (body, media_type) = input.open().await?;
    let content_type = arguments.content_type.clone().or(media_type);
    let log = if arguments.log { LogMode::Tail } else { LogMode::None };
    Ok(Invocation { name: arguments.name.name.to_string(), qualifier, body, content_type, log })
}

async fn public_call(arguments: &Arguments, input: Input, client: &Client) -> Result<PublicCall> {
    let function = client.function(arguments.name.name.as_str()).await?.function;
    let qualifier = match &arguments.name.qualifier {
        Qualifier::Latest => String::new(),
        other => format!(":{other}"),
    };
    let path = arguments.path.as_deref().unwrap_or_default();
    let separator = if path.is_empty() || path.starts_with(['/', '?']) { "" } else { "/" };
    let mut headers: HeaderMap = arguments.header.iter().cloned().collect();
    let is_empty = input.is_empty();
    let (body, media_type) = input.open().await?;
    let content_type = arguments.content_type.clone().or(media_type);
    if let Some(text) = content_type.filter(|_| !headers.contains_key(header::CONTENT_TYPE)) {
        let value = HeaderValue::try_from(text).map_err(|_| Failure::usage("that is not a media type"))?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    let method = arguments.method.clone();
    Ok(PublicCall {
        url: format!("{}{qualifier}{separator}{path}", function.url.trim_end_matches('/')),
        method: method.unwrap_or(if is_empty { Method::GET } else { Method::POST }),
        headers,
        body: (!is_empty).then_some(body),
    })
}

fn report(answer: &Answer, arguments: &Arguments, output: Output) {
    if arguments.verbose {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        output.tell(Tone::Dim, &format!("status   {}", answer.status()));
        output.tell(Tone::Dim, &format!("call     {}", text(answer.invocation_id())));
        output.tell(Tone::Dim, &format!("version  {}", text(answer.version())));
        output.tell(Tone::Dim, &format!("timing   {}", text(answer.server_timing())));
    }
    let log = answer.log_result().and_then(|log| base64::engine::general_purpose::STANDARD.decode(log).ok());
    for line in String::from_utf8_lossy(&log.unwrap_or_default()).lines() {
        output.tell(Tone::Dim, &format!("| {}", printable(line)));
    }
}

/// Hands the body on piece by piece, so that a stream is seen as it comes.
pub(super) async fn copy(answer: Answer, file: Option<&Path>) -> Result<()> {
    let mut target: Box<dyn Write> = match file {
        Some(path) => {
            Box::new(std::fs::File::create(path).map_err(|error| Failure::file("write", path, &error))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let mut chunks = pin!(answer.chunks());
    let mut last = b'\n';
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        last = chunk.last().copied().unwrap_or(last);
        target.write_all(&chunk)?;
        target.flush()?;
    }
    // A person's prompt does not belong behind the answer; a file or a program gets the bytes as they are.
    if last != b'\n' && file.is_none() && std::io::stdout().is_terminal() {
        target.write_all(b"\n")?;
    }
    Ok(())
}

fn parse_header(text: &str) -> std::result::Result<(HeaderName, HeaderValue), String> {
    let wrong = || "write it as 'NAME: VALUE'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}
