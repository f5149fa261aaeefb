//! Reading meta: texts separated by NUL.

use memchr::memchr;

/// Meta does not have the fields that its kind of frame needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("meta has a name without a value")]
pub struct MetaError;

/// The fields in order. Empty meta has no field.
pub fn fields(meta: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = (!meta.is_empty()).then_some(meta);
    std::iter::from_fn(move || {
        let text = rest?;
        match memchr(0, text) {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// The fields as pairs of name and value. The last item is an error where a value is missing.
pub fn pairs(meta: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), MetaError>> {
    let mut fields = fields(meta);
    std::iter::from_fn(move || {
        let name = fields.next()?;
        Some(fields.next().map(|value| (name, value)).ok_or(MetaError))
    })
}
