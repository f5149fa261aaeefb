//! `alula invoke --async`: hands a call in, and waits for its end only where that is asked for.

use std::path::Path;

use alula_sdk::wire::{Call, CallState};
use alula_sdk::{Client, Invocation, Later, NotBefore};
use clap::Args;

use crate::command::calls;
use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Output, Tone};

/// The options of a call that is made later.
#[derive(Debug, Args)]
#[command(next_help_heading = "Asynchronous calls")]
pub(super) struct Options {
    /// Hand the call in and print its id as soon as it is durable
    #[arg(long = "async")]
    pub(super) asynchronous: bool,
    /// Wait for its end and print its result
    #[arg(long, requires = "asynchronous")]
    pub(super) wait: bool,
    /// Not before so long: 500ms, 30s, 2h30m, 1d
    #[arg(long, value_name = "DURATION", requires = "asynchronous", conflicts_with = "at")]
    delay: Option<String>,
    /// Not before this moment: 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", requires = "asynchronous")]
    at: Option<String>,
    /// Idempotency key: the same call under the same key is accepted once
    #[arg(long, value_name = "KEY", requires = "asynchronous")]
    key: Option<String>,
    /// Calls of the function with the same ordering key run one after another
    #[arg(long, value_name = "KEY", requires = "asynchronous")]
    ordering_key: Option<String>,
    /// Where the result is sent
    #[arg(long, value_name = "URL", requires = "asynchronous")]
    callback: Option<String>,
}

impl Options {
    fn later(&self) -> Result<Later> {
        let delay = self.delay.as_deref().map(human::parse_duration).transpose().map_err(Failure::usage)?;
        Ok(Later {
            not_before: delay.map(NotBefore::Delay).or_else(|| self.at.clone().map(NotBefore::At)),
            idempotency_key: self.key.clone(),
            ordering_key: self.ordering_key.clone(),
            callback: self.callback.clone(),
        })
    }
}

/// Hands the call in.
pub(super) async fn run(
    options: &Options,
    invocation: Invocation,
    file: Option<&Path>,
    client: &Client,
    output: Output,
) -> Result<()> {
    let accepted = client.accept(invocation, options.later()?).await?;
    if accepted.repeated {
        output.tell(Tone::Dim, "this call was accepted before under its key");
    }
    if !options.wait {
        if output.is_json() {
            return Ok(output.json(&accepted)?);
        }
        output.line(&accepted.id)?;
        output.tell(Tone::Dim, &format!("`alula calls show {}` tells where it stands", accepted.id));
        return Ok(());
    }
    output.tell(Tone::Dim, &format!("call {} is accepted; waiting for its end", accepted.id));
    let call = calls::wait_for_end(client, &accepted.id, None).await?;
    print_result(&call, file, client).await
}

async fn print_result(call: &Call, file: Option<&Path>, client: &Client) -> Result<()> {
    match call.state {
        CallState::Done => super::copy(client.call_result(&call.id).await?, file).await,
        _ => Err(calls::failure(call)),
    }
}
