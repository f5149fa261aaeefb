//! Runs as bytes: the content of one row of the table `blocks`.
//!
//! ```text
//! block   = version, strings, entry*
//! strings = count, (length, UTF-8)*             every name once, however many runs have it
//! entry   = length, head, rest                  length 0: a run that was removed; the others keep their numbers
//! head    = id, attempt                         says which run it is, without the strings
//! rest    = fields, [parent id, [caller, [degraded]]]    what an entry has no more bytes for was not known when it was
//!           written
//! ```
//!
//! Numbers are LEB128, signed ones in zigzag; an id of no bytes stands for none where others follow it; texts that repeat are numbers into `strings`, where 0 stands for none. The
//! ids that the platform makes are UUIDs and take 16 bytes. The layout is written down in files: another one needs
//! another version number, and this one has to stay readable.

use std::collections::HashMap;

use alula_model::{
    Degraded, ErrorCode, InstanceId, InvocationId, Name, Phases, Run, RunStatus, Tier, Timestamp,
    TriggerKind, VersionKey,
};
use uuid::Uuid;

use crate::{Error, Result};

const VERSION: u8 = 1;
/// Marks an id that stands as 16 bytes; others stand behind their length plus one.
const ID_IS_UUID: u64 = 0;
/// Stands for no id where more follows: the length of an empty one, plus one.
const NO_ID: u8 = 1;
/// What an entry takes, about; to reserve room.
const ENTRY_BYTES: usize = 72;

/// The runs as a block, numbered from 0 in the given order.
pub(super) fn encode<'a>(runs: impl ExactSizeIterator<Item = Option<&'a Run>>) -> Vec<u8> {
    let mut entries = Vec::with_capacity(runs.len() * ENTRY_BYTES);
    let mut strings = Strings::default();
    let mut entry = Vec::with_capacity(2 * ENTRY_BYTES);
    for run in runs {
        entry.clear();
        if let Some(run) = run {
            put_head(&mut entry, run);
            put_rest(&mut entry, &mut strings, run);
        }
        put_bytes(&mut entries, &entry);
    }
    let mut block = Vec::with_capacity(entries.len() + 64 * strings.texts.len() + 8);
    block.push(VERSION);
    put(&mut block, strings.texts.len() as u64);
    strings.texts.iter().for_each(|text| put_bytes(&mut block, text.as_bytes()));
    block.extend_from_slice(&entries);
    block
}

/// The runs of a block by their numbers, `None` for those that were removed.
pub(super) fn decode(block: &[u8]) -> Result<Vec<Option<Run>>> {
    let (strings, mut entries) = open(block)?;
    let mut runs = Vec::new();
    while !entries.0.is_empty() {
        let mut entry = Reader(entries.bytes()?);
        runs.push(if entry.0.is_empty() { None } else { Some(run(&strings, &mut entry)?) });
    }
    Ok(runs)
}

/// The heads of a block's runs by their numbers, `None` for those that were removed. Two entries with the same head are
/// of the same attempt of the same call.
pub(super) fn heads(block: &[u8]) -> Result<Vec<Option<&[u8]>>> {
    let (_, mut entries) = open(block)?;
    let mut heads = Vec::new();
    while !entries.0.is_empty() {
        let entry = entries.bytes()?;
        let mut rest = Reader(entry);
        if !entry.is_empty() {
            rest.raw_id()?;
            rest.number()?;
        }
        let head = entry.get(..entry.len() - rest.0.len()).filter(|head| !head.is_empty());
        heads.push(head);
    }
    Ok(heads)
}

/// The head of one run.
pub(super) fn head(run: &Run) -> Vec<u8> {
    let mut head = Vec::with_capacity(24);
    put_head(&mut head, run);
    head
}

/// The UUID that `text` is, where it is written as the platform writes them: in lower case, with four hyphens.
pub(super) fn uuid_of(text: &str) -> Option<Uuid> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bits = 0_u128;
    for (place, &character) in text.iter().enumerate() {
        let digit = match character {
            b'-' if HYPHENS.contains(&place) => continue,
            _ if HYPHENS.contains(&place) => return None,
            b'0'..=b'9' => character - b'0',
            b'a'..=b'f' => character - b'a' + 10,
            _ => return None,
        };
        bits = bits << 4 | u128::from(digit);
    }
    Some(Uuid::from_u128(bits))
}

/// Texts in the order of their first use.
#[derive(Default)]
struct Strings<'a> {
    texts: Vec<&'a str>,
    numbers: HashMap<&'a str, u64>,
}

impl<'a> Strings<'a> {
    /// The text's number, from 1.
    fn number(&mut self, text: &'a str) -> u64 {
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u64
        })
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    put(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn put_head(entry: &mut Vec<u8>, run: &Run) {
    put_id(entry, &run.id);
    put(entry, run.attempt.into());
}

fn put_id(entry: &mut Vec<u8>, id: &InvocationId) {
    let id = id.as_str();
    match uuid_of(id) {
        Some(uuid) => {
            put(entry, ID_IS_UUID);
            entry.extend_from_slice(uuid.as_bytes());
        }
        None => {
            put(entry, id.len() as u64 + 1);
            entry.extend_from_slice(id.as_bytes());
        }
    }
}

fn put_rest<'a>(entry: &mut Vec<u8>, strings: &mut Strings<'a>, run: &'a Run) {
    let mut number = |number| put(entry, number);
    number(strings.number(run.key.namespace.as_str()));
    number(strings.number(run.key.function.as_str()));
    number(run.key.version);
    number(strings.number(&run.qualifier));
    number(trigger_number(run.trigger));
    number(status_number(run.status));
    number(run.http_status.unwrap_or(0).into());
    number(run.error.map_or(0, |error| strings.number(error.as_str())));
    number(run.message.as_deref().map_or(0, |message| strings.number(message)));
    number((run.started_at.0 << 1 ^ run.started_at.0 >> 63) as u64);
    let Phases { queue_us, start_us, init_us, run_us, total_us } = run.phases;
    [queue_us, start_us, init_us, run_us, total_us].into_iter().for_each(&mut number);
    number(tier_number(run.tier));
    number(run.instance.as_ref().map_or(0, |instance| strings.number(instance.as_str())));
    number(run.request_bytes);
    number(run.response_bytes);
    let caller = run.caller.as_deref().map(|caller| strings.number(caller));
    let has_more = caller.is_some() || run.degraded.is_some();
    match &run.parent {
        Some(parent) => put_id(entry, parent),
        None if has_more => entry.push(NO_ID),
        None => {}
    }
    if has_more {
        put(entry, caller.unwrap_or(0));
    }
    if let Some(reason) = run.degraded {
        put(entry, degraded_number(reason));
    }
}

/// What the numbers of entries stand for. New values go to the end.
const TRIGGERS: [TriggerKind; 9] = [
    TriggerKind::Http,
    TriggerKind::Api,
    TriggerKind::Schedule,
    TriggerKind::Topic,
    TriggerKind::Webhook,
    TriggerKind::Broker,
    TriggerKind::Bucket,
    TriggerKind::Folder,
    TriggerKind::Destination,
];
const STATUSES: [RunStatus; 5] =
    [RunStatus::Done, RunStatus::Failed, RunStatus::Timeout, RunStatus::Rejected, RunStatus::Cancelled];
const TIERS: [Tier; 4] = [Tier::Warm, Tier::Cold, Tier::Zygote, Tier::Stem];
const DEGRADED: [Degraded; 4] = [Degraded::Limited, Degraded::Broken, Degraded::Overdue, Degraded::Switched];

// The places in the tables, as matches, so that a new value does not compile before it has one.

const fn trigger_number(trigger: TriggerKind) -> u64 {
    match trigger {
        TriggerKind::Http => 0,
        TriggerKind::Api => 1,
        TriggerKind::Schedule => 2,
        TriggerKind::Topic => 3,
        TriggerKind::Webhook => 4,
        TriggerKind::Broker => 5,
        TriggerKind::Bucket => 6,
        TriggerKind::Folder => 7,
        TriggerKind::Destination => 8,
    }
}

const fn status_number(status: RunStatus) -> u64 {
    match status {
        RunStatus::Done => 0,
        RunStatus::Failed => 1,
        RunStatus::Timeout => 2,
        RunStatus::Rejected => 3,
        RunStatus::Cancelled => 4,
    }
}

const fn tier_number(tier: Tier) -> u64 {
    match tier {
        Tier::Warm => 0,
        Tier::Cold => 1,
        Tier::Zygote => 2,
        Tier::Stem => 3,
    }
}

const fn degraded_number(reason: Degraded) -> u64 {
    match reason {
        Degraded::Limited => 0,
        Degraded::Broken => 1,
        Degraded::Overdue => 2,
        Degraded::Switched => 3,
    }
}

fn open(block: &[u8]) -> Result<(Vec<&str>, Reader<'_>)> {
    let (version, rest) = block.split_first().ok_or_else(|| damaged("it is empty"))?;
    if *version != VERSION {
        return Err(damaged("its version is not known"));
    }
    let mut reader = Reader(rest);
    let count = reader.number()?;
    let strings = (0..count).map(|_| reader.text()).collect::<Result<_>>()?;
    Ok((strings, reader))
}

fn run(strings: &[&str], entry: &mut Reader<'_>) -> Result<Run> {
    let id = entry.id()?;
    let attempt = entry.narrow()?;
    let namespace = name(entry.string(strings)?)?;
    let function = name(entry.string(strings)?)?;
    Ok(Run {
        id,
        attempt,
        key: VersionKey { namespace, function, version: entry.number()? },
        qualifier: entry.string(strings)?.unwrap_or_default().to_owned(),
        trigger: entry.coded(&TRIGGERS)?,
        status: entry.coded(&STATUSES)?,
        http_status: Some(entry.narrow()?).filter(|status| *status != 0),
        error: entry.string(strings)?.map(error_code).transpose()?,
        message: entry.string(strings)?.map(str::to_owned),
        started_at: Timestamp(entry.signed()?),
        phases: Phases {
            queue_us: entry.number()?,
            start_us: entry.number()?,
            init_us: entry.number()?,
            run_us: entry.number()?,
            total_us: entry.number()?,
        },
        tier: entry.coded(&TIERS)?,
        instance: entry.string(strings)?.map(InstanceId::new),
        request_bytes: entry.number()?,
        response_bytes: entry.number()?,
        parent: entry.optional_id()?,
        caller: if entry.0.is_empty() { None } else { entry.string(strings)?.map(Into::into) },
        degraded: if entry.0.is_empty() { None } else { Some(entry.coded(&DEGRADED)?) },
    })
}

fn name(text: Option<&str>) -> Result<Name> {
    Name::new(text.unwrap_or_default()).map_err(|_| damaged("a name is none"))
}

fn error_code(text: &str) -> Result<ErrorCode> {
    let known = ErrorCode::ALL.iter().find(|code| code.as_str() == text);
    known.copied().ok_or_else(|| damaged("an error code is not known"))
}

fn damaged(what: &str) -> Error {
    Error::Damaged { detail: format!("a block of runs: {what}") }
}

/// The bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// An id, if there is one: the entry may end here.
    fn optional_id(&mut self) -> Result<Option<InvocationId>> {
        match self.0.split_first() {
            None => Ok(None),
            Some((&NO_ID, rest)) => {
                self.0 = rest;
                Ok(None)
            }
            Some(_) => self.id().map(Some),
        }
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for place in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or_else(|| damaged("a number is cut off"))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number has no end"))
    }

    fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T> {
        T::try_from(self.number()?).map_err(|_| damaged("a number is too large"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| damaged("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.narrow()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged("a text is not UTF-8"))
    }

    fn string<'s>(&mut self, strings: &[&'s str]) -> Result<Option<&'s str>> {
        let Some(index) = self.narrow::<usize>()?.checked_sub(1) else { return Ok(None) };
        strings.get(index).copied().map(Some).ok_or_else(|| damaged("a text is missing"))
    }

    fn coded<T: Copy>(&mut self, table: &[T]) -> Result<T> {
        let index: usize = self.narrow()?;
        table.get(index).copied().ok_or_else(|| damaged("a value is not known"))
    }

    /// The bytes of an id: those of a UUID, or a text.
    fn raw_id(&mut self) -> Result<RawId<'a>> {
        match self.number()? {
            ID_IS_UUID => Ok(RawId::Uuid(self.take(16)?)),
            length => {
                let length = usize::try_from(length - 1).map_err(|_| damaged("an id is too long"))?;
                Ok(RawId::Text(self.take(length)?))
            }
        }
    }

    fn id(&mut self) -> Result<InvocationId> {
        let id = match self.raw_id()? {
            RawId::Uuid(bytes) => {
                let uuid = Uuid::from_slice(bytes).map_err(|_| damaged("an id is cut off"))?;
                InvocationId::new(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
            RawId::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(InvocationId::new),
        };
        id.ok_or_else(|| damaged("an id is none"))
    }
}

enum RawId<'a> {
    Uuid(&'a [u8]),
    Text(&'a [u8]),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_run() -> impl Strategy<Value = Run> {
        let id = prop_oneof![
            "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[-_a-zA-Z0-9]{1,60}"
        ];
        let ids = (id, "[a-z]{1,9}", "[a-z]{1,9}", any::<u64>(), ".{0,9}", 1..u32::MAX);
        let parent = proptest::option::of("[-_a-zA-Z0-9]{1,60}");
        let caller = proptest::option::of("[a-z]{1,9}");
        let texts = (proptest::option::of(".*"), proptest::option::of("i-[0-9]{1,3}"), parent, caller);
        let degraded = 0..=DEGRADED.len();
        let codes =
            (0..TRIGGERS.len(), 0..STATUSES.len(), 0..TIERS.len(), 0..=ErrorCode::ALL.len(), degraded);
        let numbers = (any::<i64>(), proptest::option::of(100..1000u16), any::<[u64; 7]>());
        (ids, texts, codes, numbers).prop_map(
            |(ids, (message, instance, parent, caller), codes, (started_at, http_status, n))| Run {
                id: InvocationId::new(&ids.0).unwrap(),
                key: VersionKey {
                    namespace: Name::new(&ids.1).unwrap(),
                    function: Name::new(&ids.2).unwrap(),
                    version: ids.3,
                },
                qualifier: ids.4,
                attempt: ids.5,
                trigger: TRIGGERS[codes.0],
                status: STATUSES[codes.1],
                tier: TIERS[codes.2],
                error: ErrorCode::ALL.get(codes.3).copied(),
                message,
                instance: instance.as_deref().map(InstanceId::new),
                started_at: Timestamp(started_at),
                http_status,
                phases: Phases {
                    queue_us: n[0],
                    start_us: n[1],
                    init_us: n[2],
                    run_us: n[3],
                    total_us: n[4],
                },
                request_bytes: n[5],
                response_bytes: n[6],
                parent: parent.as_deref().and_then(InvocationId::new),
                caller: caller.as_deref().map(Into::into),
                degraded: DEGRADED.get(codes.4).copied(),
            },
        )
    }

    #[test]
    fn only_ids_in_the_platforms_own_spelling_are_packed() {
        let text = "018bcfe5-6800-7abc-8def-0123456789ab";
        assert_eq!(uuid_of(text).unwrap().to_string(), text);
        for other in [
            &text.to_uppercase(),
            &text.replace('-', ""),
            "018bcfe56-800-7abc-8def-0123456789ab",
            "018bcfe5-6800-7abc-8def-0123456789a-",
            "018bcfe5a6800-7abc-8def-0123456789ab",
            "",
        ] {
            assert_eq!(uuid_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(runs in proptest::collection::vec(proptest::option::of(a_run()), 0..9)) {
            let block = encode(runs.iter().map(Option::as_ref));
            prop_assert_eq!(&decode(&block).unwrap(), &runs);
            let expected: Vec<_> = runs.iter().map(|run| run.as_ref().map(head)).collect();
            let found: Vec<_> = heads(&block).unwrap().into_iter().map(|head| head.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn rubbish_is_refused_or_read_but_never_a_defect(
            runs in proptest::collection::vec(a_run(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut block = encode(runs.iter().map(Some));
            let at = at.index(block.len());
            prop_assert!(at == 0 || decode(&block[..at]).map_or(0, |runs| runs.len()) < runs.len());
            block[at] = byte;
            let _ = (decode(&block), heads(&block));
        }
    }
}
