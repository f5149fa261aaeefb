//! Log lines of functions, as they are captured outside the sandbox.

use serde::{Deserialize, Serialize};

use crate::{InstanceId, InvocationId, Timestamp, VersionKey};

/// One line that a function wrote, or that the platform says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// Which version wrote it.
    #[serde(flatten)]
    pub key: VersionKey,
    /// Which instance wrote it.
    pub instance: InstanceId,
    /// Which call it belongs to, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// Where it was written to.
    pub stream: LogStream,
    /// How grave it is, where the writer said so.
    #[serde(default)]
    pub level: LogLevel,
    /// The text, without the line's end.
    pub text: String,
}

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output, or a log call of the language below the level of a warning.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform itself, about this function (`instance killed: out of memory`).
    Platform,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the developer.
    Debug,
    /// Where nothing was said.
    #[default]
    Info,
    /// Something looks wrong.
    Warn,
    /// Something is wrong.
    Error,
}
