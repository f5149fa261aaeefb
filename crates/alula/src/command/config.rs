//! `alula config`: what is in force on this machine's platform, and the profiles of platforms one talks to.

use clap::{Args, Subcommand};

use super::up::Configuration;
use crate::failure::{Failure, Result};
use crate::output::Tone;
use crate::platform;
use crate::profile::{Profile, Profiles};
use crate::session::Session;
use crate::table::{Cell, Table};

/// What `alula config` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula config show > alula.toml
  alula config profile add production --url https://faas.example.org --token TOKEN
  alula config profile use production
  alula --profile production list")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the configuration that `alula up` would use here, as TOML with every default
    Show {
        /// Print the defaults alone
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        configuration: Configuration,
    },
    /// Keep addresses and tokens of platforms under a name
    Profile {
        #[command(subcommand)]
        action: ProfileAction,
    },
}

#[derive(Debug, Subcommand)]
enum ProfileAction {
    /// Keep --url, --token and --namespace under a name; the first one becomes the current one
    Add {
        /// Its name
        name: String,
    },
    /// Make a profile the current one
    Use {
        /// Its name
        name: String,
    },
    /// List the profiles
    List,
    /// Forget a profile
    Remove {
        /// Its name
        name: String,
    },
}

/// Does what is asked.
pub(crate) fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Action::Show { defaults, configuration } => show(defaults, configuration, session),
        Action::Profile { action } => profile(action, session),
    }
}

fn show(defaults: bool, configuration: Configuration, session: &Session) -> Result<()> {
    let config = if defaults {
        platform::Config::default()
    } else {
        platform::in_force(session, configuration.into())?
    };
    if session.output.is_json() {
        return Ok(session.output.json(&config)?);
    }
    Ok(session.output.line(platform::to_toml(&config)?.trim_end())?)
}

fn profile(action: ProfileAction, session: &Session) -> Result<()> {
    let path = session.environment.profiles_path()?;
    let mut profiles = Profiles::load(&path)?;
    match action {
        ProfileAction::List => return list(&profiles, session),
        ProfileAction::Add { name } => add(&mut profiles, name, session)?,
        ProfileAction::Use { name } => {
            profiles.pick(Some(&name))?;
            session.output.say(&format!("{name} is the current profile"));
            profiles.current = Some(name);
        }
        ProfileAction::Remove { name } => {
            profiles.pick(Some(&name))?;
            profiles.profiles.remove(&name);
            if profiles.current.as_deref() == Some(&name) {
                profiles.current = None;
            }
            session.output.say(&format!("{name} is forgotten"));
        }
    }
    profiles.save(&path)
}

fn add(profiles: &mut Profiles, name: String, session: &Session) -> Result<()> {
    let global = &session.global;
    let Some(url) = global.url.clone() else {
        return Err(Failure::usage("a profile needs an address").remedy("add --url http://HOST:PORT"));
    };
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            Failure::usage(format!("{name:?} is not a name for a profile")).remedy("use letters and digits")
        );
    }
    // Finds out now that an address or a token cannot be one.
    alula_sdk::Client::new(&url, global.token.as_deref())?;
    let profile = Profile { url, token: global.token.clone(), namespace: global.namespace.clone() };
    session.output.say(&format!("{name} is kept"));
    profiles.current.get_or_insert_with(|| name.clone());
    profiles.profiles.insert(name, profile);
    Ok(())
}

fn list(profiles: &Profiles, session: &Session) -> Result<()> {
    if session.output.is_json() {
        for (name, profile) in &profiles.profiles {
            let is_current = profiles.current.as_ref() == Some(name);
            let entry = serde_json::json!({
                "name": name, "url": profile.url, "namespace": profile.namespace, "current": is_current,
                "has_token": profile.token.is_some(),
            });
            session.output.json(&entry)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "", "URL", "NAMESPACE", "TOKEN"]);
    for (name, profile) in &profiles.profiles {
        let is_current = profiles.current.as_ref() == Some(name);
        table.row([
            name.as_str().into(),
            Cell::toned(Tone::Good, if is_current { "current" } else { "" }),
            profile.url.as_str().into(),
            profile.namespace.as_deref().unwrap_or("default").into(),
            if profile.token.is_some() { "kept" } else { "none" }.into(),
        ]);
    }
    for line in table.lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}
