//! What a build writes: passed on line by line, and kept up to a limit.

use std::collections::VecDeque;

use bytes::Bytes;

/// Longest line that is kept whole; progress bars are one endless line.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most that is kept of one build: what comes later is only shown live, except for the end.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lines of the end that are kept in any case, and shown with a failure.
const TAIL_LINES: usize = 40;

/// The log of a running build.
pub(crate) struct BuildLog<F> {
    show: F,
    /// The line that has not ended yet.
    unfinished: Vec<u8>,
    kept: String,
    left_out: u64,
    tail: VecDeque<String>,
}

impl<F: FnMut(&str)> BuildLog<F> {
    /// `show` is given every line as soon as it has ended.
    pub(crate) fn new(show: F) -> Self {
        Self { show, unfinished: Vec::new(), kept: String::new(), left_out: 0, tail: VecDeque::new() }
    }

    /// Takes what the build wrote, wherever lines begin and end in it.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.gather(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.gather(bytes);
    }

    /// Ends a last line that has no end.
    pub(crate) fn finish(&mut self) {
        if !self.unfinished.is_empty() {
            self.end_line();
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// All that is kept.
    pub(crate) fn into_bytes(self) -> Bytes {
        let mut text = self.kept;
        if self.left_out > 0 {
            let ended = self.tail.len().min(usize::try_from(self.left_out).unwrap_or(usize::MAX));
            text.push_str(&format!("[{} lines are left out here]\n", self.left_out - ended as u64));
            for line in self.tail.iter().skip(self.tail.len() - ended) {
                text.push_str(line);
                text.push('\n');
            }
        }
        Bytes::from(text)
    }

    fn gather(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.unfinished);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\r');
        // A progress bar draws over its own line: the last drawing is the one that stays.
        let text = text.rsplit('\r').next().unwrap_or(text);
        (self.show)(text);
        if self.kept.len() + text.len() < KEPT_BYTES_MAX && self.left_out == 0 {
            self.kept.push_str(text);
            self.kept.push('\n');
        } else {
            self.left_out += 1;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cut() {
        let mut shown = Vec::new();
        let mut log = BuildLog::new(|line: &str| shown.push(line.to_owned()));
        log.write(b"a");
        log.write(b"b\nc\r\n10%\r100%\n\xff\n");
        log.write("x".repeat(LINE_BYTES_MAX + 5).as_bytes());
        log.finish();
        assert_eq!(log.tail().last().map(String::len), Some(LINE_BYTES_MAX));
        assert!(log.into_bytes().starts_with("ab\nc\n100%\n\u{fffd}\n".as_bytes()));
        assert_eq!(shown[..4], ["ab", "c", "100%", "\u{fffd}"]);
    }

    #[test]
    fn a_flood_keeps_its_begin_and_its_end() {
        let mut log = BuildLog::new(|_: &str| {});
        let line = "y".repeat(1_000);
        for number in 0..10_000 {
            log.write(format!("{number} {line}\n").as_bytes());
        }
        let kept = String::from_utf8(log.into_bytes().to_vec()).unwrap();
        assert!(kept.len() < KEPT_BYTES_MAX + TAIL_LINES * 1_100 && kept.starts_with("0 y"));
        assert!(kept.contains("lines are left out here]") && kept.contains("\n9999 y"));
    }
}
