//! A batch as values of a statement: one array a column, since that is what goes over the wire as it is.

use tokio_postgres::types::ToSql;

use crate::{Batch, Expect, NewDeadLetter, NewMessage, Result, Revision, Write};

/// The two arguments that our functions in the database take a batch as, made of the first 14 placeholders.
macro_rules! batch_arguments {
    () => {
        "array(SELECT ROW(w.*)::new_record
               FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[]) AS w),
         array(SELECT ROW(m.*)::new_message
               FROM unnest($5::text[], $6::text[], $7::bytea[], $8::bigint[], $9::bigint[], $10::integer[],
                           $11::bigint[], $12::bytea[], $13::bytea[], $14::bytea[]) AS m)"
    };
}
pub(super) use batch_arguments;

/// The columns of a batch, in the order of their placeholders.
#[derive(Default)]
pub(super) struct Columns<'a> {
    keys: Vec<&'a str>,
    values: Vec<Option<&'a [u8]>>,
    expected: Vec<Option<i64>>,
    expires_at: Vec<Option<i64>>,
    ids: Vec<&'a str>,
    lanes: Vec<&'a str>,
    ordering_keys: Vec<Option<&'a [u8]>>,
    enqueued_at: Vec<i64>,
    ready_at: Vec<i64>,
    attempts: Vec<i32>,
    dead_at: Vec<Option<i64>>,
    reasons: Vec<Option<&'a [u8]>>,
    trails: Vec<&'a [u8]>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// The columns of a batch, which must be within the limits.
    pub(super) fn new(batch: &'a Batch) -> Result<Self> {
        batch.check_limits()?;
        let mut columns = Self::default();
        batch.writes.iter().for_each(|write| columns.add_write(write));
        for message in &batch.messages {
            columns.add_message(message);
            columns.add_state(0, None, None, &[]);
        }
        for NewDeadLetter { message, attempts, reason, trail } in &batch.dead_letters {
            columns.add_message(message);
            columns.add_state(*attempts, Some(message.available_at.0), Some(reason.as_bytes()), trail);
        }
        Ok(columns)
    }

    /// The values of a statement: the batch, and `others` behind it.
    pub(super) fn values(&'a self, others: &[&'a (dyn ToSql + Sync)]) -> Vec<&'a (dyn ToSql + Sync)> {
        let columns: [&(dyn ToSql + Sync); 14] = [
            &self.keys,
            &self.values,
            &self.expected,
            &self.expires_at,
            &self.ids,
            &self.lanes,
            &self.ordering_keys,
            &self.enqueued_at,
            &self.ready_at,
            &self.attempts,
            &self.dead_at,
            &self.reasons,
            &self.trails,
            &self.bodies,
        ];
        columns.into_iter().chain(others.iter().copied()).collect()
    }

    fn add_write(&mut self, write: &'a Write) {
        self.keys.push(write.key.as_str());
        self.values.push(write.value.as_deref());
        self.expected.push(match write.expect {
            Expect::Any => None,
            Expect::Absent => Some(-1),
            // No record ever has the last revision of all.
            Expect::At(Revision(revision)) => Some(i64::try_from(revision).unwrap_or(i64::MAX)),
        });
        self.expires_at.push(write.expires_at.map(|at| at.0));
    }

    fn add_message(&mut self, message: &'a NewMessage) {
        self.ids.push(&message.id.0);
        self.lanes.push(&message.lane);
        self.ordering_keys.push(message.ordering_key.as_ref().map(String::as_bytes));
        self.enqueued_at.push(message.enqueued_at.0);
        self.ready_at.push(message.available_at.0);
        self.bodies.push(&message.body);
    }

    fn add_state(&mut self, attempts: u32, dead_at: Option<i64>, reason: Option<&'a [u8]>, trail: &'a [u8]) {
        self.attempts.push(i32::try_from(attempts).unwrap_or(i32::MAX));
        self.dead_at.push(dead_at);
        self.reasons.push(reason);
        self.trails.push(trail);
    }
}
