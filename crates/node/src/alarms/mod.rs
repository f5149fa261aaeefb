//! Alarms, assembled: what is measured, who states what, how messages leave.

mod measure;

use std::net::SocketAddr;
use std::sync::Arc;

use alula_alarm::{Alarms, Deliver, DeliverError, Deployed, Message, Observe, Parts, Service, Trust, Watch};
use alula_control::Catalog;
use alula_courier::{NetworkCourier, SigningKey};
use alula_invoke::later::{Calls, Courier as _, CourierError, Delivery, DeliveryKind};
use alula_model::alarm::Severity;
use alula_model::{InvocationId, Qualifier};
use alula_runtime::{BoxFuture, Connection, Egress, EgressError};
use alula_sandbox::CheckedEgress;
use alula_telemetry::metrics::AlarmMetrics;
use tokio::net::TcpStream;

use crate::assembly::Core;
use crate::machine;
use crate::sources::Sources;
use crate::up::Error;

/// Time for one message: a receiver that takes longer is tried again.
const MESSAGE_TIMEOUT_MS: u64 = 15_000;

/// Makes what evaluates alarms.
pub(crate) fn alarms(
    core: &Core,
    (calls, schedules): (&Calls, &alula_trigger::schedule::Handle),
    key: &SigningKey,
    sources: &mut Sources,
) -> Result<Alarms, Error> {
    core.config
        .alarm
        .validate()
        .map_err(Error::component("the section alarm of the configuration is wrong"))?;
    let metrics = core.telemetry.metrics.alarms();
    let parts = Parts {
        options: core.config.alarm.clone(),
        node: machine::node_name(core.data_dir.path()),
        signals: core.telemetry.signals.clone(),
        told: core.told.clone(),
        measure: Arc::new(measure::Machine::new(core, calls.clone(), schedules.clone(), metrics.clone())),
        deployed: Arc::new(Stated(core.control.catalog().clone())),
        deliver: Arc::new(couriers(core, key)?),
        records: core.store.clone(),
        observe: Arc::new(Counted(metrics)),
        clock: Arc::clone(&core.clock),
    };
    let (service, alarms) = Service::new(parts);
    sources.add(|stop| service.run(stop));
    Ok(alarms)
}

/// What functions state, of their latest versions.
#[derive(Debug)]
struct Stated(Catalog);

impl Deployed for Stated {
    fn watches(&self) -> Vec<Watch> {
        let snapshot = self.0.load();
        let latest = snapshot.entries().filter_map(|entry| entry.plan(&Qualifier::Latest).ok());
        let watch = |plan: &Arc<alula_runtime::VersionPlan>| {
            let spec = &plan.spec;
            let contacts = match spec.alarm.notify.is_empty() {
                true => &spec.asynchronous.notify,
                false => &spec.alarm.notify,
            };
            let states = !contacts.is_empty() || spec.slo.is_some() || spec.alarm != Default::default();
            states.then(|| Watch {
                namespace: plan.key.namespace.clone(),
                function: plan.key.function.clone(),
                app: spec.app.clone(),
                contacts: contacts.clone(),
                alarm: spec.alarm.clone(),
                slo: spec.slo.clone(),
            })
        };
        latest.filter_map(watch).collect()
    }
}

/// Counts alarms and their messages.
#[derive(Debug)]
struct Counted(AlarmMetrics);

impl Observe for Counted {
    fn firing(&self, severity: Severity, alarms: usize) {
        self.0.firing(severity.as_str(), alarms);
    }

    fn message(&self, outcome: &'static str) {
        self.0.message(outcome);
    }
}

/// Sends messages: to owners as functions may, to operators as the operator says.
#[derive(Debug)]
struct Couriers {
    owners: NetworkCourier,
    operators: NetworkCourier,
}

fn couriers(core: &Core, key: &SigningKey) -> Result<Couriers, Error> {
    let courier = |egress: Arc<dyn Egress>| {
        let parts = alula_courier::Parts {
            egress,
            key: key.clone(),
            clock: Arc::clone(&core.clock),
            mail: core.config.mail.clone(),
        };
        let options = alula_courier::Options { timeout_ms: MESSAGE_TIMEOUT_MS };
        NetworkCourier::new(parts, &options)
            .map_err(Error::component("mail cannot be sent as it is configured"))
    };
    Ok(Couriers {
        owners: courier(Arc::new(CheckedEgress::new(core.egress.clone())))?,
        operators: courier(Arc::new(Direct))?,
    })
}

impl Deliver for Couriers {
    fn deliver<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move {
            let no_id = || DeliverError::Final(format!("{:?} is no id", message.id));
            let delivery = Delivery {
                kind: DeliveryKind::Notice,
                url: message.url.clone(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                about: InvocationId::new(&message.id).ok_or_else(no_id)?,
            };
            let courier = match message.trust {
                Trust::Owner => &self.owners,
                Trust::Operator => &self.operators,
            };
            let sent = courier.send(&delivery, message.body.clone()).await;
            sent.map_err(|error| match error {
                CourierError::Passing(reason) => DeliverError::Passing(reason),
                CourierError::Final(reason) => DeliverError::Final(reason),
            })
        })
    }
}

/// Reaches whatever this machine does: for addresses that the operator has named.
#[derive(Debug)]
struct Direct;

impl Egress for Direct {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await.map_err(EgressError::Unreachable)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await;
            found.map(Iterator::collect).map_err(EgressError::Unreachable)
        })
    }
}
