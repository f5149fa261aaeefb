//! Texts, digests and random values.

use std::rc::Rc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rquickjs::{Ctx, Exception, Function, Object, TypedArray, Value};
use sha2::Digest as _;

use crate::loader::copy_bytes;
use crate::shared::Shared;

/// `atob` takes texts with and without padding.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn add<'js>(ctx: &Ctx<'js>, natives: &Object<'js>, shared: &Rc<Shared>) -> rquickjs::Result<()> {
    let encode = |ctx: Ctx<'js>, text: rquickjs::String<'js>| match text.to_string() {
        Ok(text) => TypedArray::<u8>::new_copy(ctx, text.as_bytes()).map(Some),
        Err(_) => Ok(None),
    };
    natives.set("encode", Function::new(ctx.clone(), encode)?)?;
    let decode = |ctx: Ctx<'js>, bytes: Value<'js>, is_fatal: bool, keeps_mark: bool| {
        decode(&ctx, &copy_bytes(&bytes).unwrap_or_default(), is_fatal, keeps_mark)
    };
    natives.set("decode", Function::new(ctx.clone(), decode)?)?;
    let complete = |bytes: Value<'js>| complete_utf8(&copy_bytes(&bytes).unwrap_or_default());
    natives.set("completeUtf8", Function::new(ctx.clone(), complete)?)?;
    let digest = |ctx: Ctx<'js>, name: String, data: Value<'js>| {
        let digest = digest(&name, &copy_bytes(&data).unwrap_or_default());
        digest.map(|digest| TypedArray::<u8>::new_copy(ctx, digest)).transpose()
    };
    natives.set("digest", Function::new(ctx.clone(), digest)?)?;
    let of = Rc::clone(shared);
    let random = move |ctx: Ctx<'js>, length: usize| {
        // The prelude asks for at most 65 536 bytes.
        let mut bytes = vec![0; length.min(1 << 16)];
        (of.options.random)(&mut bytes);
        TypedArray::<u8>::new_copy(ctx, bytes)
    };
    natives.set("random", Function::new(ctx.clone(), random)?)?;
    natives.set("atob", Function::new(ctx.clone(), |text: String| atob(&text))?)?;
    natives.set("btoa", Function::new(ctx.clone(), |text: String| btoa(&text))?)?;
    let to_base64 = |bytes: Value<'js>| FORGIVING.encode(copy_bytes(&bytes).unwrap_or_default());
    natives.set("toBase64", Function::new(ctx.clone(), to_base64)?)?;
    let of_base64 = |ctx: Ctx<'js>, text: String| {
        let bytes = FORGIVING.decode(text).ok();
        bytes.map(|bytes| TypedArray::<u8>::new_copy(ctx, bytes)).transpose()
    };
    natives.set("ofBase64", Function::new(ctx.clone(), of_base64)?)?;
    let of = Rc::clone(shared);
    let source_lines = move |stack: String| of.options.artifact.source_lines(&stack);
    natives.set("sourceLines", Function::new(ctx.clone(), source_lines)?)
}

fn decode(ctx: &Ctx<'_>, bytes: &[u8], is_fatal: bool, keeps_mark: bool) -> rquickjs::Result<String> {
    let bytes = if keeps_mark { bytes } else { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) };
    if is_fatal && std::str::from_utf8(bytes).is_err() {
        return Err(Exception::throw_type(ctx, "the bytes are not UTF-8"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// How many of the bytes are whole characters: fewer where the last one is cut.
fn complete_utf8(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // Only a character that may still be completed is kept back.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => match bytes.utf8_chunks().last() {
            Some(last) if is_begun(last.invalid()) => bytes.len() - last.invalid().len(),
            _ => bytes.len(),
        },
    }
}

/// Whether more bytes could make a character of these.
fn is_begun(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn digest(name: &str, data: &[u8]) -> Option<Vec<u8>> {
    match name {
        "SHA-256" => Some(sha2::Sha256::digest(data).to_vec()),
        "SHA-384" => Some(sha2::Sha384::digest(data).to_vec()),
        "SHA-512" => Some(sha2::Sha512::digest(data).to_vec()),
        _ => None,
    }
}

/// Each byte becomes the character with its number.
fn atob(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = FORGIVING.decode(text).ok()?;
    Some(bytes.into_iter().map(char::from).collect())
}

/// `None` where a character is no byte.
fn btoa(text: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    Some(FORGIVING.encode(bytes?))
}
