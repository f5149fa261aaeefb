//! What happened and happens: logs, runs, instances, the audit record.

use alula_wire::query::{Audit, ListInstances, ListRuns, Logs};
use alula_wire::{AuditList, AuditReport, InstanceList, LogLine, RunDetail, RunPage};
use futures_util::Stream;
use http::Method;

use crate::{Client, Result};

impl Client {
    /// Log lines, the oldest first; with `follow` the stream goes on with new ones until it is dropped.
    pub async fn logs(&self, query: Logs) -> Result<impl Stream<Item = Result<LogLine>> + Send + use<>> {
        let query = Logs { namespace: Some(self.namespace().to_owned()), ..query };
        let response = self.send(self.request(Method::GET, &["v1", "logs"]).query(&query)).await?;
        Ok(self.values(response))
    }

    /// A page of runs, newest first.
    pub async fn runs(&self, query: ListRuns) -> Result<RunPage> {
        let query = ListRuns { namespace: Some(self.namespace().to_owned()), ..query };
        self.get(&["v1", "runs"], &query).await
    }

    /// One invocation with all its attempts.
    pub async fn run(&self, id: &str) -> Result<RunDetail> {
        self.get(&["v1", "runs", id], &()).await
    }

    /// The instances of `function`, or of all functions.
    pub async fn instances(&self, function: Option<String>) -> Result<InstanceList> {
        let query = ListInstances { namespace: Some(self.namespace().to_owned()), function };
        self.get(&["v1", "instances"], &query).await
    }

    /// The newest entries of the audit record, about `function` or about all.
    pub async fn audit(&self, function: Option<String>, limit: Option<u32>) -> Result<AuditList> {
        let query = Audit { namespace: Some(self.namespace().to_owned()), function, limit, before: None };
        self.get(&["v1", "audit"], &query).await
    }

    /// Entries of the audit record before the one of this number, the newest first; the newest of all without a number.
    pub async fn audit_before(&self, before: Option<u64>) -> Result<AuditList> {
        let limit = Some(alula_wire::query::LIMIT_MAX);
        let query = Audit { namespace: Some(self.namespace().to_owned()), function: None, limit, before };
        self.get(&["v1", "audit"], &query).await
    }

    /// Whether the audit record is whole.
    pub async fn verify_audit(&self) -> Result<AuditReport> {
        self.get(&["v1", "audit", "verification"], &self.here()).await
    }
}
