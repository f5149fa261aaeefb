//! Brokers, assembled: who watches them, and how that shows.

use std::sync::Arc;

use alula_api::{BrokerError, BrokerState};
use alula_broker::{Handle, Network, Observe, Parts, Platform, Problem, Service, Shares, State};
use alula_invoke::later::Calls;
use alula_model::Timestamp;
use alula_sandbox::CheckedEgress;
use alula_telemetry::metrics::BrokerMetrics;
use alula_trigger::{Pauses, TriggerKey};

use crate::assembly::{Core, invocation_id};
use crate::clock::random;
use crate::sources::Sources;
use crate::up::Error;

/// Watches the brokers of what is deployed.
pub(crate) fn brokers(core: &Core, calls: &Calls, sources: &mut Sources) -> Result<Brokers, Error> {
    let clock = Arc::clone(&core.clock);
    let acceptor = calls.acceptor().clone();
    let pauses = Pauses::new(core.store.clone());
    let platform = Platform::new(core.invoker.clone(), acceptor, Arc::clone(&clock), invocation_id);
    let parts = Parts {
        call: Arc::new(platform.clone()),
        keep: Arc::new(platform),
        gate: Arc::new(pauses.clone()),
        network: network(core)?,
        observe: Arc::new(Counted(core.telemetry.metrics.brokers())),
        clock,
        random: random_u64,
    };
    let deployed = core.control.catalog().clone();
    let (service, handle) =
        Service::new(Arc::new(deployed), pauses, shares(core), parts, core.data_plane.clone());
    sources.add(|stop| service.run(stop));
    Ok(Brokers(handle))
}

/// Where nodes share a store, one of them watches a trigger.
fn shares(core: &Core) -> Option<Shares> {
    let is_shared = !core.config.store.url.is_empty();
    is_shared.then(|| Shares::new(core.store.clone(), format!("{:032x}", random())))
}

/// The way to brokers: that of functions, and the networks that are allowed for brokers only.
fn network(core: &Core) -> Result<Network, Error> {
    let allow = core.config.broker.allow.iter().map(|subnet| subnet.parse());
    let allow: Vec<_> = allow.collect::<Result<_, _>>().map_err(Error::component("broker.allow is wrong"))?;
    let observe = crate::network::observer(core.telemetry.metrics.egress());
    let gate = core.egress.also_allowing(allow, observe);
    Ok(Network { egress: Arc::new(CheckedEgress::new(gate)), tls: alula_courier::tls::connector() })
}

#[expect(clippy::cast_possible_truncation, reason = "half of the random bits are as random")]
fn random_u64() -> u64 {
    random() as u64
}

/// The brokers as the control API shows them.
#[derive(Debug)]
pub(crate) struct Brokers(Handle);

impl alula_api::Brokers for Brokers {
    fn state(&self, key: &TriggerKey) -> Option<BrokerState> {
        self.0.state(key).map(shown)
    }

    fn pauses_changed(&self) {
        self.0.pauses_changed();
    }
}

fn shown(state: State) -> BrokerState {
    let error = |problem: Problem| BrokerError { at_ms: problem.at.as_millis(), message: problem.message };
    BrokerState {
        connected_ms: state.connected_since.map(Timestamp::as_millis),
        last_record_ms: state.last_record_at.map(Timestamp::as_millis),
        last_error: state.last_error.map(error),
        lag: state.lag,
        delivered: state.delivered,
        parked: state.parked,
    }
}

/// Counts records.
#[derive(Debug)]
struct Counted(BrokerMetrics);

impl Observe for Counted {
    fn received(&self, _trigger: &TriggerKey, kind: &'static str) {
        self.0.received(kind);
    }

    fn ended(&self, _trigger: &TriggerKey, kind: &'static str, end: &'static str, records: usize) {
        self.0.ended(kind, end, records as u64);
    }

    fn failed(&self, _trigger: &TriggerKey, kind: &'static str, records: usize) {
        self.0.failed(kind, records as u64);
    }

    fn connected(&self, trigger: &TriggerKey, kind: &'static str, is_connected: bool) {
        self.0.connected(&trigger.to_string(), kind, is_connected);
    }

    fn gone(&self, trigger: &TriggerKey, kind: &'static str) {
        self.0.gone(&trigger.to_string(), kind);
    }

    fn lag(&self, trigger: &TriggerKey, kind: &'static str, records: Option<u64>) {
        self.0.lag(&trigger.to_string(), kind, records);
    }
}
