//! The web-standard functions that a script finds, written in JavaScript and compiled once in the life of a
//! process.
//!
//! In two modules: what every script needs, and what is loaded when a script first asks for it. Most scripts make a
//! response and look at a header, and should not pay for streams and URLs with their start and their memory.

use std::sync::OnceLock;

use rquickjs::{Context, Module, Runtime, WriteOptions};

use crate::ScriptError;
use crate::compile::{AnyName, EmptyModule};

/// The names of the modules; no file of a package can have them.
pub(crate) const NAME: &str = "alula:prelude";
pub(crate) const MORE: &str = "alula:more";

/// Each file uses only what stands before it while it is being loaded.
const SOURCE: &str = concat!(
    include_str!("prelude/start.js"),
    include_str!("prelude/headers.js"),
    include_str!("prelude/timers.js"),
    include_str!("prelude/body.js"),
    include_str!("prelude/messages.js"),
    include_str!("prelude/console.js"),
    include_str!("prelude/calls.js"),
);

const MORE_SOURCE: &str = concat!(
    include_str!("prelude/more.js"),
    include_str!("prelude/events.js"),
    include_str!("prelude/streams.js"),
    include_str!("prelude/url.js"),
    include_str!("prelude/values.js"),
    include_str!("prelude/fetch.js"),
    include_str!("prelude/handlers.js"),
);

/// The prelude as bytecode.
pub(crate) struct Prelude {
    pub(crate) first: Vec<u8>,
    pub(crate) more: Vec<u8>,
}

/// Compiles it at the first call.
pub(crate) fn bytecode() -> Result<&'static Prelude, ScriptError> {
    static COMPILED: OnceLock<Result<Prelude, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| compile().map_err(|error| error.to_string()));
    compiled.as_ref().map_err(|reason| ScriptError::Broken { reason: format!("the prelude: {reason}") })
}

fn compile() -> rquickjs::Result<Prelude> {
    let runtime = Runtime::new()?;
    runtime.set_loader(AnyName, EmptyModule);
    let context = Context::full(&runtime)?;
    context.with(|ctx| {
        let compiled = |name: &str, source: &str| {
            let options = WriteOptions { strip_source: true, strip_debug: true, ..WriteOptions::default() };
            Module::declare(ctx.clone(), name, source)?.write(options)
        };
        // The second one first, which the first must not be known for.
        let more = compiled(MORE, MORE_SOURCE)?;
        Ok(Prelude { first: compiled(NAME, SOURCE)?, more })
    })
}
