//! The two places where memory of the engine is taken on trust, and nothing else.
#![allow(unsafe_code, reason = "loading bytecode and reading an engine's buffer have no safe form")]

use rquickjs::{ArrayBuffer, Ctx, Module, TypedArray, Value};

/// A module from bytecode. Callers pass what [`crate::compile`] made, or the prelude, and nothing that a user gave:
/// bytecode is as trusted as machine code.
pub(crate) fn load_module<'js>(ctx: &Ctx<'js>, bytecode: &[u8]) -> rquickjs::Result<Module<'js>> {
    // SAFETY: an `Artifact` is only read from bytes that this program's own compiler has written with the same
    // version of the engine, which its header states; the prelude is compiled in this process.
    unsafe { Module::load(ctx.clone(), bytecode) }
}

/// A copy of the bytes of an `ArrayBuffer` or `Uint8Array`; `None` for anything else and for a detached buffer.
pub(crate) fn copy_bytes(value: &Value<'_>) -> Option<Vec<u8>> {
    let object = value.as_object()?;
    if let Some(array) = object.as_typed_array::<u8>() {
        return copy_array(array);
    }
    let buffer: &ArrayBuffer<'_> = object.as_array_buffer()?;
    // SAFETY: no JavaScript runs between here and the end of the copy, so that the buffer stays where it is.
    unsafe { buffer.as_bytes() }.map(<[u8]>::to_vec)
}

fn copy_array(array: &TypedArray<'_, u8>) -> Option<Vec<u8>> {
    // SAFETY: no JavaScript runs between here and the end of the copy, so that the buffer stays where it is.
    unsafe { array.as_bytes() }.map(<[u8]>::to_vec)
}
