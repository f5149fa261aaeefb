//! Throws mutations of the seeds at every target.
#![allow(clippy::unwrap_used, reason = "tests")]

use alula_fuzz::{TARGETS, Target, target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Set(index, byte) => {
                let at = at(index);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Self::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(index, count) => {
                let at = at(index);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Repeat(index, count) => {
                let at = at(index);
                let piece = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let special = vec![0u8, 1, 9, 10, 13, 32, 34, 37, 42, 46, 47, 127, 128, 255];
    let byte = prop_oneof![any::<u8>(), select(special)];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(index, byte)| Change::Set(index, byte)),
        (any::<Index>(), vec(byte, 1..9)).prop_map(|(index, more)| Change::Insert(index, more)),
        (any::<Index>(), 1..9usize).prop_map(|(index, count)| Change::Remove(index, count)),
        (any::<Index>(), 1..65usize).prop_map(|(index, count)| Change::Repeat(index, count)),
    ]
}

fn input(target: Target) -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).chain([Vec::new()]).collect();
    (select(seeds), vec(change(), 0..12)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    })
}

fn throw(name: &str) {
    let target = target(name).unwrap();
    target.seeds.iter().for_each(|seed| (target.take)(seed));
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner
        .run(&input(target), |bytes| {
            (target.take)(&bytes);
            Ok(())
        })
        .unwrap();
}

macro_rules! thrown_at {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            throw(stringify!($name));
        })+

        #[test]
        fn every_target_is_thrown_at() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
        }
    };
}

thrown_at!(archive, manifest, router, target_uri, cron, frames, lambda_api);
