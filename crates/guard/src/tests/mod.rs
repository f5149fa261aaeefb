//! The guard as the invoker sees it, and the book as operators do.

mod book;
mod limits;
mod race;

use std::net::IpAddr;

use alula_model::{Caller, FunctionSpec, Name, Qualifier, Timestamp, VersionKey};
use tokio::time::Instant;

use crate::{Admission, Ask, Guard, Origin, Refusal};

/// One call to be asked for.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) source: Option<IpAddr>,
    pub(super) key: VersionKey,
    pub(super) spec: FunctionSpec,
}

impl Call {
    /// A public call of `NAMESPACE/FUNCTION` from one address.
    pub(super) fn of(function: &str) -> Self {
        let (namespace, function) = function.split_once('/').unwrap();
        let name = |text| Name::new(text).unwrap();
        Self {
            caller: Caller::Public,
            source: Some("192.0.2.1".parse().unwrap()),
            key: VersionKey { namespace: name(namespace), function: name(function), version: 1 },
            spec: FunctionSpec::new("exec"),
        }
    }

    pub(super) fn from(self, source: &str) -> Self {
        Self { source: Some(source.parse().unwrap()), ..self }
    }

    pub(super) fn by(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// With these limits in its spec, as JSON.
    pub(super) fn limited(mut self, limits: &str) -> Self {
        self.spec.limits = serde_json::from_str(limits).unwrap();
        self
    }

    pub(super) fn in_app(mut self, app: &str) -> Self {
        self.spec.app = Some(Name::new(app).unwrap());
        self
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        Origin { caller: &self.caller, source: self.source }
    }

    pub(super) fn ask(&self) -> Ask<'_> {
        let (key, spec) = (&self.key, &self.spec);
        let (now, at) = (Instant::now(), Timestamp(0));
        Ask { origin: self.origin(), key, qualifier: &Qualifier::Latest, spec, now, at }
    }

    pub(super) fn admit(&self, guard: &Guard) -> Result<Admission, Refusal> {
        guard.admit(&self.ask())
    }

    pub(super) fn accept(&self, guard: &Guard) -> Result<(), Refusal> {
        guard.accept(&self.ask())
    }

    /// The limit that refuses it; `None` where it is let through and ends at once.
    pub(super) fn hits(&self, guard: &Guard) -> Option<String> {
        self.admit(guard).err().map(|refusal| refusal.fault.limit.unwrap().name)
    }

    /// How many of `count` that end at once are let through.
    pub(super) fn through(&self, guard: &Guard, count: usize) -> usize {
        (0..count).filter(|_| self.hits(guard).is_none()).count()
    }
}

/// A guard with these limits, as JSON.
pub(super) fn guard(options: &str) -> Guard {
    Guard::new(&serde_json::from_str(options).unwrap()).unwrap()
}
