//! `alula network`: what the functions of a namespace may reach at the most.

use alula_sdk::wire::{CeilingRequest, Network, NetworkInfo};
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::session::Session;

/// What `alula network` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula network show --namespace shop
  alula network ceiling internet 10.1.2.0/24:5432 --namespace shop
  alula network ceiling none --namespace shop          # cut off at once, running instances too
  alula network reset --namespace shop

What one function reaches is `network` in its alula.toml, within this ceiling.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the ceiling, and how many connections are open
    Show,
    /// Set the ceiling: none, or rules (administrators)
    Ceiling {
        /// none, internet, names and blocks of addresses, each with a port if you like
        #[arg(required = true)]
        rules: Vec<String>,
    },
    /// Let the ceiling of the configuration hold again (administrators)
    Reset,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let info = match arguments.action {
        Action::Show => client.network().await?,
        Action::Ceiling { rules } => {
            let ceiling = Some(self::rules(&rules.join(",")));
            client.set_network_ceiling(&CeilingRequest { ceiling }).await?
        }
        Action::Reset => client.set_network_ceiling(&CeilingRequest::default()).await?,
    };
    show(&info, session)
}

/// Rules as they are typed: a word, or several with commas between them.
pub(crate) fn rules(text: &str) -> Network {
    match text {
        "none" | "internet" => Network::Word(text.to_owned()),
        rules => Network::Rules(rules.split(',').map(|rule| rule.trim().to_owned()).collect()),
    }
}

/// Rules in words.
pub(crate) fn in_words(network: &Network) -> String {
    match network {
        Network::Word(word) => word.clone(),
        Network::Rules(rules) => rules.join(", "),
    }
}

fn show(info: &NetworkInfo, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(info)?);
    }
    let NetworkInfo { namespace, ceiling, source, connections } = info;
    session.output.line(&format!("namespace    {namespace}"))?;
    session.output.line(&format!("ceiling      {} ({source})", in_words(ceiling)))?;
    Ok(session.output.line(&format!("connections  {connections}"))?)
}
