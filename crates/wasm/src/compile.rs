//! Compiling a component: what the platform's binary does in its hidden mode, in a limited process of its own.
//!
//! The compiler reads bytes that anybody can upload, and is the largest piece of code that does. So it runs in a cell
//! without network or files: the component comes in on the standard input, the compiled code goes out on the
//! standard output, and what is wrong is said on the standard error. The server's process never compiles.

use std::io::{Read, Write};

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::engine;
use crate::guest;

/// Largest component that is read; the deploy has a limit of its own, which is usually lower.
const COMPONENT_BYTES_MAX: u64 = 512 << 20;
/// What a component that can be called exports.
const HANDLER: &str = "wasi:http/incoming-handler@0.2";
/// How a core module begins, and how a component does.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const MAGIC: &[u8] = b"\0asm";

/// Why there is no compiled code, for whoever deploys the component.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not WebAssembly at all.
    #[error("the file is not WebAssembly: it does not begin with \\0asm")]
    NotWasm,
    /// WebAssembly without the component model.
    #[error(
        "the file is a core module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// A component that cannot be called over HTTP.
    #[error("the component does not export {HANDLER}; it exports {exports}")]
    NoHandler {
        /// What it has instead.
        exports: String,
    },
    /// The file is broken, or uses what this engine does not have.
    #[error("the component cannot be compiled: {0:#}")]
    Invalid(wasmtime::Error),
    /// It imports what nobody gives it.
    #[error("the component cannot be linked: {0:#}")]
    Unlinkable(wasmtime::Error),
    /// Reading or writing failed.
    #[error("cannot pass the component on: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads a component, compiles it and writes the compiled code: the whole of the hidden mode.
pub fn compile_stream(input: impl Read, mut output: impl Write) -> Result<(), CompileError> {
    let mut component = Vec::new();
    input.take(COMPONENT_BYTES_MAX).read_to_end(&mut component)?;
    output.write_all(&compile(&component)?)?;
    Ok(output.flush()?)
}

/// Compiles a component, after checking that it can be called.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    match bytes {
        _ if !bytes.starts_with(MAGIC) => return Err(CompileError::NotWasm),
        _ if bytes.starts_with(CORE_MODULE) => return Err(CompileError::CoreModule),
        _ => {}
    }
    let engine = Engine::new(&engine::config()).map_err(CompileError::Invalid)?;
    let component = Component::new(&engine, bytes).map_err(CompileError::Invalid)?;
    let component_type = component.component_type();
    let exports: Vec<&str> = component_type.exports(&engine).map(|(name, _)| name).collect();
    if !exports.iter().any(|name| name.starts_with(HANDLER)) {
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        return Err(CompileError::NoHandler { exports });
    }
    let linker = guest::linker(&engine).map_err(CompileError::Unlinkable)?;
    let linked = linker.instantiate_pre(&component).and_then(ProxyPre::new);
    linked.map_err(CompileError::Unlinkable)?;
    component.serialize().map_err(CompileError::Invalid)
}
