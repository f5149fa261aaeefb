//! What a caller is told who ran into a limit: its name, its value, where it is set, and when to come again.

use alula_model::{ErrorCode, Fault, Name, Quota, QuotaUnit};

use super::flow::Hit;
use crate::Refusal;

/// When a caller may come again who has too much in flight: nobody knows when something of it ends.
const RETRY_IN_FLIGHT_MS: u64 = 1_000;
const MS_NS: u64 = 1_000_000;

/// Whose limit it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    Node,
    /// The node's, where it is full and the namespace has its share.
    Namespace(&'a Name),
    App(&'a Name, &'a Name),
    Function(&'a Name, &'a Name),
    /// Each caller's of a function.
    PerCaller(&'a Name, &'a Name),
    Caller(&'a str),
    /// An operator's throttle, with its reason.
    Throttle(&'a str),
    Api(&'a str),
}

impl Whose<'_> {
    /// The first part of the limit's name.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace(_) => "namespace",
            Self::App(..) => "app",
            Self::Function(..) => "function",
            Self::PerCaller(..) => "function.per_caller",
            Self::Caller(_) => "caller",
            Self::Throttle(_) => "throttle",
            Self::Api(_) => "api",
        }
    }

    fn subject(self) -> String {
        match self {
            Self::Node => "the node".to_owned(),
            Self::Namespace(namespace) => format!("namespace {namespace}"),
            Self::App(namespace, app) => format!("app {namespace}/{app}"),
            Self::Function(namespace, name) => format!("function {namespace}/{name}"),
            Self::PerCaller(namespace, name) => format!("each caller of {namespace}/{name}"),
            Self::Caller(name) => format!("caller {name}"),
            Self::Throttle(reason) => format!("by an operator's throttle ({reason}) it"),
            Self::Api(name) => format!("{name} at the control API"),
        }
    }

    fn setting(self, part: &str) -> String {
        match self {
            Self::Node => format!("limits.node.{part} in the configuration, or `alula limit set node`"),
            Self::Namespace(namespace) => {
                format!(
                    "limits.namespace.{part} in the configuration, or `alula limit set namespace/{namespace}`"
                )
            }
            Self::App(namespace, app) => {
                format!("limits.app.{part} in the configuration, or `alula limit set app/{namespace}/{app}`")
            }
            Self::Function(namespace, name) => {
                format!("limits.{part} in alula.toml, or `alula limit set function/{namespace}/{name}`")
            }
            Self::PerCaller(..) => format!("limits.per_caller.{part} in alula.toml"),
            Self::Caller(_) => {
                format!("limits.caller.{part} in the configuration, or `alula limit set callers`")
            }
            Self::Throttle(_) => "`alula protect list` and `alula protect lift`".to_owned(),
            Self::Api(_) => format!("limits.api.{part} in the configuration, or `alula limit set api`"),
        }
    }
}

/// The refusal for a hit.
pub(crate) fn refusal(whose: Whose<'_>, hit: Hit) -> Refusal {
    let (part, value, message) = match hit {
        Hit::Rate { per_second, burst, .. } => (
            "requests_per_second",
            per_second,
            format!("{} may make {per_second} requests a second, {burst} at once", whose.subject()),
        ),
        Hit::InFlight { most } => {
            ("in_flight", most, format!("{} may have {most} requests in flight", whose.subject()))
        }
        Hit::Share { share, most } => (
            "in_flight",
            most,
            format!("the node runs {most} requests, and the namespace has its share of {share}"),
        ),
    };
    let name = format!("{}.{part}", whose.name());
    let quota = quota(name.clone(), hit);
    let retry_after_ms = Some(quota.reset_ms);
    let mut fault = Fault::limit(ErrorCode::RateLimited, message, &name, value.into(), &whose.setting(part));
    fault.quota = Some(Box::new(quota));
    Refusal { fault, retry_after_ms }
}

fn quota(name: String, hit: Hit) -> Quota {
    let in_flight = |most: u32| (most, QuotaUnit::InFlight, RETRY_IN_FLIGHT_MS);
    let (limit, unit, reset_ms) = match hit {
        Hit::Rate { per_second, burst, wait_ns } => {
            // The burst comes once, and again after the time in which the rate gives as much.
            let window_ms = (u64::from(burst) * 1_000).div_ceil(u64::from(per_second)).max(1);
            (burst, QuotaUnit::Requests { window_ms }, wait_ns.div_ceil(MS_NS))
        }
        Hit::InFlight { most } => in_flight(most),
        Hit::Share { share, .. } => in_flight(share),
    };
    Quota { name, limit: limit.into(), unit, remaining: 0, reset_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_limit_its_value_its_setting_and_when_to_come_again() {
        let name = |text| Name::new(text).unwrap();
        let (acme, hello) = (name("acme"), name("hello"));
        let hit = Hit::Rate { per_second: 10, burst: 20, wait_ns: 100_000_001 };
        let refusal = refusal(Whose::Function(&acme, &hello), hit);
        assert_eq!(refusal.retry_after_ms, Some(101));
        let limit = refusal.fault.limit.unwrap();
        assert_eq!((limit.name.as_str(), limit.value), ("function.requests_per_second", 10));
        assert!(limit.setting.starts_with("limits.requests_per_second in alula.toml"), "{}", limit.setting);
        let quota = refusal.fault.quota.unwrap();
        assert_eq!((quota.limit, quota.unit), (20, QuotaUnit::Requests { window_ms: 2_000 }));
        let share = super::refusal(Whose::Node, Hit::Share { share: 5, most: 10 });
        assert_eq!(share.fault.message, "the node runs 10 requests, and the namespace has its share of 5");
        assert_eq!(share.fault.limit.unwrap().name, "node.in_flight");
    }
}
