//! One file: checked, its types taken away where it has any, its imports listed.

use std::path::Path;

use oxc_allocator::Allocator;
use oxc_ast::ast::{Program, Statement};
use oxc_codegen::{Codegen, CodegenOptions, CodegenReturn};
use oxc_parser::{Parser, ParserReturn};
use oxc_semantic::SemanticBuilder;
use oxc_span::{SourceType, Span};
use oxc_syntax::module_record::{ExportEntry, ExportExportName, ModuleRecord};
use oxc_transformer::{TransformOptions, Transformer};

use super::CompileError;

/// A file as the engine takes it.
pub(super) struct JavaScript {
    pub(super) code: String,
    pub(super) imports: Vec<Import>,
    pub(super) exports: Exports,
    /// See [`crate::artifact::Compiled::lines`].
    pub(super) lines: Vec<u32>,
}

/// What a file exports.
#[derive(Debug, Default)]
pub(super) struct Exports {
    pub(super) names: Vec<String>,
    /// Whether there may be more, from other files.
    pub(super) has_others: bool,
}

/// An import whose name is known before the script runs.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) specifier: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Makes the file `path` into JavaScript.
pub(super) fn to_javascript(path: &str, text: &str) -> Result<JavaScript, CompileError> {
    if path.ends_with(".json") {
        return Ok(JavaScript {
            code: json(path, text)?,
            imports: Vec::new(),
            exports: Exports::default(),
            lines: Vec::new(),
        });
    }
    let is_typed = path.ends_with(".ts") || path.ends_with(".mts");
    let source_type = if is_typed { SourceType::ts() } else { SourceType::mjs() }.with_module(true);
    let allocator = Allocator::default();
    let ParserReturn { mut program, module_record, diagnostics, .. } =
        Parser::new(&allocator, text, source_type).parse();
    fail_at_first(path, text, &diagnostics)?;
    let semantic = SemanticBuilder::new().with_check_syntax_error(true).with_enum_eval(true).build(&program);
    fail_at_first(path, text, &semantic.diagnostics)?;
    let exports = exports_of(&module_record);
    let dynamic =
        module_record.dynamic_imports.iter().filter_map(|import| literal(text, import.module_request));
    let mut imports: Vec<Import> = dynamic.collect();
    if !is_typed {
        imports.extend(imports_of(&program, text));
        return Ok(JavaScript { code: text.to_owned(), imports, exports, lines: Vec::new() });
    }
    let scoping = semantic.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed =
        Transformer::new(&allocator, Path::new(path), &options).build_with_scoping(scoping, &mut program);
    fail_at_first(path, text, &transformed.diagnostics)?;
    // Only now, since imports of types are gone.
    imports.extend(imports_of(&program, text));
    let options = CodegenOptions { source_map_path: Some(path.into()), ..CodegenOptions::default() };
    let CodegenReturn { code, map, .. } = Codegen::new().with_options(options).build(&program);
    let lines = map.map_or_else(Vec::new, |map| {
        line_table(map.get_tokens().map(|token| (token.get_dst_line(), token.get_src_line())))
    });
    Ok(JavaScript { code, imports, exports, lines })
}

fn exports_of(record: &ModuleRecord<'_>) -> Exports {
    let entries = record.local_export_entries.iter().chain(&record.indirect_export_entries);
    let name = |entry: &ExportEntry<'_>| match &entry.export_name {
        _ if entry.is_type => None,
        ExportExportName::Name(name) => Some(name.name.to_string()),
        ExportExportName::Default(_) => Some("default".to_owned()),
        ExportExportName::Null => None,
    };
    Exports { names: entries.filter_map(name).collect(), has_others: !record.star_export_entries.is_empty() }
}

/// JSON is an expression of JavaScript, so a module of it is one statement.
fn json(path: &str, text: &str) -> Result<String, CompileError> {
    let source_type = SourceType::mjs();
    let allocator = Allocator::default();
    let code = format!("export default {text};");
    let parsed = Parser::new(&allocator, &code, source_type).parse();
    if parsed.diagnostics.is_empty() && parsed.program.body.len() == 1 {
        Ok(code)
    } else {
        Err(CompileError::in_file(path, "the file is not JSON"))
    }
}

fn imports_of(program: &Program<'_>, text: &str) -> Vec<Import> {
    let source = |statement: &Statement<'_>| match statement {
        Statement::ImportDeclaration(import) => Some((import.source.value.to_string(), import.span)),
        Statement::ExportFromDeclaration(export) => Some((export.source.value.to_string(), export.span)),
        Statement::ExportAllDeclaration(export) => Some((export.source.value.to_string(), export.span)),
        _ => None,
    };
    let found = program.body.iter().filter_map(source);
    found
        .map(|(specifier, span)| {
            let (line, column) = line_and_column(text, span.start as usize);
            Import { specifier, line, column }
        })
        .collect()
}

/// The import that a string literal names. Any other expression is resolved, and refused, when it is evaluated.
fn literal(text: &str, span: Span) -> Option<Import> {
    let written = text.get(span.start as usize..span.end as usize)?;
    let quote = written.chars().next().filter(|quote| matches!(quote, '"' | '\'' | '`'))?;
    let specifier = written.strip_prefix(quote)?.strip_suffix(quote)?;
    let is_plain = !specifier.contains([quote, '\\', '$']);
    let (line, column) = line_and_column(text, span.start as usize);
    is_plain.then(|| Import { specifier: specifier.to_owned(), line, column })
}

fn fail_at_first(
    path: &str,
    text: &str,
    diagnostics: &[oxc_diagnostics::OxcDiagnostic],
) -> Result<(), CompileError> {
    let Some(first) = diagnostics.first() else { return Ok(()) };
    let at = first.labels.first().map(oxc_diagnostics::LabeledSpan::offset);
    let (line, column) = at.map_or((0, 0), |at| line_and_column(text, at as usize));
    Err(CompileError { file: path.to_owned(), line, column, message: first.to_string() })
}

/// Both counted from 1; the column in characters.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// For each line of the result the line of the source that its first token comes from.
fn line_table(tokens: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let mut lines: Vec<u32> = Vec::new();
    for (made, source) in tokens {
        while lines.len() < made as usize {
            let last = lines.last().copied().unwrap_or(1);
            lines.push(last);
        }
        if lines.len() == made as usize {
            lines.push(source + 1);
        }
    }
    lines
}
