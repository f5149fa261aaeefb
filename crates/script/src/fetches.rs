//! The requests that a context has made and not finished.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::calls::next_of;
use crate::host::{FetchRequest, FetchResponse};
use crate::isolate::Isolate;
use crate::message::Pieces;

/// Requests of one context at once, their answers' bodies included.
const FETCHES_MAX: usize = 64;

/// All requests of one context.
#[derive(Default)]
pub(crate) struct Fetches {
    open: RefCell<HashMap<u32, Open>>,
}

struct Open {
    /// Waits for the head, or for the next piece.
    task: Option<AbortOnDrop>,
    body: Option<Pieces>,
}

/// A task that ends with whoever holds this.
pub(crate) struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(Some(task))
    }

    /// Lets the task go on: it is the one that calls this, and ends by itself.
    pub(crate) fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Fetches {
    /// Sends `request`; the script is told what comes of it.
    pub(crate) fn start(&self, isolate: &Rc<Isolate>, id: u32, request: FetchRequest) {
        let is_full = self.open.borrow().len() >= FETCHES_MAX;
        let answer = isolate.shared.options.fetch.fetch(request);
        let weak = Rc::downgrade(isolate);
        let task = tokio::task::spawn_local(async move {
            let answer = if is_full {
                Err(format!("a script makes at most {FETCHES_MAX} requests at once"))
            } else {
                answer.await
            };
            if let Some(isolate) = weak.upgrade() {
                arrived(&isolate, id, answer);
            }
        });
        self.open.borrow_mut().insert(id, Open { task: Some(AbortOnDrop::new(task)), body: None });
    }

    /// Reads one piece of an answer's body.
    pub(crate) fn read(&self, isolate: &Rc<Isolate>, id: u32) {
        let Some(mut body) = self.open.borrow_mut().get_mut(&id).and_then(|open| open.body.take()) else {
            return;
        };
        let weak = Rc::downgrade(isolate);
        let task = tokio::task::spawn_local(async move {
            let piece = next_of(&mut body).await;
            came(&weak, id, body, piece);
        });
        if let Some(open) = self.open.borrow_mut().get_mut(&id) {
            open.task = Some(AbortOnDrop::new(task));
        }
    }

    /// Gives a request up.
    pub(crate) fn stop(&self, id: u32) {
        let open = self.open.borrow_mut().remove(&id);
        drop(open);
    }

    fn put_body(&self, id: u32, body: Pieces) {
        if let Some(open) = self.open.borrow_mut().get_mut(&id) {
            open.body = Some(body);
        }
    }

    /// Forgets a request whose own task this is, so that the task is not ended in the middle.
    fn finish(&self, id: u32) {
        let task = self.open.borrow_mut().remove(&id).and_then(|mut open| open.task.take());
        if let Some(task) = task {
            task.detach();
        }
    }
}

fn arrived(isolate: &Rc<Isolate>, id: u32, answer: Result<FetchResponse, String>) {
    match answer {
        Ok(FetchResponse { status, url, headers, body }) => {
            isolate.fetches.put_body(id, body);
            isolate.turn(None, None, |ctx, hooks| {
                let none = rquickjs::Undefined;
                hooks.fetched.clone().restore(ctx)?.call((id, none, status, headers, url))
            });
        }
        Err(error) => {
            isolate.fetches.finish(id);
            isolate.turn(None, None, |ctx, hooks| hooks.fetched.clone().restore(ctx)?.call((id, error)));
        }
    }
}

fn came(weak: &Weak<Isolate>, id: u32, body: Pieces, piece: Option<Result<Bytes, String>>) {
    let Some(isolate) = weak.upgrade() else { return };
    match &piece {
        Some(Ok(_)) => isolate.fetches.put_body(id, body),
        _ => isolate.fetches.finish(id),
    }
    isolate.turn(None, None, |ctx, hooks| hooks.deliver(ctx, &hooks.fetched_piece, id, piece));
}

impl std::fmt::Debug for Fetches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetches({})", self.open.borrow().len())
    }
}
