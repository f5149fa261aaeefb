//! Deploying: an upload that streams up, and events that stream down while it becomes a version.

use alula_wire::query::Deploy;
use alula_wire::{DeployEvent, Overrides};
use futures_util::Stream;
use http::{Method, header};
use reqwest::Body;

use crate::{Client, ClientError, Result};

/// What is deployed and what is said about it.
#[derive(Debug)]
pub struct Source {
    /// An archive (tar.gz, tar, zip), or a single file where `file` is set.
    pub body: Body,
    /// Its length in bytes, where it is known.
    pub length: Option<u64>,
    /// The file's name, where the body is a single source file.
    pub file: Option<String>,
    /// The function's name, where the source does not say it or it is to be another.
    pub name: Option<String>,
    /// Fields of the spec that replace what the source says.
    pub overrides: Overrides,
    /// What the publisher says about it.
    pub message: Option<String>,
    /// Checks and builds, but publishes nothing.
    pub dry_run: bool,
}

impl Client {
    /// Deploys `source`. The stream ends after `deployed` or `failed`; one that ends without either broke off, and
    /// then the versions tell what came of it.
    pub async fn deploy(
        &self,
        source: Source,
    ) -> Result<impl Stream<Item = Result<DeployEvent>> + Send + use<>> {
        let overrides = match &source.overrides {
            none if *none == Overrides::default() => None,
            some => Some(serde_json::to_string(some).map_err(|error| ClientError::Body(error.into()))?),
        };
        let query = Deploy {
            namespace: Some(self.namespace().to_owned()),
            name: source.name,
            file: source.file,
            message: source.message,
            dry_run: source.dry_run.then_some(true),
            overrides,
        };
        let request = self
            .request(Method::POST, &["v1", "deploy"])
            .query(&query)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(source.body);
        let request = match source.length {
            Some(length) => request.header(header::CONTENT_LENGTH, length),
            None => request,
        };
        let response = self.send(request).await?;
        Ok(self.values(response))
    }
}
