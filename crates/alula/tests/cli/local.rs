//! What needs no platform: templates, profiles, completions; and where a token is found.

use crate::fake::{Fake, Says, TOKEN};
use crate::terminal::Terminal;

#[test]
fn new_makes_a_function_and_never_overwrites() {
    let terminal = Terminal::new();
    let outcome = terminal.run(&["new", "hello", "--runtime", "python"]).exits(0);
    assert_eq!(outcome.text(), "hello\n");
    let manifest = std::fs::read_to_string(terminal.folder().join("hello/alula.toml")).unwrap();
    assert!(manifest.contains("name = \"hello\"") && manifest.contains("runtime = \"python\""), "{manifest}");
    assert!(terminal.folder().join("hello/main.py").exists());
    let outcome = terminal.run(&["new", "hello"]).exits(2);
    assert!(outcome.stderr.contains("is there already"), "{}", outcome.stderr);
    terminal.run(&["new", "x", "--runtime", "cobol"]).exits(2);
    terminal.run(&["new", "Bad Name"]).exits(2);
}

#[test]
fn the_templates_can_be_listed_for_programs() {
    let json = Terminal::new().run(&["new", "--list", "--json"]).exits(0).text();
    let runtimes: Vec<String> = json
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["runtime"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(runtimes.contains(&"python".to_owned()) && runtimes.contains(&"node".to_owned()), "{runtimes:?}");
}

#[test]
fn a_profile_names_a_platform() {
    let fake = Fake::start().on("GET /v1/functions", Says::json(r#"{"functions":[]}"#));
    let terminal = Terminal::new();
    let add =
        ["config", "profile", "add", "prod", "--url", &fake.url(), "--token", TOKEN, "--namespace", "shop"];
    terminal.run(&add).exits(0);
    terminal.run(&["list"]).exits(0);
    assert_eq!(fake.asked_once().query["namespace"], "shop");
    let listed = terminal.run(&["config", "profile", "list"]).exits(0).text();
    assert!(listed.contains("prod") && listed.contains("current") && !listed.contains(TOKEN), "{listed}");
    terminal.run(&["config", "profile", "use", "nobody"]).exits(2);
    terminal.run(&["config", "profile", "remove", "prod"]).exits(0);
}

#[test]
fn the_token_of_this_machine_is_found_in_the_data_directory() {
    let fake = Fake::start().on("GET /v1/functions", Says::json(r#"{"functions":[]}"#));
    let terminal = Terminal::new().with("ALULA_URL", &fake.url());
    terminal.write("data/admin.token", &format!("{TOKEN}\n"));
    terminal.run(&["list"]).exits(0);
}

#[test]
fn completions_name_the_commands() {
    let terminal = Terminal::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(terminal.run(&["completions", shell]).exits(0).text().contains("rollback"), "{shell}");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    let terminal = Terminal::new();
    for command in [
        "up",
        "new",
        "deploy",
        "dev",
        "invoke",
        "list",
        "describe",
        "logs",
        "runs",
        "versions",
        "diff",
        "rollback",
        "alias",
        "remove",
        "doctor",
        "config",
        "audit",
        "completions",
    ] {
        let help = terminal.run(&[command, "--help"]).exits(0).text();
        assert!(help.contains("Examples:"), "{command}");
    }
    assert!(terminal.run(&["--help"]).exits(0).text().contains("Exit status:"));
}
