//! `alula.toml`: what an archive says about its functions.
//!
//! Either one function, with the fields of its spec at the top level and its `name`, or several, each in a table
//! `[functions.NAME]` with its fields and the `source` folder, over common `[defaults]`. An error names the field,
//! its line and what to do; an unknown key also names the known one that it was probably meant to be.
//!
//! What the manifest leaves out is looked for in the files by [`guess`].

mod fields;
pub(crate) mod guess;

use std::collections::BTreeMap;
use std::path::PathBuf;

use alula_model::{BuildSpec, ErrorCode, Fault, FunctionSpec, Name, SpecError};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use fields::{fields_of, nearest};

use crate::upload::Overrides;

/// The manifest's file name.
pub(crate) const FILE_NAME: &str = "alula.toml";
/// Largest manifest.
pub(crate) const BYTES_MAX: u64 = 1024 * 1024;
/// Functions in one archive: they are published in one batch of the store.
pub(crate) const FUNCTIONS_MAX: usize = 100;

/// A function as far as the manifest tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draft {
    /// Its name, if it is told.
    pub(crate) name: Option<Name>,
    /// The folder of its code in the archive; empty for the archive itself.
    pub(crate) source: PathBuf,
    /// Fields of its spec.
    pub(crate) fields: Map<String, Value>,
    /// On which line of the manifest they are.
    lines: BTreeMap<String, usize>,
}

/// A manifest says something wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(*line))]
pub(crate) struct ManifestError {
    /// Where, if it is in `alula.toml`.
    pub(crate) line: Option<usize>,
    /// What is wrong, beginning with the field, and what to do.
    pub(crate) message: String,
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!("{FILE_NAME} line {line}: ")).unwrap_or_default()
}

impl ManifestError {
    fn new(line: Option<usize>, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }

    /// As the caller is told.
    pub(crate) fn fault(&self) -> Fault {
        Fault::new(ErrorCode::InvalidSpec, self.to_string())
    }
}

/// Reads a manifest.
pub(crate) fn read(text: &str) -> Result<Vec<Draft>, ManifestError> {
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let syntax = |error: toml::de::Error| {
        ManifestError::new(error.span().map(|span| line_of(span.start)), error.message().to_owned())
    };
    let document = DeTable::parse(text).map_err(syntax)?.into_inner();
    let reader = Reader { line_of: &line_of };
    if document.iter().any(|(key, _)| key.get_ref() == "functions") {
        reader.several(&document)
    } else {
        reader.one(&document)
    }
}

struct Reader<'a> {
    line_of: &'a dyn Fn(usize) -> usize,
}

impl Reader<'_> {
    fn one(&self, table: &DeTable<'_>) -> Result<Vec<Draft>, ManifestError> {
        let mut draft = self.draft(table, &["name"])?;
        if let Some(value) = draft.fields.remove("name") {
            let line = draft.lines.get("name").copied();
            let text = value.as_str().ok_or_else(|| ManifestError::new(line, "name: must be a text"))?;
            draft.name = Some(name(text, line)?);
        }
        Ok(vec![draft])
    }

    fn several(&self, document: &DeTable<'_>) -> Result<Vec<Draft>, ManifestError> {
        let (mut defaults, mut functions) = (Draft::default(), None);
        for (key, value) in document {
            let line = (self.line_of)(key.span().start);
            let table = value.get_ref().as_table();
            let table = || {
                table.ok_or_else(|| {
                    ManifestError::new(Some(line), format!("{key}: must be a table", key = key.get_ref()))
                })
            };
            match key.get_ref().as_ref() {
                "defaults" => defaults = self.draft(table()?, &[])?,
                "functions" => functions = Some(table()?),
                other => {
                    return Err(unknown(other, &["defaults", "functions"], Some(line), "beside [functions]"));
                }
            }
        }
        let functions = functions.into_iter().flatten();
        let drafts: Result<Vec<_>, _> = functions
            .map(|(key, value)| {
                let line = (self.line_of)(key.span().start);
                let table = value.get_ref().as_table();
                let table = table.ok_or_else(|| {
                    ManifestError::new(Some(line), format!("functions.{}: must be a table", key.get_ref()))
                })?;
                let own = self.draft(table, &["source"])?;
                self.function(name(key.get_ref(), Some(line))?, own, &defaults)
            })
            .collect();
        match drafts?.as_slice() {
            [] => Err(ManifestError::new(
                None,
                format!("{FILE_NAME}: [functions] is empty: name at least one function"),
            )),
            many if many.len() > FUNCTIONS_MAX => {
                let message = format!(
                    "{FILE_NAME}: {} functions, at most {FUNCTIONS_MAX} are allowed: split the archive",
                    many.len()
                );
                Err(ManifestError::new(None, message))
            }
            drafts => Ok(drafts.to_vec()),
        }
    }

    /// One function over the defaults; `env` is merged variable by variable.
    fn function(&self, name: Name, mut own: Draft, defaults: &Draft) -> Result<Draft, ManifestError> {
        let source = match own.fields.remove("source") {
            None => PathBuf::new(),
            Some(source) => {
                let line = own.lines.get("source").copied();
                let folder = source.as_str().map(|text| crate::archive::entry_path(text.as_bytes()));
                match folder {
                    Some(Ok(folder)) => folder,
                    _ => {
                        return Err(ManifestError::new(
                            line,
                            "source: must be a folder inside the archive, such as \"hello\"",
                        ));
                    }
                }
            }
        };
        let mut draft = Draft { name: Some(name), source, ..defaults.clone() };
        merge(&mut draft.fields, own.fields);
        draft.lines.extend(own.lines);
        Ok(draft)
    }

    /// The fields of a table, each checked by itself.
    fn draft(&self, table: &DeTable<'_>, also: &[&str]) -> Result<Draft, ManifestError> {
        let mut draft = Draft::default();
        for (key, value) in table {
            let line = (self.line_of)(key.span().start);
            let field = key.get_ref().as_ref();
            let value = json(value.get_ref());
            if !also.contains(&field) {
                let nested = |nested: &str| {
                    let build = table.get("build").and_then(|build| build.get_ref().as_table());
                    let found = build.and_then(|build| build.get_key_value(nested));
                    found.map(|(key, _)| (self.line_of)(key.span().start))
                };
                check_field(field, &value, Some(line), also, &nested)?;
            }
            draft.lines.insert(field.to_owned(), line);
            draft.fields.insert(field.to_owned(), value);
        }
        Ok(draft)
    }
}

impl Draft {
    /// Lays the upload's own values over those of the manifest.
    pub(crate) fn override_with(&mut self, overrides: &Overrides) -> Result<(), ManifestError> {
        for (field, value) in &overrides.spec {
            check_field(field, value, None, &["name"], &|_| None)?;
            self.lines.remove(field);
        }
        merge(&mut self.fields, overrides.spec.clone());
        Ok(())
    }

    /// Whether the field is set.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The spec, with defaults filled in and every bound checked.
    pub(crate) fn spec(&self) -> Result<FunctionSpec, ManifestError> {
        let spec: Result<FunctionSpec, _> = serde_json::from_value(Value::Object(self.fields.clone()));
        let spec = spec.map_err(|error| ManifestError::new(None, error.to_string()))?;
        spec.validate().map_err(|error| self.at_field(&error))?;
        Ok(spec)
    }

    /// A spec's error with its place in the manifest.
    pub(crate) fn at_field(&self, error: &SpecError) -> ManifestError {
        let field = error.field.split('.').next().unwrap_or(error.field);
        let message = match &self.name {
            Some(name) => format!("function {name}: {error}"),
            None => error.to_string(),
        };
        ManifestError::new(self.lines.get(field).copied(), message)
    }
}

/// Checks one field of a spec by itself, so that an error can name it.
fn check_field(
    field: &str,
    value: &Value,
    line: Option<usize>,
    also: &[&str],
    nested_line: &dyn Fn(&str) -> Option<usize>,
) -> Result<(), ManifestError> {
    let known = fields_of::<FunctionSpec>();
    if !known.contains(&field) {
        let all: Vec<_> = known.iter().chain(also).copied().collect();
        return Err(unknown(field, &all, line, ""));
    }
    if let ("build", Value::Object(build)) = (field, value) {
        for (key, value) in build {
            let (line, known) = (nested_line(key).or(line), fields_of::<BuildSpec>());
            if !known.contains(&key.as_str()) {
                return Err(unknown(key, known, line, "in build"));
            }
            probe::<BuildSpec>(key, value, "command")
                .map_err(|reason| wrong(&format!("build.{key}"), reason, line))?;
        }
    }
    probe::<FunctionSpec>(field, value, "runtime").map_err(|reason| wrong(field, reason, line))
}

/// Whether a struct with this field, and else only the one that it requires, can be read.
fn probe<T: serde::de::DeserializeOwned>(
    field: &str,
    value: &Value,
    required: &str,
) -> Result<(), serde_json::Error> {
    let mut object = Map::new();
    object.insert(required.to_owned(), Value::from("x"));
    object.insert(field.to_owned(), value.clone());
    serde_json::from_value::<T>(Value::Object(object)).map(|_| ())
}

fn wrong(field: &str, reason: serde_json::Error, line: Option<usize>) -> ManifestError {
    ManifestError::new(line, format!("{field}: {reason}"))
}

fn unknown(key: &str, known: &[&str], line: Option<usize>, place: &str) -> ManifestError {
    let place = if place.is_empty() { String::new() } else { format!(" {place}") };
    let remedy = match nearest(key, known) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("known are {}", known.join(", ")),
    };
    ManifestError::new(line, format!("unknown key {key}{place}; {remedy}"))
}

fn name(text: &str, line: Option<usize>) -> Result<Name, ManifestError> {
    Name::new(text).map_err(|error| ManifestError::new(line, format!("name: {error}")))
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (field, value) in from {
        match (into.get_mut(&field), value) {
            (Some(Value::Object(present)), Value::Object(value)) if field == "env" => present.extend(value),
            (_, value) => {
                into.insert(field, value);
            }
        }
    }
}

/// The same value in JSON. Dates become texts, which no field of a spec is.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| Value::from(number.to_string()), Value::from)
        }
        DeValue::Float(number) => {
            let parsed: Option<f64> = number.as_str().parse().ok();
            parsed.map_or_else(|| Value::from(number.as_str()), Value::from)
        }
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let fields = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            Value::Object(fields.collect())
        }
    }
}

#[cfg(test)]
mod tests;
