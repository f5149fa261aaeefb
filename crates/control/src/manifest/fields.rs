//! Which keys a struct has, and which of them a wrong one was probably meant to be.
//!
//! The keys come from the struct's own `Deserialize`, so that a field added there is known here.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Edits between a wrong key and the right one: beyond that it is another word.
const EDITS_MAX: usize = 3;

/// The keys of the struct `T`.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // The probe always fails; what it was asked for is the answer.
    let _ = T::deserialize(FieldProbe { found: &mut found });
    found
}

struct FieldProbe<'a> {
    found: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.found = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only the fields are of interest"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The known key that is nearest to `key`, if one is near.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = EDITS_MAX.min(key.chars().count() / 2);
    let distances = known.iter().map(|candidate| (edits(key, candidate), *candidate));
    let begins = || known.iter().copied().find(|known| key.len() > 2 && known.starts_with(key));
    distances
        .min()
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, candidate)| candidate)
        .or_else(begins)
}

/// The Levenshtein distance, by the two-row method.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use alula_model::FunctionSpec;

    use super::*;

    #[test]
    fn the_fields_are_those_of_the_struct() {
        let fields = fields_of::<FunctionSpec>();
        assert!(fields.contains(&"memory_mb") && fields.contains(&"build") && !fields.contains(&"name"));
    }

    #[test]
    fn nearest_key() {
        let known = ["memory_mb", "timeout_ms", "env", "description"];
        assert_eq!(nearest("memroy_mb", &known), Some("memory_mb"));
        assert_eq!(nearest("timeout", &known), Some("timeout_ms"));
        assert_eq!(nearest("envs", &known), Some("env"));
        assert_eq!(nearest("desc", &known), Some("description"));
        assert_eq!(nearest("x", &known), None);
        assert_eq!(nearest("something_else", &known), None);
    }
}
