//! What an operator may change.

use alula_model::alarm::{AlarmRule, Severity};
use alula_model::{Contact, Name, SpecError};
use serde::{Deserialize, Serialize};

/// The section `alarm` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How often everything is looked at, in milliseconds.
    pub interval_ms: u64,
    /// How long alarms of one rule gather before the first message about them, in milliseconds.
    pub group_wait_ms: u64,
    /// Least time between two messages about the same rule to the same receiver, in milliseconds.
    pub group_interval_ms: u64,
    /// How often what still fires and nobody has acknowledged is told again, in milliseconds.
    pub repeat_ms: u64,
    /// Built-in rules that do not hold, by their names.
    pub off: Vec<Name>,
    /// Further rules; one with the name of a built-in rule stands in for it.
    pub rules: Vec<AlarmRule>,
    /// Where operators are told.
    pub receivers: Vec<ReceiverOptions>,
}

/// Where operators are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverOptions {
    /// What it is called.
    pub name: Name,
    /// An address `mailto:`, `https:` or `slack:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
    /// The address of a Prometheus Alertmanager, `http://127.0.0.1:9093`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<String>,
    /// Only alarms that are at least so bad.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Only alarms of these namespaces; all, and those of the node, where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Name>,
}

fn least() -> Severity {
    Severity::Info
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Often enough for who waits for a message, seldom enough that nobody notices.
            interval_ms: 10_000,
            // What breaks together is found within one look.
            group_wait_ms: 10_000,
            group_interval_ms: 60_000,
            repeat_ms: 4 * 3_600_000,
            off: Vec::new(),
            rules: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

impl Options {
    /// Checks what the shape alone does not say.
    pub fn validate(&self) -> Result<(), SpecError> {
        if !(50..=3_600_000).contains(&self.interval_ms) {
            return Err(SpecError {
                field: "alarm.interval_ms",
                reason: "allowed is 50 to 3600000".to_owned(),
            });
        }
        for receiver in &self.receivers {
            let is_web = receiver.alertmanager.as_ref().is_none_or(|url| {
                let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
                rest.is_some_and(|rest| !rest.is_empty())
            });
            if receiver.contact.is_some() == receiver.alertmanager.is_some() || !is_web {
                let reason =
                    format!("{}: either contact or alertmanager with a web address is needed", receiver.name);
                return Err(SpecError { field: "alarm.receivers", reason });
            }
        }
        self.rules.iter().try_for_each(AlarmRule::validate)
    }
}
