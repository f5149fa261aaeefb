//! Whether a function's asynchronous calls are accepted and run: what operators pause and drain.

use std::collections::HashMap;
use std::sync::Arc;

use alula_model::Name;
use alula_store::{Batch, Expect, Key, Records, SCAN_LEN_MAX};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

/// What is done with the calls of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// They are accepted and run.
    #[default]
    Open,
    /// They are accepted and wait.
    Paused,
    /// No more are accepted; those that are there run.
    Draining,
}

/// What a flow is set for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// Everything.
    All,
    /// A namespace.
    Namespace(Name),
    /// A function.
    Function(Name, Name),
}

impl FlowKey {
    fn key(&self) -> Key {
        match self {
            Self::All => Key::new(&["flow"]),
            Self::Namespace(namespace) => Key::new(&["flow", namespace.as_str()]),
            Self::Function(namespace, function) => Key::new(&["flow", namespace.as_str(), function.as_str()]),
        }
    }

    fn parse(key: &Key) -> Option<Self> {
        let mut names = key.segments().skip(1).map(Name::new);
        match (names.next(), names.next()) {
            (None, _) => Some(Self::All),
            (Some(namespace), None) => Some(Self::Namespace(namespace.ok()?)),
            (Some(namespace), Some(function)) => Some(Self::Function(namespace.ok()?, function.ok()?)),
        }
    }
}

/// The flows in force, shared by who accepts and who runs.
#[derive(Debug, Clone)]
pub(crate) struct Flows {
    records: Arc<dyn Records>,
    set: Arc<ArcSwap<HashMap<FlowKey, Flow>>>,
}

impl Flows {
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        Self { records, set: Arc::default() }
    }

    /// Reads what is set; other processes may have changed it.
    pub(crate) async fn load(&self) -> alula_store::Result<()> {
        let stored = self.records.scan(&Key::new(&["flow"]), None, SCAN_LEN_MAX).await?;
        let read = |record: &alula_store::Record| {
            Some((FlowKey::parse(&record.key)?, serde_json::from_slice(&record.value).ok()?))
        };
        self.set.store(Arc::new(stored.iter().filter_map(read).collect()));
        Ok(())
    }

    /// Sets a flow; it is in force here when this returns.
    pub(crate) async fn set(&self, key: &FlowKey, flow: Flow) -> alula_store::Result<()> {
        let batch = match flow {
            Flow::Open => Batch::default().delete(key.key(), Expect::Any),
            Flow::Paused | Flow::Draining => {
                let value = serde_json::to_vec(&flow).unwrap_or_default();
                Batch::default().put(key.key(), value, Expect::Any)
            }
        };
        self.records.commit(batch).await?;
        self.load().await
    }

    /// The flow of a function: the narrowest that is set.
    pub(crate) fn of(&self, namespace: &Name, function: &Name) -> Flow {
        let set = self.set.load();
        if set.is_empty() {
            return Flow::Open;
        }
        [
            FlowKey::Function(namespace.clone(), function.clone()),
            FlowKey::Namespace(namespace.clone()),
            FlowKey::All,
        ]
        .iter()
        .find_map(|key| set.get(key).copied())
        .unwrap_or_default()
    }

    /// Everything that is set.
    pub(crate) fn all(&self) -> Vec<(FlowKey, Flow)> {
        self.set.load().iter().map(|(key, flow)| (key.clone(), *flow)).collect()
    }
}
