//! Rules about metrics: each says what it counts and by which labels, under a name that follows the format's customs.
//!
//! All of them stand as constants in one file, so that this can be read off.

use std::path::Path;

use super::Finding;

/// Where the metrics are named.
const NAMES: &str = "crates/telemetry/src/metrics/names.rs";
/// What every name begins with.
const PREFIX: &str = "alula_";

pub(super) fn check(root: &Path) -> Vec<Finding> {
    let text = std::fs::read_to_string(root.join(NAMES)).unwrap_or_default();
    let findings = breaches(&text);
    if text.contains(": Description =") {
        return findings;
    }
    vec![Finding::new(Path::new(NAMES), None, "no metric is described here: has the file moved?")]
}

fn breaches(text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    let constants = (0..lines.len()).filter(|index| lines[*index].contains(": Description ="));
    for index in constants {
        let mut tell = |advice: &str| {
            findings.push(Finding::new(Path::new(NAMES), Some(index + 1), advice));
        };
        let above = index.checked_sub(1).map_or("", |above| lines[above]);
        if !above.starts_with("/// Labels: ") && !above.starts_with("/// No labels") {
            tell("say above it which labels it has: `/// Labels: ...` or `/// No labels.`");
        }
        let end = lines[index..].iter().position(|line| line.ends_with(';')).unwrap_or(0);
        let constant = lines[index..=index + end].join(" ");
        let mut texts = constant.split('"').skip(1).step_by(2);
        if !texts.next().is_some_and(|name| name.starts_with(PREFIX)) {
            tell("its name begins with `alula_`");
        }
        if !texts.next().is_some_and(|help| help.split_whitespace().count() > 1 && !help.ends_with('.')) {
            tell("describe what it counts, in words without a full stop");
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_not_described() {
        let count = |text: &str| breaches(text).len();
        assert_eq!(
            count("/// No labels.\nconst A: Description =\n    (\"alula_a\", \"Things that were made\");\n"),
            0
        );
        assert_eq!(count("const A: Description = (\"alula_a\", \"Things that were made\");\n"), 1, "labels");
        assert_eq!(count("/// No labels.\nconst A: Description = (\"a\", \"\");\n"), 2, "name and help");
    }
}
