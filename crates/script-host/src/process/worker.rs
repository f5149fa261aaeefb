//! A thread of the script host: one engine, and the contexts that were opened on it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use alula_script::{Engine, EngineOptions};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use crate::control::{self, Kind, Packet};

use super::meter::{ContextMeter, NOBODY};
use super::outgoing::Client;
use super::session::{self, Opened};

/// Orders that a thread has not seen: many opens may come at once while it runs a script.
const ORDERS_MAX: usize = 4096;
/// Stack of a thread: that of a script, and what the platform's own code needs around it.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// How often memory is told to the platform while it changes.
const USAGE_EVERY: Duration = Duration::from_secs(1);

/// How long after a context was opened the next one is prepared: by then its first call, which somebody waits for, is
/// usually answered.
const PREPARE_AFTER: Duration = Duration::from_millis(20);

/// What a thread is asked.
#[derive(Debug)]
pub(super) enum Order {
    Open(Packet),
    Close(u32),
    Ping(u32),
}

/// The first thread's view of another.
#[derive(Debug)]
pub(super) struct Worker {
    orders: mpsc::Sender<Order>,
    pinged: u32,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen_ping: AtomicU32,
    contexts: AtomicUsize,
    /// The context that the thread works for now.
    running: Arc<AtomicU32>,
}

impl Worker {
    /// Starts a thread whose contexts have `memory_bytes` together.
    pub(super) fn start(link: Arc<OwnedFd>, memory_bytes: usize) -> std::io::Result<Self> {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = move || LocalSet::new().block_on(&runtime, run(link, memory_bytes, received, of_thread));
        std::thread::Builder::new().name("script".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Self { orders, pinged: 0, shared })
    }

    /// Passes an order on; `false` where the thread cannot take it any more.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    pub(super) fn ping(&mut self, number: u32) -> bool {
        self.pinged = number;
        self.order(Order::Ping(number))
    }

    /// Whether the last ping has been seen: the thread is not stuck in a script.
    pub(super) fn has_seen_ping(&self) -> bool {
        self.shared.seen_ping.load(Ordering::Acquire) == self.pinged
    }

    /// The context that keeps the thread from seeing the last ping, where there is one.
    pub(super) fn stuck_in(&self) -> Option<u32> {
        let running = self.shared.running.load(Ordering::Relaxed);
        (!self.has_seen_ping() && running != NOBODY).then_some(running)
    }

    pub(super) fn contexts(&self) -> usize {
        self.shared.contexts.load(Ordering::Relaxed)
    }
}

async fn run(
    link: Arc<OwnedFd>,
    memory_bytes: usize,
    mut orders: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
) {
    let engine = Engine::new(EngineOptions { memory_bytes_max: memory_bytes });
    prepare(&engine);
    let client = Rc::new(Client::default());
    let open: Rc<RefCell<HashMap<u32, JoinHandle<()>>>> = Rc::default();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Ping(number) => shared.seen_ping.store(number, Ordering::Release),
            Order::Close(number) => {
                let closed = open.borrow_mut().remove(&number);
                if let Some(task) = closed {
                    task.abort();
                    ended(&link, &shared, number);
                }
            }
            Order::Open(packet) => {
                let number = packet.number;
                shared.contexts.fetch_add(1, Ordering::Relaxed);
                let (open_here, link, shared) = (Rc::clone(&open), Arc::clone(&link), Arc::clone(&shared));
                let meter = ContextMeter::new(number, Arc::clone(&shared.running));
                let session = serve(engine.clone(), Rc::clone(&client), meter, packet, Arc::clone(&link));
                let task = tokio::task::spawn_local(async move {
                    session.await;
                    if open_here.borrow_mut().remove(&number).is_some() {
                        ended(&link, &shared, number);
                    }
                });
                open.borrow_mut().insert(number, task);
                let engine = engine.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(PREPARE_AFTER).await;
                    prepare(&engine);
                });
            }
        }
    }
}

/// Has the next context's common part made. Where that fails it is made with the context, which can tell.
fn prepare(engine: &Engine) {
    let _ = engine.prepare();
}

fn ended(link: &OwnedFd, shared: &Shared, number: u32) {
    shared.contexts.fetch_sub(1, Ordering::Relaxed);
    // Where it cannot be sent the platform is gone, and this process with it.
    let _ = control::send(link, Kind::Ended, number, 0, &[], &[]);
}

/// Runs one context until its link closes, and tells what it uses.
async fn serve(engine: Engine, client: Rc<Client>, meter: ContextMeter, packet: Packet, link: Arc<OwnedFd>) {
    let number = packet.number;
    let Some(opened) = Opened::from_packet(packet) else { return };
    let session = session::Session::new(engine.clone(), client, meter, opened);
    let usage = async {
        let mut last = (0, 0);
        loop {
            session.worked().await;
            let used = session.usage();
            if used != last {
                let (memory_bytes, cpu_us) = used;
                last = used;
                // A link that is full is one that nobody reads; the next time there is more to tell.
                let _ = control::send(&*link, Kind::Usage, number, memory_bytes, &cpu_us.to_le_bytes(), &[]);
                engine.make_room();
            }
            tokio::time::sleep(USAGE_EVERY).await;
        }
    };
    tokio::select! {
        () = session.run() => {}
        () = usage => {}
    }
}
