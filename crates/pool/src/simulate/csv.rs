//! Traces as CSV, in the shape of the public Azure Functions traces of 2019.
//!
//! Invocations: `HashOwner,HashApp,HashFunction,Trigger,1,...,1440`, a row for each function with its calls in every
//! minute of a day; several files are several days in a row. Optional: durations, of which `HashOwner`, `HashApp`,
//! `HashFunction` and `Average` (milliseconds) are read, and memory, of which `HashOwner`, `HashApp` and
//! `AverageAllocatedMb` are; memory is that of an app, and taken for that of each of its functions. Fields are not
//! quoted in these files, and quotes are not understood. What is wrong is told with file, line and column.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::trace::{CALLED_MINUTES_MAX, FUNCTIONS_MAX, MINUTES_MAX, PART_FUNCTIONS, Part, Trace, Traits};

/// Columns before the minutes.
const COLUMNS: [&str; 4] = ["HashOwner", "HashApp", "HashFunction", "Trigger"];

/// What some spreadsheets put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest line: four names and a number of ten digits for every minute of a month.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// The files of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Invocations, one file after the other in time.
    pub invocations: Vec<PathBuf>,
    /// How long calls take.
    pub durations: Option<PathBuf>,
    /// How much memory apps take.
    pub memory: Option<PathBuf>,
}

/// A trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}: line {line}, column {column}: {reason}", path.display())]
    Malformed {
        /// In which file.
        path: PathBuf,
        /// Which line, from one.
        line: u64,
        /// Which field of it, from one.
        column: usize,
        /// What is wrong and what is expected.
        reason: String,
    },
}

/// Names as hashes: a collision of two among millions is less likely than a broken disk.
type Key = u64;

/// Reads a trace; `tell` gets the bytes that were read.
pub fn read(inputs: &Inputs, tell: &mut dyn FnMut(u64)) -> Result<Trace, TraceError> {
    let mut reading = Reading { tell, trace: Trace::default(), keys: HashMap::new(), called_minutes: 0 };
    for path in &inputs.invocations {
        reading.invocations(path)?;
    }
    if let Some(path) = &inputs.durations {
        let durations = reading.column(path, &COLUMNS[..3], "Average")?;
        reading.apply(|keys| durations.get(&keys.function), |traits, value| traits.duration_ms = value);
    }
    if let Some(path) = &inputs.memory {
        let memory = reading.column(path, &COLUMNS[..2], "AverageAllocatedMb")?;
        reading.apply(|keys| memory.get(&keys.app), |traits, value| traits.memory_mb = value);
    }
    reading.trace.shrink();
    Ok(reading.trace)
}

struct Reading<'a> {
    tell: &'a mut dyn FnMut(u64),
    trace: Trace,
    /// The functions by their key.
    keys: HashMap<Key, Place>,
    called_minutes: usize,
}

/// Where a function is in the trace, and the key of its app.
#[derive(Clone, Copy)]
struct Place {
    index: u32,
    app: Key,
}

/// The keys by which other files name a function.
struct Keys {
    app: Key,
    function: Key,
}

impl Reading<'_> {
    fn invocations(&mut self, path: &Path) -> Result<(), TraceError> {
        let first = self.trace.minutes();
        let mut lines = Lines::open(path)?;
        let header = lines.header(self.tell)?;
        let minutes = header.len().saturating_sub(COLUMNS.len());
        check_header(&lines, &header, minutes)?;
        if first + minutes > MINUTES_MAX {
            return Err(
                lines.wrong(COLUMNS.len() + minutes, format!("more than {MINUTES_MAX} minutes in all"))
            );
        }
        self.trace.lengthen(minutes);
        while lines.next(self.tell)? {
            self.row(&lines, first, minutes)?;
        }
        Ok(())
    }

    /// One function's row.
    fn row(&mut self, lines: &Lines, first: usize, minutes: usize) -> Result<(), TraceError> {
        let mut fields = lines.fields();
        let mut names = [&b""[..]; COLUMNS.len()];
        for (column, name) in names.iter_mut().enumerate() {
            *name = fields
                .next()
                .ok_or_else(|| lines.wrong(column + 1, format!("{} is missing", COLUMNS[column])))?;
        }
        let index = self.index(lines, &names)?;
        for minute in 0..minutes {
            let column = COLUMNS.len() + minute + 1;
            let Some(field) = fields.next() else {
                let reason = format!("the line ends here, {} columns are expected", COLUMNS.len() + minutes);
                return Err(lines.wrong(column, reason));
            };
            let times = whole_number(field)
                .ok_or_else(|| lines.wrong(column, format!("{} is not a number of calls", shown(field))))?;
            self.called_minutes += usize::from(times > 0);
            self.trace.add(first + minute, index as usize, times);
        }
        if self.called_minutes > CALLED_MINUTES_MAX {
            return Err(lines.wrong(1, format!("more than {CALLED_MINUTES_MAX} minutes with calls in all")));
        }
        match fields.next() {
            Some(_) => {
                let column = COLUMNS.len() + minutes + 1;
                Err(lines.wrong(column, format!("the header has {} columns only", column - 1)))
            }
            None => Ok(()),
        }
    }

    fn index(&mut self, lines: &Lines, names: &[&[u8]]) -> Result<u32, TraceError> {
        let (app, function) = (key(&names[..2]), key(&names[..3]));
        let place = self.keys.entry(function).or_insert_with(|| {
            let index = self.trace.push(Traits::default());
            Place { index: u32::try_from(index).unwrap_or(u32::MAX), app }
        });
        let index = place.index;
        if index as usize >= FUNCTIONS_MAX {
            return Err(lines.wrong(1, format!("more than {FUNCTIONS_MAX} functions")));
        }
        Ok(index)
    }

    /// One number of every row of a file, by the names in the row.
    fn column(&mut self, path: &Path, names: &[&str], wanted: &str) -> Result<HashMap<Key, f32>, TraceError> {
        let mut lines = Lines::open(path)?;
        let header = lines.header(self.tell)?;
        let find = |name: &str| {
            header
                .iter()
                .position(|field| field == name)
                .ok_or_else(|| lines.wrong(1, format!("the header has no column {name}")))
        };
        let places = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        let value_at = find(wanted)?;
        let mut values = HashMap::new();
        while lines.next(self.tell)? {
            let fields: Vec<&[u8]> = lines.fields().collect();
            let field = |at: usize| {
                fields.get(at).copied().ok_or_else(|| {
                    lines.wrong(at + 1, format!("the line ends here, {} columns are expected", header.len()))
                })
            };
            let names = places.iter().map(|at| field(*at)).collect::<Result<Vec<_>, _>>()?;
            let text = field(value_at)?;
            let value = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<f32>().ok());
            let value = value.filter(|value| value.is_finite() && *value >= 0.0);
            let value =
                value.ok_or_else(|| lines.wrong(value_at + 1, format!("{} is not a number", shown(text))))?;
            values.insert(key(&names), value);
        }
        Ok(values)
    }

    fn apply<'v>(&mut self, value_of: impl Fn(&Keys) -> Option<&'v f32>, set: impl Fn(&mut Traits, f32)) {
        for (function, place) in &self.keys {
            let value = value_of(&Keys { app: place.app, function: *function });
            if let (Some(value), Some(traits)) = (value, self.trace.traits_mut(place.index as usize)) {
                set(traits, *value);
            }
        }
    }
}

fn check_header(lines: &Lines, header: &[String], minutes: usize) -> Result<(), TraceError> {
    for (index, expected) in COLUMNS.iter().enumerate() {
        if header.get(index).map(String::as_str) != Some(expected) {
            return Err(lines.wrong(index + 1, format!("the column {expected} is expected here")));
        }
    }
    for minute in 1..=minutes.max(1) {
        let index = COLUMNS.len() + minute - 1;
        if header.get(index).is_none_or(|field| field.parse() != Ok(minute)) {
            return Err(lines.wrong(index + 1, format!("the column of minute {minute} is expected here")));
        }
    }
    Ok(())
}

fn key(names: &[&[u8]]) -> Key {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(names)
}

/// A number of calls; nothing at all is none.
fn whole_number(field: &[u8]) -> Option<u32> {
    field.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A field for a message: what is not text or is too long is cut.
fn shown(field: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(field).chars().take(40).collect();
    format!("{text:?}")
}

/// The lines of a file, one at a time.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, TraceError> {
        let file =
            File::open(path).map_err(|source| TraceError::Unreadable { path: path.to_owned(), source })?;
        let reader = BufReader::with_capacity(256 * 1024, file);
        Ok(Self { path: path.to_owned(), reader, line: Vec::new(), number: 0 })
    }

    fn header(&mut self, tell: &mut dyn FnMut(u64)) -> Result<Vec<String>, TraceError> {
        if !self.next(tell)? {
            self.number = 1;
            return Err(self.wrong(1, "the file is empty, a header is expected".to_owned()));
        }
        if self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(self.fields().map(|field| String::from_utf8_lossy(field).into_owned()).collect())
    }

    /// Reads the next line that has anything in it; false at the end.
    fn next(&mut self, tell: &mut dyn FnMut(u64)) -> Result<bool, TraceError> {
        loop {
            self.line.clear();
            let mut limited = io::Read::take(&mut self.reader, LINE_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut self.line);
            let count = read.map_err(|source| TraceError::Unreadable { path: self.path.clone(), source })?;
            self.number += 1;
            tell(count as u64);
            if count == 0 {
                return Ok(false);
            }
            if count as u64 == LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                return Err(self.wrong(1, format!("the line is longer than {LINE_BYTES_MAX} bytes")));
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(true);
            }
        }
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.line.split(|byte| *byte == b',')
    }

    fn wrong(&self, column: usize, reason: String) -> TraceError {
        TraceError::Malformed { path: self.path.clone(), line: self.number, column, reason }
    }
}

/// Writes a trace in the same shape, a row for every function: invocations to the first, durations to the second and
/// memory to the third of `outputs`.
pub fn write(trace: &Trace, outputs: [&mut dyn Write; 3]) -> io::Result<()> {
    let [invocations, durations, memory] = outputs;
    let minutes = trace.minutes();
    write!(invocations, "{}", COLUMNS.join(","))?;
    (1..=minutes).try_for_each(|minute| write!(invocations, ",{minute}"))?;
    writeln!(invocations)?;
    writeln!(durations, "HashOwner,HashApp,HashFunction,Average")?;
    writeln!(memory, "HashOwner,HashApp,AverageAllocatedMb")?;
    for (index, part) in trace.parts().iter().enumerate() {
        write_part(
            part,
            index * PART_FUNCTIONS,
            minutes,
            [&mut *invocations, &mut *durations, &mut *memory],
        )?;
    }
    Ok(())
}

fn write_part(part: &Part, first: usize, minutes: usize, outputs: [&mut dyn Write; 3]) -> io::Result<()> {
    let [invocations, durations, memory] = outputs;
    let mut rows: Vec<Vec<(u32, u32)>> = vec![Vec::new(); part.functions.len()];
    for (minute, called) in part.minutes.iter().enumerate() {
        for called in called.called() {
            rows[called.function as usize].push((u32::try_from(minute).unwrap_or(u32::MAX), called.times));
        }
    }
    for (index, (traits, calls)) in part.functions.iter().zip(rows).enumerate() {
        let index = first + index;
        writeln!(durations, "owner,app{index},function{index},{}", traits.duration_ms)?;
        writeln!(memory, "owner,app{index},{}", traits.memory_mb)?;
        write!(invocations, "owner,app{index},function{index},generated")?;
        let mut calls = calls.into_iter().peekable();
        for minute in 0..minutes {
            let mut times = 0;
            while let Some((_, more)) = calls.next_if(|(at, _)| *at as usize == minute) {
                times += more;
            }
            write!(invocations, ",{times}")?;
        }
        writeln!(invocations)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
