//! What the instances of this node take together, and the ceilings that hold it down: those of the node, of each
//! namespace and of each app.
//!
//! A share is reserved before a start and goes with the instance; dropping it gives it back. An instance that is let
//! go gives its share back at once, so a ceiling counts what is starting and what can be lent. Memory is what an instance
//! is expected to take, and from the first look on what it takes.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alula_model::{ErrorCode, Fault, Name};
use alula_runtime::VersionPlan;

use crate::fair::{self, Reach};

const MEGABYTE: u64 = 1024 * 1024;

/// What the instances of a scope may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// Instances.
    pub instances: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

impl Ceiling {
    /// No ceiling.
    pub const NONE: Self = Self { instances: usize::MAX, memory_bytes: u64::MAX };
}

/// The ceilings of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// Of all instances.
    pub node: Ceiling,
    /// Of those of a namespace that is not named.
    pub namespace: Ceiling,
    /// Of those of an app that is not named.
    pub app: Ceiling,
    /// Of namespaces and apps by name.
    pub named: HashMap<Scope, Ceiling>,
}

impl Default for Ceilings {
    fn default() -> Self {
        let node = Ceiling { instances: 1_000, memory_bytes: u64::MAX };
        Self { node, namespace: Ceiling::NONE, app: Ceiling::NONE, named: HashMap::new() }
    }
}

/// Instances that have a ceiling in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All of this node.
    Node,
    /// Those of the functions of a namespace.
    Namespace(Name),
    /// Those of the functions of an app in a namespace.
    App(Name, Name),
}

impl Scope {
    /// The scopes that instances of `plan` count in, the narrowest last.
    pub(crate) fn of(plan: &VersionPlan) -> impl Iterator<Item = Self> {
        let namespace = &plan.key.namespace;
        let app = plan.spec.app.as_ref().map(|app| Self::App(namespace.clone(), app.clone()));
        [Self::Node, Self::Namespace(namespace.clone())].into_iter().chain(app)
    }

    /// Whether instances of `plan` count in it.
    pub(crate) fn holds(&self, plan: &VersionPlan) -> bool {
        match self {
            Self::Node => true,
            Self::Namespace(namespace) => plan.key.namespace == *namespace,
            Self::App(namespace, app) => {
                plan.key.namespace == *namespace && plan.spec.app.as_ref() == Some(app)
            }
        }
    }

    /// The limit's name, and where it is set.
    fn limit(&self, of: What) -> (String, String) {
        let what = match of {
            What::Instances => "instances_max",
            What::Memory => "memory_mb_max",
        };
        match self {
            Self::Node => (what.to_owned(), format!("pool.{what} in the configuration")),
            Self::Namespace(namespace) => {
                let name = format!("namespace_{what}");
                let setting =
                    format!("pool.namespaces.{namespace}.{what} or pool.{name} in the configuration");
                (name, setting)
            }
            Self::App(namespace, app) => {
                let name = format!("app_{what}");
                let setting =
                    format!("pool.apps.\"{namespace}/{app}\".{what} or pool.{name} in the configuration");
                (name, setting)
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("this node"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::App(namespace, app) => write!(f, "app {namespace}/{app}"),
        }
    }
}

/// What of a ceiling has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Instances,
    Memory,
}

/// A ceiling that has been reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// What is idle there can give way.
    pub(crate) scope: Scope,
    /// Whose ceiling it is.
    whose: Scope,
    what: What,
}

impl Reached {
    /// Whether it is one of memory.
    pub(crate) fn is_memory(&self) -> bool {
        self.what == What::Memory
    }
}

/// What a scope takes and may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which instances.
    pub scope: Scope,
    /// How many there are, those that start included.
    pub instances: usize,
    /// What they take, in bytes.
    pub memory_bytes: u64,
    /// What they may take.
    pub ceiling: Ceiling,
}

/// What is taken.
#[derive(Debug)]
pub(crate) struct Ledger {
    ceilings: RwLock<Ceilings>,
    /// Namespaces that have functions.
    namespaces: AtomicU64,
    taken: Mutex<HashMap<Scope, Taken>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    instances: usize,
    memory_bytes: u64,
}

/// One instance's share, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    scopes: Box<[Scope]>,
    /// One, or none where the memory is not an instance's.
    instances: usize,
    memory_bytes: u64,
}

impl Ledger {
    pub(crate) fn new(ceilings: Ceilings) -> Arc<Self> {
        let namespaces = AtomicU64::new(1);
        Arc::new(Self { ceilings: RwLock::new(ceilings), namespaces, taken: Mutex::default() })
    }

    /// So many namespaces have functions.
    pub(crate) fn set_namespaces(&self, namespaces: u64) {
        self.namespaces.store(namespaces, Ordering::Relaxed);
    }

    /// Other ceilings from now on. What is over them stays until it is idle.
    pub(crate) fn set_ceilings(&self, ceilings: Ceilings) {
        *self.ceilings.write().unwrap_or_else(PoisonError::into_inner) = ceilings;
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Scope, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ceiling(&self, scope: &Scope) -> Ceiling {
        let ceilings = self.ceilings.read().unwrap_or_else(PoisonError::into_inner);
        let usual = match scope {
            Scope::Node => ceilings.node,
            Scope::Namespace(_) => ceilings.namespace,
            Scope::App(..) => ceilings.app,
        };
        ceilings.named.get(scope).copied().unwrap_or(usual)
    }

    /// A share for an instance of `plan` that is expected to take `memory_bytes`. The first instance of a scope is never
    /// too large: nothing could give way for it.
    pub(crate) fn reserve(self: &Arc<Self>, plan: &VersionPlan, memory_bytes: u64) -> Result<Share, Reached> {
        self.take(plan, 1, memory_bytes)
    }

    /// A share of memory alone, for what belongs to `plan` and is not an instance.
    pub(crate) fn reserve_memory(
        self: &Arc<Self>,
        plan: &VersionPlan,
        memory_bytes: u64,
    ) -> Result<Share, Reached> {
        self.take(plan, 0, memory_bytes)
    }

    fn take(
        self: &Arc<Self>,
        plan: &VersionPlan,
        instances: usize,
        memory_bytes: u64,
    ) -> Result<Share, Reached> {
        let scopes: Box<[Scope]> = Scope::of(plan).collect();
        let mut taken = self.taken();
        for scope in &scopes {
            let now = taken.get(scope).copied().unwrap_or_default();
            let [of_instances, of_memory] = self.reaches(scope, plan, &taken);
            let reached = |gives_way, what| Err(Reached { scope: gives_way, whose: scope.clone(), what });
            if (now.instances + instances) as u64 > of_instances.most {
                return reached(of_instances.gives_way, What::Instances);
            }
            if now.instances > 0 && now.memory_bytes.saturating_add(memory_bytes) > of_memory.most {
                return reached(of_memory.gives_way, What::Memory);
            }
        }
        for scope in &scopes {
            let taken = taken.entry(scope.clone()).or_default();
            taken.instances += instances;
            taken.memory_bytes = taken.memory_bytes.saturating_add(memory_bytes);
        }
        drop(taken);
        Ok(Share { ledger: Arc::clone(self), scopes, instances, memory_bytes })
    }

    /// How far instances of `plan` may fill `scope`: by their number, and by their memory.
    fn reaches(&self, scope: &Scope, plan: &VersionPlan, taken: &HashMap<Scope, Taken>) -> [Reach; 2] {
        let Ceiling { instances, memory_bytes } = self.ceiling(scope);
        let ceilings = [instances as u64, memory_bytes];
        if *scope != Scope::Node {
            return ceilings.map(|most| Reach { most, gives_way: scope.clone() });
        }
        let namespace = Scope::Namespace(plan.key.namespace.clone());
        let own = taken.get(&namespace).copied().unwrap_or_default();
        let is_other = |scope: &&Scope| matches!(scope, Scope::Namespace(_)) && **scope != namespace;
        let active = taken.keys().filter(is_other).count() as u64 + 1;
        let namespaces = self.namespaces.load(Ordering::Relaxed);
        let [of_instances, of_memory] = ceilings;
        [(of_instances, own.instances as u64), (of_memory, own.memory_bytes)]
            .map(|(ceiling, own)| fair::reach(ceiling, own, active, namespaces, &namespace))
    }

    /// Share of the node's memory that is taken; more than one where instances have grown beyond what was expected.
    pub(crate) fn memory_share(&self) -> f32 {
        let taken = self.taken().get(&Scope::Node).map_or(0, |taken| taken.memory_bytes);
        taken as f32 / self.ceiling(&Scope::Node).memory_bytes.max(1) as f32
    }

    /// The ceilings of memory that instances have grown beyond since they were started.
    pub(crate) fn outgrown(&self) -> Vec<Reached> {
        let taken = self.taken();
        let over = taken.iter().filter(|(scope, taken)| {
            taken.instances > 1 && taken.memory_bytes > self.ceiling(scope).memory_bytes
        });
        over.map(|(scope, _)| Reached { scope: scope.clone(), whose: scope.clone(), what: What::Memory })
            .collect()
    }

    /// What the scopes of `plan` take.
    pub(crate) fn standing_of(&self, plan: &VersionPlan) -> Vec<Standing> {
        let taken = self.taken();
        Scope::of(plan)
            .map(|scope| {
                let of_scope = taken.get(&scope).copied().unwrap_or_default();
                self.standing(scope, of_scope)
            })
            .collect()
    }

    /// What every scope takes, the node first.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let taken = self.taken();
        let mut all: Vec<_> =
            taken.iter().map(|(scope, taken)| self.standing(scope.clone(), *taken)).collect();
        all.sort_by(|one, other| one.scope.cmp(&other.scope));
        all
    }

    fn standing(&self, scope: Scope, Taken { instances, memory_bytes }: Taken) -> Standing {
        Standing { ceiling: self.ceiling(&scope), scope, instances, memory_bytes }
    }

    /// What a caller is told where nothing can give way.
    pub(crate) fn fault(&self, reached: &Reached) -> Fault {
        let Reached { whose: scope, what, .. } = reached;
        let ceiling = self.ceiling(scope);
        let (name, setting) = scope.limit(*what);
        let (value, message) = match what {
            What::Instances => {
                let instances = ceiling.instances;
                (instances as u64, format!("all {instances} instances of {scope} are busy"))
            }
            What::Memory => {
                let megabytes = ceiling.memory_bytes / MEGABYTE;
                let message =
                    format!("the {megabytes} MB that instances of {scope} may take are in use by busy ones");
                (megabytes, message)
            }
        };
        Fault::limit(ErrorCode::ConcurrencyExceeded, message, &name, value, &setting)
    }
}

impl Share {
    /// The instance takes so much now.
    pub(crate) fn observe(&mut self, memory_bytes: u64) {
        if memory_bytes == self.memory_bytes {
            return;
        }
        let mut all = self.ledger.taken();
        for scope in &self.scopes {
            let Some(taken) = all.get_mut(scope) else { continue };
            taken.memory_bytes =
                taken.memory_bytes.saturating_sub(self.memory_bytes).saturating_add(memory_bytes);
        }
        drop(all);
        self.memory_bytes = memory_bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.ledger.taken();
        for scope in &self.scopes {
            let Some(taken) = all.get_mut(scope) else { continue };
            taken.instances -= self.instances;
            taken.memory_bytes = taken.memory_bytes.saturating_sub(self.memory_bytes);
            if taken.instances == 0 && taken.memory_bytes == 0 {
                all.remove(scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use alula_model::{FunctionSpec, VersionKey};

    use super::*;

    fn plan(namespace: &str, app: Option<&str>) -> VersionPlan {
        let name = |text| Name::new(text).unwrap();
        let spec = FunctionSpec { app: app.map(name), ..FunctionSpec::new("fake") };
        let key = VersionKey { namespace: name(namespace), function: name("f"), version: 1 };
        VersionPlan::new(key, spec, PathBuf::new())
    }

    fn ceiling(instances: usize, memory_bytes: u64) -> Ceiling {
        Ceiling { instances, memory_bytes }
    }

    #[test]
    fn each_ceiling_holds_and_what_is_given_back_can_be_had_again() {
        let namespace = ceiling(2, u64::MAX);
        let ceilings = Ceilings { node: ceiling(3, 100), namespace, ..Ceilings::default() };
        let ledger = Ledger::new(ceilings);
        let (one, two) = (plan("one", None), plan("two", None));
        let mut first = ledger.reserve(&one, 10).unwrap();
        let _second = ledger.reserve(&one, 10).unwrap();
        let reached = |plan| ledger.fault(&ledger.reserve(plan, 10).unwrap_err()).limit.unwrap().name;
        assert_eq!(reached(&one), "namespace_instances_max");
        first.observe(85);
        assert_eq!(reached(&two), "memory_mb_max");
        first.observe(10);
        let third = ledger.reserve(&two, 10).unwrap();
        assert_eq!(reached(&two), "instances_max");
        drop(third);
        assert!(ledger.reserve(&two, 10).is_ok());
    }

    #[test]
    fn an_app_has_ceilings_of_its_own_and_named_ones_win() {
        let (small, large) = (plan("shop", Some("small")), plan("shop", Some("large")));
        let scope = |app| Scope::App(Name::new("shop").unwrap(), Name::new(app).unwrap());
        let named = HashMap::from([(scope("large"), ceiling(2, 50))]);
        let ledger = Ledger::new(Ceilings { app: ceiling(1, u64::MAX), named, ..Ceilings::default() });
        let _one = ledger.reserve(&small, 10).unwrap();
        let fault = ledger.fault(&ledger.reserve(&small, 10).unwrap_err());
        let hit = fault.limit.unwrap();
        assert_eq!((hit.name.as_str(), hit.value), ("app_instances_max", 1));
        assert!(hit.setting.contains("pool.apps.\"shop/small\".instances_max"), "{}", hit.setting);
        let _large = ledger.reserve(&large, 40).unwrap();
        let reached = ledger.reserve(&large, 40).unwrap_err();
        assert!(reached.scope.holds(&large) && !reached.scope.holds(&small));
        assert_eq!(ledger.fault(&reached).limit.unwrap().name, "app_memory_mb_max");
        assert!(ledger.reserve(&plan("other", Some("small")), 10).is_ok(), "an app is one of a namespace");
        let standing = ledger.standing_of(&large).pop().unwrap();
        assert_eq!((standing.instances, standing.memory_bytes), (1, 40));
    }

    #[test]
    fn the_first_instance_is_never_too_large_and_what_has_grown_is_found() {
        let ceilings = Ceilings { node: ceiling(9, 100), namespace: ceiling(9, 50), ..Ceilings::default() };
        let ledger = Ledger::new(ceilings);
        let (one, two) = (plan("one", None), plan("two", None));
        let _first = ledger.reserve(&one, 1_000).unwrap();
        assert!(ledger.outgrown().is_empty(), "nothing could give way for it");
        drop(_first);
        let _first = ledger.reserve(&one, 10).unwrap();
        let mut second = ledger.reserve(&two, 10).unwrap();
        let third = ledger.reserve(&two, 10).unwrap();
        second.observe(60);
        let outgrown = ledger.outgrown();
        assert_eq!(outgrown.iter().map(|it| it.scope.to_string()).collect::<Vec<_>>(), ["namespace two"]);
        drop(third);
        assert!(ledger.outgrown().is_empty());
    }

    #[test]
    fn memory_alone_counts_and_is_given_back() {
        let ledger = Ledger::new(Ceilings { node: ceiling(9, 100), ..Ceilings::default() });
        let plan = plan("one", None);
        let _first = ledger.reserve(&plan, 10).unwrap();
        let held = ledger.reserve_memory(&plan, 60).unwrap();
        assert!(ledger.reserve_memory(&plan, 31).is_err());
        assert!(ledger.reserve(&plan, 31).is_err());
        drop(held);
        assert!(ledger.reserve(&plan, 90).is_ok());
    }

    #[test]
    fn a_namespace_beyond_its_share_leaves_a_part_and_makes_room_among_its_own() {
        let ledger = Ledger::new(Ceilings { node: ceiling(16, 1_000_000), ..Ceilings::default() });
        let (flood, quiet) = (plan("flood", None), plan("quiet", None));
        ledger.set_namespaces(2);
        let held: Vec<_> = std::iter::from_fn(|| ledger.reserve(&flood, 1).ok()).collect();
        assert_eq!(held.len(), 14);
        let reached = ledger.reserve(&flood, 1).unwrap_err();
        assert!(reached.scope.holds(&flood) && !reached.scope.holds(&quiet));
        assert_eq!(ledger.fault(&reached).limit.unwrap().name, "instances_max");
        let _others = [ledger.reserve(&quiet, 1).unwrap(), ledger.reserve(&quiet, 1).unwrap()];
        assert_eq!(ledger.reserve(&quiet, 1).unwrap_err().scope, Scope::Node);
        ledger.set_namespaces(1);
        assert_eq!(ledger.reserve(&flood, 1).unwrap_err().scope, Scope::Node);
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let ledger = Ledger::new(Ceilings::default());
        drop(ledger.reserve(&plan("one", Some("app")), 10).unwrap());
        assert!(ledger.standings().is_empty());
    }
}
