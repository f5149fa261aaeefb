//! The edges between crates: what ARCHITECTURE.md draws and what the manifests say must be the same.
//!
//! The document has a table under the heading `## Edges` with a row per crate: its name and the crates it may depend
//! on. A new edge is a decision, so it is made there first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Finding;

type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path) -> Vec<Finding> {
    let document = Path::new("ARCHITECTURE.md");
    let drawn = drawn(&std::fs::read_to_string(root.join(document)).unwrap_or_default());
    let mut findings = Vec::new();
    for (name, actual) in actual(root) {
        let Some(allowed) = drawn.get(&name) else {
            findings.push(Finding::new(document, None, format!("the table of edges has no row for {name}")));
            continue;
        };
        for edge in actual.difference(allowed) {
            let advice =
                format!("depends on {edge}, which ARCHITECTURE.md does not draw: decide there first");
            findings.push(Finding::new(&Path::new("crates").join(&name).join("Cargo.toml"), None, advice));
        }
        for edge in allowed.difference(&actual) {
            findings.push(Finding::new(
                document,
                None,
                format!("draws {name} -> {edge}, which does not exist"),
            ));
        }
    }
    findings
}

/// Rows such as `| pool | model, runtime |` under `## Edges`.
fn drawn(document: &str) -> Edges {
    let section = document.split("## Edges").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter(|cells| cells.len() >= 2 && !cells[0].starts_with('-') && cells[0] != "crate")
        .map(|cells| {
            let edges =
                cells[1].split(',').map(str::trim).filter(|edge| !edge.is_empty() && *edge != "nothing");
            (cells[0].to_owned(), edges.map(ToOwned::to_owned).collect())
        })
        .collect()
}

/// The dependencies of every crate on others of this repository; those of tests do not count.
fn actual(root: &Path) -> Edges {
    let mut edges = Edges::new();
    let folders = std::fs::read_dir(root.join("crates")).into_iter().flatten().flatten();
    for folder in folders {
        let manifest = std::fs::read_to_string(folder.path().join("Cargo.toml")).unwrap_or_default();
        let Ok(manifest) = manifest.parse::<toml::Table>() else { continue };
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let ours = dependencies.into_iter().flat_map(toml::Table::keys);
        let ours = ours.filter_map(|name| name.strip_prefix("alula-")).map(ToOwned::to_owned).collect();
        edges.insert(folder.file_name().to_string_lossy().into_owned(), ours);
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table() {
        let edges = drawn(
            "x\n## Edges\n\n| crate | uses |\n|---|---|\n| model | nothing |\n| pool | model, runtime |\n## Next\n| a | b |\n",
        );
        assert_eq!(edges.len(), 2);
        assert!(edges["model"].is_empty());
        assert_eq!(edges["pool"].len(), 2);
    }
}
