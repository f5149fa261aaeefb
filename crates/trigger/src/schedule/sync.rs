//! From what is deployed to the table: schedules that are new, changed, or no more.

use std::collections::{HashMap, HashSet};

use alula_store::Revision;

use super::Declared;
use super::handle::Shared;
use super::states::{State, Stored};
use crate::{Pause, TriggerKey};

/// From so many new schedules on, all records are read in pages rather than each by itself.
const READ_SINGLY_MAX: usize = 100;

/// What the records say.
type Known = (HashMap<TriggerKey, Stored>, HashMap<TriggerKey, Pause>);

/// Makes the table what `declared` says. Where the store fails in the middle, what was done stands and the rest is done
/// by the next call. No admission may be on its way meanwhile.
pub(super) async fn sync(
    shared: &Shared,
    declared: Vec<Declared>,
    is_first: bool,
) -> alula_store::Result<()> {
    let (fresh, mut gone) = compare(shared, declared);
    let known = match is_first || fresh.len() > READ_SINGLY_MAX {
        true => read_all(shared).await?,
        false => read_singly(shared, &fresh).await?,
    };
    if is_first {
        // What was removed while the platform went down.
        let stated: HashSet<&TriggerKey> = fresh.iter().map(|declared| &declared.key).collect();
        gone.extend(known.0.keys().filter(|key| !stated.contains(key)).cloned());
    }
    take_in(shared, fresh, known).await?;
    shared.states.forget(&gone).await?;
    let mut table = shared.table();
    gone.iter().for_each(|key| table.remove(key));
    Ok(())
}

/// Which schedules have to be looked up, and which are there no more. The others are restated.
fn compare(shared: &Shared, declared: Vec<Declared>) -> (Vec<Declared>, Vec<TriggerKey>) {
    let mut table = shared.table();
    let stated: HashSet<TriggerKey> = declared.iter().map(|declared| declared.key.clone()).collect();
    let gone = table.entries().map(|entry| &entry.declared.key).filter(|key| !stated.contains(key));
    let gone = gone.cloned().collect();
    let mut fresh = Vec::new();
    for declared in declared {
        match table.get(&declared.key) {
            Some(entry) if entry.declared.is_same_as(&declared) || entry.stored.state.is_of(&declared) => {
                table.restate(declared);
            }
            _ => fresh.push(declared),
        }
    }
    (fresh, gone)
}

async fn read_all(shared: &Shared) -> alula_store::Result<Known> {
    let pauses = shared.pauses.all().await?.into_iter().collect();
    Ok((shared.states.all().await?, pauses))
}

async fn read_singly(shared: &Shared, fresh: &[Declared]) -> alula_store::Result<Known> {
    let mut known = Known::default();
    for Declared { key, .. } in fresh {
        known.0.extend(shared.states.read(key).await?.map(|stored| (key.clone(), stored)));
        known.1.extend(shared.pauses.get(key).await?.map(|pause| (key.clone(), pause)));
    }
    Ok(known)
}

/// Puts schedules into the table, those without a record of their own begun anew.
async fn take_in(shared: &Shared, fresh: Vec<Declared>, known: Known) -> alula_store::Result<()> {
    let (mut stored, mut pauses) = known;
    let begun: Vec<(TriggerKey, State, Option<Revision>)> = fresh
        .iter()
        .filter_map(|declared| match stored.get(&declared.key) {
            Some(record) if record.state.is_of(declared) || record.state.since > declared.since => None,
            record => {
                Some((declared.key.clone(), State::anew(declared), record.map(|record| record.revision)))
            }
        })
        .collect();
    stored.extend(shared.states.begin(begun).await?);
    let mut table = shared.table();
    for declared in fresh {
        match stored.remove(&declared.key).filter(|record| record.state.is_of(&declared)) {
            Some(record) => {
                let pause = pauses.remove(&declared.key);
                table.put(declared, record, pause, shared.options.look_ahead_ms);
            }
            None => {
                tracing::debug!(trigger = %declared.key, "a newer statement is in force elsewhere");
                table.remove(&declared.key);
            }
        }
    }
    Ok(())
}
