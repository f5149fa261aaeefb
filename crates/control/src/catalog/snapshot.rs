//! One state of everything that is deployed.

use std::collections::HashMap;
use std::sync::Arc;

use alula_model::{Fault, FunctionRef, Name};
use alula_runtime::VersionPlan;

use super::FunctionEntry;
use super::routes::{RouteMatch, RouteTable, Taken};
use crate::error;

/// One consistent state: functions by namespace and name, and the routes of their latest versions.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    namespaces: HashMap<Name, Arc<Namespace>>,
    routes: Arc<RouteTable>,
}

#[derive(Debug, Clone, Default)]
struct Namespace {
    functions: HashMap<Name, Arc<FunctionEntry>>,
    /// The highest number that a removed function had given: numbers are never used again.
    removed: HashMap<Name, u64>,
}

impl Snapshot {
    /// The plan that `target` means now. Allocates nothing where it succeeds.
    pub fn resolve(&self, target: &FunctionRef) -> Result<Arc<VersionPlan>, Fault> {
        let entry = self
            .function(&target.namespace, &target.name)
            .ok_or_else(|| error::function_not_found(&target.namespace, &target.name))?;
        entry.plan(&target.qualifier).map(Arc::clone)
    }

    /// A function by its name.
    #[must_use]
    pub fn function(&self, namespace: &Name, name: &Name) -> Option<&Arc<FunctionEntry>> {
        self.namespaces.get(namespace)?.functions.get(name)
    }

    /// Every function of a namespace, ordered by name.
    pub fn functions(&self, namespace: &Name) -> impl Iterator<Item = &Arc<FunctionEntry>> {
        let functions = self.namespaces.get(namespace).map(|ns| ns.functions.values());
        let mut ordered: Vec<_> = functions.into_iter().flatten().collect();
        ordered.sort_unstable_by(|a, b| a.function.name.cmp(&b.function.name));
        ordered.into_iter()
    }

    /// Every namespace that holds a function, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = &Name> {
        self.namespaces.iter().filter(|(_, ns)| !ns.functions.is_empty()).map(|(name, _)| name)
    }

    /// Every function of every namespace, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<FunctionEntry>> {
        self.namespaces.values().flat_map(|ns| ns.functions.values())
    }

    /// The function that a request on the public port leads to by its route, if any does.
    #[must_use]
    pub fn route(&self, method: &str, host: Option<&str>, path: &str) -> Option<RouteMatch> {
        self.routes.find(method, host, path)
    }

    /// The highest number ever given under this name.
    pub(crate) fn newest(&self, namespace: &Name, name: &Name) -> u64 {
        let Some(ns) = self.namespaces.get(namespace) else { return 0 };
        let present = ns.functions.get(name).map(|entry| entry.function.newest);
        present.or_else(|| ns.removed.get(name).copied()).unwrap_or(0)
    }

    /// Sets an entry, or removes it with the highest number it had given.
    pub(crate) fn apply(&mut self, namespace: &Name, name: &Name, change: EntryChange) {
        let ns = Arc::make_mut(self.namespaces.entry(namespace.clone()).or_default());
        match change {
            EntryChange::Set(entry) => {
                ns.removed.remove(name);
                ns.functions.insert(name.clone(), entry);
            }
            EntryChange::Removed { newest } => {
                ns.functions.remove(name);
                ns.removed.insert(name.clone(), newest);
            }
            EntryChange::Absent => {
                ns.functions.remove(name);
            }
        }
    }

    /// Makes the route table anew. Where two functions claim the same route, the first by name has it and the
    /// others are returned.
    pub(crate) fn rebuild_routes(&mut self) -> Vec<Taken> {
        let mut entries: Vec<_> = self.entries().collect();
        entries.sort_unstable_by_key(|entry| (&entry.function.namespace, &entry.function.name));
        let mut table = RouteTable::default();
        let mut taken = Vec::new();
        for entry in entries {
            for route in entry.routes() {
                taken.extend(table.insert(route, &entry.function.namespace, &entry.function.name).err());
            }
        }
        self.routes = Arc::new(table);
        taken
    }
}

/// What becomes of one function in a snapshot.
#[derive(Debug, Clone)]
pub(crate) enum EntryChange {
    /// It is there, with these versions.
    Set(Arc<FunctionEntry>),
    /// It was removed; its numbers stay used.
    Removed {
        /// The highest number it had given.
        newest: u64,
    },
    /// It is not in the store and never was.
    Absent,
}
