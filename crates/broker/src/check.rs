//! What a deploy is asked: can the brokers of this spec be watched?
//!
//! Whether a broker is there is not asked: it may come later, and the trigger's state shows it.

use std::collections::BTreeMap;

use alula_model::trigger::Trigger;
use alula_model::{Name, SpecError};

use alula_trigger::TriggerKey;

use crate::source;

/// Checks the triggers of one function that watch brokers, and names the first that is wrong.
pub fn check(triggers: &[Trigger], env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    let brokers = triggers.iter().filter(|trigger| trigger.source.batching().is_some());
    brokers.into_iter().try_for_each(|trigger| {
        let refuse =
            |reason: String| SpecError { field: "triggers", reason: format!("{}: {reason}", trigger.name) };
        let name = Name::new("check").map_err(|error| refuse(error.to_string()))?;
        let key = TriggerKey { namespace: name.clone(), function: name, trigger: trigger.name.clone() };
        source::open(&key, &trigger.source, env).map(drop).map_err(|error| refuse(error.to_string()))
    })
}
