//! The numbers of the file of records: those that are never given twice, and how much came in and went.

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::Carried;
use crate::Result;

/// The writer carries them, so they cost one statement a group and not one a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    /// The last revision that was given.
    pub(super) revision: u64,
    /// The number of the last claim.
    pub(super) claim: u64,
    /// Messages and dead letters that came in.
    pub(super) accepted: u64,
    /// Messages that were settled as done.
    pub(super) done: u64,
    /// Messages that were cancelled.
    pub(super) cancelled: u64,
    /// Dead letters that were purged.
    pub(super) purged: u64,
}

impl Carried for Counters {
    fn load(connection: &Connection) -> Result<Self> {
        let mut read = connection.prepare("SELECT value FROM counters WHERE name = ?1")?;
        let mut read = |name| -> Result<u64> {
            let found = read.query_row([name], |row| row.get(0)).optional()?;
            found.ok_or_else(|| crate::Error::Damaged { detail: format!("the counter {name} is missing") })
        };
        Ok(Self {
            revision: read("revision")?,
            claim: read("claim")?,
            accepted: read("accepted")?,
            done: read("done")?,
            cancelled: read("cancelled")?,
            purged: read("purged")?,
        })
    }

    fn save(&self, connection: &Connection) -> Result<()> {
        let Self { revision, claim, accepted, done, cancelled, purged } = self;
        let mut save = connection.prepare_cached(
            "UPDATE counters SET value = CASE name
                 WHEN 'revision' THEN ?1 WHEN 'claim' THEN ?2 WHEN 'accepted' THEN ?3
                 WHEN 'done' THEN ?4 WHEN 'cancelled' THEN ?5 WHEN 'purged' THEN ?6 END",
        )?;
        save.execute(params![revision, claim, accepted, done, cancelled, purged])?;
        Ok(())
    }
}
