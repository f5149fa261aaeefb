//! Lineage: which functions led to a call, so that a chain that never ends can be told from one that does.
//!
//! It grows by one step with every call that a call leads to, through whatever: calls of functions by functions, topics,
//! buckets, destinations, asynchronous calls. It holds how often each function was gone through and not every step, so
//! its text stays short however long the chain is. Which call made it last is told where the platform knows it.
//!
//! Deliberately absent: the signature that keeps functions from making one up, which needs a key (`alula-invoke`).

use std::fmt;
use std::str::FromStr;

use crate::asynchronous::LoopPolicy;
use crate::id::InvocationId;
use crate::limits::{LINEAGE_DEPTH_MAX, LOOP_REPEATS_MAX};
use crate::name::Name;

/// The chain of functions that a call comes from, the one that made it last. Empty for a call that no function made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// In the order in which they first occur.
    steps: Vec<Step>,
    /// The call that made it last.
    parent: Option<InvocationId>,
}

/// One function of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    namespace: Name,
    function: Name,
    times: u32,
}

/// A chain of calls goes on for too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoopFound {
    /// The same function again and again.
    #[error(
        "{function} has called itself too often: this would be run {times} of one chain, {limit} are allowed \
         (async.loops); the chain: {chain}"
    )]
    Repeats {
        /// The function, `NAME.NAMESPACE`.
        function: String,
        /// Which run of it in the chain this call would be.
        times: u32,
        /// How many are allowed.
        limit: u32,
        /// The chain so far.
        chain: String,
    },
    /// More and more functions.
    #[error("the chain of calls is {depth} deep, {limit} are allowed; the chain: {chain}")]
    Depth {
        /// How deep it would be with this call.
        depth: u32,
        /// How deep it may be.
        limit: u32,
        /// The chain so far.
        chain: String,
    },
}

/// A text is no lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is no chain of functions")]
pub struct LineageError;

impl Lineage {
    /// Whether no function led to the call.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The call of the last function that led to this one, where it is known.
    #[must_use]
    pub const fn parent(&self) -> Option<&InvocationId> {
        self.parent.as_ref()
    }

    /// The same chain, led on by this call of its last function.
    #[must_use]
    pub fn led_by(self, parent: InvocationId) -> Self {
        Self { parent: Some(parent), ..self }
    }

    /// Calls in the chain.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.steps.iter().fold(0, |depth, step| depth.saturating_add(step.times))
    }

    /// The lineage of what a call of this function leads to, where its owner lets it be called once more.
    pub fn enter(&self, namespace: &Name, function: &Name, policy: LoopPolicy) -> Result<Self, LoopFound> {
        let times = self.times(namespace, function).saturating_add(1);
        let depth = self.depth().saturating_add(1);
        let (repeats_max, depth_max) = match policy {
            LoopPolicy::Detect => (LOOP_REPEATS_MAX, LINEAGE_DEPTH_MAX),
            // Who allows a chain allows its length.
            LoopPolicy::Allow(times) => (times, times.max(LINEAGE_DEPTH_MAX)),
            LoopPolicy::Off => (u32::MAX, LINEAGE_DEPTH_MAX),
        };
        if times > repeats_max {
            let (function, limit) = (format!("{function}.{namespace}"), repeats_max);
            return Err(LoopFound::Repeats { function, times, limit, chain: self.chain() });
        }
        let is_new = times == 1;
        if depth > depth_max || (is_new && self.steps.len() >= LINEAGE_DEPTH_MAX as usize) {
            return Err(LoopFound::Depth { depth, limit: depth_max, chain: self.chain() });
        }
        Ok(self.with(namespace, function))
    }

    /// The lineage of what a call of this function leads to, whatever its length.
    #[must_use]
    pub fn with(&self, namespace: &Name, function: &Name) -> Self {
        let mut steps = self.steps.clone();
        match steps.iter_mut().find(|step| step.is(namespace, function)) {
            Some(step) => step.times = step.times.saturating_add(1),
            None => steps.push(Step { namespace: namespace.clone(), function: function.clone(), times: 1 }),
        }
        Self { steps, parent: None }
    }

    /// The chain for people: `a.default (3 times) -> b.default`.
    #[must_use]
    pub fn chain(&self) -> String {
        let told = |step: &Step| match step.times {
            1 => format!("{}.{}", step.function, step.namespace),
            times => format!("{}.{} ({times} times)", step.function, step.namespace),
        };
        self.steps.iter().map(told).collect::<Vec<_>>().join(" -> ")
    }

    fn times(&self, namespace: &Name, function: &Name) -> u32 {
        self.steps.iter().find(|step| step.is(namespace, function)).map_or(0, |step| step.times)
    }
}

impl Step {
    fn is(&self, namespace: &Name, function: &Name) -> bool {
        self.function == *function && self.namespace == *namespace
    }
}

/// `a.default*3>b.default`, and `@CALL` where the call is known that led on.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Step { namespace, function, times }) in self.steps.iter().enumerate() {
            let joint = if number == 0 { "" } else { ">" };
            write!(f, "{joint}{function}.{namespace}")?;
            if *times > 1 {
                write!(f, "*{times}")?;
            }
        }
        match &self.parent {
            Some(parent) => write!(f, "@{}", parent.as_str()),
            None => Ok(()),
        }
    }
}

impl FromStr for Lineage {
    type Err = LineageError;

    fn from_str(text: &str) -> Result<Self, LineageError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (text, parent) = match text.split_once('@') {
            Some((text, parent)) => (text, Some(InvocationId::new(parent).ok_or(LineageError)?)),
            None => (text, None),
        };
        let steps = text.split('>').map(step).collect::<Option<Vec<_>>>().ok_or(LineageError)?;
        Ok(Self { steps, parent })
    }
}

fn step(text: &str) -> Option<Step> {
    let (name, times) = match text.split_once('*') {
        Some((name, times)) => (name, times.parse().ok().filter(|times| *times > 1)?),
        None => (text, 1),
    };
    let (function, namespace) = name.split_once('.')?;
    Some(Step { namespace: Name::new(namespace).ok()?, function: Name::new(function).ok()?, times })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn through(functions: &[&str]) -> Lineage {
        functions.iter().fold(Lineage::default(), |lineage, function| {
            lineage.with(&Name::default_namespace(), &name(function))
        })
    }

    fn enter(lineage: &Lineage, function: &str, policy: LoopPolicy) -> Result<Lineage, LoopFound> {
        lineage.enter(&Name::default_namespace(), &name(function), policy)
    }

    /// How often `function` is let in from an empty chain, up to 200 times.
    fn let_in(policy: LoopPolicy) -> usize {
        let mut lineage = Lineage::default();
        let once = |_: &usize| match enter(&lineage, "a", policy) {
            Ok(longer) => {
                lineage = longer;
                true
            }
            Err(_) => false,
        };
        (0..200).take_while(once).count()
    }

    #[test]
    fn a_function_is_stopped_after_its_repeats_and_every_chain_by_its_depth() {
        assert_eq!(let_in(LoopPolicy::Detect), 16);
        assert_eq!(let_in(LoopPolicy::Allow(3)), 3);
        assert_eq!(let_in(LoopPolicy::Allow(100)), 100);
        assert_eq!(let_in(LoopPolicy::Off), 64);
        let names: Vec<String> = (0..64).map(|number| format!("f{number}")).collect();
        let deep = through(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(enter(&deep, "g", LoopPolicy::Detect), Err(LoopFound::Depth { depth: 65, .. })));
        assert!(enter(&deep, "g", LoopPolicy::Allow(1_000)).is_err(), "its text would have no end");
    }

    #[test]
    fn what_stopped_it_names_the_chain() {
        let chain = through(&["a", "b", "a", "c"]);
        let found = enter(&chain, "a", LoopPolicy::Allow(2)).unwrap_err().to_string();
        assert!(found.contains("a.default (2 times) -> b.default -> c.default"), "{found}");
        assert!(found.contains("run 3 of one chain, 2 are allowed"), "{found}");
    }

    #[test]
    fn functions_of_one_name_in_two_namespaces_are_two() {
        let lineage = Lineage::default().with(&name("shop"), &name("a")).with(&name("bank"), &name("a"));
        assert_eq!(lineage.to_string(), "a.shop>a.bank");
    }

    #[test]
    fn the_call_that_led_on_is_that_of_the_last_step_only() {
        let lineage = through(&["a"]).led_by(InvocationId::new("call-1").unwrap());
        assert_eq!(lineage.parent().map(InvocationId::as_str), Some("call-1"));
        assert_eq!(enter(&lineage, "b", LoopPolicy::Detect).unwrap(), through(&["a", "b"]));
    }

    #[test]
    fn it_survives_its_text_form_and_nothing_else_does() {
        for text in ["", "a.default", "a.default*3>b.shop>c.default*16", "a.default*2>b.shop@call-1"] {
            assert_eq!(text.parse::<Lineage>().map(|lineage| lineage.to_string()).as_deref(), Ok(text));
        }
        for text in [
            ">",
            "a",
            "a.b*",
            "a.b*1",
            "a.b*x",
            "a.b*-1",
            "A.b",
            "a.b>",
            "a.b*99999999999",
            "a.b c",
            "a.b@",
            "@c",
            "a.b@c@d",
        ] {
            assert_eq!(text.parse::<Lineage>(), Err(LineageError), "{text}");
        }
    }
}
