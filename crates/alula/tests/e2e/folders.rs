//! Watched folders on the built binary: files become calls through kills and restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::platform::{Platform, eventually, folder_function, text};
use crate::sink::{Sink, TELLER, word};

/// Kills while files come.
const KILLS: u64 = 4;
/// Files that come between two kills.
const FILES: u64 = 60;

fn start(data_dir: &Path, incoming: &Path) -> Platform {
    let folders = format!("[{:?}]", incoming.to_str().unwrap());
    let settings =
        [("ALULA_TRIGGERS_FOLDERS", folders.as_str()), ("ALULA_SANDBOX_EGRESS_ALLOW", "[\"127.0.0.1/32\"]")];
    Platform::start_configured(data_dir, &settings)
}

fn manifest(sink: &Sink, path: &Path) -> String {
    format!(
        "runtime = \"python3\"\nnetwork = \"internet\"\n[env]\nSINK = \"http://127.0.0.1:{}/\"\n\
        [async.retry]\nattempts = 20\nfirst_ms = 20\nlongest_ms = 200\n\
        [[triggers]]\nname = \"material\"\nkind = \"folder\"\npath = {path:?}\non = [\"put\", \"delete\"]\n\
        suffix = \".csv\"\n",
        sink.port
    )
}

/// The ids of the calls that each file made, by what happened and its name.
fn calls(sink: &Sink) -> BTreeMap<String, Vec<String>> {
    sink.calls(|record| format!("{} {}", word(&record["eventName"]), word(&record["file"]["name"])))
}

#[test]
fn every_file_calls_once_however_often_the_platform_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, incoming) = (folder.path().join("data"), folder.path().join("incoming"));
    std::fs::create_dir(&incoming).unwrap();
    std::fs::write(incoming.join("old.csv"), "lay there before").unwrap();
    // By the times of files, too.
    std::thread::park_timeout(Duration::from_millis(100));
    let sink = Sink::start();
    let mut platform = start(&data_dir, &incoming);
    folder_function(&platform, "teller", &[("alula.toml", &manifest(&sink, &incoming)), ("main.py", TELLER)]);
    let write = |name: String| {
        let part = incoming.join(format!("{name}.part"));
        std::fs::write(&part, &name).unwrap();
        std::fs::rename(part, incoming.join(format!("{name}.csv"))).unwrap();
    };
    for kill in 0..KILLS {
        for number in 0..FILES {
            write(format!("{kill}-{number}"));
        }
        // Some are calls by now, others are not.
        std::thread::park_timeout(Duration::from_millis(15 * kill));
        platform.kill();
        write(format!("{kill}-away"));
        platform = start(&data_dir, &incoming);
    }
    std::fs::remove_file(incoming.join("0-0.csv")).unwrap();
    let expected = usize::try_from(KILLS * (FILES + 1)).unwrap() + 1;
    eventually("every file has made its call", || (calls(&sink).len() >= expected).then_some(()));
    platform.wait_until_idle();
    let calls = calls(&sink);
    assert_eq!(calls.len(), expected, "{calls:?}");
    assert!(
        calls.contains_key("FileRemoved 0-0.csv") && !calls.contains_key("FileCreated old.csv"),
        "{calls:?}"
    );
    let twice: Vec<_> = calls.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(twice.is_empty(), "files with several calls: {twice:?}");
}

#[test]
fn only_folders_that_the_operator_allows_are_watched_and_a_folder_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, incoming) = (folder.path().join("data"), folder.path().join("incoming"));
    std::fs::create_dir(&incoming).unwrap();
    let sink = Sink::start();
    let platform = start(&data_dir, &incoming);
    let refused = |path: &Path| {
        let function = folder.path().join("refused");
        std::fs::create_dir_all(&function).unwrap();
        std::fs::write(function.join("main.py"), TELLER).unwrap();
        std::fs::write(function.join("alula.toml"), manifest(&sink, path)).unwrap();
        let output = platform.alula(&["deploy", function.to_str().unwrap()]);
        assert!(!output.status.success());
        text(&output.stderr)
    };
    for path in ["/etc", "/", incoming.join("../data").to_str().unwrap(), data_dir.to_str().unwrap()] {
        let message = refused(Path::new(path));
        assert!(message.contains("may not be watched") && message.contains("triggers.folders"), "{message}");
    }
    let later = incoming.join("later");
    folder_function(&platform, "teller", &[("alula.toml", &manifest(&sink, &later)), ("main.py", TELLER)]);
    eventually("the missing folder is told", || {
        platform.alula_ok(&["triggers"]).contains("the folder cannot be read").then_some(())
    });
    std::fs::create_dir(&later).unwrap();
    std::fs::write(later.join("a.csv"), "1").unwrap();
    eventually("the folder is watched", || calls(&sink).contains_key("FileCreated a.csv").then_some(()));
    let triggers = platform.alula_ok(&["triggers"]);
    assert!(triggers.contains("folder") && !triggers.contains("cannot be read"), "{triggers}");
}
