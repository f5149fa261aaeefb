//! What operators hold by hand: a breaker open or closed, a degraded answer on.
//!
//! It is data here; `invoke` keeps it in the store.

use std::fmt;
use std::str::FromStr;

use alula_model::{Name, NameError, Qualifier, Timestamp};
use serde::{Deserialize, Serialize};

/// Which calls of a function something is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Scope {
    /// All.
    #[default]
    All,
    /// Those that run on this version.
    Version(u64),
    /// Those that name this alias.
    Alias(Name),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Version(number) => write!(f, "{number}"),
            Self::Alias(name) => write!(f, "{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    /// A qualifier; `latest` and nothing stand for all, since the version that `latest` names is a number of its own.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text == "*" {
            return Ok(Self::All);
        }
        Ok(match text.parse()? {
            Qualifier::Latest => Self::All,
            Qualifier::Version(number) => Self::Version(number),
            Qualifier::Alias(name) => Self::Alias(name),
        })
    }
}

/// What something by hand is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandKey {
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// Which of its calls.
    pub scope: Scope,
}

/// What is done with calls whatever the breaker thinks of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// None passes.
    Open,
    /// All pass.
    Closed,
    /// None passes, and each is given the function's degraded answer.
    Degraded,
}

impl Held {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Degraded => "degraded",
        }
    }
}

/// What an operator has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hand {
    /// What is done.
    pub held: Held,
    /// Who has set it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
