//! The entrance for fuzzers to the Runtime API.

use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{FunctionSpec, Name, NameError, Timestamp, VersionKey};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::api;
use super::desk::{Desk, Job, Reply};
use crate::{Buffers, VersionPlan};

/// The id of the event that waits.
const EVENT_ID: &str = "e";
/// Bytes of the answers that are read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// What a program sends while one event, called `e`, waits for it: it gets answers or loses its connection, and it gets the
/// event once. Panics where that is not so.
pub async fn lambda_api(bytes: &[u8]) -> Result<(), NameError> {
    let (mut program, platform) = tokio::io::duplex(64 * 1024);
    let desk = Arc::new(Desk::new(&plan()?));
    let reply = lay_event(&desk).await;
    let serving = tokio::spawn(api::serve_connection(platform, desk));
    let (mut answers, mut written) = (Vec::new(), bytes);
    let (reader, mut writer) = tokio::io::split(&mut program);
    let mut reader = reader.take(ANSWER_BYTES_MAX);
    let write = async {
        // The connection may be over before all is written.
        let _ = writer.write_all_buf(&mut written).await;
        let _ = writer.shutdown().await;
    };
    let _ = tokio::join!(write, reader.read_to_end(&mut answers));
    serving.abort();
    let said = String::from_utf8_lossy(&answers);
    assert!(said.is_empty() || said.starts_with("HTTP/1."), "{said}");
    assert!(said.matches("lambda-runtime-aws-request-id: e").count() <= 1, "{said}");
    // Whoever waits for the answer is there to the end.
    drop(reply);
    Ok(())
}

fn plan() -> Result<VersionPlan, NameError> {
    let key = VersionKey { namespace: Name::new("n")?, function: Name::new("f")?, version: 1 };
    let spec = FunctionSpec { response_bytes_max: 1024, ..FunctionSpec::new("provided") };
    Ok(VersionPlan::new(key, spec, PathBuf::new()))
}

async fn lay_event(desk: &Desk) -> Option<oneshot::Receiver<Reply>> {
    let (reply, replied) = oneshot::channel();
    let reserved = Buffers::new(1024).reserve(2).ok()?;
    let job = Job {
        id: EVENT_ID.to_owned(),
        event: Bytes::from_static(b"{}"),
        _reserved: reserved,
        deadline_at: Timestamp(0),
        trace: None,
        started: None,
        reply,
    };
    desk.put(job).await.is_ok().then_some(replied)
}
