//! Starts a real broker for one test: on ports of its own, in a folder of its own, ended with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Longest time for a broker to take connections; the slowest of them needs some ten seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A broker's process and what it keeps.
pub(super) struct Server {
    command: Box<dyn Fn(&Path) -> Command + Send + Sync>,
    folder: TempDir,
    port: u16,
    /// What ends it at once, without a chance to tidy up.
    signal: &'static str,
    child: tokio::sync::Mutex<Child>,
}

/// Where distributions put brokers; of PostgreSQL every version has a folder of its own.
const FOLDERS: [&str; 5] =
    ["/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
const POSTGRES: &str = "/usr/lib/postgresql";

/// The program `name` where it is installed; else says loudly that the test shows nothing.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin")).chain(FOLDERS.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed, so nothing is shown about it (./check installs it)");
    }
    found
}

/// A port that nobody uses at the moment.
pub(super) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts what `command` makes of the server's folder; it is there when it takes connections on `port`.
    pub(super) async fn start(port: u16, command: impl Fn(&Path) -> Command + Send + Sync + 'static) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), port, "KILL", command).await
    }

    /// The same in a folder that was prepared, ended by `signal`.
    pub(super) async fn start_in(
        folder: TempDir,
        port: u16,
        signal: &'static str,
        command: impl Fn(&Path) -> Command + Send + Sync + 'static,
    ) -> Self {
        let child = spawn(&command, folder.path());
        let server = Self { command: Box::new(command), folder, port, signal, child: child.into() };
        server.until_there().await;
        server
    }

    /// Ends it at once, and starts it again over the same folder.
    pub(super) async fn restart(&self) {
        self.restart_after(Duration::ZERO).await;
    }

    /// The same with a pause between, for clients that do not notice a short one.
    pub(super) async fn restart_after(&self, pause: Duration) {
        let mut child = self.child.lock().await;
        let id = child.id().unwrap().to_string();
        let told = Command::new("kill").args(["-s", self.signal, &id]).status().await.unwrap();
        assert!(told.success());
        child.wait().await.unwrap();
        tokio::time::sleep(pause).await;
        *child = spawn(&self.command, self.folder.path());
        drop(child);
        self.until_there().await;
    }

    async fn until_there(&self) {
        let there = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                let ended = self.child.lock().await.try_wait().unwrap();
                assert!(ended.is_none(), "the broker ended: {ended:?}, see {}", self.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(START_TIMEOUT, there).await;
        assert!(waited.is_ok(), "the broker never took connections: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(command: &dyn Fn(&Path) -> Command, folder: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = command(folder);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
    command.spawn().unwrap()
}
