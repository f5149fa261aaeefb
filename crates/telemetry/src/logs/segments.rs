//! The files: for each function a folder of segments, each begun at the moment in its name.
//!
//! A segment is one JSON object a line. JSON has no line ends inside, so whatever a function writes, a line of the
//! file is a line of the log, and a line torn by a crash spoils nothing but itself: before the first append to a
//! file of an earlier process its last line is ended. Segments are appended to and deleted, never changed.
//!
//! Not synced to the disk: lines survive the end of the process in any way, but the last seconds may not survive a
//! loss of power.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alula_model::{LogLine, Name, Timestamp};

use super::LogOptions;
use super::pending::Function;

/// Files that are kept open; a file beyond these is opened again for each append.
const OPEN_FILES_MAX: usize = 64;
/// How often old segments are looked for, in milliseconds.
const FORGET_EVERY_MS: i64 = 60_000;
/// Holds the last line whole, however large it is and however its text was escaped.
const TAIL_BYTES: u64 = 1024 * 1024;
const SUFFIX: &str = "log";

/// One file of a function's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// When it was begun; no line in it is older than the clock's steps back.
    pub(super) start: Timestamp,
    pub(super) path: PathBuf,
    bytes: u64,
}

/// What the writer knows of all files.
#[derive(Debug)]
pub(super) struct Segments {
    options: LogOptions,
    functions: BTreeMap<Function, Files>,
    open_files: usize,
    forgot_at: Timestamp,
}

#[derive(Debug, Default)]
struct Files {
    /// The oldest first; the last one is appended to.
    segments: VecDeque<Segment>,
    /// The last segment, open at its end.
    file: Option<File>,
    /// Of all segments.
    bytes: u64,
    /// When the last line was written; found out at need for lines of an earlier process.
    newest: Option<Timestamp>,
}

impl Segments {
    /// Finds what is there. A folder that cannot be read is treated as empty and said in the log.
    pub(super) fn open(options: LogOptions, now: Timestamp) -> Self {
        let mut functions = BTreeMap::new();
        let found = list_functions(&options.dir).unwrap_or_else(|error| {
            tracing::error!(%error, "the log files cannot be listed");
            Vec::new()
        });
        for function in found {
            let segments = list(&folder(&options.dir, &function)).unwrap_or_default();
            functions.insert(function, Files::new(segments));
        }
        let mut segments = Self { options, functions, open_files: 0, forgot_at: Timestamp(i64::MIN) };
        segments.forget_old(now);
        segments
    }

    /// Appends lines of one function, then deletes what is over the function's room.
    pub(super) fn append(
        &mut self,
        function: &Function,
        lines: &[LogLine],
        now: Timestamp,
    ) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.open_files >= OPEN_FILES_MAX {
            self.functions.values_mut().for_each(|files| files.file = None);
            self.open_files = 0;
        }
        let segment_bytes_max = self.options.segment_bytes_max.min(self.options.function_bytes_max / 2);
        let folder = folder(&self.options.dir, function);
        let files = self.functions.entry(function.clone()).or_default();
        let was_open = files.file.is_some();
        let written = files.append(&folder, &encode(lines)?, segment_bytes_max, now);
        self.open_files += usize::from(!was_open && files.file.is_some());
        while files.bytes > self.options.function_bytes_max && files.segments.len() > 1 {
            files.delete_oldest();
        }
        written
    }

    /// Deletes what is over the room of all functions together.
    pub(super) fn trim(&mut self) {
        let mut bytes: u64 = self.functions.values().map(|files| files.bytes).sum();
        while bytes > self.options.total_bytes_max {
            let Some(largest) = self.functions.values_mut().max_by_key(|files| files.bytes) else { return };
            bytes -= largest.bytes;
            largest.delete_oldest();
            bytes += largest.bytes;
        }
    }

    /// Deletes segments whose last line is older than the retention, now and then.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        if now < self.forgot_at.plus_millis(FORGET_EVERY_MS) {
            return;
        }
        self.forgot_at = now;
        let horizon = now.plus_millis(self.options.retention_ms.saturating_neg());
        for files in self.functions.values_mut() {
            // A segment ends where the next one starts.
            while files.segments.get(1).is_some_and(|next| next.start < horizon) {
                files.delete_oldest();
            }
            if files.segments.len() == 1 && files.newest() < horizon {
                files.delete_oldest();
            }
        }
        let dir = &self.options.dir;
        self.functions.retain(|function, files| {
            if files.segments.is_empty() {
                // Fails where somebody else put something there, which is then left alone.
                drop(fs::remove_dir(folder(dir, function)));
            }
            !files.segments.is_empty()
        });
    }
}

impl Files {
    fn new(segments: Vec<Segment>) -> Self {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self { segments: segments.into(), file: None, bytes, newest: None }
    }

    fn append(
        &mut self,
        folder: &Path,
        text: &[u8],
        segment_bytes_max: u64,
        now: Timestamp,
    ) -> io::Result<()> {
        let is_full =
            self.segments.back().is_none_or(|last| last.bytes + text.len() as u64 > segment_bytes_max);
        if is_full {
            self.begin(folder, now)?;
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(reopen(&segment.path)?),
        };
        let written = file.write_all(text);
        if written.is_ok() {
            segment.bytes += text.len() as u64;
            self.bytes += text.len() as u64;
            self.newest = Some(now);
        } else {
            // What was half written is taken back; if that fails too, reopening ends the torn line.
            drop(file.set_len(segment.bytes));
            self.file = None;
        }
        written
    }

    /// Begins a new segment; its name is later than that of the one before, also where the clock is not.
    fn begin(&mut self, folder: &Path, now: Timestamp) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let start = self.segments.back().map_or(now, |last| now.max(last.start.plus_millis(1)));
        let path = folder.join(format!("{:013}.{SUFFIX}", start.0));
        self.file = Some(OpenOptions::new().create_new(true).append(true).open(&path)?);
        self.segments.push_back(Segment { start, path, bytes: 0 });
        Ok(())
    }

    fn delete_oldest(&mut self) {
        let Some(oldest) = self.segments.pop_front() else { return };
        self.bytes -= oldest.bytes;
        if self.segments.is_empty() {
            self.file = None;
        }
        if let Err(error) = fs::remove_file(&oldest.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, path = %oldest.path.display(), "an old log file cannot be deleted");
        }
    }

    fn newest(&mut self) -> Timestamp {
        let last = self.segments.back();
        let newest = self.newest.or_else(|| read_newest(&last?.path).ok()?);
        self.newest = newest.or(last.map(|segment| segment.start));
        self.newest.unwrap_or_default()
    }
}

/// The folder of a function's segments. Names are such that they cannot lead elsewhere.
pub(super) fn folder(dir: &Path, (namespace, function): &Function) -> PathBuf {
    dir.join(namespace.as_str()).join(function.as_str())
}

/// The segments in a function's folder, the oldest first; none where there is no folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let start = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let is_segment = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        if let (Some(start), true) = (start, is_segment)
            && let Ok(metadata) = fs::metadata(&path)
        {
            segments.push(Segment { start: Timestamp(start), path, bytes: metadata.len() });
        }
    }
    segments.sort_by_key(|segment| segment.start);
    Ok(segments)
}

/// The functions of a namespace that have a folder.
pub(super) fn list_names(dir: &Path) -> io::Result<Vec<Name>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_str().and_then(|name| Name::new(name).ok())));
    names.filter_map(Result::transpose).collect()
}

fn list_functions(dir: &Path) -> io::Result<Vec<Function>> {
    let mut functions = Vec::new();
    for namespace in list_names(dir)? {
        let names = list_names(&dir.join(namespace.as_str()))?;
        functions.extend(names.into_iter().map(|name| (namespace.clone(), name)));
    }
    Ok(functions)
}

fn encode(lines: &[LogLine]) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(lines.iter().map(|line| line.text.len() + 256).sum());
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Opens a segment for appending and ends its last line if that was torn.
fn reopen(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// When the last whole line of a segment was written.
fn read_newest(path: &Path) -> io::Result<Option<Timestamp>> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail.rsplit(|byte| *byte == b'\n').find_map(super::search::line_at))
}
