//! What a function says of the records of an event: which of them failed.
//!
//! Lambda's convention for event sources: the answer `{"batchItemFailures": [{"itemIdentifier": ID}, ...]}` names the
//! records that are to be delivered again. An empty list, `null`, or any other answer means that all went well; an
//! identifier that is missing or empty, or that is not one of the event's, means that all failed.

use std::collections::BTreeSet;

use serde_json::Value;

/// The records of an event that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// None did.
    None,
    /// These did.
    These(BTreeSet<String>),
    /// The report cannot be understood, so all count as failed.
    Unclear,
}

impl Failed {
    /// Reads an answer.
    #[must_use]
    pub fn read(answer: &[u8]) -> Self {
        // Most answers are none of these; reading them as JSON would be for nothing.
        if memchr::memmem::find(answer, b"batchItemFailures").is_none() {
            return Self::None;
        }
        let Ok(Value::Object(answer)) = serde_json::from_slice(answer) else { return Self::None };
        let failures = match answer.get("batchItemFailures") {
            None | Some(Value::Null) => return Self::None,
            Some(Value::Array(failures)) if failures.is_empty() => return Self::None,
            Some(Value::Array(failures)) => failures,
            Some(_) => return Self::Unclear,
        };
        let identifier = |failure: &Value| match failure.get("itemIdentifier")? {
            Value::String(id) if !id.is_empty() => Some(id.clone()),
            _ => None,
        };
        failures.iter().map(identifier).collect::<Option<_>>().map_or(Self::Unclear, Self::These)
    }

    /// The same, where an identifier that is not one of `known` makes the report unclear.
    #[must_use]
    pub fn among<'a>(self, mut known: impl Iterator<Item = &'a str>) -> Self {
        match self {
            Self::These(mut ids) => {
                let named = ids.clone();
                known.by_ref().for_each(|id| {
                    ids.remove(id);
                });
                if ids.is_empty() { Self::These(named) } else { Self::Unclear }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(ids: &[&str]) -> Failed {
        Failed::These(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn an_answer_says_that_none_some_or_all_failed() {
        for (answer, expected) in [
            ("", Failed::None),
            ("ok", Failed::None),
            ("\"batchItemFailures\"", Failed::None),
            (r#"{"batchItemFailures": []}"#, Failed::None),
            (r#"{"batchItemFailures": null}"#, Failed::None),
            (
                r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}"#,
                these(&["a", "b"]),
            ),
            (r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#, Failed::Unclear),
            (r#"{"batchItemFailures": [{"itemIdentifier": 7}]}"#, Failed::Unclear),
            (r#"{"batchItemFailures": [{"id": "a"}]}"#, Failed::Unclear),
            (r#"{"batchItemFailures": "a"}"#, Failed::Unclear),
        ] {
            assert_eq!(Failed::read(answer.as_bytes()), expected, "{answer}");
        }
        assert_eq!(Failed::read(b"\xff batchItemFailures"), Failed::None);
    }

    #[test]
    fn who_names_what_is_not_there_is_not_believed() {
        assert_eq!(these(&["a"]).among(["a", "b"].into_iter()), these(&["a"]));
        assert_eq!(these(&["a", "c"]).among(["a", "b"].into_iter()), Failed::Unclear);
        assert_eq!(Failed::None.among(["a"].into_iter()), Failed::None);
    }
}
