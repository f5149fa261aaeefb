//! The house rules as a test that explains itself.
//!
//! Every rule is a function from a file (or from the tree) to findings; a finding names the place, the rule and what
//! to do instead. What the compiler and clippy can check is left to them.

mod documents;
mod edges;
mod metrics;
mod rust_source;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

/// A place that breaks a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The file, relative to the repository.
    pub(crate) path: PathBuf,
    /// The line, where there is one.
    pub(crate) line: Option<usize>,
    /// What is wrong and what to do instead.
    pub(crate) advice: String,
}

impl Finding {
    fn new(path: &Path, line: Option<usize>, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.advice)
    }
}

/// Checks the tree at `root` against every rule.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree::files(root) {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        findings.extend(tree::check(&file, &text));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") if file.starts_with("crates") || file.starts_with("xtask") => {
                findings.extend(rust_source::check(&file, &text));
            }
            Some("md") => findings.extend(documents::check_links(root, &file, &text)),
            _ => {}
        }
    }
    findings.extend(documents::check_error_pages(root));
    findings.extend(documents::check_api_description(root));
    findings.extend(edges::check(root));
    findings.extend(metrics::check(root));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_own_rules() {
        let findings = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let listed: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "house rules are broken:\n{}", listed.join("\n"));
    }
}
