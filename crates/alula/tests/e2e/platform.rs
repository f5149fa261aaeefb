//! A running platform: the built binary with a data directory and ports of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a start may take before the test gives up; a start takes a fraction of a second.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at something outside this process that cannot be waited for: the cores belong to the platform.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `alula up`, stopped on drop.
pub(crate) struct Platform {
    pub(crate) data_dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) control_port: u16,
    child: Child,
    _folder: Option<tempfile::TempDir>,
}

impl Platform {
    /// Starts with an empty data directory.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with settings as environment variables.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut platform = Self::start_configured(&folder.path().join("data"), settings);
        platform._folder = Some(folder);
        platform
    }

    /// Starts in a data directory that outlives this platform.
    pub(crate) fn start_in(data_dir: &Path) -> Self {
        Self::start_configured(data_dir, &[])
    }

    pub(crate) fn start_configured(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let (port, control_port) = (free_port(), free_port());
        let log = log_file(data_dir);
        let child = Command::new(env!("CARGO_BIN_EXE_alula"))
            .arg("up")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--control-listen", &format!("127.0.0.1:{control_port}")])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut platform = Self { data_dir: data_dir.to_owned(), port, control_port, child, _folder: None };
        platform.wait_until_ready();
        platform
    }

    fn wait_until_ready(&mut self) {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if std::net::TcpStream::connect(("127.0.0.1", self.control_port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the platform ended:\n{}", self.log());
            std::thread::park_timeout(LOOK_AGAIN);
        }
        panic!("the platform is not ready:\n{}", self.log());
    }

    /// What the platform itself has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.with_extension("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("admin.token")).unwrap().trim().to_owned()
    }

    /// The command line, pointed at this platform.
    pub(crate) fn alula(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, to be run by the caller.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alula"));
        command
            .args(arguments)
            .env("ALULA_URL", format!("http://127.0.0.1:{}", self.control_port))
            .env("ALULA_TOKEN", self.token())
            .stdin(Stdio::null());
        command
    }

    /// The command line, which must succeed; returns what it wrote to standard output.
    pub(crate) fn alula_ok(&self, arguments: &[&str]) -> String {
        let output = self.alula(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "alula {arguments:?} failed:\n{stdout}\n{stderr}\n{}", self.log());
        stdout
    }

    /// Waits until nothing waits or runs; nothing is lost on the way, and nothing is dead.
    pub(crate) fn wait_until_idle(&self) {
        eventually("every call has ended", || {
            let queue: Value = serde_json::from_str(&self.alula_ok(&["queue", "--json"])).unwrap();
            let totals = &queue["totals"];
            assert_eq!((&totals["imbalance"], &totals["dead"]), (&0.into(), &0.into()), "{totals}");
            (totals["waiting"] == 0 && totals["running"] == 0).then_some(())
        });
    }

    /// The public URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits until the process has ended; returns whether it ended well.
    pub(crate) fn wait(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// Kills it without warning and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Deploys a function with these files.
pub(crate) fn folder_function(platform: &Platform, name: &str, files: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::create_dir(&path).unwrap();
    for (file, content) in files {
        std::fs::write(path.join(file), content).unwrap();
    }
    platform.alula_ok(&["deploy", path.to_str().unwrap()]);
}

impl Drop for Platform {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = Command::new("kill").arg(self.pid().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

fn log_file(data_dir: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().create(true).append(true).open(data_dir.with_extension("log")).unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Tries `check` until it gives a value; panics with `what` after a generous deadline.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < READY_WITHIN {
        if let Some(value) = check() {
            return value;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    panic!("not in time: {what}");
}

/// An HTTP client. Clients need the process's one TLS provider, also for plain HTTP.
pub(crate) fn client() -> reqwest::Client {
    // Fails only where another test has installed it before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// The folder of programs in an environment of Python with the clients of `tests/clients/NAME`; `None` where this machine
/// cannot make one.
pub(crate) fn python_clients(name: &str) -> Option<PathBuf> {
    let clients = root().join("tests/clients");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-clients"));
    let requirements = clients.join(name).join("requirements.txt");
    let made = Command::new(clients.join("environment.sh")).arg(&folder).arg(requirements).status().unwrap();
    if made.code() == Some(3) {
        println!("SKIPPED: python3 with venv is not on this machine");
        return None;
    }
    assert!(made.success(), "the clients cannot be installed");
    Some(folder.join("bin"))
}
