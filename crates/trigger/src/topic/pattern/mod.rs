//! Filters: patterns over JSON events, in the language of Amazon EventBridge.
//!
//! A pattern is an object. A field of it names a field of the event: an object goes deeper, a list holds the values and
//! [`Rule`]s of which one must match. All fields must match; `$or` holds patterns of which one must. Where the event has a
//! list, one of its elements must match, and all fields below one object of the pattern are looked for in the same
//! element. The source is the "Event patterns" section of EventBridge's user guide.
//!
//! ```json
//! {"type": ["order.placed"], "data": {"total": [{"numeric": [">", 100]}], "$or": [{"vip": [true]}, {"country": ["CH"]}]}}
//! ```
//!
//! Pure: it is read once and then asked. `rule` holds the single rules, `read` makes them from JSON. Reading refuses what
//! would take long to ask, so that the work for an event is bounded by the sizes of pattern and event.

mod read;
mod rule;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use read::PatternError;
use rule::Rule;

/// A pattern that was read and can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    all: Vec<Clause>,
}

/// What must be so.
#[derive(Debug, Clone, PartialEq)]
enum Clause {
    /// The field's value matches one of the rules.
    Leaf(String, Vec<Rule>),
    /// The field's value is an object, or has one among its elements, that matches.
    Below(String, Pattern),
    /// One of these matches.
    Or(Vec<Pattern>),
}

impl Pattern {
    /// Reads a pattern and says what is wrong with it.
    pub fn read(pattern: &Value) -> Result<Self, PatternError> {
        read::read(pattern)
    }

    /// Whether `event` matches. What is not an object matches nothing.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        event.is_object() && self.all.iter().all(|clause| clause.holds_in(event))
    }

    /// Whether nothing that is below here is there, as the pattern allows: `exists: false` holds in what is absent.
    fn allows_absence(&self) -> bool {
        self.all.iter().all(|clause| match clause {
            Clause::Leaf(_, rules) => rules.iter().any(Rule::allows_absence),
            Clause::Below(_, pattern) => pattern.allows_absence(),
            Clause::Or(patterns) => patterns.iter().any(Self::allows_absence),
        })
    }
}

impl Clause {
    fn holds_in(&self, event: &Value) -> bool {
        match self {
            Self::Or(patterns) => patterns.iter().any(|pattern| pattern.matches(event)),
            Self::Leaf(field, rules) => match event.get(field) {
                None => rules.iter().any(Rule::allows_absence),
                Some(value) => any_element(value, &|value| rules.iter().any(|rule| rule.matches(value))),
            },
            Self::Below(field, pattern) => match event.get(field) {
                None => pattern.allows_absence(),
                Some(value) => any_element(value, &|value| pattern.matches(value)),
            },
        }
    }
}

/// Whether `holds` is so of the value or, where that is a list, of one of its elements.
fn any_element(value: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|element| any_element(element, holds)),
        value => holds(value),
    }
}
