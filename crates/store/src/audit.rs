//! The port for changes that are recorded: who did what goes into the commit that does it.

use std::fmt;
use std::sync::Arc;

use alula_model::AuditEntry;

use crate::{Batch, BoxFuture, Committed, Records, Result};

/// Commits changes with their lines of the audit record.
pub trait AuditTrail: Send + Sync + fmt::Debug {
    /// Commits `batch` and `entries`: all of it or nothing.
    fn commit_audited(&self, batch: Batch, entries: Vec<AuditEntry>) -> BoxFuture<'_, Result<Committed>>;
}

/// Commits, and records nothing of it: for those who answer to nobody.
#[derive(Debug, Clone)]
pub struct Unaudited(pub Arc<dyn Records>);

impl AuditTrail for Unaudited {
    fn commit_audited(&self, batch: Batch, _entries: Vec<AuditEntry>) -> BoxFuture<'_, Result<Committed>> {
        self.0.commit(batch)
    }
}
