//! One platform in a temporary folder, which can be started again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use alula_model::trigger::Trigger;
use alula_model::{Clock, Fault, FunctionRef, Name, SpecError, Timestamp};
use alula_runtime::VersionPlan;
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::FakeBackend;
use alula_runtime::language::{Host, Languages};
use alula_store::{MemoryPackages, MemoryStore, Records};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{CheckTriggers, Control, Deployed, DryRun, Options, Overrides, Parts, Progress, Upload};

/// A language that needs nothing, whose dependencies are the lines of `deps.txt`.
const TOY: &str = r#"
id = "toy"
description = "for tests"
protocol = "exec"
extensions = ["toy"]
entry_files = ["main.toy"]
[runtime]
name = "toy1"
aliases = ["toy"]
[build]
when = [{ file = "deps.txt" }]
cache_key = ["deps.txt"]
command = """
echo built >> "$COUNTER"
if grep -q broken deps.txt; then echo cannot install >&2; exit 3; fi
mkdir .packages; cp deps.txt .packages/installed; echo spoilt > main.toy
echo installed "$(cat deps.txt)"
"""
"#;

/// Moves on by a millisecond whenever it is looked at.
#[derive(Debug, Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Watches every trigger but those that are named `tuesday`.
#[derive(Debug)]
struct NoTuesdays;

impl CheckTriggers for NoTuesdays {
    fn check(&self, triggers: &[Trigger], _env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        let wrong = triggers.iter().find(|trigger| trigger.name.as_str() == "tuesday");
        wrong.map_or(Ok(()), |_| {
            Err(SpecError { field: "triggers", reason: "tuesday: choose another day".into() })
        })
    }
}

pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) control: Control,
    pub(super) packages: Arc<MemoryPackages>,
    parts: Parts,
    options: Options,
}

impl World {
    pub(super) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let languages = dir.path().join("languages");
        fs::create_dir_all(languages.join("toy")).unwrap();
        fs::write(languages.join("toy/manifest.toml"), TOY).unwrap();
        let host = Host { resolve: &|_: &Path| None, run: &|_: &[String]| None };
        let languages = Languages::load(&dir.path().join("shims"), &[languages], &host).unwrap();
        let packages = Arc::new(MemoryPackages::new());
        let parts = Parts {
            records: Arc::new(MemoryStore::new()),
            packages: packages.clone(),
            backend: Arc::new(FakeBackend::default()),
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(languages),
            triggers: Arc::new(NoTuesdays),
            clock: Arc::new(Ticking::default()),
        };
        let mut options = Options::new(dir.path().join("data"));
        let counter = dir.path().join("builds").display().to_string();
        options.build_env.insert("COUNTER".to_owned(), counter);
        let control = Control::open(options.clone(), parts.clone()).await.unwrap();
        Self { dir, control, packages, parts, options }
    }

    /// Another process over the same store.
    pub(super) async fn again(&self) -> Control {
        Control::open(self.options.clone(), self.parts.clone()).await.unwrap()
    }

    /// What everything is recorded in.
    pub(super) fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.parts.records)
    }

    /// The same platform after a crash: only the store and the data directory are left.
    pub(super) async fn restart(&mut self) {
        self.control = Control::open(self.options.clone(), self.parts.clone()).await.unwrap();
    }

    /// How often a build ran.
    pub(super) fn builds(&self) -> usize {
        fs::read_to_string(self.dir.path().join("builds")).unwrap_or_default().lines().count()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(super) fn resolve(&self, target: &str) -> Result<Arc<VersionPlan>, Fault> {
        self.control.catalog().load().resolve(&target.parse::<FunctionRef>().unwrap())
    }

    /// What a file of the version holds, as an instance would see it.
    pub(super) async fn read(&self, target: &str, file: &str) -> String {
        let plan = self.resolve(target).unwrap();
        self.control.ensure_code(&plan).await.unwrap();
        let mut text = String::new();
        fs::File::open(plan.code.join(file)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub(super) async fn deploy(&self, files: &[(&str, &str)]) -> Result<Vec<Deployed>, Fault> {
        self.deploy_with(self.upload(files)).await.0
    }

    pub(super) async fn deploy_with(&self, upload: Upload) -> (Result<Vec<Deployed>, Fault>, Vec<Progress>) {
        let (sender, mut receiver) = mpsc::channel(1_000);
        let deployed = self.control.deploy("tester", upload, sender).await;
        let mut progress = Vec::new();
        while let Some(one) = receiver.recv().await {
            progress.push(one);
        }
        (deployed, progress)
    }

    /// An upload of a tar archive with these files.
    pub(super) fn upload(&self, files: &[(&str, &str)]) -> Upload {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        self.upload_bytes(&builder.into_inner().unwrap(), None)
    }

    pub(super) fn upload_bytes(&self, bytes: &[u8], file_name: Option<&str>) -> Upload {
        let archive = self.control.shared.scratch("upload");
        fs::write(&archive, bytes).unwrap();
        Upload {
            namespace: Name::default_namespace(),
            archive,
            file_name: file_name.map(str::to_owned),
            overrides: Overrides::default(),
            message: String::new(),
            dry_run: DryRun::No,
        }
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn overrides(name: &str) -> Overrides {
    serde_json::from_value(json!({ "name": name })).unwrap()
}

/// A manifest of one function.
pub(super) fn manifest(name: &str, more: &str) -> String {
    format!("name = \"{name}\"\nruntime = \"toy\"\n{more}")
}
