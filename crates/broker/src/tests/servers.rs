//! The suite over real brokers, as Debian has them.

mod amqp;
#[cfg(feature = "kafka")]
mod kafka;
mod mqtt;
mod nats;
mod postgres;
mod redis;

use alula_model::{Name, trigger};
use alula_trigger::TriggerKey;

use crate::source::{self, Source};

/// The place of a trigger that states this.
fn open(case: &str, stated: &trigger::Source) -> Box<dyn Source> {
    let name = |text| Name::new(text).unwrap();
    let key = TriggerKey { namespace: name("shop"), function: name("pay"), trigger: name(case) };
    let env = [("PASSWORD", "s3cret"), ("WRONG", "another-secret")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    source::open(&key, stated, &env).unwrap()
}
