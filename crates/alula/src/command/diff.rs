//! `alula diff`: what changed between two versions, in the spec and in the files.

use alula_sdk::wire::{FieldChange, FileChange, FileChangeKind, VersionDiff};
use clap::Args;

use crate::failure::Result;
use crate::output::{Colour, Tone, printable};
use crate::session::{Session, Target};

/// What `alula diff` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula diff hello           the latest version against the one before it
  alula diff hello 3         version 3 against the latest
  alula diff hello 3 live    version 3 against what the alias live names")]
pub(crate) struct Arguments {
    /// The function
    name: Target,
    /// The earlier side: a number, an alias or latest
    from: Option<String>,
    /// The later side; the latest where it is not named
    to: Option<String>,
}

/// Prints the changes.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let diff = client.diff(arguments.name.whole()?, arguments.from, arguments.to).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&diff)?);
    }
    session.output.say(&format!("{}: version {} -> version {}", arguments.name.name, diff.from, diff.to));
    if diff.spec.is_empty() && diff.files.is_empty() {
        session.output.say("no difference");
    }
    for line in lines(&diff, session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

fn lines(diff: &VersionDiff, colour: Colour) -> Vec<String> {
    let spec = diff.spec.iter().map(|change| field_line(change, colour));
    let files = diff.files.iter().flat_map(|change| file_lines(change, colour));
    spec.chain(files).collect()
}

fn field_line(change: &FieldChange, colour: Colour) -> String {
    let value = |value: &Option<String>| printable(value.as_deref().unwrap_or("(none)"));
    let (from, to) = (value(&change.from), value(&change.to));
    let (from, to) = (colour.paint(Tone::Bad, &from), colour.paint(Tone::Good, &to));
    format!("{}: {from} -> {to}", change.field)
}

fn file_lines(change: &FileChange, colour: Colour) -> Vec<String> {
    let (tone, what) = match change.change {
        FileChangeKind::Added => (Tone::Good, "added"),
        FileChangeKind::Removed => (Tone::Bad, "removed"),
        FileChangeKind::Modified => (Tone::Warn, "modified"),
    };
    let head = format!("{} {}", colour.paint(tone, what), printable(&change.path));
    let text = change.text.iter().flat_map(|text| text.lines()).map(|line| {
        let tone = match line.as_bytes().first() {
            Some(b'+') => Tone::Good,
            Some(b'-') => Tone::Bad,
            Some(b'@') => Tone::Dim,
            _ => Tone::Plain,
        };
        colour.paint(tone, &printable(line))
    });
    std::iter::once(head).chain(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_changes() {
        let field = FieldChange { field: "memory_mb".to_owned(), from: Some("128".to_owned()), to: None };
        let text = Some("@@ -1 +1 @@\n-a\n+b\n".to_owned());
        let file = FileChange { path: "main.py".to_owned(), change: FileChangeKind::Modified, text };
        let diff = VersionDiff { from: 1, to: 2, spec: vec![field], files: vec![file] };
        let expect = ["memory_mb: 128 -> (none)", "modified main.py", "@@ -1 +1 @@", "-a", "+b"];
        assert_eq!(lines(&diff, Colour::Off), expect);
    }
}
