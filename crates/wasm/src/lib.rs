//! WebAssembly components as functions.
//!
//! A component that exports `wasi:http/incoming-handler` is compiled when it is deployed, in a limited process of its
//! own (`compile`, `compiler`), and the machine code is kept on disk (`cache`) and mapped into this process when the
//! function is called (`loader`, the one place with `unsafe`). Every call gets a fresh guest (`instance`, `guest`),
//! with limits of memory, time and stack (`engine`), that is driven by whoever waits for its answer (`exchange`) and, where
//! many wait, by threads that help (`crew`). What
//! it writes becomes log lines (`stdio`); HTTP to the outside goes through the platform (`outgoing`).
//!
//! Deliberately absent: files, sockets, core modules without the component model, and WASI 0.3, whose interfaces the
//! engine's authors do not promise to keep yet.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod backend;
mod cache;
mod compile;
mod compiler;
mod crew;
mod engine;
mod exchange;
mod fault;
mod guest;
mod instance;
mod loader;
mod outgoing;
mod stdio;

pub use backend::{Parts, WasmBackend};
pub use compile::{CompileError, compile, compile_stream};
pub use compiler::{COMPILE_COMMAND, CellCompiler, Compiler};

/// The name of the runtime.
pub const RUNTIME: &str = "wasm";

/// What this machine gives to the engine, in words for `alula doctor`; the error is why it cannot run.
pub fn inspect() -> Result<String, String> {
    wasmtime::Engine::new(&engine::config()).map_err(|error| format!("{error:#}"))?;
    let pages = if wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
        "memory is reused between calls"
    } else {
        "memory is given back after each call, which is slower: Linux 6.7 or newer has what it takes to reuse it"
    };
    Ok(format!("wasmtime, {} guests at once; {pages}", engine::GUESTS_MAX))
}
