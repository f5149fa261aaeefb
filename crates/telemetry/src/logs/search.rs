//! Searching the files, the newest segment first.
//!
//! A segment covers the time from its own start to the start of the next one of its function. Segments of all
//! functions in question are read in the order of where they end, and the search stops when it has enough lines and
//! no unread segment can hold a newer one. Within a segment, lines are looked at from the end, and only those that
//! contain the bytes of what is asked for are decoded.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use alula_model::{LogLine, Timestamp};
use memchr::memmem::Finder;

use super::query::{LogQuery, QUERY_LINES_MAX};
use super::segments::{self, Segment};

/// Text that one query returns at the most, in bytes; beyond it the oldest lines are left out.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest part of one segment that is read: more than one ever grows to, also with a batch of full lines on top.
const SEGMENT_READ_MAX: u64 = 256 * 1024 * 1024;
/// Lines of several writers may be out of order by as much, in milliseconds.
const DISORDER_MS: i64 = 5_000;

/// The newest lines that match, the oldest of them first.
pub(super) fn search(dir: &Path, query: &LogQuery) -> io::Result<Vec<LogLine>> {
    let limit = query.limit.min(QUERY_LINES_MAX);
    let mut candidates = candidates(dir, query)?;
    candidates.sort_by_key(|(_, end)| Reverse(*end));
    let needles = needles(query);
    // Newest first.
    let mut found: Vec<LogLine> = Vec::new();
    for (segment, end) in candidates {
        let oldest = found.last().filter(|_| found.len() >= limit).map(|line| line.at);
        if limit == 0 || oldest.is_some_and(|oldest| end.plus_millis(DISORDER_MS) < oldest) {
            break;
        }
        found.extend(search_segment(&segment, query, &needles, limit)?);
        // Stable: lines of one function keep their order.
        found.sort_by_key(|line| Reverse(line.at));
        truncate(&mut found, limit);
    }
    found.reverse();
    Ok(found)
}

/// When a stored line was written, without decoding it.
pub(super) fn line_at(line: &[u8]) -> Option<Timestamp> {
    let digits = line.strip_prefix(b"{\"at\":")?;
    let end = memchr::memchr(b',', digits)?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok().map(Timestamp)
}

/// Segments that may hold matching lines, with the moment where each ends.
fn candidates(dir: &Path, query: &LogQuery) -> io::Result<Vec<(Segment, Timestamp)>> {
    let functions = match &query.function {
        Some(function) => vec![function.clone()],
        None => segments::list_names(&dir.join(query.namespace.as_str()))?,
    };
    let mut candidates = Vec::new();
    for function in functions {
        let segments = segments::list(&segments::folder(dir, &(query.namespace.clone(), function)))?;
        let ends: Vec<_> =
            segments.iter().skip(1).map(|next| next.start).chain([Timestamp(i64::MAX)]).collect();
        candidates.extend(segments.into_iter().zip(ends).filter(|(segment, end)| {
            query.until.is_none_or(|until| segment.start < until.plus_millis(DISORDER_MS))
                && query.since.is_none_or(|since| end.plus_millis(DISORDER_MS) >= since)
        }));
    }
    Ok(candidates)
}

/// Bytes that every matching line contains as it is stored.
fn needles(query: &LogQuery) -> Vec<Finder<'static>> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let invocation = query.invocation.as_ref().map(|id| quoted(id.as_str()));
    let instance = query.instance.as_ref().map(|id| quoted(id.as_str()));
    let text = query.text.as_deref().map(|text| {
        let quoted = quoted(text);
        quoted[1..quoted.len() - 1].to_owned()
    });
    let needles = [invocation, instance, text].into_iter().flatten();
    needles.map(|needle| Finder::new(needle.as_bytes()).into_owned()).collect()
}

/// Matching lines of one segment, the newest first.
fn search_segment(
    segment: &Segment,
    query: &LogQuery,
    needles: &[Finder<'static>],
    limit: usize,
) -> io::Result<Vec<LogLine>> {
    let mut text = Vec::new();
    match File::open(&segment.path) {
        Ok(file) => file.take(SEGMENT_READ_MAX).read_to_end(&mut text)?,
        // Deleted since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    let mut rest = text.as_slice();
    while !rest.is_empty() && found.len() < limit {
        let start = memchr::memrchr(b'\n', rest).map_or(0, |end| end + 1);
        let line = &rest[start..];
        rest = &rest[..start.saturating_sub(1)];
        let Some(at) = line_at(line) else { continue };
        if query.since.is_some_and(|since| at.plus_millis(DISORDER_MS) < since) {
            break;
        }
        if !query.covers(at) || !needles.iter().all(|needle| needle.find(line).is_some()) {
            continue;
        }
        // A line that was torn by a crash is no JSON and is passed over.
        found.extend(serde_json::from_slice(line).ok().filter(|line| query.matches(line)));
    }
    Ok(found)
}

fn truncate(found: &mut Vec<LogLine>, limit: usize) {
    found.truncate(limit);
    let mut bytes = 0;
    let kept = found.iter().take_while(|line| {
        bytes += line.text.len();
        bytes <= ANSWER_BYTES_MAX
    });
    let kept = kept.count();
    found.truncate(kept);
}
