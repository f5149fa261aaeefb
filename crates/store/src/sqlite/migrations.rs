//! Versions of a database file's tables.
//!
//! A migration is a numbered script that makes version `n` of version `n - 1`. Scripts are never changed once they
//! were released; they run in one transaction with the note that they ran, so an interrupted upgrade starts anew.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{Error, Result};

/// All scripts of one file; the first makes version 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migrations(pub(super) &'static [&'static str]);

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
        for script in self.0.iter().skip(found as usize) {
            transaction.execute_batch(script)?;
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
        Migrations(&[ONE]).apply(&mut connection).unwrap();
        for _ in 0..2 {
            Migrations(&[ONE, TWO]).apply(&mut connection).unwrap();
            assert_eq!(sum(&connection), 8);
        }
        assert_eq!(Migrations(&[ONE]).apply(&mut connection), Err(Error::TooNew { found: 2, known: 1 }));
        assert_eq!(sum(&connection), 8);
    }

    #[test]
    fn a_script_that_fails_leaves_the_old_version() {
        const BROKEN: &str = "ALTER TABLE a ADD COLUMN y INTEGER; SELECT no_such_function();";
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations(&[ONE]).apply(&mut connection).unwrap();
        assert!(Migrations(&[ONE, BROKEN]).apply(&mut connection).is_err());
        Migrations(&[ONE, TWO]).apply(&mut connection).unwrap();
        assert_eq!(sum(&connection), 8);
    }
}
