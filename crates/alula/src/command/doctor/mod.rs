//! `alula doctor`: whether a machine has what functions need, line by line, with what to do about what is missing.
//!
//! Works with and without a running platform. For a platform on another machine it asks that one.

mod machine;

use alula_sdk::wire::{DoctorReport, Info, Protection, RuntimeInfo};
use clap::Args;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Tone, printable};
use crate::session::Session;
use crate::table::{Cell, Table};

pub(crate) use machine::look as look_at_machine;

/// Protections without which no function can run in a sandbox at all; without the others it is weaker.
const INDISPENSABLE: [&str; 4] = ["user namespace", "mount namespace", "pid namespace", "network namespace"];

/// What `alula doctor` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula doctor
  alula doctor --json | jq -r 'select(.state != \"ok\") | .remedy'

The status is 1 where something is missing that the platform cannot do without.")]
pub(crate) struct Arguments {}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    name: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Something works less well, or is less protected.
    Warn,
    /// The platform cannot work like this.
    Fail,
}

impl Check {
    fn new(name: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state, detail: detail.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Completes what was found on this machine with what the platform says, and prints all of it.
pub(crate) async fn run(_arguments: Arguments, session: &Session, machine: machine::Findings) -> Result<()> {
    let client = session.client()?;
    let is_local = session.is_local()?;
    let info = client.info().await;
    let mut checks = vec![platform(&info, client.url(), is_local)];
    match (&info, is_local) {
        (_, true) => checks.extend(machine.checks(info.is_ok())),
        (Ok(_), false) => checks.extend(reported(&client.doctor().await?)),
        (Err(_), false) => {}
    }
    print(&checks, session)?;
    let failed = checks.iter().filter(|check| check.state == State::Fail).count();
    if failed > 0 {
        return Err(Failure::failed("doctor", format!("{failed} of {} checks failed", checks.len())));
    }
    Ok(())
}

/// A platform elsewhere must be there; one on this machine may not have been started yet.
fn platform(info: &alula_sdk::Result<Info>, url: &str, is_local: bool) -> Check {
    match info {
        Ok(info) => {
            let uptime = human::seconds(info.uptime_ms / 1_000);
            let detail =
                format!("version {} at {url}, up {uptime}, {} functions", info.version, info.functions);
            Check::new("platform", State::Ok, detail)
        }
        Err(error) if is_local && error.is_connection() => {
            Check::new("platform", State::Warn, format!("not running at {url}"))
                .remedy("start it with `alula up`")
        }
        Err(error) => {
            let check = Check::new("platform", State::Fail, error.to_string());
            Check { remedy: error.remedy(), ..check }
        }
    }
}

/// The checks in a platform's own report.
fn reported(report: &DoctorReport) -> Vec<Check> {
    report.protections.iter().map(protection).chain(report.runtimes.iter().map(runtime)).collect()
}

fn protection(protection: &Protection) -> Check {
    let state = match protection.in_force {
        true => State::Ok,
        false if INDISPENSABLE.contains(&protection.name.as_str()) => State::Fail,
        false => State::Warn,
    };
    Check::new(protection.name.as_str(), state, protection.detail.as_str())
}

fn runtime(runtime: &RuntimeInfo) -> Check {
    let state = if runtime.available { State::Ok } else { State::Warn };
    let check = Check::new(format!("runtime {}", runtime.name), state, runtime.detail.as_str());
    Check { remedy: runtime.remedy.clone(), ..check }
}

fn print(checks: &[Check], session: &Session) -> Result<()> {
    let output = session.output;
    if output.is_json() {
        for check in checks {
            output.json(check)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["CHECK", "", "DETAIL"]);
    for check in checks {
        let (tone, word) = match check.state {
            State::Ok => (Tone::Good, "ok"),
            State::Warn => (Tone::Warn, "warn"),
            State::Fail => (Tone::Bad, "fail"),
        };
        table.row([check.name.as_str().into(), Cell::toned(tone, word), printable(&check.detail).into()]);
        if let Some(remedy) = &check.remedy {
            table.row(["".into(), "".into(), Cell::toned(Tone::Strong, format!("try: {remedy}"))]);
        }
    }
    for line in table.lines(output.colour) {
        output.line(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_indispensable_fails() {
        let check = |name: &str, in_force| {
            protection(&Protection { name: name.to_owned(), in_force, detail: String::new() }).state
        };
        assert_eq!(check("user namespace", true), State::Ok);
        assert_eq!(check("user namespace", false), State::Fail);
        assert_eq!(check("cpu weight", false), State::Warn);
    }

    #[test]
    fn a_missing_interpreter_names_its_remedy() {
        let info = RuntimeInfo {
            name: "node".to_owned(),
            aliases: Vec::new(),
            available: false,
            detail: "not installed".to_owned(),
            remedy: Some("apt-get install -y nodejs".to_owned()),
        };
        let check = runtime(&info);
        assert_eq!((check.state, check.remedy.as_deref()), (State::Warn, Some("apt-get install -y nodejs")));
    }
}
