//! A cell with conveniences for tests: run a program, get its output.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use alula_model::Fault;
use alula_runtime::{Cell, CellSpec, Launcher, Mount, Process, ProcessExit, ProcessSpec};
use alula_sandbox::Sandbox;

pub(crate) const MIB: u64 = 1024 * 1024;

/// What a program wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) exit: ProcessExit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Room {
    pub(crate) cell: Box<dyn Cell>,
}

pub(crate) fn spec() -> CellSpec {
    CellSpec {
        memory_bytes: 256 * MIB,
        processes_max: 64,
        tmp_bytes: 16 * MIB,
        cpu_weight: 100,
        behalf: alula_runtime::Behalf::default(),
        listeners: Vec::new(),
        mounts: Vec::new(),
    }
}

pub(crate) fn shown(source: impl Into<PathBuf>, target: &str, writable: bool) -> Mount {
    Mount { source: source.into(), target: target.into(), writable }
}

pub(crate) fn process(argv: &[&str], fds: Vec<OwnedFd>) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|part| (*part).to_owned()).collect(),
        env: BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("HOME".to_owned(), "/tmp".to_owned()),
        ]),
        cwd: "/tmp".to_owned(),
        fds,
    }
}

impl Room {
    pub(crate) async fn new(sandbox: &Sandbox) -> Self {
        Self::with(sandbox, spec()).await
    }

    pub(crate) async fn with(sandbox: &Sandbox, spec: CellSpec) -> Self {
        Self { cell: sandbox.prepare(spec).await.unwrap() }
    }

    /// Starts a program whose three streams are pipes.
    pub(crate) async fn start(&self, argv: &[&str]) -> Result<(Box<dyn Process>, [OwnedFd; 3]), Fault> {
        let (stdin, to_stdin) = rustix::pipe::pipe().unwrap();
        let (from_stdout, stdout) = rustix::pipe::pipe().unwrap();
        let (from_stderr, stderr) = rustix::pipe::pipe().unwrap();
        let process = self.cell.start(process(argv, vec![stdin, stdout, stderr])).await?;
        Ok((process, [to_stdin, from_stdout, from_stderr]))
    }

    pub(crate) async fn run_with_input(&self, argv: &[&str], input: &[u8]) -> Output {
        let (process, [stdin, stdout, stderr]) = self.start(argv).await.unwrap();
        let input = input.to_vec();
        let write = tokio::task::spawn_blocking(move || {
            // A program need not read its input.
            let _ = std::fs::File::from(stdin).write_all(&input);
        });
        let read = |fd: OwnedFd| {
            tokio::task::spawn_blocking(move || {
                let mut text = Vec::new();
                std::fs::File::from(fd).read_to_end(&mut text).unwrap();
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        let (stdout, stderr) = (read(stdout), read(stderr));
        let exit = process.wait().await;
        write.await.unwrap();
        Output { exit, stdout: stdout.await.unwrap(), stderr: stderr.await.unwrap() }
    }

    pub(crate) async fn run(&self, argv: &[&str]) -> Output {
        self.run_with_input(argv, b"").await
    }

    pub(crate) async fn shell(&self, script: &str) -> Output {
        self.run(&["/bin/sh", "-c", script]).await
    }

    /// Runs a Python script and returns what it printed; it must not fail.
    pub(crate) async fn python(&self, script: &str) -> String {
        let output = self.run(&["/usr/bin/python3", "-I", "-c", script]).await;
        assert_eq!(output.exit, ProcessExit::Code(0), "{output:?}");
        output.stdout.trim().to_owned()
    }

    pub(crate) async fn end(self) {
        self.cell.destroy().await;
    }
}

/// The folders of the control groups of a group name, in every hierarchy.
pub(crate) fn group_folders(name: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_group = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let place = |line: &str| line.split(' ').nth(4).map(|at| PathBuf::from(at).join(format!("alula-{name}")));
    text.lines().filter(is_group).filter_map(place).filter(|path| path.is_dir()).collect()
}

/// The groups of cells that are left below a group name.
pub(crate) fn groups_left(name: &str) -> Vec<PathBuf> {
    let folders =
        group_folders(name).into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

/// Removes the parents that a test's spawner leaves; it may still be ending.
pub(crate) fn remove_groups(name: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while tokio::time::Instant::now() < deadline {
        let folders = group_folders(name);
        if folders.is_empty() {
            return;
        }
        for folder in folders {
            let _ = std::fs::remove_dir(folder);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
