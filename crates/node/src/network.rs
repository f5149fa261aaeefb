//! The network of functions, assembled: the gate with its ceilings and counters, and who keeps the ceilings that
//! administrators set.
//!
//! ```text
//! network/ceilings/<namespace>   a ceiling that was set, as it is written in alula.toml
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_api::Ceilings;
use alula_model::{
    AuditEntry, By, Clock, ErrorCode, Fault, InstanceId, Name, Network, NetworkCeilings, SpecError,
};
use alula_runtime::{Backend, BoxFuture, Bred, Started, VersionPlan};
use alula_sandbox::{EgressGate, EgressLimits, EgressOptions, EgressPolicy, ObserveEgress};
use alula_store::{AuditTrail, Batch, Expect, Key, Records, SCAN_LEN_MAX};
use alula_telemetry::metrics::EgressMetrics;
use tokio_util::sync::CancellationToken;

use crate::assembly::Core;
use crate::config::Config;
use crate::sources::Sources;
use crate::up::Error;

/// How often it is looked whether another node has changed a ceiling.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// The gate as it is configured.
pub(crate) fn gate(config: &Config, metrics: EgressMetrics) -> Result<EgressGate, Error> {
    let allow = config.sandbox.egress_allow.iter().map(|subnet| subnet.parse());
    let allow =
        allow.collect::<Result<Vec<_>, _>>().map_err(Error::component("sandbox.egress_allow is wrong"))?;
    let network = &config.network;
    let hosts = network.extra_hosts.iter().map(|(name, address)| -> Result<_, String> {
        let name = alula_model::HostName::new(name).map_err(|reason| format!("{name:?}: {reason}"))?;
        Ok((name, *address))
    });
    let hosts: Result<_, String> = hosts.collect();
    let limits = EgressLimits {
        instance_connections_max: network.instance_connections_max,
        namespace_connections_max: network.namespace_connections_max,
        namespace_bytes_per_second: network.namespace_bytes_per_second,
    };
    let options = EgressOptions {
        policy: EgressPolicy { allow },
        ceilings: configured(config)?,
        extra_hosts: hosts
            .map_err(|reason| Error::component("network.extra_hosts is wrong")(Wrong(reason)))?,
        services: network.services.clone(),
        limits,
    };
    Ok(EgressGate::new(options, observer(metrics)))
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

pub(crate) fn observer(metrics: EgressMetrics) -> Arc<dyn ObserveEgress> {
    Arc::new(Counted(metrics))
}

fn configured(config: &Config) -> Result<NetworkCeilings, Error> {
    let network = &config.network;
    let named = network.namespaces.iter();
    let named = named.map(|(name, ceiling)| name.parse::<Name>().map(|name| (name, ceiling.clone())));
    let namespaces: Result<BTreeMap<Name, Network>, alula_model::NameError> = named.collect();
    let namespaces = namespaces.map_err(Error::component("network.namespaces is wrong"))?;
    Ok(NetworkCeilings { usual: network.ceiling.clone(), namespaces })
}

/// Counts connections.
#[derive(Debug)]
struct Counted(EgressMetrics);

impl ObserveEgress for Counted {
    fn opened(&self, namespace: &str) {
        self.0.opened(namespace);
    }

    fn closed(&self, namespace: &str, bytes_out: u64, bytes_in: u64) {
        self.0.closed(namespace, bytes_out, bytes_in);
    }

    fn refused(&self, namespace: &str, rule: &'static str) {
        self.0.refused(namespace, rule);
    }

    fn shed(&self) {
        self.0.shed();
    }
}

/// Reads the ceilings that were set, and follows what other nodes set.
pub(crate) async fn ceilings(core: &Core, sources: &mut Sources) -> Result<Arc<dyn Ceilings>, Error> {
    let keeper = Arc::new(Keeper {
        records: core.store.clone(),
        audit: Arc::new(core.control.clone()),
        clock: Arc::clone(&core.clock),
        gate: core.egress.clone(),
        configured: configured(&core.config)?,
        set: Mutex::default(),
    });
    keeper.follow().await.map_err(Error::component("network ceilings cannot be read"))?;
    let followed = Arc::clone(&keeper);
    sources.add(|stop| async move { followed.run(stop).await });
    Ok(keeper)
}

/// Keeps the ceilings that administrators set.
#[derive(Debug)]
struct Keeper {
    records: Arc<dyn Records>,
    audit: Arc<dyn AuditTrail>,
    clock: Arc<dyn Clock>,
    gate: EgressGate,
    configured: NetworkCeilings,
    set: Mutex<BTreeMap<Name, Network>>,
}

impl Keeper {
    async fn run(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(FOLLOW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(fault) = self.follow().await {
                tracing::warn!(%fault, "it is not known whether network ceilings were changed; those known stay");
            }
        }
    }

    async fn follow(&self) -> Result<(), Fault> {
        let (mut found, mut after) = (BTreeMap::new(), None);
        loop {
            let page = self.records.scan(&all(), after.as_ref(), SCAN_LEN_MAX).await;
            let page = page.map_err(|error| of_store(&error))?;
            after = page.last().map(|record| record.key.clone());
            for record in &page {
                let name = record.key.segments().last().and_then(|name| name.parse().ok());
                match (name, serde_json::from_slice(&record.value)) {
                    (Some(name), Ok(ceiling)) => drop(found.insert(name, ceiling)),
                    // A ceiling that cannot be read permits nothing.
                    (Some(name), Err(error)) => {
                        tracing::error!(key = %record.key, %error, "a network ceiling cannot be read");
                        found.insert(name, Network::None);
                    }
                    (None, _) => {}
                }
            }
            if page.len() < SCAN_LEN_MAX {
                break;
            }
        }
        self.show(found);
        Ok(())
    }

    fn show(&self, found: BTreeMap<Name, Network>) {
        let mut set = self.lock_set();
        *set = found;
        let mut ceilings = self.configured.clone();
        ceilings.namespaces.extend(set.clone());
        drop(set);
        if *self.gate.ceilings() != ceilings {
            self.gate.set_ceilings(ceilings);
        }
    }

    fn lock_set(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Network>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ceilings for Keeper {
    fn ceiling(&self, namespace: &Name) -> (Network, &'static str) {
        let source = if self.lock_set().contains_key(namespace) {
            "set"
        } else if self.configured.namespaces.contains_key(namespace) {
            "configured"
        } else {
            "usual"
        };
        (self.gate.ceilings().of(namespace).clone(), source)
    }

    fn set<'a>(
        &'a self,
        by: &'a By,
        namespace: &'a Name,
        ceiling: Option<Network>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let key = Key::new(&["network", "ceilings", namespace.as_str()]);
            let detail = ceiling.as_ref().map_or("as configured".to_owned(), Network::to_string);
            let batch = match &ceiling {
                Some(ceiling) => {
                    let value = serde_json::to_vec(ceiling).unwrap_or_default();
                    Batch::default().put(key, value, Expect::Any)
                }
                None => Batch::default().delete(key, Expect::Any),
            };
            let entry = AuditEntry {
                at: self.clock.now(),
                actor: by.name.clone(),
                from: by.from.clone(),
                action: "network.ceiling".to_owned(),
                subject: format!("{namespace}/network"),
                change: None,
                detail,
            };
            self.audit.commit_audited(batch, vec![entry]).await.map_err(|error| of_store(&error))?;
            self.follow().await
        })
    }

    fn connections(&self, namespace: &Name) -> usize {
        self.gate.open_connections(namespace)
    }
}

fn all() -> Key {
    Key::new(&["network", "ceilings"])
}

fn of_store(error: &alula_store::Error) -> Fault {
    tracing::error!(%error, "network ceilings cannot be read or changed");
    Fault::new(ErrorCode::StoreUnavailable, "the store does not answer; nothing was changed")
}

/// A back end that refuses what lies above the ceiling, and gives every function the variables of the network's services.
#[derive(Debug, Clone)]
pub(crate) struct WithinCeiling<B> {
    pub(crate) gate: EgressGate,
    /// Variables of `network.env`; a function's own win.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    pub(crate) inner: B,
}

impl<B> WithinCeiling<B> {
    fn told(&self, plan: Arc<VersionPlan>) -> Arc<VersionPlan> {
        if self.env.is_empty() {
            return plan;
        }
        let mut told = VersionPlan::clone(&plan);
        for (name, value) in &*self.env {
            told.spec.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Arc::new(told)
    }
}

impl<B: Backend> Backend for WithinCeiling<B> {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        let ceilings = self.gate.ceilings();
        let ceiling = ceilings.of(&plan.key.namespace);
        if let Some(rule) = plan.spec.network.first_beyond(ceiling) {
            let reason = format!(
                "{rule} is more than namespace {} may reach, which is: {ceiling}; an administrator changes that with \
                 `alula network ceiling`",
                plan.key.namespace
            );
            return Err(SpecError { field: "network", reason });
        }
        self.inner.validate(plan)
    }

    fn prepare<'a>(&'a self, plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        self.inner.prepare(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        self.inner.start(self.told(plan), id)
    }

    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        self.inner.breed(self.told(plan), id)
    }
}
