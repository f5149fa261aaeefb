//! The head of a call, from the guest protocol to what a script is given.

use alula_runtime::frames::pairs;
use alula_script::CallInfo;

/// The fields of an INVOKE that a script sees.
pub(super) struct CallMeta<'a> {
    pub(super) method: &'a str,
    target: &'a str,
    remote: &'a [u8],
    id: &'a [u8],
    parameters: Vec<(&'a [u8], &'a [u8])>,
    /// The pairs, still joined by NUL.
    pub(super) headers: &'a [u8],
}

impl<'a> CallMeta<'a> {
    pub(super) fn parse(meta: &'a [u8]) -> Option<Self> {
        let mut rest = Some(meta);
        let mut next = || {
            let text = rest?;
            let end = text.iter().position(|byte| *byte == 0);
            rest = end.map(|end| &text[end + 1..]);
            Some(&text[..end.unwrap_or(text.len())])
        };
        let method = std::str::from_utf8(next()?).ok()?;
        let target = std::str::from_utf8(next()?).ok()?;
        let (remote, id, _deadline) = (next()?, next()?, next()?);
        let count: usize = std::str::from_utf8(next()?).ok()?.parse().ok()?;
        let mut parameters = Vec::new();
        for _ in 0..count {
            parameters.push((next()?, next()?));
        }
        Some(Self { method, target, remote, id, parameters, headers: rest.unwrap_or_default() })
    }

    /// What an event handler is told besides the request.
    pub(super) fn info(&self, is_event: bool) -> CallInfo {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parameters = self.parameters.iter().map(|(name, value)| (text(name), text(value)));
        CallInfo { id: text(self.id), remote: text(self.remote), parameters: parameters.collect(), is_event }
    }

    pub(super) fn url(&self) -> String {
        let scheme = if self.header(b"x-forwarded-proto") == Some("https") { "https" } else { "http" };
        format!("{scheme}://{}{}", self.header(b"host").unwrap_or("localhost"), self.target)
    }

    /// Length of the body, where it is known.
    pub(super) fn content_length(&self) -> Option<usize> {
        self.header(b"content-length")?.parse().ok()
    }

    fn header(&self, wanted: &[u8]) -> Option<&str> {
        let found = pairs(self.headers).flatten().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Each byte as the character with its number.
pub(super) fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Each character as its byte; the engine lets no others into headers.
pub(super) fn to_bytes(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        return text.as_bytes().to_vec();
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_s_fields_are_found_behind_its_parameters() {
        let meta = b"POST\0/a?b=c\x00127.0.0.1\0id\x005\x001\0name\0value\0host\0example.org\0x-forwarded-proto\0https";
        let head = CallMeta::parse(meta).unwrap();
        assert_eq!((head.method, &*head.url()), ("POST", "https://example.org/a?b=c"));
        assert_eq!(head.headers, b"host\0example.org\0x-forwarded-proto\0https");
        let info = head.info(true);
        assert_eq!((&*info.id, &*info.remote, info.is_event), ("id", "127.0.0.1", true));
        assert_eq!(info.parameters, [("name".to_owned(), "value".to_owned())]);
        let bare = CallMeta::parse(b"GET\0/\0\0id\x005\x000").unwrap();
        assert_eq!((&*bare.url(), bare.headers), ("http://localhost/", &b""[..]));
        for broken in
            [&b""[..], b"GET", b"GET\0/\0\0id\x005", b"GET\0/\0\0id\x005\x002\0a", b"GET\0/\0\0id\x005\0x"]
        {
            assert!(CallMeta::parse(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn bytes_of_headers_pass_both_ways() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(to_bytes(&latin1(&all)), all);
    }
}
