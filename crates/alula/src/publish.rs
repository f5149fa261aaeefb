//! One deploy from package to outcome: uploads, tells what happens, waits for the last event.
//!
//! Shared by `deploy` and `dev`.

use std::pin::pin;

use alula_sdk::wire::{DeployEvent, DeployedFunction, Overrides};
use alula_sdk::{Body, Client, Refusal, Source};
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use crate::failure::{Failure, Result};
use crate::package::Package;
use crate::progress::Progress;

/// Bytes that are read and sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is said besides the code.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// The function's name.
    pub(crate) name: Option<String>,
    /// Fields of the spec.
    pub(crate) overrides: Overrides,
    /// Why.
    pub(crate) message: Option<String>,
    /// Checks only.
    pub(crate) dry_run: bool,
}

/// Deploys `package` and waits until it is in force.
pub(crate) async fn publish(
    client: &Client,
    package: &Package,
    wishes: &Wishes,
    progress: &Progress,
) -> Result<Vec<DeployedFunction>> {
    progress.upload(package.length, package.files);
    let outcome = run(client, package, wishes, progress).await;
    progress.finish();
    outcome
}

async fn run(
    client: &Client,
    package: &Package,
    wishes: &Wishes,
    progress: &Progress,
) -> Result<Vec<DeployedFunction>> {
    let source = Source {
        body: body(package, progress.clone())?,
        length: Some(package.length),
        file: package.file_name.clone(),
        name: wishes.name.clone(),
        overrides: wishes.overrides.clone(),
        message: wishes.message.clone(),
        dry_run: wishes.dry_run,
    };
    let mut events = pin!(client.deploy(source).await?);
    while let Some(event) = events.next().await {
        match event? {
            DeployEvent::Stage { function, stage, detail } => progress.stage(&function, stage, &detail),
            DeployEvent::BuildLine { function, text } => progress.build_line(&function, &text),
            DeployEvent::Warning { function, text } => progress.warning(&function, &text),
            DeployEvent::Deployed { functions } => return Ok(functions),
            DeployEvent::Failed { error } => {
                return Err(
                    alula_sdk::ClientError::Refused(Box::new(Refusal { status: None, info: error })).into()
                );
            }
        }
    }
    let remedy = "`alula versions NAME` tells whether it was published; deploying again is safe";
    Err(Failure::failed("interrupted", "the platform ended the deploy without an outcome").remedy(remedy))
}

/// The package as a request body that tells how far it is.
fn body(package: &Package, progress: Progress) -> Result<Body> {
    let file = package.file.try_clone().map_err(|error| Failure::failed("temporary_file", error))?;
    let reader = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
    Ok(Body::wrap_stream(reader.inspect_ok(move |chunk| progress.sent(chunk.len() as u64))))
}
