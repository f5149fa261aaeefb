//! What the tests of all kinds of process instances share: a back end on the bare launcher and fixture programs.
//!
//! The programs need `/bin/sh` and `python3`, as the project's tests do as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_model::{FunctionSpec, InstanceId};

use super::ProcessBackend;
use crate::bare::BareLauncher;
use crate::conformance::{CollectedLog, FixedClock, plan};
use crate::language::{Host, Languages};
use crate::{Backend, Buffers, Door, Instance, Stems, VersionPlan};

/// A back end without isolation, and its log.
pub(super) struct Bench {
    pub(super) backend: ProcessBackend,
    pub(super) log: Arc<CollectedLog>,
    _unpacked: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let unpacked = tempfile::tempdir().unwrap();
        let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
        let log = Arc::new(CollectedLog::default());
        let backend = ProcessBackend {
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(Languages::load(unpacked.path(), &[], &host).unwrap()),
            log: Arc::clone(&log) as _,
            clock: Arc::new(FixedClock::default()),
            buffers: Buffers::new(64 * 1024 * 1024),
            socket_body_bytes_max: 64 * 1024,
            stems: Stems::default(),
            door: Door::default(),
        };
        Self { backend, log, _unpacked: unpacked }
    }

    /// A valid plan, started.
    pub(super) async fn start(&self, plan: &Arc<VersionPlan>) -> Arc<dyn Instance> {
        self.backend.validate(plan).unwrap();
        let started = self.backend.start(Arc::clone(plan), InstanceId::new("an-instance")).await;
        started.unwrap().instance
    }

    /// Waits for a line that contains `text`, and gives it.
    pub(super) async fn line(&self, text: &str) -> alula_model::LogLine {
        let found = self.log.wait_for(|line| line.text.contains(text));
        tokio::time::timeout(std::time::Duration::from_secs(20), found).await.expect("the line is logged")
    }
}

/// The folder of a fixture program.
pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A plan for the fixture program `name`.
pub(super) fn fixture_plan(
    runtime: &str,
    name: &str,
    change: impl FnOnce(&mut FunctionSpec),
) -> Arc<VersionPlan> {
    let made = plan(runtime, |spec| {
        spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
        change(spec);
    });
    Arc::new(VersionPlan { code: fixture(name), ..(*made).clone() })
}

/// The fixture program `name` in the mode `start`.
pub(super) fn starting(runtime: &str, name: &str, start: &str) -> Arc<VersionPlan> {
    fixture_plan(runtime, name, |spec| {
        spec.env.insert("START".to_owned(), start.to_owned());
        spec.init_timeout_ms = 300;
        if start == "broken" {
            spec.init_timeout_ms = 20_000;
        }
    })
}

/// Files in a folder of their own, as a package.
pub(super) fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}
