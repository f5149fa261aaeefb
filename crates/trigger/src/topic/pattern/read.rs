//! From JSON to a pattern, or to what is wrong with it.

use serde_json::{Map, Value};

use super::rule::{Block, Comparison, Rule, Text};
use super::{Clause, Pattern};

/// Longest pattern, as JSON text in bytes: twice what EventBridge takes.
const PATTERN_BYTES_MAX: usize = 4_096;
/// Deepest nesting of objects and `$or`.
const DEPTH_MAX: usize = 16;
/// Parts of a wildcard: each may walk the whole value.
const WILDCARDS_MAX: usize = 16;

/// What is wrong with a pattern, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter{place}: {reason}")]
pub struct PatternError {
    /// `.data.total`, or nothing for the whole.
    place: String,
    reason: String,
}

type Result<T> = std::result::Result<T, PatternError>;

/// Where something stands in the pattern.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    name: &'a str,
    depth: usize,
}

impl<'a> Place<'a> {
    const TOP: Self = Self { above: None, name: "", depth: 0 };

    fn below(&'a self, name: &'a str) -> Self {
        Self { above: Some(self), name, depth: self.depth + 1 }
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T> {
        let mut place = String::new();
        let mut at = Some(self);
        while let Some(Place { above: Some(above), name, .. }) = at {
            place.insert_str(0, &format!(".{name}"));
            at = Some(above);
        }
        Err(PatternError { place, reason: reason.into() })
    }
}

pub(super) fn read(pattern: &Value) -> Result<Pattern> {
    let top = Place::TOP;
    let bytes = pattern.to_string().len();
    if bytes > PATTERN_BYTES_MAX {
        return top.wrong(format!("it has {bytes} bytes, at most {PATTERN_BYTES_MAX} are allowed"));
    }
    match pattern {
        Value::Object(fields) => read_object(fields, &top),
        _ => top.wrong("a filter is an object whose fields are objects or lists"),
    }
}

fn read_object(fields: &Map<String, Value>, place: &Place<'_>) -> Result<Pattern> {
    if place.depth > DEPTH_MAX {
        return place.wrong(format!("it is nested deeper than {DEPTH_MAX}"));
    }
    if fields.is_empty() {
        return place.wrong("an empty object matches nothing in particular; leave it out");
    }
    let clause = |(field, value): (&String, &Value)| {
        let place = place.below(field);
        match (field.as_str(), value) {
            ("$or", Value::Array(patterns)) => read_or(patterns, &place),
            ("$or", _) => place.wrong("$or is a list of patterns"),
            (_, Value::Object(below)) => Ok(Clause::Below(field.clone(), read_object(below, &place)?)),
            (_, Value::Array(rules)) if rules.is_empty() => place.wrong("an empty list matches nothing"),
            (_, Value::Array(rules)) => {
                let rules = rules.iter().map(|rule| read_rule(rule, &place)).collect::<Result<_>>()?;
                Ok(Clause::Leaf(field.clone(), rules))
            }
            (_, value) => place.wrong(format!("write the value in a list: [{value}]")),
        }
    };
    Ok(Pattern { all: fields.iter().map(clause).collect::<Result<_>>()? })
}

fn read_or(patterns: &[Value], place: &Place<'_>) -> Result<Clause> {
    if patterns.len() < 2 {
        return place.wrong("$or needs two patterns or more");
    }
    let pattern = |pattern: &Value| match pattern {
        Value::Object(fields) => read_object(fields, place),
        _ => place.wrong("every element of $or is an object"),
    };
    Ok(Clause::Or(patterns.iter().map(pattern).collect::<Result<_>>()?))
}

fn read_rule(rule: &Value, place: &Place<'_>) -> Result<Rule> {
    let fields = match rule {
        Value::Object(fields) => fields,
        Value::Array(_) => return place.wrong("a list within a list"),
        value => return Ok(Rule::Is(value.clone())),
    };
    let mut fields = fields.iter();
    let (Some((name, operand)), None) = (fields.next(), fields.next()) else {
        return place.wrong("a rule has one key, such as {\"prefix\": \"a\"}");
    };
    let place = place.below(name);
    match name.as_str() {
        "exists" => match operand {
            Value::Bool(exists) => Ok(Rule::Exists(*exists)),
            _ => place.wrong("it is true or false"),
        },
        "numeric" => read_numeric(operand, &place),
        "cidr" => match operand.as_str().and_then(Block::parse) {
            Some(block) => Ok(Rule::Cidr(block)),
            None => place.wrong("it is a block of addresses, such as \"10.0.0.0/24\""),
        },
        "anything-but" => read_anything_but(operand, &place),
        _ => read_text(name, operand, &place).map(Rule::Text),
    }
}

/// One of the rules over text.
fn read_text(name: &str, operand: &Value, place: &Place<'_>) -> Result<Text> {
    let ignoring_case = operand.get("equals-ignore-case").and_then(Value::as_str).map(str::to_lowercase);
    match (name, operand, ignoring_case) {
        ("prefix", Value::String(text), _) => Ok(Text::Prefix(text.clone())),
        ("suffix", Value::String(text), _) => Ok(Text::Suffix(text.clone())),
        ("prefix", _, Some(text)) => Ok(Text::PrefixIgnoringCase(text)),
        ("suffix", _, Some(text)) => Ok(Text::SuffixIgnoringCase(text)),
        ("equals-ignore-case", Value::String(text), _) => Ok(Text::EqualsIgnoringCase(text.to_lowercase())),
        ("wildcard", Value::String(text), _) => read_wildcard(text, place),
        ("prefix" | "suffix" | "equals-ignore-case" | "wildcard", ..) => place.wrong("it takes a text"),
        _ => place.wrong(
            "no rule has this name; there are prefix, suffix, anything-but, numeric, exists, cidr, \
             equals-ignore-case and wildcard",
        ),
    }
}

/// `*` stands for anything, `\*` for a star, `\\` for a backslash.
fn read_wildcard(text: &str, place: &Place<'_>) -> Result<Text> {
    let mut parts = vec![String::new()];
    let mut after_star = false;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let literal = match char {
            '*' if after_star => return place.wrong("two stars one after another mean no more than one"),
            '*' => {
                parts.push(String::new());
                after_star = true;
                continue;
            }
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '\\')) => escaped,
                _ => return place.wrong("a backslash stands before a star or another backslash"),
            },
            char => char,
        };
        after_star = false;
        if let Some(part) = parts.last_mut() {
            part.push(literal);
        }
    }
    match parts.len() > WILDCARDS_MAX + 1 {
        true => place.wrong(format!("it has over {WILDCARDS_MAX} stars")),
        false => Ok(Text::Wildcard(parts)),
    }
}

fn read_numeric(operand: &Value, place: &Place<'_>) -> Result<Rule> {
    const FORM: &str = "it is a list of one or two comparisons, such as [\">\", 0, \"<=\", 5]";
    let Some(parts) = operand.as_array().filter(|parts| matches!(parts.len(), 2 | 4)) else {
        return place.wrong(FORM);
    };
    let bound = |pair: &[Value]| {
        let [how, bound] = pair else { return None };
        Some((Comparison::parse(how.as_str()?)?, bound.as_f64()?))
    };
    match parts.chunks(2).map(bound).collect::<Option<Vec<_>>>() {
        Some(bounds) => Ok(Rule::Numeric(bounds)),
        None => place.wrong(FORM),
    }
}

/// A value, a list of values, or a rule over text with a text or a list of texts.
fn read_anything_but(operand: &Value, place: &Place<'_>) -> Result<Rule> {
    let scalar = |value: &Value| match value {
        Value::Array(_) | Value::Object(_) => place.wrong("it takes values, or one rule over text"),
        value => Ok(Rule::Is(value.clone())),
    };
    let rules = match operand {
        Value::Array(values) if values.is_empty() => return place.wrong("an empty list excludes nothing"),
        Value::Array(values) => values.iter().map(scalar).collect::<Result<Vec<_>>>()?,
        Value::Object(fields) => {
            let mut fields = fields.iter();
            let (Some((name, operand)), None) = (fields.next(), fields.next()) else {
                return place.wrong("it has one key, such as {\"prefix\": \"a\"}");
            };
            let place = place.below(name);
            let text = |operand: &Value| read_text(name, operand, &place).map(Rule::Text);
            match operand {
                Value::Array(operands) if !operands.is_empty() => {
                    operands.iter().map(text).collect::<Result<Vec<_>>>()?
                }
                operand => vec![text(operand)?],
            }
        }
        value => vec![scalar(value)?],
    };
    Ok(Rule::AnythingBut(rules))
}
