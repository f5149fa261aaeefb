//! Rules about documents: links lead somewhere, every error code has its page, the API has its description.

use std::path::Path;

use alula_model::ErrorCode;

use super::Finding;

/// Links of Markdown files to files of the repository must resolve.
pub(super) fn check_links(root: &Path, path: &Path, text: &str) -> Vec<Finding> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_outside = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !is_outside && !root.join(folder).join(target).exists() {
                findings.push(Finding::new(
                    path,
                    Some(index + 1),
                    format!("the link to {target} leads nowhere"),
                ));
            }
        }
    }
    findings
}

/// Clients are generated from the description, so it stands in the tree beside the code that it must agree with.
pub(super) fn check_api_description(root: &Path) -> Vec<Finding> {
    let page = Path::new("docs/openapi.json");
    let advice = "is missing: run the tests of `alula-api`, which say how to write it";
    if root.join(page).is_file() { Vec::new() } else { vec![Finding::new(page, None, advice)] }
}

/// Every code that a caller can meet has a page that says the cause and the remedy, and a line in the index with its
/// status.
pub(super) fn check_error_pages(root: &Path) -> Vec<Finding> {
    let index = Path::new("docs/errors/README.md");
    let listed = std::fs::read_to_string(root.join(index)).unwrap_or_default();
    let mut findings = Vec::new();
    for code in ErrorCode::ALL {
        let page = format!("docs/errors/{code}.md");
        if !root.join(&page).is_file() {
            let advice = "write this page: what happened, whose fault, what to do";
            findings.push(Finding::new(Path::new(&page), None, advice));
        }
        let line = format!("[{code}]({code}.md): status {}", code.http_status());
        if !listed.contains(&line) {
            findings.push(Finding::new(index, None, format!("must say `{line}`, as the code does")));
        }
    }
    findings
}
