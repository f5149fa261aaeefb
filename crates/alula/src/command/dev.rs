//! `alula dev`: deploys on every saved change and follows the logs, until Ctrl-C.
//!
//! A mistake in the code is said and waited out: the next save tries again. Everything that may fail for a while -
//! the platform restarts, the connection breaks - is tried again too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use alula_sdk::Client;
use alula_sdk::wire::query::Logs;
use clap::Args;
use futures_util::StreamExt;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::deploy::{self, Options};
use crate::failure::{Failure, Result};
use crate::output::Tone;
use crate::package::{Package, is_packed};
use crate::progress::Progress;
use crate::publish::publish;
use crate::session::Session;

/// Editors save in several steps: a change counts when nothing has moved for so long.
const QUIET_TIME: Duration = Duration::from_millis(60);
/// A folder that never rests is deployed at least this often.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(1);
/// Time before the logs are asked for again after the connection broke.
const LOGS_RETRY: Duration = Duration::from_secs(1);

/// What `alula dev` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula dev                     the current folder
  alula dev hello.py
  alula dev shop/ --env LEVEL=debug")]
pub(crate) struct Arguments {
    /// A file or a folder
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Watches until it is stopped.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let mut changes = Changes::watch(&arguments.path)?;
    let mut work =
        Work { session: session.clone(), client, arguments, deployed: None, followed: BTreeSet::new() };
    // A wrong path or token is a mistake in the command, not in the code: it ends at once.
    work.client.info().await?;
    let mut logs = JoinSet::new();
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        work.deploy(&mut logs).await;
        session.output.tell(Tone::Dim, "watching for changes; Ctrl-C ends");
        tokio::select! {
            changed = changes.next() => changed?,
            _ = &mut interrupt => return Ok(()),
        }
    }
}

/// What is kept between two changes.
struct Work {
    session: Session,
    client: Client,
    arguments: Arguments,
    /// What was deployed last, to pass over saves that change nothing.
    deployed: Option<Package>,
    /// The functions whose logs are followed.
    followed: BTreeSet<String>,
}

impl Work {
    /// Deploys what is there now; says what went wrong rather than ending.
    async fn deploy(&mut self, logs: &mut JoinSet<()>) {
        match self.try_deploy(logs).await {
            Ok(()) => {}
            Err(failure) => {
                self.deployed = None;
                self.session.output.failure(&failure);
            }
        }
    }

    async fn try_deploy(&mut self, logs: &mut JoinSet<()>) -> Result<()> {
        let path = &self.arguments.path;
        let mut package = Package::open(path)?;
        if let Some(earlier) = &mut self.deployed
            && package.is_same_as(earlier)?
        {
            return Ok(());
        }
        let progress = Progress::new(self.session.output, path.display().to_string());
        let wishes = self.arguments.options.wishes();
        for function in publish(&self.client, &package, &wishes, &progress).await? {
            deploy::print(&function, &self.session)?;
            if !function.dry_run && self.followed.insert(function.name.clone()) {
                logs.spawn(follow(self.client.clone(), function.name, self.session.clone()));
            }
        }
        self.deployed = Some(package);
        Ok(())
    }
}

/// Prints the new log lines of one function; asks again where the connection breaks.
async fn follow(client: Client, function: String, session: Session) {
    let mut since_ms = session.now().as_millis();
    loop {
        let query = Logs {
            function: Some(function.clone()),
            since_ms: Some(since_ms),
            follow: Some(true),
            ..Logs::default()
        };
        if let Ok(lines) = client.logs(query).await {
            let mut lines = pin!(lines);
            while let Some(Ok(line)) = lines.next().await {
                since_ms = since_ms.max(line.at_ms.saturating_add(1));
                if super::logs::print(&line, &session).is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(LOGS_RETRY).await;
    }
}

/// Changes below a path, gathered until they come to rest.
struct Changes {
    events: mpsc::Receiver<()>,
    /// Watches for as long as it lives.
    _watcher: notify::RecommendedWatcher,
}

impl Changes {
    /// Watches a folder, or the folder of a file: editors replace files rather than writing them.
    fn watch(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(|error| Failure::file("read", path, &error))?;
        let (root, only) = match path.parent() {
            Some(parent) if path.is_file() => (parent.to_owned(), Some(path.clone())),
            _ => (path, None),
        };
        // One waiting signal is enough, whatever number of changes it stands for.
        let (sender, events) = mpsc::channel(1);
        let (folder, mode) = (
            root.clone(),
            if only.is_some() { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive },
        );
        let handler = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| matters(&event, &folder, only.as_deref())) {
                let _ = sender.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(handler).map_err(|error| unwatchable(&root, &error))?;
        watcher.watch(&root, mode).map_err(|error| unwatchable(&root, &error))?;
        Ok(Self { events, _watcher: watcher })
    }

    /// Waits for a change, then until nothing has moved for a moment.
    async fn next(&mut self) -> Result<()> {
        let ended = || Failure::failed("watch", "the folder can no longer be watched");
        self.events.recv().await.ok_or_else(ended)?;
        let deadline = tokio::time::Instant::now() + QUIET_WAIT_MAX;
        while tokio::time::Instant::now() < deadline {
            match tokio::time::timeout(QUIET_TIME, self.events.recv()).await {
                Err(_) => break,
                Ok(None) => return Err(ended()),
                Ok(Some(())) => {}
            }
        }
        Ok(())
    }
}

/// Whether an event can mean other content: not mere reading, and not in a folder that is never packed.
fn matters(event: &notify::Event, root: &Path, only: Option<&Path>) -> bool {
    let is_change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    // An event without a path says that events were lost.
    let concerns = |path: &PathBuf| only.map_or_else(|| is_packed(root, path), |only| path == only);
    is_change && (event.paths.is_empty() || event.paths.iter().any(concerns))
}

fn unwatchable(path: &Path, error: &notify::Error) -> Failure {
    let failure = Failure::failed("watch", format!("cannot watch {}: {error}", path.display()));
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            failure.remedy("raise the limit: sysctl fs.inotify.max_user_watches=524288")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_content_matter() {
        let check = |kind, path: &str, only: Option<&str>, expect| {
            let event = notify::Event::new(kind).add_path(path.into());
            assert_eq!(matters(&event, Path::new("/r"), only.map(Path::new)), expect, "{path}");
        };
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        check(write, "/r/main.py", None, true);
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/r/main.py", None, false);
        check(EventKind::Any, "/r/.git/index", None, false);
        check(EventKind::Any, "/r/other.py", Some("/r/main.py"), false);
        check(EventKind::Any, "/r/main.py", Some("/r/main.py"), true);
    }

    #[tokio::test]
    async fn a_burst_of_saves_is_one_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = Changes::watch(folder.path()).unwrap();
        for n in 0..20 {
            std::fs::write(folder.path().join("main.py"), format!("x = {n}")).unwrap();
        }
        changes.next().await.unwrap();
        let again = tokio::time::timeout(QUIET_TIME, changes.next()).await;
        assert!(again.is_err(), "everything was gathered into one change");
    }
}
