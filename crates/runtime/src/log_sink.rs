//! Where the lines go that instances write.

use std::sync::Arc;

use alula_model::{Clock, InstanceId, InvocationId, LogLevel, LogLine, LogStream, VersionKey};

/// Takes log lines. Never blocks: over its capacity it drops lines and counts them.
pub trait LogSink: Send + Sync + std::fmt::Debug {
    /// Takes one line.
    fn write(&self, line: LogLine);
}

/// Drops every line.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullLog;

impl LogSink for NullLog {
    fn write(&self, _line: LogLine) {}
}

/// A [`LogSink`] that knows which instance is writing.
#[derive(Debug, Clone)]
pub struct InstanceLog {
    /// The version.
    pub key: VersionKey,
    /// The instance.
    pub instance: InstanceId,
    /// Tells when a line was read.
    pub clock: Arc<dyn Clock>,
    /// Where lines go.
    pub sink: Arc<dyn LogSink>,
}

impl InstanceLog {
    /// Hands on one line of this instance.
    pub fn line(&self, invocation: Option<&InvocationId>, stream: LogStream, level: LogLevel, text: String) {
        self.sink.write(LogLine {
            at: self.clock.now(),
            key: self.key.clone(),
            instance: self.instance.clone(),
            invocation: invocation.cloned(),
            stream,
            level,
            text,
        });
    }
}
