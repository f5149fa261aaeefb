//! Log lines of functions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror::mirror_enum;

mirror_enum! {
    /// Where a line was written to.
    LogStream {
        /// Standard output, or a log call of the language below the level of a warning.
        Stdout,
        /// Standard error.
        Stderr,
        /// The platform itself, about the function.
        Platform,
    }
}

mirror_enum! {
    /// How grave a line is.
    LogLevel {
        /// For the developer.
        Debug,
        /// Where nothing was said.
        Info,
        /// Something looks wrong.
        Warn,
        /// Something is wrong.
        Error,
    }
}

/// One line that a function wrote, or that the platform says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was read.
    pub at_ms: i64,
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version that wrote it.
    pub version: u64,
    /// The instance that wrote it.
    pub instance: String,
    /// The invocation it belongs to, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Where it was written to.
    pub stream: LogStream,
    /// How grave it is.
    pub level: LogLevel,
    /// The text, without the line's end.
    pub text: String,
}

impl From<&alula_model::LogLine> for LogLine {
    fn from(line: &alula_model::LogLine) -> Self {
        Self {
            at_ms: line.at.as_millis(),
            namespace: line.key.namespace.to_string(),
            function: line.key.function.to_string(),
            version: line.key.version,
            instance: line.instance.to_string(),
            invocation: line.invocation.as_ref().map(ToString::to_string),
            stream: line.stream.into(),
            level: line.level.into(),
            text: line.text.clone(),
        }
    }
}
