//! Success and latency, objectives, usage.

use alula_wire::query::{Objectives, StatsQuery, Usage};
use alula_wire::{ObjectiveList, StatsList, UsageLine};
use futures_util::Stream;
use http::Method;

use crate::{Client, Result};

impl Client {
    /// Success and latency of the namespace, of an app or of a function.
    pub async fn stats(&self, query: StatsQuery) -> Result<StatsList> {
        let query = StatsQuery { namespace: Some(self.namespace().to_owned()), ..query };
        self.get(&["v1", "stats"], &query).await
    }

    /// Success and latency of the node.
    pub async fn node_stats(&self) -> Result<StatsList> {
        self.get(&["v1", "stats", "node"], &()).await
    }

    /// The objectives of `function`, or of all functions of the namespace.
    pub async fn objectives(&self, function: Option<String>) -> Result<ObjectiveList> {
        let query = Objectives { namespace: Some(self.namespace().to_owned()), function };
        self.get(&["v1", "slos"], &query).await
    }

    /// What was used, by day; of all namespaces where `query` names none.
    pub async fn usage(&self, query: &Usage) -> Result<impl Stream<Item = Result<UsageLine>> + Send + use<>> {
        let response = self.send(self.request(Method::GET, &["v1", "usage"]).query(query)).await?;
        Ok(self.values(response))
    }
}
