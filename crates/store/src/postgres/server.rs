//! A PostgreSQL server for the tests: a real one, from the system's package, on a socket in a folder of its own.
//!
//! One server serves all tests of a process that only need a database; a test that stops it starts one of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{PostgresOptions, PostgresStore, open_postgres};

/// Where distributions put the server's programs; the newest version counts.
const FOLDERS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/pgsql"];
/// The user that the package makes. The server refuses to run as root.
const SERVER_USER: &str = "postgres";

/// A running server. Dropping it stops it and removes its data.
pub(super) struct Server {
    programs: PathBuf,
    root: tempfile::TempDir,
    databases: AtomicU32,
}

impl Server {
    /// Starts a server, or says that none is installed.
    pub(super) fn start() -> Option<Self> {
        let Some(programs) = find_programs() else {
            eprintln!("SKIPPED: no PostgreSQL server is installed (Debian: apt-get install postgresql)");
            return None;
        };
        let root = tempfile::tempdir().unwrap();
        let server = Self { programs, root, databases: AtomicU32::new(0) };
        let data = server.data();
        std::fs::create_dir(&data).unwrap();
        if rustix::process::getuid().is_root() {
            std::fs::set_permissions(server.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            run(Command::new("chown").arg(SERVER_USER).arg(&data));
        }
        let initdb = ["--username=alula", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        run(server.program("initdb").args(initdb).arg(&data));
        server.resume();
        Some(server)
    }

    /// Starts it again after [`Server::stop`].
    pub(super) fn resume(&self) {
        let settings = format!("-c listen_addresses= -c unix_socket_directories={}", self.data().display());
        let log = self.data().join("log");
        let mut start = self.program("pg_ctl");
        run(start
            .args(["start", "--wait", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(log)
            .args(["-o", &settings]));
    }

    /// Stops it at once, as a crash would.
    pub(super) fn stop(&self) {
        run(self.program("pg_ctl").args(["stop", "--wait", "--mode=immediate", "-D"]).arg(self.data()));
    }

    /// The URL of a new, empty database.
    pub(super) fn new_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let connection = format!("--host={}", self.data().display());
        run(self.program("createdb").args([&connection, "--username=alula", &name]));
        let host = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://alula@{host}/{name}?sslmode=disable")
    }

    /// A store in a new database.
    pub(super) async fn new_store(&self) -> PostgresStore {
        open_postgres(&PostgresOptions::new(self.new_database())).await.unwrap()
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// One of the server's programs, as a user that it runs as.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        if !rustix::process::getuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups", "--"]).arg(program);
        command.current_dir("/");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        drop(stop.args(["stop", "--wait", "--mode=immediate", "-D"]).arg(self.data()).output());
    }
}

fn find_programs() -> Option<PathBuf> {
    let versions = FOLDERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let mut folders: Vec<_> = folders.chain(FOLDERS.map(|folder| Path::new(folder).join("bin"))).collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = output.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
