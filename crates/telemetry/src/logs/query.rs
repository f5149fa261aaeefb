//! Which lines are asked for.

use alula_model::{InstanceId, InvocationId, LogLine, Name, Timestamp};

/// Lines that one query returns at the most.
pub const QUERY_LINES_MAX: usize = 10_000;

/// Which lines to return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// The tenant.
    pub namespace: Name,
    /// Only of this function.
    pub function: Option<Name>,
    /// Only of this version.
    pub version: Option<u64>,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only of this call.
    pub invocation: Option<InvocationId>,
    /// Only lines of this moment or later.
    pub since: Option<Timestamp>,
    /// Only lines before this moment.
    pub until: Option<Timestamp>,
    /// Only lines whose text contains this.
    pub text: Option<String>,
    /// How many: the newest ones, at most [`QUERY_LINES_MAX`].
    pub limit: usize,
}

impl LogQuery {
    /// The newest thousand lines of a namespace.
    #[must_use]
    pub const fn new(namespace: Name) -> Self {
        Self {
            namespace,
            function: None,
            version: None,
            instance: None,
            invocation: None,
            since: None,
            until: None,
            text: None,
            limit: 1_000,
        }
    }

    /// Whether `line` is asked for.
    pub(super) fn matches(&self, line: &LogLine) -> bool {
        self.namespace == line.key.namespace
            && self.function.as_ref().is_none_or(|function| *function == line.key.function)
            && self.version.is_none_or(|version| version == line.key.version)
            && self.instance.as_ref().is_none_or(|instance| *instance == line.instance)
            && self.invocation.as_ref().is_none_or(|id| line.invocation.as_ref() == Some(id))
            && self.covers(line.at)
            && self
                .text
                .as_ref()
                .is_none_or(|text| memchr::memmem::find(line.text.as_bytes(), text.as_bytes()).is_some())
    }

    /// Whether the moment is between `since` and `until`.
    pub(super) fn covers(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}
