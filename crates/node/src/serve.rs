//! Serving, and stopping in order.
//!
//! The order of the end: no new connections; running calls finish within their own timeouts; deploys that have begun
//! finish; instances stop; logs and runs are written. A second signal cuts it short. The end of the spawner is answered in
//! the same way, but is an error: a start is what makes everything well again.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use alula_control::Catalog;
use alula_invoke::Invoker;
use alula_model::{Qualifier, VersionKey};
use alula_runtime::Stems;
use alula_runtime::language::{Home, Languages};
use alula_telemetry::metrics::{InstanceState, Metrics};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::announce::{Bound, announce};
use crate::assembly::Platform;
use crate::buckets;
use crate::control_plane;
use crate::observing;
use crate::up::Error;

/// How often what nothing refers to is deleted.
const GARBAGE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// Until then what the start has set going runs for the first time too.
const START_SETTLES: std::time::Duration = std::time::Duration::from_secs(1);

/// How often the gauges of instances are set.
const GAUGE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

/// Serves until a signal, or until no function can be started any more; then drains.
pub(crate) async fn serve(mut platform: Platform) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let Listeners { data_plane, control, s3 } = Listeners::bind(&platform).await?;
    if let Some(listener) = s3 {
        let (listener, buckets) = (listener.into_tokio()?, platform.buckets.clone());
        platform.sources.add(|stop| buckets::serve(listener, buckets, stop));
    }

    let (stop, stop_telemetry) = (CancellationToken::new(), CancellationToken::new());
    let chores = chores(&platform);
    let logs = tokio::spawn(platform.log_service.run(stop_telemetry.clone()));
    let runs = tokio::spawn(platform.run_service.run(stop_telemetry.clone()));
    let usage = tokio::spawn(platform.usage.run(stop_telemetry.clone()));
    let sources = platform.sources.start(&stop);
    let worker = tokio::spawn(platform.queue_worker.run(stop.clone()));
    let stop_inside = CancellationToken::new();
    let inside = platform.inside.serve(&platform.config.gateway, &platform.gateway, stop_inside.clone())?;
    let inside = platform.data_plane.spawn(inside);
    let gateway = alula_gateway::Service::new(platform.config.gateway.clone(), platform.gateway)
        .map_err(Error::component("the gateway cannot be set up"))?;
    let gateway = platform.data_plane.spawn(serve_calls(gateway, data_plane, stop.clone()));
    let router = platform.api.router();
    let control = control.into_tokio()?;
    let control = tokio::spawn(control_plane::serve(control, router, stop.clone()));

    let end = tokio::select! {
        () = signals.next() => {
            tracing::info!("draining: running calls finish within their timeouts; a second signal stops at once");
            Ok(())
        }
        () = platform.spawner.gone() => {
            tracing::error!("the spawner has ended, and all sandboxes with it: the platform stops");
            Err(Error::SpawnerGone)
        }
    };
    platform.draining.cancel();
    stop.cancel();
    let drained = async {
        drop(gateway.await);
        tracing::debug!("the data plane is closed");
        sources.join_all().await;
        tracing::debug!("nothing is watched any more");
        drop(worker.await);
        tracing::debug!("what ran from the queue has ended");
        // Until now functions that ran might call others.
        stop_inside.cancel();
        drop(inside.await);
        drop(control.await);
        platform.api.finish().await;
        tracing::debug!("the control API is closed");
        platform.pool.shut_down().await;
        tracing::debug!("all instances are stopped");
    };
    tokio::select! {
        () = drained => {}
        () = signals.next() => tracing::warn!("stopping at once: running calls are cut"),
    }
    drop(chores);
    platform.histories.save(&platform.pool);
    stop_telemetry.cancel();
    drop(runs.await);
    drop(usage.await);
    drop(logs.await);
    tracing::info!("stopped");
    end
}

/// Everything that listens.
struct Listeners {
    data_plane: Listener,
    control: Listener,
    s3: Option<Listener>,
}

impl Listeners {
    /// Binds all addresses, and says where people find what.
    async fn bind(platform: &Platform) -> Result<Self, Error> {
        let listen = &platform.config.listen;
        let data_plane = bind(listen.data_plane, "data plane").await?;
        let control = bind(listen.control, "control API").await?;
        let s3 = match listen.s3 {
            Some(address) => Some(bind(address, "S3 endpoint").await?),
            None => None,
        };
        let bound = Bound {
            data_plane: data_plane.address()?,
            control: control.address()?,
            s3: s3.as_ref().map(Listener::address).transpose()?,
        };
        announce(platform, &bound);
        Ok(Self { data_plane, control, s3 })
    }
}

/// What is done now and then until the end, and may be left off anywhere.
fn chores(platform: &Platform) -> JoinSet<()> {
    let Platform { control, pool, metrics, histories, .. } = platform;
    let mut chores = JoinSet::new();
    // It asks the kernel what every instance uses, which must not hold up calls.
    chores.spawn(pool.clone().run());
    chores.spawn(retire_on_change(control.clone(), pool.clone()));
    chores.spawn(show_instances(pool.clone(), metrics.clone(), platform.signals.clone()));
    let (of, usage) = (control.clone(), platform.usage.clone());
    chores.spawn(async move { observing::recall_objectives(&of, &usage).await });
    chores.spawn(histories.clone().run(pool.clone()));
    chores.spawn(collect_garbage(control.clone(), pool.clone()));
    chores.spawn(stock_on_change(control.clone(), platform.stems.clone(), Arc::clone(&platform.languages)));
    chores.spawn(forget_start());
    chores
}

type Gateway = alula_gateway::Service<Invoker, Catalog>;

async fn serve_calls(gateway: Gateway, listener: Listener, stop: CancellationToken) -> Result<(), Error> {
    let listener = listener.into_tokio()?;
    gateway.run(listener, stop).await.map_err(Error::component("the gateway ended"))
}

/// Holds the floors of the versions that have a name, and lets go of instances that nothing can reach any more, now and whenever
/// the catalog changes.
async fn retire_on_change(control: alula_control::Control, pool: alula_pool::Pool) {
    let mut changed = control.catalog().changed();
    changed.mark_changed();
    while changed.changed().await.is_ok() {
        let snapshot = Arc::clone(&control.catalog().load());
        pool.set_namespaces(snapshot.namespaces().count());
        pool.hold_floors(snapshot.entries().flat_map(|entry| entry.named_plans()).cloned());
        pool.retire(|key| {
            let entry = snapshot.function(&key.namespace, &key.function);
            entry.is_some_and(|entry| entry.plan(&Qualifier::Version(key.version)).is_ok())
        });
    }
}

/// Keeps cells prepared for the languages that functions are written in, now and whenever the catalog changes.
async fn stock_on_change(control: alula_control::Control, stems: Stems, languages: Arc<Languages>) {
    let mut changed = control.catalog().changed();
    changed.mark_changed();
    while changed.changed().await.is_ok() {
        let snapshot = Arc::clone(&control.catalog().load());
        let plans = snapshot.entries().filter_map(|entry| entry.plan(&Qualifier::Latest).ok());
        let runtimes: HashSet<_> = plans.map(|plan| plan.spec.runtime.as_str()).collect();
        let used = runtimes.into_iter().filter_map(|runtime| languages.get(runtime));
        let used: Vec<_> = used.filter(|language| language.manifest.home == Home::Cell).collect();
        stems.serve(&used);
    }
}

/// Deletes packages, code and builds that nothing refers to, now and then: publishing waits for it.
async fn collect_garbage(control: alula_control::Control, pool: alula_pool::Pool) {
    let mut ticks = tokio::time::interval(GARBAGE_INTERVAL);
    loop {
        ticks.tick().await;
        let running: HashSet<VersionKey> =
            pool.instances().into_iter().map(|instance| instance.key).collect();
        match control.collect_garbage(&|key| running.contains(key)).await {
            Ok(collected) => tracing::debug!(?collected, "garbage collected"),
            Err(fault) => tracing::warn!(code = %fault.code, "unused packages could not be removed: {fault}"),
        }
    }
}

/// Gives back the memory that only the start needed.
async fn forget_start() {
    tokio::time::sleep(START_SETTLES).await;
    if let Err(error) = alula_sandbox::forget_start() {
        tracing::debug!("the memory of the start is kept: {error}");
    }
}

/// Shows the pool's counts as metrics.
async fn show_instances(pool: alula_pool::Pool, metrics: Metrics, called: alula_telemetry::signals::Signals) {
    let gauge = |state| metrics.instances(state);
    let (starting, idle) = (gauge(InstanceState::Starting), gauge(InstanceState::Idle));
    let (busy, zygotes) = (gauge(InstanceState::Busy), gauge(InstanceState::Zygote));
    let mut ticks = tokio::time::interval(GAUGE_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.show_functions(called.functions());
        let counts = pool.counts();
        let shown = [
            (&starting, counts.starting),
            (&idle, counts.idle),
            (&busy, counts.busy),
            (&zygotes, counts.zygotes),
        ];
        for (gauge, count) in shown {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A bound listener that is not yet registered with a runtime.
struct Listener(std::net::TcpListener);

impl Listener {
    fn into_tokio(self) -> Result<TcpListener, Error> {
        TcpListener::from_std(self.0).map_err(Error::system("the listener cannot be used"))
    }

    fn address(&self) -> Result<SocketAddr, Error> {
        self.0.local_addr().map_err(Error::system("the listener has no address"))
    }
}

async fn bind(address: SocketAddr, what: &str) -> Result<Listener, Error> {
    let what = format!("cannot listen on {address} for the {what}");
    let listener = TcpListener::bind(address).await.and_then(TcpListener::into_std);
    listener.map(Listener).map_err(Error::system(what))
}

/// The signals that end the platform.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::system("signals cannot be received"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
