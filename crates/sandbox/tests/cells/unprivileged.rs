//! The sandbox of a user without any privilege, with what such a user can have.

use std::process::Command;

use alula_model::ErrorCode;
use alula_runtime::{Launcher, ProcessExit};
use alula_sandbox::{EgressGate, Sandbox, SpawnerOptions, fork_spawner};

use crate::harness::{Outcome, is_root, tests};
use crate::room::{Room, spec};

/// The argument that makes this program a platform without privilege.
pub(crate) const PLATFORM: &str = "--be-unprivileged-platform";
/// Its exit status where the kernel does not allow user namespaces to such a user.
const NO_NAMESPACES: i32 = 77;

tests![nobody_can_run_cells_and_is_told_what_is_missing];

async fn nobody_can_run_cells_and_is_told_what_is_missing(_: &Sandbox) -> Outcome {
    if !is_root() {
        return Outcome::Skipped("the other tests have already run without privilege".to_owned());
    }
    // Where `nobody` can execute it: build folders are often closed to others.
    let folder = tempfile::Builder::new().prefix("alula-unprivileged").tempdir_in("/var/tmp").unwrap();
    let program = folder.path().join("platform");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        command.current_dir("/").status().unwrap().code()
    };
    match as_nobody(&[PLATFORM]) {
        Some(0) => {}
        Some(NO_NAMESPACES) => {
            return Outcome::Skipped("the kernel gives no user namespaces to nobody".to_owned());
        }
        other => panic!("the platform without privilege ended with {other:?}"),
    }
    // Everything else as well, with what such a user can have.
    assert_eq!(as_nobody(&["programs::", "attacks_on_files::", "attacks_on_rights::"]), Some(0));
    Outcome::Passed
}

pub(crate) fn be_platform() {
    let link = fork_spawner(SpawnerOptions::new("test-nobody")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::connect(link, EgressGate::default()).await.unwrap();
        let report = sandbox.report();
        let of = |name: &str| report.protections.iter().find(|p| p.name == name).unwrap().clone();
        if !of("user namespace").in_force {
            let fault = sandbox.prepare(spec()).await.unwrap_err();
            assert_eq!(fault.code, ErrorCode::SandboxFailed);
            assert!(fault.message.contains("max_user_namespaces"), "{fault}");
            println!("    {}", of("user namespace").detail);
            std::process::exit(NO_NAMESPACES);
        }
        for name in ["separate users", "memory limit", "process limit"] {
            assert!(!of(name).in_force, "{name}");
            assert!(of(name).detail.contains("run as root"), "{name}");
        }
        let room = Room::new(&sandbox).await;
        let output =
            room.shell("id -u; ls /; cat /etc/shadow; echo x > /usr/x; echo fine > /tmp/x; cat /tmp/x").await;
        assert_eq!(output.exit, ProcessExit::Code(0), "{output:?}");
        assert!(output.stdout.starts_with("0\n") && output.stdout.ends_with("fine\n"), "{output:?}");
        assert!(!output.stdout.contains("root:"), "{output:?}");
        let seen =
            room.python("import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]))").await;
        assert_eq!(seen, "2");
        let output = room
            .shell("unshare -U true; grep -E 'Cap(Eff|Bnd|Prm)|NoNewPrivs|Seccomp:' /proc/self/status")
            .await;
        assert!(output.stdout.contains("CapEff:\t0000000000000000"), "{output:?}");
        assert!(output.stdout.contains("Seccomp:\t2"), "{output:?}");
        room.end().await;
    });
}
