//! What the audit record says in data: what something was and what it is now.
//!
//! Only what differs is recorded, never a secret, and never much: who reads the record may read nothing else.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::spec::FunctionSpec;

/// Largest change that is recorded whole, in bytes of JSON.
const BYTES_MAX: usize = 8 * 1024;
/// Stand for values that may be secrets; they differ, so that a change of one is seen.
const NOT_SHOWN: &str = "(not shown)";
const ANOTHER: &str = "(another, not shown)";
const TOO_LARGE: &str = "(too large)";

/// What something was and what it is now, without secrets: JSON, `null` where it was not there or is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChange {
    /// Before.
    pub before: Value,
    /// Now.
    pub after: Value,
}

impl AuditChange {
    /// The fields of two objects that differ, or the two values where they are none. They hold no secrets. Of what is too
    /// large the names of the fields stay.
    #[must_use]
    pub fn between(before: Value, after: Value) -> Self {
        let (before, after) = match (before, after) {
            (Value::Object(before), Value::Object(after)) => {
                let (before, after) = differing(before, after);
                (Value::Object(before), Value::Object(after))
            }
            other => other,
        };
        let change = Self { before, after };
        if change.bytes() <= BYTES_MAX { change } else { change.names_only() }
    }

    /// The same of two specs, whose variables, triggers and keys may hold secrets: of these only the names.
    #[must_use]
    pub fn of_specs(before: Option<&FunctionSpec>, after: &FunctionSpec) -> Self {
        let (mut before, mut after) = (before.map_or(Value::Null, by_name), by_name(after));
        for field in ["env", "triggers"] {
            hide_values(&mut before, &mut after, field);
        }
        let is_same = before.get("access") == after.get("access");
        for (spec, text) in
            [(&mut before, NOT_SHOWN), (&mut after, if is_same { NOT_SHOWN } else { ANOTHER })]
        {
            if let Some(access) = spec.get_mut("access") {
                hide_keys(access, text);
            }
        }
        Self::between(before, after)
    }

    /// The same of what namespaces say about calls from outside.
    #[must_use]
    pub fn of_access(mut before: Value, mut after: Value) -> Self {
        hide_keys(&mut before, NOT_SHOWN);
        hide_keys(&mut after, ANOTHER);
        Self::between(before, after)
    }

    fn bytes(&self) -> usize {
        self.before.to_string().len() + self.after.to_string().len()
    }

    fn names_only(self) -> Self {
        let names = |value: Value| match value {
            Value::Object(fields) => {
                fields.into_iter().map(|(name, _)| (name, Value::from(TOO_LARGE))).collect()
            }
            Value::Null => Value::Null,
            _ => Value::from(TOO_LARGE),
        };
        let short = Self { before: names(self.before), after: names(self.after) };
        match short.bytes() <= BYTES_MAX {
            true => short,
            false => Self { before: TOO_LARGE.into(), after: TOO_LARGE.into() },
        }
    }
}

/// Both without what they have in common.
fn differing(
    mut before: Map<String, Value>,
    mut after: Map<String, Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    before.retain(|name, value| {
        let is_same = after.get(name) == Some(value);
        if is_same {
            after.remove(name);
        }
        !is_same
    });
    (before, after)
}

/// A spec whose triggers are fields under their names.
fn by_name(spec: &FunctionSpec) -> Value {
    let mut json = serde_json::to_value(spec).unwrap_or_default();
    if let Some(triggers) = json.get_mut("triggers") {
        let named = spec.triggers.iter().map(|trigger| trigger.name.to_string());
        let values = triggers.as_array().cloned().unwrap_or_default();
        *triggers = named.zip(values).collect::<Map<_, _>>().into();
    }
    json
}

/// Leaves of the fields of an object in both specs the names of those that differ.
fn hide_values(before: &mut Value, after: &mut Value, field: &str) {
    let take = |spec: &mut Value| match spec.get_mut(field).map(Value::take) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (was, is) = differing(take(before), take(after));
    let hidden = |fields: Map<String, Value>, text: &str| -> Map<String, Value> {
        fields.into_iter().map(|(name, _)| (name, Value::from(text))).collect()
    };
    for (spec, fields) in [(before, hidden(was, NOT_SHOWN)), (after, hidden(is, ANOTHER))] {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove(field);
            if !fields.is_empty() {
                spec.insert(field.to_owned(), fields.into());
            }
        }
    }
}

/// Hides keys of issuers, wherever they stand.
fn hide_keys(value: &mut Value, text: &str) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| hide_keys(value, text)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "keys" { *value = text.into() } else { hide_keys(value, text) }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_what_differs_and_never_large() {
        let change = AuditChange::between(json!({"a": 1, "b": 2, "c": 3}), json!({"a": 1, "b": 4, "d": 5}));
        assert_eq!(change.before, json!({"b": 2, "c": 3}));
        assert_eq!(change.after, json!({"b": 4, "d": 5}));
        let change = AuditChange::between(Value::Null, json!({"a": "x".repeat(9_000)}));
        assert_eq!((change.before, change.after), (Value::Null, json!({"a": "(too large)"})));
        let many: Map<_, _> = (0..5_000).map(|n| (n.to_string(), json!(n))).collect();
        assert!(AuditChange::between(json!(many), json!({})).bytes() < 100);
    }

    #[test]
    fn a_spec_is_told_without_what_may_be_secret() {
        let env = |secret: &str| {
            BTreeMap::from([("A".to_owned(), secret.to_owned()), ("B".to_owned(), "hidden".to_owned())])
        };
        let access = |secret: &str| {
            let jwt = json!({"issuer": "a", "audience": ["b"], "keys": [{"kty": "oct", "k": secret}]});
            serde_json::from_value(json!({ "jwt": [jwt] })).unwrap()
        };
        let hook = |secret: &str| {
            let hook = json!({"name": "hook", "kind": "bucket", "bucket": secret});
            serde_json::from_value(json!([hook])).unwrap()
        };
        let spec = |secret: &str, memory_mb| FunctionSpec {
            env: env(secret),
            access: Some(access(secret)),
            triggers: hook(secret),
            memory_mb,
            ..FunctionSpec::new("exec")
        };
        let change = AuditChange::of_specs(Some(&spec("hidden-1", 64)), &spec("hidden-2", 128));
        assert_eq!((&change.before["memory_mb"], &change.after["memory_mb"]), (&json!(64), &json!(128)));
        assert_eq!(
            (&change.before["env"], &change.after["env"]),
            (&json!({"A": NOT_SHOWN}), &json!({"A": ANOTHER}))
        );
        assert_eq!(change.after["triggers"], json!({"hook": ANOTHER}));
        assert_ne!(change.before["access"], change.after["access"]);
        assert_eq!(change.after.get("runtime"), None);
        let first = AuditChange::of_specs(None, &spec("hidden-1", 64));
        assert_eq!(first.before, Value::Null);
        for change in [change, first, AuditChange::of_access(Value::Null, json!({"keys": ["hidden"]}))] {
            let text = serde_json::to_string(&change).unwrap();
            assert!(!text.contains("hidden"), "{text}");
        }
        let same = AuditChange::of_specs(Some(&spec("hidden", 64)), &spec("hidden", 64));
        assert_eq!(same, AuditChange { before: json!({}), after: json!({}) });
    }
}
