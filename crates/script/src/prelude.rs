//! The web-standard functions that a script finds, written in JavaScript and compiled once in the life of a
//! process.

use std::sync::OnceLock;

use rquickjs::{Context, Module, Runtime, WriteOptions};

use crate::ScriptError;

/// The name of the prelude in stack traces; frames of it are left out of what users see.
pub(crate) const NAME: &str = "alula:prelude";

/// One module made of all files, each of which uses only what stands before it while it is being loaded.
const SOURCE: &str = concat!(
    include_str!("prelude/start.js"),
    include_str!("prelude/events.js"),
    include_str!("prelude/headers.js"),
    include_str!("prelude/timers.js"),
    include_str!("prelude/streams.js"),
    include_str!("prelude/body.js"),
    include_str!("prelude/messages.js"),
    include_str!("prelude/url.js"),
    include_str!("prelude/values.js"),
    include_str!("prelude/fetch.js"),
    include_str!("prelude/calls.js"),
);

/// The prelude as bytecode.
pub(crate) fn bytecode() -> Result<&'static [u8], ScriptError> {
    static COMPILED: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| compile().map_err(|error| error.to_string()));
    compiled.as_deref().map_err(|reason| ScriptError::Broken { reason: format!("the prelude: {reason}") })
}

fn compile() -> rquickjs::Result<Vec<u8>> {
    let runtime = Runtime::new()?;
    let context = Context::full(&runtime)?;
    context.with(|ctx| {
        let module = Module::declare(ctx, NAME, SOURCE)?;
        module.write(WriteOptions { strip_source: true, ..WriteOptions::default() })
    })
}
