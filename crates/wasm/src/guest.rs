//! What one guest has: its view of the world, its memory and its time.
//!
//! A guest sees an environment, clocks, random numbers, two log streams and, where its function has a network, outgoing
//! HTTP. There is no file system, there are no sockets and no arguments; what imports them is given them empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::LogStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::engine::TABLE_ELEMENTS_MAX;
use crate::instance::Loaded;
use crate::outgoing::Outgoing;
use crate::stdio::{GuestLog, LogStreams};

/// Things of the platform that a guest may hold at once: headers, bodies, streams. Each may have 128 KB of headers.
const RESOURCES_MAX: usize = 1_000;
/// Bytes that a guest may pass to the platform in one call out of it.
const CALL_OUT_BYTES_MAX: usize = 16 << 20;
/// Epoch ticks after which a guest is looked at.
const TICKS: u64 = 1;

/// The state of one store.
pub(crate) struct Guest {
    env: Arc<[(String, String)]>,
    /// Made when it is asked for: its random numbers alone cost more than a short guest's own work, and few guests
    /// need any of it.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    table: ResourceTable,
    pub(crate) outgoing: Outgoing,
    pub(crate) memory: MemoryMeter,
    pub(crate) log: Arc<GuestLog>,
    /// When its call is over.
    pub(crate) deadline: Instant,
    stopped: CancellationToken,
}

/// Everything that a guest can import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // Few guests ask for their environment, so it is not copied for every one.
    linker.allow_shadowing(true);
    environment::add_to_linker::<Guest, Variables>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// A store for a new guest, whose call is over at `deadline`.
pub(crate) fn store(loaded: &Loaded, deadline: Instant) -> Store<Guest> {
    let log = Arc::new(GuestLog::new(Arc::clone(&loaded.output)));
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let guest = Guest {
        env: Arc::clone(&loaded.env),
        wasi: None,
        http: WasiHttpCtx::new(),
        table,
        outgoing: Outgoing::new(loaded),
        memory: MemoryMeter::new(loaded),
        log,
        deadline,
        stopped: loaded.stopped.clone(),
    };
    let mut store = Store::new(loaded.pre.engine(), guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(CALL_OUT_BYTES_MAX);
    store.set_epoch_deadline(TICKS);
    store.epoch_deadline_callback(|context| {
        let guest = context.data();
        if Instant::now() >= guest.deadline || guest.stopped.is_cancelled() {
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::YieldCustom(TICKS, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Clocks, random numbers and log streams; no files and no sockets.
fn context(log: &Arc<GuestLog>) -> WasiCtx {
    WasiCtx::builder()
        .allow_tcp(false)
        .allow_udp(false)
        .stdout(LogStreams::new(log, LogStream::Stdout))
        .stderr(LogStreams::new(log, LogStream::Stderr))
        .build()
}

/// The interface `wasi:cli/environment`.
struct Variables;

impl HasData for Variables {
    type Data<'a> = &'a mut Guest;
}

impl environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.env.to_vec())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| context(&self.log));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Holds a guest's memories, together, to what its function may have.
pub(crate) struct MemoryMeter {
    limit_bytes: usize,
    used_bytes: usize,
    /// The sum over the guests of one instance.
    total_bytes: Arc<AtomicU64>,
    /// Whether the guest was refused some: what ends it afterwards is that.
    pub(crate) was_refused: bool,
}

impl MemoryMeter {
    fn new(loaded: &Loaded) -> Self {
        let limit_bytes = usize::try_from(u64::from(loaded.plan.spec.memory_mb) << 20).unwrap_or(usize::MAX);
        let total_bytes = Arc::clone(&loaded.memory_bytes);
        Self { limit_bytes, used_bytes: 0, total_bytes, was_refused: false }
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let used = self.used_bytes.saturating_add(more);
        if used > self.limit_bytes {
            self.was_refused = true;
            return Ok(false);
        }
        self.used_bytes = used;
        self.total_bytes.fetch_add(more as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.total_bytes.fetch_sub(self.used_bytes as u64, Ordering::Relaxed);
    }
}
