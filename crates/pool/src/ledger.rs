//! What the instances of this node take together, and the ceilings that hold it down.
//!
//! A share is reserved before a start and goes with the instance; dropping it gives it back. An instance that is let
//! go gives its share back at once, so a ceiling counts what is starting and what can be lent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{ErrorCode, Fault, Name};

/// The ceilings of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ceilings {
    /// Instances of all functions.
    pub(crate) instances: usize,
    /// Instances of the functions of one namespace.
    pub(crate) namespace_instances: usize,
    /// Memory of all instances, in bytes.
    pub(crate) memory_bytes: u64,
}

/// A ceiling that has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ceiling {
    Instances,
    NamespaceInstances,
    Memory,
}

/// What is taken.
#[derive(Debug)]
pub(crate) struct Ledger {
    ceilings: Ceilings,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    instances: usize,
    memory_bytes: u64,
    namespaces: HashMap<Name, usize>,
}

/// One instance's share, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    namespace: Name,
    memory_bytes: u64,
}

impl Ledger {
    pub(crate) fn new(ceilings: Ceilings) -> Arc<Self> {
        Arc::new(Self { ceilings, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A share for an instance that is expected to take `memory_bytes`. The first instance of all is never too large:
    /// nothing could give way for it.
    pub(crate) fn reserve(self: &Arc<Self>, namespace: &Name, memory_bytes: u64) -> Result<Share, Ceiling> {
        let mut taken = self.taken();
        if taken.instances >= self.ceilings.instances {
            return Err(Ceiling::Instances);
        }
        let of_namespace = taken.namespaces.get(namespace).copied().unwrap_or(0);
        if of_namespace >= self.ceilings.namespace_instances {
            return Err(Ceiling::NamespaceInstances);
        }
        if taken.instances > 0 && taken.memory_bytes.saturating_add(memory_bytes) > self.ceilings.memory_bytes
        {
            return Err(Ceiling::Memory);
        }
        taken.instances += 1;
        taken.memory_bytes = taken.memory_bytes.saturating_add(memory_bytes);
        taken.namespaces.insert(namespace.clone(), of_namespace + 1);
        drop(taken);
        Ok(Share { ledger: Arc::clone(self), namespace: namespace.clone(), memory_bytes })
    }

    /// Share of the memory that is taken; more than one where instances have grown beyond what was expected.
    pub(crate) fn memory_share(&self) -> f32 {
        self.taken().memory_bytes as f32 / self.ceilings.memory_bytes.max(1) as f32
    }

    /// What a caller is told where nothing can give way.
    pub(crate) fn fault(&self, ceiling: Ceiling) -> Fault {
        let Ceilings { instances, namespace_instances, memory_bytes } = self.ceilings;
        let (name, value, message) = match ceiling {
            Ceiling::Instances => (
                "instances_max",
                instances as u64,
                format!("all {instances} instances of this node are busy"),
            ),
            Ceiling::NamespaceInstances => {
                let message = format!("all {namespace_instances} instances of this namespace are busy");
                ("namespace_instances_max", namespace_instances as u64, message)
            }
            Ceiling::Memory => {
                let megabytes = memory_bytes / (1024 * 1024);
                let message = format!("the {megabytes} MB that instances may take are in use by busy ones");
                ("memory_mb_max", megabytes, message)
            }
        };
        let setting = format!("pool.{name} in the configuration");
        Fault::limit(ErrorCode::ConcurrencyExceeded, message, name, value, &setting)
    }
}

impl Share {
    /// The instance takes so much now.
    pub(crate) fn observe(&mut self, memory_bytes: u64) {
        let mut taken = self.ledger.taken();
        taken.memory_bytes =
            taken.memory_bytes.saturating_sub(self.memory_bytes).saturating_add(memory_bytes);
        self.memory_bytes = memory_bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.ledger.taken();
        taken.instances -= 1;
        taken.memory_bytes = taken.memory_bytes.saturating_sub(self.memory_bytes);
        if let Some(count) = taken.namespaces.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                taken.namespaces.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ceiling_holds_and_what_is_given_back_can_be_had_again() {
        let ceilings = Ceilings { instances: 3, namespace_instances: 2, memory_bytes: 100 };
        let ledger = Ledger::new(ceilings);
        let (one, two) = (Name::new("one").unwrap(), Name::new("two").unwrap());
        let mut first = ledger.reserve(&one, 10).unwrap();
        let _second = ledger.reserve(&one, 10).unwrap();
        assert_eq!(ledger.reserve(&one, 10).unwrap_err(), Ceiling::NamespaceInstances);
        first.observe(85);
        assert_eq!(ledger.reserve(&two, 10).unwrap_err(), Ceiling::Memory);
        first.observe(10);
        let third = ledger.reserve(&two, 10).unwrap();
        assert_eq!(ledger.reserve(&two, 10).unwrap_err(), Ceiling::Instances);
        drop(third);
        assert!(ledger.reserve(&two, 10).is_ok());
    }

    #[test]
    fn the_first_instance_is_never_too_large() {
        let ceilings = Ceilings { instances: 9, namespace_instances: 9, memory_bytes: 100 };
        assert!(Ledger::new(ceilings).reserve(&Name::default_namespace(), 1_000).is_ok());
    }
}
