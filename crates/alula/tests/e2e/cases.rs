//! Runs every folder of `tests/cases` against one platform.

use std::io::Write as _;
use std::path::PathBuf;

use crate::case::Case;
use crate::platform::{Platform, root};

#[tokio::test]
async fn every_folder_of_cases() {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("tests/cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    if let Ok(only) = std::env::var("CASE") {
        folders.retain(|folder| folder.ends_with(&only));
    }
    assert!(!folders.is_empty(), "there are no cases");
    let platform = Platform::start();
    let mut failures = Vec::new();
    for folder in &folders {
        let name = folder.file_name().unwrap().to_string_lossy();
        let case = Case::read(folder);
        if let Some(program) = case.missing() {
            // Past the capture of a test that passes: what was not tried must be seen.
            writeln!(std::io::stderr(), "SKIPPED {name}: {program} is not on this machine").unwrap();
            continue;
        }
        match case.run(folder, &platform).await {
            Ok(()) => println!("ok      {name}"),
            Err(reason) => failures.push(format!("{name}: {reason}")),
        }
    }
    assert!(failures.is_empty(), "{}\n\nthe platform said:\n{}", failures.join("\n\n"), platform.log());
}
