//! Loading compiled code: the one place of this crate that the compiler cannot check.
#![expect(unsafe_code, reason = "loading machine code is a matter of trust in who wrote it")]

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Maps the compiled component at `path`, which must come from [`Cache`](crate::cache::Cache).
pub(crate) fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file is machine code that is run as it is, so it must be what this engine's compiler wrote. The cache
    // only gives paths of files that the platform's own compile process wrote and that the platform itself put into a
    // folder which no guest sees; it has checked the digest that stands in the name since this process began, and files
    // there are replaced by renaming, never changed in place. The engine itself refuses code of another version or
    // configuration.
    unsafe { Component::deserialize_file(engine, path) }
}
