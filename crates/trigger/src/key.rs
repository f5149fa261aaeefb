//! The name of a trigger.

use std::fmt;

use alula_model::Name;
use alula_store::Key;

/// Names one trigger of one function, over all versions of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TriggerKey {
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// The trigger, unique in the function.
    pub trigger: Name,
}

impl TriggerKey {
    /// The key of a record about this trigger, below `kind`.
    #[must_use]
    pub fn record(&self, kind: &str) -> Key {
        Key::new(&[kind, self.namespace.as_str(), self.function.as_str(), self.trigger.as_str()])
    }

    /// The trigger that a record is about; `None` where the key is not of this shape.
    #[must_use]
    pub fn of_record(key: &Key) -> Option<Self> {
        let mut names = key.segments().skip(1).map(|segment| Name::new(segment).ok());
        let (namespace, function, trigger) = (names.next()??, names.next()??, names.next()??);
        names.next().is_none().then_some(Self { namespace, function, trigger })
    }
}

impl fmt::Display for TriggerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.function, self.trigger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_record() {
        let name = |text| Name::new(text).unwrap();
        let key = TriggerKey { namespace: name("shop"), function: name("report"), trigger: name("nightly") };
        let record = key.record("schedule");
        assert_eq!(record.as_str(), "schedule/shop/report/nightly");
        assert_eq!(TriggerKey::of_record(&record), Some(key));
        for other in ["schedule", "schedule/a/b", "schedule/a/b/c/d", "schedule/a/B/c"] {
            assert_eq!(TriggerKey::of_record(&Key::from_stored(other.to_owned())), None, "{other}");
        }
    }
}
