//! Real S3 clients against the endpoint: boto3 and the `aws` command line from the package index, rclone from the
//! distribution. The endpoint runs here, on a store in memory and contents on the disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]
#![allow(clippy::disallowed_methods, reason = "other processes are watched from outside, in real time")]

use std::path::{Path, PathBuf};
use std::process::Command;

use endpoint::Endpoint;

mod endpoint;

impl Endpoint {
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ENDPOINT_URL", self.url())
            .env("AWS_ACCESS_KEY_ID", &self.key.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("NO_PROXY", "127.0.0.1")
            // The endpoint speaks plain HTTP, and rclone refuses a bundle for its own transport.
            .env_remove("AWS_CA_BUNDLE")
            .current_dir(self.folder.path());
        command
    }

    /// Runs a client to its end, beside the endpoint.
    async fn run(&self, program: &Path, arguments: &[&str]) -> String {
        let mut command = self.command(program);
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}:\n{stdout}\n{stderr}");
        stdout.into_owned()
    }
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/s3")
}

/// The Python of an environment with boto3 and the `aws` command line, made where it is not there yet; `None` without
/// Python on this machine.
fn python() -> Option<PathBuf> {
    static MADE: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-clients");
        let requirements = clients().join("requirements.txt");
        let made = Command::new(clients().join("../environment.sh"))
            .arg(&folder)
            .arg(requirements)
            .status()
            .unwrap();
        if made.code() == Some(3) {
            println!("SKIPPED: python3 with venv is not on this machine");
            return None;
        }
        assert!(made.success(), "the clients cannot be installed");
        Some(folder.join("bin/python"))
    })
    .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_what_it_expects_of_s3() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else { return };
    let endpoint = Endpoint::start().await;
    let script = clients().join("boto3_client.py");
    let said = endpoint.run(&python, &[script.to_str().unwrap()]).await;
    assert!(said.contains("removal ok"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_command_line_copies_and_synchronises() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else { return };
    let aws = python.with_file_name("aws");
    let endpoint = Endpoint::start().await;
    let local = endpoint.folder.path().join("local");
    std::fs::create_dir_all(local.join("deep")).unwrap();
    std::fs::write(local.join("deep/a b.txt"), "small").unwrap();
    let large: Vec<u8> = (0..20_000_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(local.join("large"), &large).unwrap();
    endpoint.run(&aws, &["s3", "mb", "s3://one"]).await;
    endpoint.run(&aws, &["s3", "sync", "local", "s3://one/copy"]).await;
    let listed = endpoint.run(&aws, &["s3", "ls", "--recursive", "s3://one"]).await;
    assert!(listed.contains("copy/deep/a b.txt") && listed.contains("20000000 copy/large"), "{listed}");
    endpoint.run(&aws, &["s3", "mv", "s3://one/copy/large", "s3://one/moved"]).await;
    endpoint.run(&aws, &["s3", "cp", "s3://one/moved", "back"]).await;
    assert!(std::fs::read(endpoint.folder.path().join("back")).unwrap() == large);
    endpoint.run(&aws, &["s3", "rb", "--force", "s3://one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_copies_checks_and_purges() {
    let rclone = Path::new("/usr/bin/rclone");
    if !rclone.exists() {
        println!("SKIPPED: rclone is not on this machine");
        return;
    }
    let endpoint = Endpoint::start().await;
    let local = endpoint.folder.path().join("local");
    std::fs::create_dir_all(local.join("deep/er")).unwrap();
    for number in 0..30 {
        std::fs::write(local.join(format!("deep/er/{number}.txt")), format!("content {number}")).unwrap();
    }
    std::fs::write(local.join("large"), vec![7; 12_000_000]).unwrap();
    let remote = format!(
        ":s3,provider=Other,env_auth=true,region=us-east-1,endpoint=\"{}\",upload_cutoff=5M,chunk_size=5M:two",
        endpoint.url()
    );
    let config = ["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"];
    let run = async |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(config).collect();
        endpoint.run(rclone, &arguments).await
    };
    run(&["mkdir", &remote]).await;
    run(&["copy", "local", &remote]).await;
    run(&["check", "local", &remote]).await;
    let listed = run(&["lsf", "--recursive", "--files-only", &remote]).await;
    assert_eq!(listed.lines().count(), 31, "{listed}");
    run(&["moveto", &format!("{remote}/large"), &format!("{remote}/elsewhere")]).await;
    run(&["copyto", &format!("{remote}/elsewhere"), "back"]).await;
    assert_eq!(std::fs::metadata(endpoint.folder.path().join("back")).unwrap().len(), 12_000_000);
    run(&["purge", &remote]).await;
}
