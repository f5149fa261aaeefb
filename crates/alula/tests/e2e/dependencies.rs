//! What keeps working while what the platform itself depends on is gone, under load: the database and a broker.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::platform::{Platform, client, eventually, free_port, text};

/// The user that Debian's package makes: the server refuses to run as root.
const SERVER_USER: &str = "postgres";
/// Callers at once, and how many calls they make between two looks.
const CALLERS: usize = 4;
const ROUND: usize = 50;

/// A server of PostgreSQL on a port and a folder of its own, stopped on drop.
struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    fn start() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).max()?;
        let server = Self { programs, folder: tempfile::tempdir().unwrap(), port: free_port() };
        std::fs::create_dir(server.data()).unwrap();
        std::fs::set_permissions(server.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::getuid().is_root() {
            assert!(Command::new("chown").arg(SERVER_USER).arg(server.data()).status().unwrap().success());
        }
        server.run("initdb", &["--username=alula", "--auth=trust", "--no-sync", "-D"]);
        server.resume();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs one of its programs on its data.
    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        let command = command.args(arguments).arg(self.data()).current_dir("/");
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    }

    fn resume(&self) {
        let (port, folder) = (self.port, self.data());
        let settings = format!(
            "-c port={port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories={}",
            folder.display()
        );
        let log = folder.join("log");
        self.run("pg_ctl", &["start", "--wait", "-l", log.to_str().unwrap(), "-o", &settings, "-D"]);
    }

    /// Stops it at once, as a crash would.
    fn kill(&self) {
        self.run("pg_ctl", &["stop", "--wait", "--mode=immediate", "-D"]);
    }

    fn url(&self) -> String {
        format!("postgres://alula@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.kill();
        }
    }
}

/// Callers that wait for answers of one function until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    fn start(url: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (stop, answered, url) = (Arc::clone(&stop), Arc::clone(&answered), url.to_owned());
            callers.spawn(async move {
                let (client, mut failures) = (client(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match client.get(&url).send().await {
                        Ok(answer) if answer.status() == 200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            });
        }
        Self { stop, answered, callers }
    }

    /// Waits until so many more calls have been answered.
    fn goes_on(&self) {
        let until = self.answered.load(Ordering::Relaxed) + ROUND;
        eventually("calls are answered", || (self.answered.load(Ordering::Relaxed) >= until).then_some(()));
    }

    /// Stops it; what failed.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.concat()
    }
}

async fn accept(platform: &Platform) -> (u16, String) {
    let answer = client().post(platform.url("/async-function/hello")).body("x").send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_database_gone_known_functions_answer_and_the_rest_says_so() {
    let Some(server) = Postgres::start() else {
        println!("SKIPPED: no PostgreSQL server is installed (Debian: apt-get install postgresql)");
        return;
    };
    let platform = Platform::start_with(&[("ALULA_STORE_URL", &server.url())]);
    let hello = ["deploy", "--name", "hello", "--runtime", "exec", "--code", "#!/bin/sh\necho hello"];
    platform.alula_ok(&hello);
    let load = Load::start(&platform.url("/function/hello"));
    load.goes_on();

    server.kill();
    load.goes_on();
    let (status, body) = accept(&platform).await;
    assert_eq!((status, body.contains("store_unavailable")), (503, true), "{body}");
    let other = ["deploy", "--name", "other", "--runtime", "exec", "--code", "#!/bin/sh\necho other"];
    for refused in [&other[..], &["protect", "breaker", "hello", "open"]] {
        let output = platform.alula(refused);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("store_unavailable"), "{refused:?}: {said}");
    }
    assert_eq!(platform.alula_ok(&["invoke", "hello"]).trim(), "hello");
    assert!(platform.alula_ok(&["list"]).contains("hello"));
    assert!(platform.alula_ok(&["protect", "breakers"]).is_empty());
    load.goes_on();

    server.resume();
    eventually("calls are accepted again", || {
        let accepted = platform.alula(&["invoke", "hello", "--async"]);
        accepted.status.success().then_some(())
    });
    platform.wait_until_idle();
    platform.alula_ok(&other);
    load.goes_on();
    assert_eq!(load.end().await, Vec::<String>::new(), "{}", platform.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_broker_gone_calls_go_on() {
    if !Path::new(crate::brokers::SERVER).exists() {
        println!("SKIPPED: {} is not installed (./check installs it)", crate::brokers::SERVER);
        return;
    }
    let mut nats = crate::brokers::Nats::new();
    let platform = Platform::start_with(&[("ALULA_BROKER_ALLOW", "[\"127.0.0.1\"]")]);
    let folder = tempfile::tempdir().unwrap();
    crate::brokers::write_example(folder.path(), &format!("127.0.0.1:{}", nats.port));
    platform.alula_ok(&["deploy", folder.path().to_str().unwrap()]);
    platform.alula_ok(&["deploy", "--name", "hello", "--runtime", "exec", "--code", "#!/bin/sh\necho hello"]);
    nats.start();
    nats.stream().await;
    crate::brokers::until_connected(&platform);
    let load = Load::start(&platform.url("/function/hello"));
    load.goes_on();
    nats.kill();
    load.goes_on();
    eventually("it is told that the broker is gone", || {
        platform.alula_ok(&["triggers"]).contains("not connected").then_some(())
    });
    assert_eq!(accept(&platform).await.0, 202);
    platform.wait_until_idle();
    nats.start();
    crate::brokers::until_connected(&platform);
    load.goes_on();
    assert_eq!(load.end().await, Vec::<String>::new(), "{}", platform.log());
}
