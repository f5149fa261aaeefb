//! A context before it is a script's: the parts of the language, and the prelude as far as it is the same for all.
//!
//! Making one is most of what a cold start takes, and needs to know nothing of the script, so an engine may have one made
//! ahead. No script's code has ever run in it; what a script may and what it is given come with the script.

use rquickjs::context::intrinsic as part;
use rquickjs::{CatchResultExt as _, Context, Function, Persistent, Runtime};

use crate::ScriptError;
use crate::loader::load_module;
use crate::prelude;

/// See the module. The fields are dropped in this order, which the engine needs.
pub(crate) struct Blank {
    /// The prelude's function that gives a script what is its own.
    pub(crate) install: Persistent<Function<'static>>,
    pub(crate) context: Context,
    pub(crate) runtime: Runtime,
}

impl Blank {
    pub(crate) fn new() -> Result<Self, ScriptError> {
        let broken = |error: rquickjs::Error| ScriptError::Broken { reason: error.to_string() };
        let runtime = Runtime::new().map_err(broken)?;
        let context = new_context(&runtime).map_err(broken)?;
        let bytecode = &prelude::bytecode()?.first;
        let install = context.with(|ctx| {
            let evaluated = load_module(&ctx, bytecode).and_then(rquickjs::Module::eval);
            let install = evaluated.and_then(|(prelude, _at_once)| prelude.get::<_, Function<'_>>("install"));
            let saved = install.map(|install| Persistent::save(&ctx, install));
            saved.catch(&ctx).map_err(|error| ScriptError::Broken { reason: error.to_string() })
        })?;
        Ok(Self { install, context, runtime })
    }
}

impl std::fmt::Debug for Blank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blank")
    }
}

/// An empty context with everything but `eval` and its like: code comes from the package and from nowhere else.
fn new_context(runtime: &Runtime) -> rquickjs::Result<Context> {
    Context::builder()
        .with::<part::Date>()
        .with::<part::RegExpCompiler>()
        .with::<part::RegExp>()
        .with::<part::Json>()
        .with::<part::Proxy>()
        .with::<part::MapSet>()
        .with::<part::TypedArrays>()
        .with::<part::Promise>()
        .with::<part::Performance>()
        .with::<part::WeakRef>()
        .with::<part::DOMException>()
        .build(runtime)
}
