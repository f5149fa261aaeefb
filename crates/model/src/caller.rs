//! Who calls a function, as far as the platform knows.
//!
//! Edges find it out, guards limit by it and runs name it. It says nothing of what the caller may.

use std::fmt;
use std::sync::Arc;

/// Who calls. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Caller {
    /// Nobody that is known: a public call. Who must be told from others is told by their address.
    #[default]
    Public,
    /// The platform itself, for a trigger that its owner declared: a schedule, a topic, a queue.
    Platform,
    /// Somebody with a key or a session of this platform, as the audit record names them: `key:deploy`, `user:anna`.
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
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("public"))
    }
}
