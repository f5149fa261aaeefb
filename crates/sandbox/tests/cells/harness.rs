//! Runs the tests: one sandbox for all, one line for each.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use alula_sandbox::{EgressGate, Sandbox, SpawnerOptions, fork_spawner};

/// Longest time for one test; they take milliseconds to a few seconds.
const TEST_WAIT: Duration = Duration::from_secs(60);

/// A host folder that the sandbox of these tests shows in every cell.
pub(crate) const EXTRA: &str = "/var/lib";

type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Sandbox) -> Running<'a>,
}

/// How a test ended, if it did not panic.
pub(crate) enum Outcome {
    Passed,
    /// The machine cannot give what is tested.
    Skipped(String),
}

/// Lists `async fn name(sandbox: &Sandbox) -> Outcome` functions as tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::harness::Test> {
            vec![$(crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: |sandbox| Box::pin($name(sandbox)),
            }),*]
        }
    };
}
pub(crate) use tests;

pub(crate) fn options(part: &str) -> SpawnerOptions {
    SpawnerOptions::new(format!("test-{part}-{}", std::process::id()))
}

/// Whether the tests run with the rights that the full sandbox needs.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn run(tests: Vec<Test>, arguments: &[String]) {
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted =
        |test: &Test| wanted.is_empty() || wanted.iter().any(|part| test.name.contains(part.as_str()));
    let tests: Vec<_> = tests.into_iter().filter(is_wanted).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|test| println!("{}: test", test.name));
        return;
    }
    let options = SpawnerOptions { extra_readonly: vec![EXTRA.into()], ..options("main") };
    let group = options.group_name.clone();
    let link = fork_spawner(options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let sandbox = Sandbox::connect(link, EgressGate::default()).await.unwrap();
        let mut failed = Vec::new();
        if !is_root() && !crate::programs::in_force(&sandbox, "user namespace") {
            println!(
                "SKIPPED all {} tests: the kernel gives this user no namespaces; run as root",
                tests.len()
            );
            return failed;
        }
        for test in tests {
            let start = tokio::time::Instant::now();
            let run = test.run;
            let (name, shared) = (test.name, sandbox.clone());
            // A thread of its own, so that a panic is caught and a test may block.
            let handle = tokio::runtime::Handle::current();
            let ended = tokio::task::spawn_blocking(move || {
                handle.block_on(async move { tokio::time::timeout(TEST_WAIT, run(&shared)).await })
            });
            let verdict = match ended.await {
                Ok(Ok(Outcome::Passed)) => "ok".to_owned(),
                Ok(Ok(Outcome::Skipped(why))) => format!("SKIPPED: {why}"),
                Ok(Err(_)) => "FAILED: it took too long".to_owned(),
                Err(_) => "FAILED".to_owned(),
            };
            println!("test {name} ... {verdict} ({} ms)", start.elapsed().as_millis());
            if verdict.starts_with("FAILED") {
                failed.push(name);
            }
        }
        failed
    });
    drop(runtime);
    crate::room::remove_groups(&group);
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        std::process::exit(1);
    }
}
