//! Notifications of PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alula_model::trigger::{self, Batching, PostgresSource};
use serde_json::Value;
use tokio::process::Command;
use tokio_postgres::NoTls;

use super::open;
use crate::BoxFuture;
use crate::source::{KeptBy, Source};
use crate::tests::server::{Server, free_port, program};
use crate::tests::suite::{self, Broker, batching};
use crate::tests::world::World;

/// The user that the package makes. The server refuses to run as root.
const SERVER_USER: &str = "postgres";

struct Postgres {
    server: Server,
    port: u16,
}

impl Postgres {
    async fn start() -> Option<Self> {
        let (initdb, binary) = (program("initdb")?, program("postgres")?);
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(folder.path().join("password"), "s3cret").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(id_of(SERVER_USER)), None).unwrap();
        }
        let mut making = as_server(&initdb);
        making.args(["--username=me", "--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-sync"]);
        making.arg("--pwfile").arg(folder.path().join("password")).arg("-D").arg(folder.path().join("data"));
        let made = making.output().await.unwrap();
        assert!(made.status.success(), "{made:?}");
        // Its parts outlive a server that is killed for a moment, so it is told to end at once instead.
        let server = Server::start_in(folder, port, "QUIT", move |folder| {
            let mut command = as_server(&binary);
            command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
            command
        });
        let postgres = Self { server: server.await, port };
        postgres.until_ready().await;
        Some(postgres)
    }

    /// It takes connections before it serves them.
    async fn until_ready(&self) {
        while tokio_postgres::connect(&self.url(), NoTls).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self) -> String {
        format!("postgres://me:s3cret@127.0.0.1:{}/postgres", self.port)
    }

    fn stated(&self, case: &str, batch: Batching) -> PostgresSource {
        let url = format!("postgres://me:${{PASSWORD}}@127.0.0.1:{}/postgres?sslmode=disable", self.port);
        PostgresSource { url, channel: case.to_owned(), batch }
    }
}

fn as_server(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn id_of(user: &str) -> u32 {
    let users = std::fs::read_to_string(PathBuf::from("/etc/passwd")).unwrap();
    let line = users.lines().find(|line| line.split(':').next() == Some(user)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}

impl Broker for Postgres {
    fn place(&self, case: &str, batching: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let source = open(case, &trigger::Source::Postgres(self.stated(case, batching)));
        Box::pin(async move { source })
    }

    fn kept_by(&self) -> KeptBy {
        KeptBy::Nobody
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
            let driving = tokio::spawn(connection);
            for body in bodies {
                client.execute("SELECT pg_notify($1, $2)", &[&case, body]).await.unwrap();
            }
            drop(client);
            driving.await.unwrap().unwrap();
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.server.restart())
    }

    fn documented(&self) -> Option<&'static str> {
        Some("postgres")
    }

    fn text(&self) -> fn(&Value) -> String {
        |item| item["body"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications() {
    let Some(postgres) = Postgres::start().await else { return };
    suite::run(&postgres).await;
    a_wrong_password_is_said_and_not_shown(&postgres).await;
    nobody_is_trusted_who_was_not_asked_for(&postgres).await;
}

async fn a_wrong_password_is_said_and_not_shown(postgres: &Postgres) {
    let url = format!("postgres://me:${{WRONG}}@127.0.0.1:{}/postgres?sslmode=disable", postgres.port);
    let error = wrong(postgres, PostgresSource { url, ..postgres.stated("wrong", batching(1, 1)) }).await;
    assert!(error.contains("password authentication failed") && !error.contains("secret"), "{error}");
}

async fn nobody_is_trusted_who_was_not_asked_for(postgres: &Postgres) {
    let url = format!("postgres://me:${{PASSWORD}}@127.0.0.1:{}/postgres", postgres.port);
    let error = wrong(postgres, PostgresSource { url, ..postgres.stated("tls", batching(1, 1)) }).await;
    assert!(error.contains("no root certificates"), "{error}");
}

async fn wrong(postgres: &Postgres, stated: PostgresSource) -> String {
    let world = World::new(postgres.text());
    let watching = world.watch(open("wrong", &trigger::Source::Postgres(stated)), batching(1, 1));
    let error = suite::until_wrong(&watching).await;
    watching.stop().await;
    error
}
