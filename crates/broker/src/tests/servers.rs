//! The suite over real brokers, as Debian has them.

mod nats;
mod redis;

use std::collections::BTreeMap;

use alula_model::Name;
use alula_model::trigger;

use crate::source::{self, Source};
use alula_trigger::TriggerKey;

/// The place of a trigger that states this.
fn open(case: &str, stated: &trigger::Source) -> Box<dyn Source> {
    let name = |text| Name::new(text).unwrap();
    let key = TriggerKey { namespace: name("shop"), function: name("pay"), trigger: name(case) };
    source::open(&key, stated, &BTreeMap::from([("PASSWORD".to_owned(), "s3cret".to_owned())])).unwrap()
}
