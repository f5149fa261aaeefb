//! The limits that an operator states in the configuration. What is set at run time stands in for them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use alula_model::Limit;
use serde::{Deserialize, Serialize};

use crate::protect::Target;

/// Requests in flight on a node from where on namespaces get their share and no more: about 20 KB each without their
/// bodies, so 200 MB.
const NODE_IN_FLIGHT_DEFAULT: u32 = 10_000;
/// Requests a second of one who asks the control API: a script that lists things in a loop, with room to spare.
const API_PER_SECOND_DEFAULT: u32 = 1_000;
/// Requests in flight of one who asks the control API: each follows a log or waits for a call. Half of the connections.
const API_IN_FLIGHT_DEFAULT: u32 = 256;

/// Limits of requests. What is not stated is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Of all calls of the node. Where it is full, namespaces get equal shares of it.
    pub node: Limit,
    /// Of each namespace that is not named below.
    pub namespace: Limit,
    /// Of each app that is not named below.
    pub app: Limit,
    /// Of each caller that is not named below, over all functions: known ones by name, others by address, of IPv6 by /64.
    pub caller: Limit,
    /// Of each who asks the control API.
    pub api: Limit,
    /// Of single namespaces, by their names.
    pub namespaces: BTreeMap<String, Limit>,
    /// Of single apps, by `NAMESPACE/APP`.
    pub apps: BTreeMap<String, Limit>,
    /// Of single functions, by `NAMESPACE/NAME`; the owner's own limits hold beside them.
    pub functions: BTreeMap<String, Limit>,
    /// Of single callers, by the names under which calls are recorded.
    pub callers: BTreeMap<String, Limit>,
}

impl Default for Options {
    fn default() -> Self {
        let api = Limit {
            requests_per_second: NonZeroU32::new(API_PER_SECOND_DEFAULT),
            burst: None,
            in_flight: NonZeroU32::new(API_IN_FLIGHT_DEFAULT),
        };
        Self {
            node: Limit { in_flight: NonZeroU32::new(NODE_IN_FLIGHT_DEFAULT), ..Limit::NONE },
            namespace: Limit::NONE,
            app: Limit::NONE,
            caller: Limit::NONE,
            api,
            namespaces: BTreeMap::new(),
            apps: BTreeMap::new(),
            functions: BTreeMap::new(),
            callers: BTreeMap::new(),
        }
    }
}

/// A limit of the configuration is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{key}: {reason}")]
pub struct OptionsError {
    key: String,
    reason: String,
}

impl Options {
    /// Every limit with whom it is for.
    pub(crate) fn targets(&self) -> Result<Vec<(Target, Limit)>, OptionsError> {
        let wide = [
            (Target::Node, self.node),
            (Target::Namespaces, self.namespace),
            (Target::Apps, self.app),
            (Target::Callers, self.caller),
            (Target::Api, self.api),
        ];
        let mut all = Vec::from(wide);
        let named = [
            ("namespaces", "namespace", &self.namespaces),
            ("apps", "app", &self.apps),
            ("functions", "function", &self.functions),
            ("callers", "caller", &self.callers),
        ];
        for (section, kind, limits) in named {
            for (name, limit) in limits {
                let error = |reason: String| OptionsError { key: format!("{section}.{name:?}"), reason };
                let target =
                    format!("{kind}/{name}").parse().map_err(|_| error("the name is wrong".to_owned()))?;
                all.push((target, *limit));
            }
        }
        for (target, limit) in &all {
            let error = |reason: String| OptionsError { key: target.to_string(), reason };
            limit.validate("").map_err(|found| error(found.reason))?;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_checked() {
        let read = |text: &str| serde_json::from_str::<Options>(text).map(|options| options.targets());
        assert_eq!(read("{}").unwrap().unwrap().len(), 5);
        let good = read(
            r#"{"namespaces": {"acme": {"in_flight": 5}}, "callers": {"key:a": {"requests_per_second": 1}}}"#,
        );
        assert_eq!(good.unwrap().unwrap().len(), 7);
        let key = |text| read(text).unwrap().unwrap_err().key;
        assert_eq!(key(r#"{"apps": {"acme": {"in_flight": 5}}}"#), "apps.\"acme\"");
        assert_eq!(key(r#"{"node": {"burst": 5}}"#), "node");
        assert!(read(r#"{"nodes": {}}"#).is_err());
    }
}
