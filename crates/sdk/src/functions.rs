//! Functions, their versions and aliases.

use alula_wire::query::{Diff, InNamespace, ListFunctions, ListInstances};
use alula_wire::{
    AliasRequest, BreakerList, BreakerRequest, Explanation, FunctionDetail, FunctionPage, FunctionSummary,
    RollbackRequest, Version, VersionDiff, VersionList,
};
use bytes::Bytes;
use futures_util::Stream;
use http::Method;

use crate::client::chunks;
use crate::{Client, Result};

impl Client {
    /// A page of the functions, in the order of their names.
    pub async fn functions(&self, limit: Option<u32>, cursor: Option<String>) -> Result<FunctionPage> {
        let query = ListFunctions { namespace: Some(self.namespace().to_owned()), limit, cursor };
        self.get(&["v1", "functions"], &query).await
    }

    /// Everything about one function.
    pub async fn function(&self, name: &str) -> Result<FunctionDetail> {
        self.get(&["v1", "functions", name], &self.here()).await
    }

    /// What the pool knows of a function and decided about it, with the reasons.
    pub async fn explain(&self, name: &str) -> Result<Explanation> {
        self.get(&["v1", "functions", name, "explanation"], &self.here()).await
    }

    /// The breakers of `function`, or of all functions, and what is held by hand.
    pub async fn breakers(&self, function: Option<String>) -> Result<BreakerList> {
        let query = ListInstances { namespace: Some(self.namespace().to_owned()), function };
        self.get(&["v1", "breakers"], &query).await
    }

    /// Holds the breakers of a function by hand, or lets them go.
    pub async fn hold_breaker(&self, name: &str, request: &BreakerRequest) -> Result<BreakerList> {
        let path = ["v1", "functions", name, "breaker"];
        self.fetch(self.request(Method::PUT, &path).query(&self.here()).json(request)).await
    }

    /// Removes a function with its versions and aliases.
    pub async fn remove_function(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "functions", name]).query(&self.here())).await
    }

    /// The versions of a function, newest first.
    pub async fn versions(&self, name: &str) -> Result<VersionList> {
        self.get(&["v1", "functions", name, "versions"], &self.here()).await
    }

    /// One version of a function.
    pub async fn version(&self, name: &str, version: u64) -> Result<Version> {
        self.get(&["v1", "functions", name, "versions", &version.to_string()], &self.here()).await
    }

    /// What the build step of a version wrote.
    pub async fn build_log(&self, name: &str, version: u64) -> Result<String> {
        let number = version.to_string();
        let path = ["v1", "functions", name, "versions", &number, "build-log"];
        self.text(self.request(Method::GET, &path).query(&self.here())).await
    }

    /// The package of a version, piece by piece.
    pub async fn package(
        &self,
        name: &str,
        version: u64,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let number = version.to_string();
        let path = ["v1", "functions", name, "versions", &number, "package"];
        self.send(self.request(Method::GET, &path).query(&self.here())).await.map(chunks)
    }

    /// What changed between two versions; without `to` it is the latest, without `from` the one before `to`.
    pub async fn diff(&self, name: &str, from: Option<String>, to: Option<String>) -> Result<VersionDiff> {
        let query = Diff { namespace: Some(self.namespace().to_owned()), from, to };
        self.get(&["v1", "functions", name, "diff"], &query).await
    }

    /// Moves `latest` to version `to`, or to the version before the present one.
    pub async fn rollback(&self, name: &str, to: Option<u64>) -> Result<FunctionSummary> {
        let request = self.request(Method::POST, &["v1", "functions", name, "rollback"]);
        self.fetch(request.query(&self.here()).json(&RollbackRequest { to })).await
    }

    /// Points an alias to a version, and makes it where it is new.
    pub async fn set_alias(&self, name: &str, alias: &str, version: u64) -> Result<()> {
        let request = self.request(Method::PUT, &["v1", "functions", name, "aliases", alias]);
        self.done(request.query(&self.here()).json(&AliasRequest { version })).await
    }

    /// Removes an alias.
    pub async fn remove_alias(&self, name: &str, alias: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["v1", "functions", name, "aliases", alias]);
        self.done(request.query(&self.here())).await
    }

    pub(crate) fn here(&self) -> InNamespace {
        InNamespace { namespace: Some(self.namespace().to_owned()) }
    }
}
