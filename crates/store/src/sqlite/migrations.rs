//! Versions of a database file's tables.
//!
//! A migration is a numbered step, a script or code, that makes version `n` of version `n - 1`. Steps are never changed
//! once they were released; they run in one transaction with the note that they ran, so an interrupted upgrade starts
//! anew.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{Error, Result};

/// All steps of one file; the first makes version 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migrations(pub(super) &'static [Step]);

/// What makes a version of the one before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Script(&'static str),
    /// For what SQL cannot say.
    Code(fn(&Connection) -> Result<()>),
}

impl Migrations {
    /// Brings the file to the newest version, or fails with [`Error::TooNew`].
    pub(super) fn apply(self, connection: &mut Connection) -> Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT")?;
        let found: u32 = transaction
            .query_row("SELECT version FROM schema_version", [], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        let known = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if found > known {
            return Err(Error::TooNew { found, known });
        }
        for step in self.0.iter().skip(found as usize) {
            match step {
                Step::Script(script) => transaction.execute_batch(script)?,
                Step::Code(run) => run(&transaction)?,
            }
        }
        if found < known {
            transaction.execute("DELETE FROM schema_version", [])?;
            transaction.execute("INSERT INTO schema_version (version) VALUES (?1)", [known])?;
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "CREATE TABLE a (x INTEGER NOT NULL) STRICT; INSERT INTO a VALUES (1);";
    const TWO: &str = "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7;";

    fn sum(connection: &Connection) -> i64 {
        connection.query_row("SELECT sum(x + y) FROM a", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_upgraded_and_a_newer_one_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations(&[Step::Script(ONE)]).apply(&mut connection).unwrap();
        for _ in 0..2 {
            Migrations(&[Step::Script(ONE), Step::Script(TWO)]).apply(&mut connection).unwrap();
            assert_eq!(sum(&connection), 8);
        }
        assert_eq!(
            Migrations(&[Step::Script(ONE)]).apply(&mut connection),
            Err(Error::TooNew { found: 2, known: 1 })
        );
        assert_eq!(sum(&connection), 8);
    }

    #[test]
    fn a_script_that_fails_leaves_the_old_version() {
        const BROKEN: &str = "ALTER TABLE a ADD COLUMN y INTEGER; SELECT no_such_function();";
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations(&[Step::Script(ONE)]).apply(&mut connection).unwrap();
        assert!(Migrations(&[Step::Script(ONE), Step::Script(BROKEN)]).apply(&mut connection).is_err());
        Migrations(&[Step::Script(ONE), Step::Script(TWO)]).apply(&mut connection).unwrap();
        assert_eq!(sum(&connection), 8);
    }
}
