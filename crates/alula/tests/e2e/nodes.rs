//! Two nodes over one PostgreSQL server: who is known, and what becomes of that while the server is gone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::platform::{LOOK_AGAIN, Platform, client, eventually};

/// The user that the server's package makes; it refuses to run as root.
const SERVER_USER: &str = "postgres";

/// A server with one database. Dropping it stops it.
struct Database {
    programs: PathBuf,
    root: tempfile::TempDir,
}

impl Database {
    /// `None` where no server is installed.
    fn start() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut programs: Vec<_> = versions.filter_map(|one| Some(one.ok()?.path().join("bin"))).collect();
        programs.retain(|folder| folder.join("initdb").exists());
        programs.sort();
        let database = Self { programs: programs.pop()?, root: tempfile::tempdir().unwrap() };
        std::fs::set_permissions(database.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(database.data()).unwrap();
        if is_root() {
            run(Command::new("chown").arg(SERVER_USER).arg(database.data()));
        }
        let how = ["--username=alula", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        run(database.program("initdb").args(how).arg(database.data()));
        database.resume();
        let host = format!("--host={}", database.data().display());
        run(database.program("createdb").args([&host, "--username=alula", "nodes"]));
        Some(database)
    }

    fn resume(&self) {
        let settings = format!("-c listen_addresses= -c unix_socket_directories={}", self.data().display());
        let mut start = self.program("pg_ctl");
        start.args(["start", "--wait", "-D"]).arg(self.data()).arg("-l").arg(self.data().join("log"));
        run(start.args(["-o", &settings]));
    }

    fn stop(&self) {
        run(self.program("pg_ctl").args(["stop", "--wait", "--mode=immediate", "-D"]).arg(self.data()));
    }

    fn url(&self) -> String {
        let host = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://alula@{host}/nodes?sslmode=disable")
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// One of the server's programs, as a user that it runs as.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups", "--"]).arg(program);
        command.current_dir("/");
        command
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        drop(stop.args(["stop", "--wait", "--mode=immediate", "-D"]).arg(self.data()).output());
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = output.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn node(database: &Database, folder: &Path) -> Platform {
    Platform::start_configured(folder, &[("ALULA_STORE_URL", &database.url())])
}

/// What a node answers somebody who asks for a function that is not there, in a namespace that is not public.
async fn asked(node: &Platform, token: &str) -> u16 {
    let request = client().get(node.url("/function/nothing.shop")).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

/// For how long a node still answers `not` after something has changed elsewhere.
async fn until(node: &Platform, token: &str, not: u16) -> Duration {
    let begun = Instant::now();
    while asked(node, token).await == not {
        assert!(begun.elapsed() < Duration::from_secs(20), "it still answers {not}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
    begun.elapsed()
}

#[tokio::test]
async fn who_is_known_is_known_everywhere_and_who_is_shut_out_is_shut_out_everywhere() {
    let Some(database) = Database::start() else {
        eprintln!("SKIPPED: no PostgreSQL server is installed (Debian: apt-get install postgresql)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (here, there) =
        (node(&database, &folder.path().join("here")), node(&database, &folder.path().join("there")));
    here.alula_ok(&["access", "set", "namespace", "--namespace", "shop"]);
    let create = |name: &str| {
        let create = ["key", "create", name, "--role", "developer", "--namespace", "shop", "--quiet"];
        here.alula_ok(&create).trim().to_owned()
    };
    let (kept, taken) = (create("kept"), create("taken"));
    let stranger = format!("alula_0123456789ab_{}", "0".repeat(64));
    eventually("the other node has followed", || {
        let status = there.command(&["whoami"]).env("ALULA_TOKEN", &taken).output().unwrap().status;
        status.success().then_some(())
    });
    assert_eq!((asked(&here, &taken).await, asked(&there, &taken).await), (404, 404), "they are let in");
    assert_eq!(asked(&there, &stranger).await, 401);

    here.alula_ok(&["key", "revoke", taken.split('_').nth(1).unwrap(), "--yes"]);
    assert_eq!(asked(&here, &taken).await, 401, "where it was revoked, at once");
    let took = until(&there, &taken, 404).await;
    assert_eq!(asked(&there, &taken).await, 401);
    println!("revoked elsewhere after {took:?}");

    // The server goes: who was known is let in, who was not cannot be known.
    database.stop();
    until(&there, &stranger, 401).await;
    assert_eq!(asked(&there, &stranger).await, 503);
    assert_eq!(asked(&there, &kept).await, 404, "who was known is let in");
    database.resume();
    until(&there, &stranger, 503).await;
    assert_eq!(asked(&there, &stranger).await, 401);
    assert_eq!(asked(&there, &kept).await, 404);
}
