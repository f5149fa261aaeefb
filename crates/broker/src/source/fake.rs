//! A broker in memory, for the tests of whatever stands above the port.
//!
//! It keeps records until they are settled, or nothing at all, as it is told; it can be switched off and on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{End, KeptBy, Record, Session, Settled, Source, SourceError};
use crate::BoxFuture;
use crate::event::{Item, Shape};
use crate::network::Network;

/// See the module. Clones are the same broker.
#[derive(Debug, Clone)]
pub(crate) struct FakeBroker {
    pub(crate) kept_by: KeptBy,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(u64, String)>,
    /// By token; the number of the session that has it comes with it.
    open: BTreeMap<u64, (u64, String)>,
    next_token: u64,
    session: u64,
    is_down: bool,
    connects: usize,
    most_open: usize,
}

impl FakeBroker {
    pub(crate) fn new(kept_by: KeptBy) -> Self {
        let shared = Shared { state: Mutex::default(), changed: watch::channel(0).0 };
        Self { kept_by, shared: Arc::new(shared) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.send_modify(|count| *count += 1);
        changed
    }

    /// Records come. Where nobody listens and the broker keeps nothing they are gone.
    pub(crate) fn publish(&self, bodies: &[String]) {
        self.change(|state| {
            for body in bodies {
                state.next_token += 1;
                state.waiting.push_back((state.next_token, body.clone()));
            }
        });
    }

    /// Ends every session and refuses new ones, or takes them again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.change(|state| {
            state.is_down = is_down;
            state.session += 1;
            if self.kept_by == KeptBy::Broker {
                let open = std::mem::take(&mut state.open);
                state.waiting.extend(open.into_iter().map(|(token, (_, body))| (token, body)));
            }
        });
    }

    /// Records that were not settled as done.
    pub(crate) fn left(&self) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.waiting.len() + state.open.len()
    }

    /// Times that somebody has tried to connect.
    pub(crate) fn connects(&self) -> usize {
        self.shared.state.lock().unwrap().connects
    }

    /// Most records that were delivered and not settled at any time.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.state.lock().unwrap().most_open
    }
}

impl Source for FakeBroker {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, _network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let number = self.change(|state| {
                state.connects += 1;
                (!state.is_down).then(|| {
                    state.session += 1;
                    state.session
                })
            });
            let number = number.ok_or_else(|| SourceError::said("the broker is down"))?;
            let changed = self.shared.changed.subscribe();
            Ok(Box::new(FakeSession { broker: self.clone(), number, changed }) as Box<dyn Session>)
        })
    }
}

struct FakeSession {
    broker: FakeBroker,
    number: u64,
    changed: watch::Receiver<u64>,
}

impl FakeSession {
    /// The next record, if there is one; an error once the session is over.
    fn poll(&self) -> Result<Option<(u64, String)>, SourceError> {
        let mut state = self.broker.shared.state.lock().unwrap();
        if state.session != self.number {
            return Err(SourceError::said("the connection ended"));
        }
        let Some((token, body)) = state.waiting.pop_front() else { return Ok(None) };
        if self.broker.kept_by == KeptBy::Broker {
            state.open.insert(token, (self.number, body.clone()));
            state.most_open = state.most_open.max(state.open.len());
        }
        Ok(Some((token, body)))
    }
}

impl Session for FakeSession {
    fn kept_by(&self) -> KeptBy {
        self.broker.kept_by
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            loop {
                self.changed.borrow_and_update();
                if let Some((token, body)) = self.poll()? {
                    let id = token.to_string();
                    let attributes = serde_json::Map::new();
                    let body = body.as_bytes();
                    let item =
                        Item { id: &id, body, kind: "fake", arn: "fake", attributes, headers: Vec::new() };
                    let item = item.to_json();
                    return Ok(Record { token, id, group: String::new(), item });
                }
                drop(self.changed.changed().await);
            }
        })
    }

    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(async move {
            let is_over = || self.broker.shared.state.lock().unwrap().session != self.number;
            while !is_over() {
                drop(self.changed.changed().await);
            }
            SourceError::said("the connection ended")
        })
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.broker.change(|state| {
                if state.session != self.number {
                    return Err(SourceError::said("the connection ended"));
                }
                for Settled { token, end } in settled {
                    let open = state.open.remove(token);
                    if let (End::Returned, Some((_, body))) = (end, open) {
                        state.waiting.push_back((*token, body));
                    }
                }
                Ok(())
            })
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move { Ok(Some(self.broker.shared.state.lock().unwrap().waiting.len() as u64)) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
