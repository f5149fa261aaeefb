//! Who calls a function, as far as the platform knows.
//!
//! Edges find it out, guards limit by it and runs name it. It says nothing of what the caller may.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who calls. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caller {
    /// Nobody that is known: a public call. Who must be told from others is told by their address.
    #[default]
    Public,
    /// The platform itself, for a trigger that its owner declared: a schedule, a topic, a queue.
    Platform,
    /// Somebody with a key, a session or a signed address of this platform: `key:NAMESPACE/NAME`, `user:NAME`, `admin`,
    /// `url:NAMESPACE/ID`.
    Known(Arc<str>),
    /// Somebody that another authority vouches for: `jwt:SUBJECT`.
    Vouched(Arc<str>),
    /// A function of this platform, from inside its sandbox: `function:NAMESPACE/NAME`.
    Function(Arc<str>),
}

impl Caller {
    /// The caller's name, where there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Public => None,
            Self::Platform => Some("platform"),
            Self::Known(name) | Self::Vouched(name) | Self::Function(name) => Some(name),
        }
    }

    /// The name of somebody outside the platform, or of a function: what a run is recorded with.
    #[must_use]
    pub fn shared_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Public | Self::Platform => None,
            Self::Known(name) | Self::Vouched(name) | Self::Function(name) => Some(name),
        }
    }

    /// Whether it is nobody that is known.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("public"))
    }
}
