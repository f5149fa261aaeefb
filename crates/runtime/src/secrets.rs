//! The values of secrets on their way into an instance, and the mask that keeps them out of what it writes.
//!
//! Values live as long as the instance that has them and are wiped from this process's memory with it. The mask covers a
//! value as it is, each line of a value that has several, and the form that it has inside a JSON text. It covers no other
//! form (Base64, URL encoding, a value printed in pieces): it is there for accidents, not against the function itself, which
//! may tell its secrets to whoever it can reach.

use std::fmt;
use std::sync::Arc;

use memchr::memmem;
use zeroize::Zeroizing;

/// Shortest value, and shortest line of a value, that is masked, in bytes: shorter ones are parts of ordinary words.
pub const MASKED_BYTES_MIN: usize = 6;
/// What stands in a log where a value was.
const MASKED: &str = "***";

/// Variables with the values of secrets. Cheap to clone; the values are wiped when the last clone is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValues(Arc<[(String, Zeroizing<String>)]>);

impl SecretValues {
    /// These variables.
    #[must_use]
    pub fn new(values: Vec<(String, Zeroizing<String>)>) -> Self {
        Self(values.into())
    }

    /// Each variable with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(variable, value)| (variable.as_str(), value.as_str()))
    }

    /// What masks these values.
    #[must_use]
    pub fn mask(&self) -> Mask {
        let mut patterns: Vec<Zeroizing<String>> =
            self.0.iter().flat_map(|(_, value)| forms(value)).collect();
        // A longer one may hold a shorter one.
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Mask(patterns.into())
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(variable, _)| variable)).finish()
    }
}

/// The forms in which a value is looked for.
fn forms(value: &str) -> Vec<Zeroizing<String>> {
    let lines = value.lines().map(|line| Zeroizing::new(line.trim().to_owned()));
    let quoted = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    let inner = (inner != value).then(|| Zeroizing::new(inner.to_owned()));
    lines.chain(inner).filter(|form| form.len() >= MASKED_BYTES_MIN).collect()
}

/// Replaces the values of secrets in texts. Without any it costs one look at an empty list.
#[derive(Clone, Default)]
pub struct Mask(Arc<[Zeroizing<String>]>);

impl Mask {
    /// Length of the longest text that it looks for, in bytes; 0 where it looks for nothing.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, |longest| longest.len())
    }

    /// `text` without the values.
    #[must_use]
    pub fn masked(&self, text: String) -> String {
        let found = self.find(text.as_bytes());
        if found.is_empty() {
            return text;
        }
        let text = Zeroizing::new(text);
        let (mut clean, mut from) = (String::with_capacity(text.len()), 0);
        for (start, end) in found {
            // Patterns are whole texts, so these are boundaries of characters.
            clean.push_str(text.get(from..start).unwrap_or_default());
            clean.push_str(MASKED);
            from = end;
        }
        clean.push_str(text.get(from..).unwrap_or_default());
        clean
    }

    /// The same for bytes that are not yet lines.
    pub(crate) fn masked_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let found = self.find(bytes);
        let (mut clean, mut from) = (Vec::with_capacity(bytes.len()), 0);
        for (start, end) in &found {
            clean.extend_from_slice(bytes.get(from..*start).unwrap_or_default());
            clean.extend_from_slice(MASKED.as_bytes());
            from = *end;
        }
        clean.extend_from_slice(bytes.get(from..).unwrap_or_default());
        (!found.is_empty()).then_some(clean)
    }

    /// Where values are, in order, those that touch each other as one.
    fn find(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for pattern in self.0.iter() {
            found.extend(memmem::find_iter(bytes, pattern.as_bytes()).map(|at| (at, at + pattern.len())));
        }
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (start, end) in found {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        merged
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} forms)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[&str]) -> SecretValues {
        let pair =
            |(index, value): (usize, &&str)| (format!("V{index}"), Zeroizing::new((*value).to_owned()));
        SecretValues::new(values.iter().enumerate().map(pair).collect())
    }

    #[test]
    fn values_are_masked_wherever_they_stand() {
        let mask = values(&["hunter2", "hunter2-and-more", "pä\"ss\\wort"]).mask();
        for (text, clean) in [
            ("hunter2", "***"),
            ("a hunter2 b hunter2hunter2 c", "a *** b *** c"),
            ("hunter2-and-more!", "***!"),
            ("url=postgres://u:hunter2@h/", "url=postgres://u:***@h/"),
            ("plain pä\"ss\\wort", "plain ***"),
            (r#"{"p": "pä\"ss\\wort"}"#, r#"{"p": "***"}"#),
            ("hunter", "hunter"),
            ("", ""),
        ] {
            assert_eq!(mask.masked(text.to_owned()), clean, "{text}");
        }
    }

    #[test]
    fn a_value_of_several_lines_is_masked_line_by_line_and_as_json() {
        let mask = values(&["-----BEGIN KEY-----\nMIIabcdef\nend\n"]).mask();
        assert_eq!(mask.masked("MIIabcdef".to_owned()), "***");
        assert_eq!(mask.masked("end".to_owned()), "end", "too short to be told from a word");
        let json = r#"{"k":"-----BEGIN KEY-----\nMIIabcdef\nend\n"}"#;
        assert_eq!(mask.masked(json.to_owned()), r#"{"k":"***"}"#);
    }

    #[test]
    fn short_values_and_no_values_are_left_alone() {
        assert_eq!(values(&["12345"]).mask().longest(), 0);
        assert_eq!(SecretValues::default().mask().masked("12345".to_owned()), "12345");
    }

    #[test]
    fn nothing_shows_a_value() {
        let secrets = values(&["hunter2"]);
        let plan = crate::VersionPlan { secrets, ..(*crate::conformance::plan("exec", |_| {})).clone() };
        let told = format!("{plan:?} {:?}", plan.secrets.mask());
        assert!(told.contains("V0") && !told.contains("hunter2"), "{told}");
    }
}
