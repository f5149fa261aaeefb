//! What every command is given: the global options, settled against environment and profile, and the streams.
//!
//! The order is: a flag, then its environment variable, then the profile, then what is usual on this machine.

use std::path::PathBuf;

use alula_model::{FunctionRef, Name, Qualifier, Timestamp};
use alula_sdk::Client;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::output::{Format, Output, Talk};
use crate::platform;
use crate::profile::{self, Profile, Profiles};

/// Where `alula up` listens for the control API unless it is told otherwise.
pub(crate) const URL_DEFAULT: &str = "http://127.0.0.1:8081";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the platform's control API [default: http://127.0.0.1:8081]
    #[arg(long, global = true, env = "ALULA_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// Token for the control API; on the platform's own machine it is found in the data directory
    #[arg(long, global = true, env = "ALULA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Named platform from `alula config profile list`
    #[arg(long, global = true, env = "ALULA_PROFILE", value_name = "NAME", hide_env_values = true)]
    pub(crate) profile: Option<String>,
    /// Namespace to act in [default: default]
    #[arg(
        long,
        short = 'n',
        global = true,
        env = "ALULA_NAMESPACE",
        value_name = "NAME",
        hide_env_values = true
    )]
    pub(crate) namespace: Option<String>,
    /// Print data as JSON, one document a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but data and failures
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

impl Global {
    /// The streams as these options want them.
    pub(crate) fn output(&self, no_color: bool) -> Output {
        let format = if self.json { Format::Json } else { Format::Human };
        let talk = if self.quiet { Talk::Quiet } else { Talk::Normal };
        Output::new(format, talk, no_color)
    }
}

/// What is read from the environment besides the options' own variables.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) xdg_config_home: Option<PathBuf>,
    /// `ALULA_DATA_DIR`.
    pub(crate) data_dir: Option<PathBuf>,
    /// `ALULA_CONFIG`.
    pub(crate) config_file: Option<PathBuf>,
    /// Every variable that is text: settings of the platform, and what builds get.
    pub(crate) variables: Vec<(String, String)>,
}

impl Environment {
    /// The platform's data directory on this machine.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| platform::default_data_dir(self.home.as_deref()))
    }

    /// The file of profiles.
    pub(crate) fn profiles_path(&self) -> Result<PathBuf> {
        profile::path(self.xdg_config_home.clone(), self.home.clone()).ok_or_else(|| {
            Failure::usage("there is no place for profiles").remedy("set HOME or XDG_CONFIG_HOME")
        })
    }
}

/// What a command works with. Not printable, because it holds tokens.
#[derive(Clone)]
pub(crate) struct Session {
    /// The options.
    pub(crate) global: Global,
    /// The environment.
    pub(crate) environment: Environment,
    /// The streams.
    pub(crate) output: Output,
}

impl Session {
    /// A client of the platform and namespace that options, environment and profile name.
    pub(crate) fn client(&self) -> Result<Client> {
        let profile = self.profile()?;
        let url = self.global.url.clone().or(profile.as_ref().map(|profile| profile.url.clone()));
        let url = url.unwrap_or_else(|| URL_DEFAULT.to_owned());
        let token =
            match self.global.token.clone().or(profile.as_ref().and_then(|profile| profile.token.clone())) {
                Some(token) => Some(token),
                None if is_this_machine(&url) => platform::local_token(&self.environment.data_dir()),
                None => None,
            };
        let namespace = self.namespace_of(profile.as_ref())?;
        let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        Ok(Client::new(&url, token)?.in_namespace(namespace.as_str()))
    }

    /// Whether the platform is one of this machine.
    pub(crate) fn is_local(&self) -> Result<bool> {
        Ok(is_this_machine(self.client()?.url()))
    }

    /// A client in the namespace that `target` names, and the function in it.
    pub(crate) fn client_for(&self, target: &Target) -> Result<Client> {
        let client = self.client()?;
        Ok(match &target.namespace {
            Some(namespace) => client.in_namespace(namespace.as_str()),
            None => client,
        })
    }

    /// The profile in force, if any: an address on the command line makes the current one meaningless.
    fn profile(&self) -> Result<Option<Profile>> {
        if self.global.url.is_some() && self.global.profile.is_none() {
            return Ok(None);
        }
        let Ok(path) = self.environment.profiles_path() else { return Ok(None) };
        Ok(Profiles::load(&path)?.pick(self.global.profile.as_deref())?.cloned())
    }

    fn namespace_of(&self, profile: Option<&Profile>) -> Result<Name> {
        match self.global.namespace.as_deref().or(profile.and_then(|profile| profile.namespace.as_deref())) {
            Some(text) => Name::new(text).map_err(Failure::usage),
            None => Ok(Name::default_namespace()),
        }
    }

    /// The current moment.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

/// A function as it is typed: `NAME[.NAMESPACE][:QUALIFIER]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The function.
    pub(crate) name: Name,
    /// The namespace, where it is named.
    pub(crate) namespace: Option<Name>,
    /// Which version.
    pub(crate) qualifier: Qualifier,
}

impl Target {
    /// The function's name, for a command that is about the whole function: a qualifier would be silently ignored.
    pub(crate) fn whole(&self) -> Result<&str> {
        if self.qualifier == Qualifier::Latest {
            return Ok(self.name.as_str());
        }
        let message = format!("this command is about the whole function, not about {}", self.qualifier);
        Err(Failure::usage(message).remedy(format!("name it as {}", self.name)))
    }
}

impl std::str::FromStr for Target {
    type Err = alula_model::NameError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let reference: FunctionRef = text.parse()?;
        let names_namespace = text.split(':').next().is_some_and(|path| path.contains('.'));
        let namespace = names_namespace.then_some(reference.namespace);
        Ok(Self { name: reference.name, namespace, qualifier: reference.qualifier })
    }
}

/// Whether the address is one of this machine's own, so that its administrator's token belongs to it.
fn is_this_machine(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| {
        host.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':') && !rest.contains('@'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_token_goes_to_this_machine_only() {
        for own in ["http://127.0.0.1:8081", "http://localhost", "http://[::1]:1/x", "https://localhost:2"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in [
            "http://127.0.0.1.example.org",
            "http://localhost:1@example.org",
            "http://localhost@example.org",
            "http://10.0.0.1:8081",
            "http://example.org/127.0.0.1",
            "",
        ] {
            assert!(!is_this_machine(other), "{other}");
        }
    }

    #[test]
    fn targets() {
        let target: Target = "hello.shop:live".parse().unwrap();
        assert_eq!(target.namespace, Some(Name::new("shop").unwrap()));
        assert_eq!(target.qualifier.to_string(), "live");
        let target: Target = "hello".parse().unwrap();
        assert_eq!(target.whole().unwrap(), "hello");
        assert_eq!((target.namespace, target.qualifier), (None, Qualifier::Latest));
        let target: Target = "hello:3".parse().unwrap();
        assert!(target.whole().unwrap_err().message.contains("about 3"));
        assert!("Hello World".parse::<Target>().is_err());
    }
}
