//! From source files to an artifact: finds the modules, takes the types away, makes bytecode.
//!
//! The graph of imports is walked from the entry; only relative paths inside the package are followed. Every error has a
//! file and a line of the source. Reading files is the caller's: the walk asks for paths, and never for one outside
//! the package.
//!
//! The parsers work on the caller's stack and in his memory: whoever compiles what he does not trust does it in a
//! process that may die.

mod paths;
mod transform;

use std::collections::HashMap;

use bytes::Bytes;
use rquickjs::{CatchResultExt as _, Context, Module, Runtime, WriteOptions};

use crate::artifact::{Artifact, Compiled};
use paths::Resolved;
use transform::Exports;

/// The exports that are looked for where none is named; the first two take requests, the last one events.
const HANDLERS: [&str; 3] = ["default", "fetch", "handler"];
/// Modules of one script: a light script with more is none.
const MODULES_MAX: usize = 1_000;

/// Source cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", place(*line, *column))]
pub struct CompileError {
    /// The file, below the package.
    pub file: String,
    /// The line, from 1; 0 where it is not known.
    pub line: u32,
    /// The column, from 1; 0 where it is not known.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

fn place(line: u32, column: u32) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!(":{line}"),
        (line, column) => format!(":{line}:{column}"),
    }
}

impl CompileError {
    fn in_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, message: message.into() }
    }
}

/// Compiles the script that `handler` names: a file (`main.ts`), a file without its extension (`main`), or one with
/// an export (`main.fetch`). `read` gives the content of a file of the package by its relative path.
pub fn compile(handler: &str, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Artifact, CompileError> {
    let (entry, export) = paths::entry(handler, read).ok_or_else(|| {
        let message = "the code has no such file; looked for it as it is, and with .ts, .mts, .js and .mjs";
        CompileError::in_file(handler, message)
    })?;
    let mut walk = Walk {
        read,
        numbers: HashMap::new(),
        modules: Vec::new(),
        sources: Vec::new(),
        exports: Exports::default(),
    };
    let file = entry.path.clone();
    walk.add(entry);
    let mut next = 0;
    while let Some(Resolved { path, content }) = walk.sources.get_mut(next).map(std::mem::take) {
        walk.visit(next, &path, &content)?;
        next += 1;
    }
    check_handler(&file, export.as_deref(), &walk.exports)?;
    let damaged = |_| CompileError::in_file(handler, "the compiled script is too large");
    Artifact::new(export.as_deref(), &walk.modules).map_err(damaged)
}

struct Walk<'a> {
    read: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    numbers: HashMap<String, usize>,
    modules: Vec<Compiled>,
    sources: Vec<Resolved>,
    /// What the script itself exports.
    exports: Exports,
}

impl Walk<'_> {
    /// The number of the module, which is visited later where it is new.
    fn add(&mut self, found: Resolved) -> usize {
        if let Some(number) = self.numbers.get(&found.path) {
            return *number;
        }
        let number = self.sources.len();
        self.numbers.insert(found.path.clone(), number);
        self.sources.push(found);
        number
    }

    fn visit(&mut self, number: usize, path: &str, content: &[u8]) -> Result<(), CompileError> {
        let text = std::str::from_utf8(content)
            .map_err(|_| CompileError::in_file(path, "the file is not UTF-8 text"))?;
        let made = transform::to_javascript(path, text)?;
        if number == 0 {
            self.exports = made.exports;
        }
        let mut imports = Vec::with_capacity(made.imports.len());
        for import in made.imports {
            let at = |message: String| CompileError {
                file: path.to_owned(),
                line: import.line,
                column: import.column,
                message,
            };
            let found = paths::resolve(path, &import.specifier, self.read).map_err(at)?;
            imports.push((import.specifier.clone(), self.add(found)));
        }
        if self.sources.len() > MODULES_MAX {
            return Err(CompileError::in_file(
                path,
                format!("the script has more than {MODULES_MAX} modules"),
            ));
        }
        let mut compiled =
            Compiled { name: path.to_owned(), imports, lines: made.lines, ..Compiled::default() };
        compiled.bytecode = bytecode(&compiled, &made.code)?;
        debug_assert_eq!(self.modules.len(), number, "modules are visited in order");
        self.modules.push(compiled);
        Ok(())
    }
}

/// Refuses a script that has neither form of a handler; where names come from other files, that shows when it is loaded.
fn check_handler(path: &str, named: Option<&str>, exports: &Exports) -> Result<(), CompileError> {
    let is_there = |name: &str| exports.names.iter().any(|export| export == name);
    let found = named.map_or_else(|| HANDLERS.into_iter().any(is_there), is_there);
    if found || exports.has_others {
        return Ok(());
    }
    let wanted = match named {
        Some(name) => format!("does not export {name}, which the handler names"),
        None => "exports no handler: neither fetch(request), by that name or as its default, nor handler(event, context)"
            .to_owned(),
    };
    let all = if exports.names.is_empty() { "nothing".to_owned() } else { exports.names.join(", ") };
    Err(CompileError::in_file(path, format!("the module {wanted}; exported are: {all}")))
}

/// The engine's own compiler. It may still find what the parser allows.
fn bytecode(module: &Compiled, code: &str) -> Result<Bytes, CompileError> {
    let failed = |message: String| CompileError::in_file(&module.name, message);
    let runtime = Runtime::new().map_err(|error| failed(error.to_string()))?;
    runtime.set_loader(AnyName, EmptyModule);
    let context = Context::full(&runtime).map_err(|error| failed(error.to_string()))?;
    context.with(|ctx| {
        let declared = Module::declare(ctx.clone(), module.name.as_str(), code).catch(&ctx);
        let declared = declared.map_err(|error| match error {
            rquickjs::CaughtError::Exception(exception) => {
                let stack = exception.stack().unwrap_or_default();
                let (line, column) = position(&stack, module).unwrap_or((0, 0));
                let message = exception.message().unwrap_or_default();
                CompileError { file: module.name.clone(), line, column, message }
            }
            other => failed(other.to_string()),
        })?;
        let options = WriteOptions { strip_source: true, ..WriteOptions::default() };
        let written = declared.write(options).map_err(|error| failed(error.to_string()))?;
        Ok(written.into())
    })
}

/// The engine looks for imports when it compiles; which modules they are is only asked when they are loaded.
pub(crate) struct AnyName;

impl rquickjs::loader::Resolver for AnyName {
    fn resolve<'js>(
        &mut self,
        _ctx: &rquickjs::Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        Ok(name.to_owned())
    }
}

/// What stands for any import while a module is compiled.
pub(crate) struct EmptyModule;

impl rquickjs::loader::Loader for EmptyModule {
    fn load<'js>(
        &mut self,
        ctx: &rquickjs::Ctx<'js>,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js>> {
        Module::declare(ctx.clone(), name, "")
    }
}

/// The line and column that the first frame of `stack` names.
fn position(stack: &str, module: &Compiled) -> Option<(u32, u32)> {
    let frame = stack.lines().find(|line| line.contains(&module.name))?.trim_end_matches(')');
    let (before, column) = frame.rsplit_once(':')?;
    let (_, line) = before.rsplit_once(':')?;
    let line: u32 = line.parse().ok()?;
    match module.lines.get(line.saturating_sub(1) as usize) {
        Some(source) => Some((*source, 0)),
        None => Some((line, column.parse().ok()?)),
    }
}
