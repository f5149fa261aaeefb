//! The protections that are in force, so that those of a call are found without looking at the others.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::{AddressBlock, Caller, ErrorCode, Fault, Name, Timestamp};

use super::record::{Protection, Subject};
use crate::Origin;
use crate::limit::Flow;

/// One of them, with what it has done.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) protection: Protection,
    /// What was let through, where it throttles.
    pub(crate) flow: Flow,
    refused: AtomicU64,
}

impl Rule {
    pub(crate) fn new(protection: Protection) -> Self {
        Self { protection, flow: Flow::default(), refused: AtomicU64::new(0) }
    }

    /// What a caller is told who is blocked by it.
    pub(crate) fn block(&self) -> Fault {
        self.note_refusal();
        let Protection { subject, reason, .. } = &self.protection;
        Fault::new(ErrorCode::Blocked, format!("{subject} is blocked by an operator: {reason}"))
    }

    pub(crate) fn note_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    all: HashMap<String, Arc<Rule>>,
    callers: HashMap<String, Vec<Arc<Rule>>>,
    /// By their networks, and the lengths of prefix that there are, those of IPv4 first.
    sources: HashMap<AddressBlock, Vec<Arc<Rule>>>,
    prefixes: [BTreeSet<u8>; 2],
    namespaces: HashMap<Name, OfNamespace>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    whole: Vec<Arc<Rule>>,
    functions: HashMap<Name, Vec<Arc<Rule>>>,
}

impl Rules {
    /// These, where what stays of `before` goes on with what it has counted.
    pub(crate) fn new(protections: impl IntoIterator<Item = Protection>, before: &Self) -> Self {
        let mut rules = Self::default();
        for protection in protections {
            let known = before.all.get(&protection.id).filter(|rule| rule.protection == protection);
            rules.add(known.map_or_else(|| Arc::new(Rule::new(protection)), Arc::clone));
        }
        rules
    }

    fn add(&mut self, rule: Arc<Rule>) {
        let place = match &rule.protection.subject {
            Subject::Caller(name) => self.callers.entry(name.clone()).or_default(),
            Subject::Source(block) => {
                self.prefixes[usize::from(!block.is_ipv4())].insert(block.prefix_bits());
                self.sources.entry(*block).or_default()
            }
            Subject::Namespace(namespace) => &mut self.namespaces.entry(namespace.clone()).or_default().whole,
            Subject::Function(namespace, name) => {
                let of = self.namespaces.entry(namespace.clone()).or_default();
                of.functions.entry(name.clone()).or_default()
            }
        };
        place.push(Arc::clone(&rule));
        self.all.insert(rule.protection.id.clone(), rule);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.all.values()
    }

    /// Those that are in force for whoever this is, calling in `namespace`; without one, those that are for all.
    pub(crate) fn of_origin<'a>(
        &'a self,
        origin: Origin<'a>,
        namespace: Option<&'a Name>,
        at: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Rule>> {
        let by_name = origin.caller.name().and_then(|name| self.callers.get(name));
        // What comes out of a sandbox comes from nowhere.
        let source = origin.source.filter(|_| !matches!(origin.caller, Caller::Function(_)));
        let by_source = source.into_iter().flat_map(|source| self.of_source(source));
        by_source.chain(by_name.into_iter().flatten()).filter(move |rule| {
            let Protection { within, .. } = &rule.protection;
            let is_meant = within.is_none() || within.as_ref() == namespace;
            is_meant && rule.protection.is_in_force(at)
        })
    }

    fn of_source(&self, source: IpAddr) -> impl Iterator<Item = &Arc<Rule>> {
        let source = source.to_canonical();
        let prefixes = &self.prefixes[usize::from(!source.is_ipv4())];
        prefixes
            .iter()
            .filter_map(move |bits| self.sources.get(&AddressBlock::around(source, *bits)))
            .flatten()
    }

    /// Those that are in force for what is called.
    pub(crate) fn of_function<'a>(
        &'a self,
        namespace: &Name,
        function: &Name,
        at: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Rule>> {
        let of = self.namespaces.get(namespace);
        let whole = of.into_iter().flat_map(|of| &of.whole);
        let function = of.and_then(|of| of.functions.get(function)).into_iter().flatten();
        whole.chain(function).filter(move |rule| rule.protection.is_in_force(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::Action;

    fn protection(id: &str, subject: &str, within: Option<&str>) -> Protection {
        Protection {
            id: id.to_owned(),
            subject: subject.parse().unwrap(),
            within: within.map(|name| Name::new(name).unwrap()),
            action: Action::Block,
            reason: "it floods".to_owned(),
            by: "admin".to_owned(),
            created_at: Timestamp(0),
            until: Some(Timestamp(1_000)),
        }
    }

    fn ids<'a>(found: impl Iterator<Item = &'a Arc<Rule>>) -> Vec<&'a str> {
        let mut ids: Vec<_> = found.map(|rule| &*rule.protection.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_call_finds_those_that_are_for_it() {
        let rules = Rules::new(
            [
                protection("wide", "source/10.0.0.0/8", None),
                protection("narrow", "source/10.1.2.3", None),
                protection("six", "source/2001:db8::/32", None),
                protection("caller", "caller/key:a", None),
                protection("within", "caller/key:a", Some("acme")),
                protection("tenant", "namespace/acme", None),
                protection("function", "function/acme/hello", None),
            ],
            &Rules::default(),
        );
        let name = |text| Name::new(text).unwrap();
        let known = Caller::Known("key:a".into());
        let of = |caller, source: &str, namespace: Option<&Name>, at| {
            let origin = Origin { caller, source: source.parse().ok() };
            ids(rules.of_origin(origin, namespace, Timestamp(at))).join(" ")
        };
        assert_eq!(of(&Caller::Public, "10.1.2.3", None, 5), "narrow wide");
        assert_eq!(of(&Caller::Public, "::ffff:10.9.9.9", None, 5), "wide");
        assert_eq!(of(&Caller::Public, "11.1.2.3", None, 5), "");
        assert_eq!(of(&Caller::Public, "2001:db8:9::1", None, 5), "six");
        assert_eq!(of(&known, "", None, 5), "caller");
        assert_eq!(of(&known, "", Some(&name("acme")), 5), "caller within");
        assert_eq!(of(&known, "", Some(&name("other")), 5), "caller");
        assert_eq!(of(&known, "10.1.2.3", None, 1_000), "", "its time is over");
        let of = |namespace, function| {
            ids(rules.of_function(&name(namespace), &name(function), Timestamp(5))).join(" ")
        };
        assert_eq!(of("acme", "hello"), "function tenant");
        assert_eq!(of("acme", "other"), "tenant");
        assert_eq!(of("other", "hello"), "");
    }

    #[test]
    fn what_stays_goes_on_counting() {
        let first = Rules::new([protection("a", "namespace/acme", None)], &Rules::default());
        first.all().for_each(|rule| rule.note_refusal());
        let next =
            Rules::new([protection("a", "namespace/acme", None), protection("b", "caller/x", None)], &first);
        let counted: u64 = next.all().map(|rule| rule.refused()).sum();
        assert_eq!(counted, 1);
        let changed = protection("a", "namespace/other", None);
        assert_eq!(Rules::new([changed], &next).all().map(|rule| rule.refused()).sum::<u64>(), 0);
    }
}
