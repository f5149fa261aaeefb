//! The control API keeps to its own document, whatever is asked: requests are made up from the document by the client
//! `schemathesis`, and every answer is held against it.

use std::process::Command;

use crate::platform::{Platform, folder_function, python_clients, root, text};

/// Requests are made up from this, so that a failure comes again.
const SEED: &str = "1";

#[test]
fn no_request_finds_a_defect_or_an_answer_that_is_not_in_the_document() {
    let Some(programs) = python_clients("schemathesis") else { return };
    let platform = Platform::start();
    folder_function(&platform, "hello", &[("hello.sh", "#!/bin/sh\necho hello\n")]);
    let url = format!("http://127.0.0.1:{}", platform.control_port);
    let ended = Command::new(programs.join("schemathesis"))
        .arg("--config-file")
        .arg(root().join("tests/clients/schemathesis/schemathesis.toml"))
        .args(["run", &format!("{url}/openapi.json"), "--url", &url, "--seed", SEED, "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {}", platform.token())])
        .current_dir(&platform.data_dir)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}\n{}", text(&ended.stdout), platform.log());
}
