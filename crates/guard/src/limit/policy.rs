//! The limits in force: what is set at run time, or what the configuration says where nothing is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alula_model::{Limit, Name};

use super::options::{Options, OptionsError};
use crate::protect::{Ceiling, Rules, Target};

/// One picture of all limits and protections, swapped whole when something changes.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) node: Limit,
    pub(crate) api: Limit,
    namespace: Limit,
    app: Limit,
    caller: Limit,
    namespaces: HashMap<Name, OfNamespace>,
    callers: HashMap<Arc<str>, Limit>,
    pub(crate) rules: Rules,
}

#[derive(Debug, Default)]
struct OfNamespace {
    whole: Option<Limit>,
    apps: HashMap<Name, Limit>,
    functions: HashMap<Name, Limit>,
}

impl Policy {
    /// What `set` says over what `options` say.
    pub(crate) fn new(
        options: &Options,
        set: &BTreeMap<Target, Ceiling>,
        rules: Rules,
    ) -> Result<Self, OptionsError> {
        let mut policy = Self { rules, ..Self::default() };
        let stated = options.targets()?;
        let set = set.iter().map(|(target, ceiling)| (target.clone(), ceiling.limit));
        for (target, limit) in stated.into_iter().chain(set) {
            policy.put(target, limit);
        }
        Ok(policy)
    }

    fn put(&mut self, target: Target, limit: Limit) {
        match target {
            Target::Node => self.node = limit,
            Target::Api => self.api = limit,
            Target::Namespaces => self.namespace = limit,
            Target::Apps => self.app = limit,
            Target::Callers => self.caller = limit,
            Target::Namespace(namespace) => self.of(namespace).whole = Some(limit),
            Target::App(namespace, app) => drop(self.of(namespace).apps.insert(app, limit)),
            Target::Function(namespace, name) => drop(self.of(namespace).functions.insert(name, limit)),
            Target::Caller(name) => drop(self.callers.insert(name.into(), limit)),
        }
    }

    fn of(&mut self, namespace: Name) -> &mut OfNamespace {
        self.namespaces.entry(namespace).or_default()
    }

    /// The limit of a namespace.
    pub(crate) fn namespace(&self, namespace: &Name) -> Limit {
        self.namespaces.get(namespace).and_then(|of| of.whole).unwrap_or(self.namespace)
    }

    /// The limit of an app.
    pub(crate) fn app(&self, namespace: &Name, app: &Name) -> Limit {
        let named = self.namespaces.get(namespace).and_then(|of| of.apps.get(app));
        named.copied().unwrap_or(self.app)
    }

    /// The operator's limit of a function.
    pub(crate) fn function(&self, namespace: &Name, function: &Name) -> Limit {
        let named = self.namespaces.get(namespace).and_then(|of| of.functions.get(function));
        named.copied().unwrap_or(Limit::NONE)
    }

    /// The limit of a caller, by its name where it has one.
    pub(crate) fn caller(&self, name: Option<&str>) -> Limit {
        let named = name.and_then(|name| self.callers.get(name));
        named.copied().unwrap_or(self.caller)
    }
}

/// The narrower of two limits, each for itself.
pub(crate) fn narrower(one: Limit, other: Limit) -> Limit {
    let rates = [(one.requests_per_second, one.burst), (other.requests_per_second, other.burst)];
    let rate = rates.into_iter().filter(|(rate, _)| rate.is_some()).min_by_key(|(rate, _)| *rate);
    let (requests_per_second, burst) = rate.unwrap_or_default();
    let in_flight = [one.in_flight, other.in_flight].into_iter().flatten().min();
    Limit { requests_per_second, burst, in_flight }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn in_flight(most: u32) -> Limit {
        Limit { in_flight: NonZeroU32::new(most), ..Limit::NONE }
    }

    #[test]
    fn what_is_set_stands_in_for_what_is_configured_and_names_for_all() {
        let options = Options {
            namespace: in_flight(1),
            namespaces: [("acme".to_owned(), in_flight(2)), ("named".to_owned(), in_flight(3))].into(),
            ..Options::default()
        };
        let ceiling = |limit| Ceiling { limit, ..Ceiling::default() };
        let set = [
            ("namespaces".parse().unwrap(), ceiling(in_flight(4))),
            ("namespace/acme".parse().unwrap(), ceiling(in_flight(5))),
            ("caller/key:a".parse().unwrap(), ceiling(in_flight(6))),
        ];
        let policy = Policy::new(&options, &set.into(), Rules::default()).unwrap();
        let of = |name| policy.namespace(&Name::new(name).unwrap()).in_flight.map(NonZeroU32::get);
        assert_eq!((of("acme"), of("named"), of("other")), (Some(5), Some(3), Some(4)));
        assert_eq!(policy.caller(Some("key:a")), in_flight(6));
        assert_eq!(policy.caller(Some("key:b")), Limit::NONE);
    }

    #[test]
    fn the_narrower_limit_is_taken_for_each_part() {
        let rate = |per_second, burst| Limit {
            requests_per_second: NonZeroU32::new(per_second),
            burst: NonZeroU32::new(burst),
            in_flight: None,
        };
        assert_eq!(narrower(rate(5, 50), rate(9, 9)), rate(5, 50));
        assert_eq!(narrower(Limit::NONE, rate(9, 0)), rate(9, 0));
        assert_eq!(narrower(in_flight(5), rate(9, 0)).in_flight, in_flight(5).in_flight);
        assert_eq!(narrower(Limit::NONE, Limit::NONE), Limit::NONE);
    }
}
