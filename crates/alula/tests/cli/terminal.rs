//! Runs the binary in an environment of its own and gives what it wrote.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fake::{Fake, TOKEN};

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Asserts the exit status, and shows everything where it is another.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }
}

/// A place to run commands in: an own home and working directory.
#[derive(Debug)]
pub(crate) struct Terminal {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Terminal {
    /// Talks to nobody in particular.
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// Talks to `fake` with the right token.
    pub(crate) fn of(fake: &Fake) -> Self {
        Self::new().with("ALULA_URL", &fake.url()).with("ALULA_TOKEN", TOKEN)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The working directory.
    pub(crate) fn folder(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alula"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder())
            .env("PATH", "/usr/bin:/bin")
            .env("ALULA_DATA_DIR", self.folder().join("data"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments).output().unwrap())
    }

    /// Runs a command that is fed through a pipe.
    pub(crate) fn pipe(&self, input: &[u8], arguments: &[&str]) -> Outcome {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        drop(stdin);
        outcome(child.wait_with_output().unwrap())
    }
}

fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        status: output.status.code().expect("not ended by a signal"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
