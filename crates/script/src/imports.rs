//! Which module an import of a script means: what was found when it was compiled, and nothing else.

use std::rc::Rc;

use rquickjs::{Ctx, Module};

use crate::engine::ModuleOptions;
use crate::loader::load_module;
use crate::prelude::MORE;

/// Finds the modules of an artifact: by the table that was made when it was compiled.
pub(crate) struct Imports(pub(crate) Rc<ModuleOptions>);

impl rquickjs::loader::Resolver for Imports {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        if base == MORE {
            return Ok(name.to_owned());
        }
        let modules = &self.0.artifact.modules;
        let from = modules.iter().find(|module| module.name == base);
        let number = from.and_then(|from| from.imports.iter().find(|(specifier, _)| specifier == name));
        let found = number.and_then(|(_, number)| modules.get(*number));
        found.map(|module| module.name.clone()).ok_or_else(|| {
            let why = "only what is written out in the source can be imported";
            rquickjs::Error::new_resolving_message(base, name, why)
        })
    }
}

impl rquickjs::loader::Loader for Imports {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js>> {
        let module = self.0.artifact.modules.iter().find(|module| module.name == name);
        load_module(ctx, &module.ok_or_else(|| rquickjs::Error::new_loading(name))?.bytecode)
    }
}
