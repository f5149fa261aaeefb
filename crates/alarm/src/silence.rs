//! Silences: alarms that match are not told to anybody for a while. They go on being evaluated and shown.

use std::fmt;

use alula_model::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alarm::Alarm;

/// Silences that are in force at once.
pub const SILENCES_MAX: usize = 1_000;
/// Conditions of one matcher.
const CONDITIONS_MAX: usize = 10;

/// One silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Which alarms.
    pub matcher: Matcher,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub by: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// Which alarms: `rule=function-errors,namespace=shop,function=cart-*`. All conditions must hold; a `*` at the end of a value
/// stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Matcher(Vec<(Part, String)>);

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Rule,
    Severity,
    Namespace,
    App,
    Function,
}

const PARTS: [(&str, Part); 5] = [
    ("rule", Part::Rule),
    ("severity", Part::Severity),
    ("namespace", Part::Namespace),
    ("app", Part::App),
    ("function", Part::Function),
];

/// A text is no matcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatcherError(String);

impl fmt::Display for MatcherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a matcher such as rule=function-errors,function=cart-*; there are rule, severity, namespace, \
             app and function",
            self.0
        )
    }
}

impl std::error::Error for MatcherError {}

impl Matcher {
    /// Whether an alarm is meant.
    #[must_use]
    pub fn matches(&self, alarm: &Alarm) -> bool {
        let text = |name: &Option<Name>| name.as_ref().map_or("", Name::as_str).to_owned();
        self.0.iter().all(|(part, wanted)| {
            let value = match part {
                Part::Rule => alarm.rule.to_string(),
                Part::Severity => alarm.severity.as_str().to_owned(),
                Part::Namespace => text(&alarm.subject.namespace),
                Part::App => text(&alarm.subject.app),
                Part::Function => text(&alarm.subject.function),
            };
            wanted.strip_suffix('*').map_or(value == *wanted, |start| value.starts_with(start))
        })
    }

    /// The namespace that it is narrowed to, if it is to one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let of = |part| self.0.iter().find(|(is, _)| *is == part).map(|(_, value)| value.as_str());
        of(Part::Namespace).filter(|value| !value.ends_with('*'))
    }
}

impl TryFrom<String> for Matcher {
    type Error = MatcherError;

    fn try_from(text: String) -> Result<Self, MatcherError> {
        let condition = |pair: &str| {
            let (key, value) = pair.trim().split_once('=')?;
            let (_, part) = PARTS.iter().find(|(name, _)| *name == key)?;
            let is_text = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
            is_text.then(|| (*part, value.to_owned()))
        };
        let conditions: Option<Vec<_>> = text.split(',').map(condition).collect();
        match conditions.filter(|conditions| conditions.len() <= CONDITIONS_MAX) {
            Some(conditions) => Ok(Self(conditions)),
            None => Err(MatcherError(text)),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (part, value)) in self.0.iter().enumerate() {
            let name = PARTS.iter().find(|(_, is)| is == part).map_or("", |(name, _)| name);
            write!(f, "{}{name}={value}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

impl Silence {
    /// Whether an alarm is silenced by it at `now`.
    #[must_use]
    pub fn covers(&self, alarm: &Alarm, now: Timestamp) -> bool {
        now < self.until && self.matcher.matches(alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_survive_their_text_form() {
        for text in ["rule=disk", "namespace=shop,function=cart-*", "severity=critical,app=till"] {
            assert_eq!(Matcher::try_from(text.to_owned()).map(String::from).as_deref(), Ok(text));
        }
        for text in ["", "rule", "rule=", "colour=red", "rule=a b", "rule=a,,", &"rule=x,".repeat(20)] {
            assert!(Matcher::try_from(text.to_owned()).is_err(), "{text}");
        }
        let narrowed =
            |text: &str| Matcher::try_from(text.to_owned()).unwrap().namespace().map(str::to_owned);
        assert_eq!(narrowed("namespace=shop").as_deref(), Some("shop"));
        assert_eq!((narrowed("namespace=sh*"), narrowed("rule=x")), (None, None));
    }
}
