//! One call, from its INVOKE to the head of its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::cancel::Cancelling;
use super::content::{AHEAD_BYTES_MAX, Content, Outgoing, Rest};
use super::flights::{Flight, Reply, Stage};
use super::link::Link;
use super::stream::{Credit, pump};
use super::{AbortOnDrop, Modes, answer};
use crate::buffers::request_fault;
use crate::frames::{CancelReason, Flags, FrameWriter, Head, Kind, META_BYTES_MAX};
use crate::{Ahead, Answer, Body, Call, RunningCall};

/// Time that a call lies behind another one before it is asked for back. Calls are sent ahead only where they take
/// far less than this.
const AHEAD_PATIENCE: Duration = Duration::from_millis(5);
/// How often the turn of a call is looked at that could not be taken back, since the guest hears nothing.
const AHEAD_LOOK: Duration = Duration::from_millis(50);

/// How much later than at its deadline a call is answered at the most, so that the answer has the last log lines of
/// user code that stops when it is told to.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Runs `call` and gives its answer, the body of which may still be coming.
pub(super) async fn run(link: &Arc<Link>, modes: Modes, mut call: Call) -> Result<Answer, Fault> {
    let deadline = call.deadline;
    let body = std::mem::take(&mut call.body);
    let mut content = match timeout_at(deadline, Content::take(link, modes, body)).await {
        Ok(content) => content?,
        Err(_) => return Err(link.room.timed_out()),
    };
    link.wait_for_abandoned().await;
    let (flight, reply) = loop {
        match launch(link, modes, &call, content)? {
            Launched::Sent(flight, reply) => break (flight, reply),
            Launched::NotYet(left) => content = left,
        }
        link.wait_for_turn().await;
    };
    match timeout_at(deadline, reply).await {
        Ok(reply) => answered(link, reply, flight),
        Err(_) => Err(overdue(link, flight).await),
    }
}

/// Runs `call` after the one that runs now, or gives it back.
pub(super) async fn run_ahead(link: &Arc<Link>, modes: Modes, mut call: Call) -> Ahead {
    let asked_at = Instant::now();
    if call.body.size_hint().lower() > AHEAD_BYTES_MAX as u64 {
        return Ahead::Returned(Box::new(call));
    }
    let body = std::mem::take(&mut call.body);
    // It may have to be given back, and nothing is taken back from a guest's memory.
    let as_bytes = Modes { shares_memory: false, ..modes };
    let content = match timeout_at(call.deadline, Content::take(link, as_bytes, body)).await {
        Ok(Ok(content)) => content,
        Ok(Err(fault)) => return Ahead::at_once(Err(fault)),
        Err(_) => return Ahead::at_once(Err(link.room.timed_out())),
    };
    if timeout(AHEAD_PATIENCE, link.wait_for_abandoned()).await.is_err() || link.room.is_gone() {
        return returned(call, content);
    }
    let copy = content.copy();
    let (mut flight, mut reply) = match launch(link, modes, &call, content) {
        Ok(Launched::Sent(flight, reply)) => (flight, reply),
        Ok(Launched::NotYet(content)) => return returned(call, content),
        Err(fault) => return Ahead::at_once(Err(fault)),
    };
    let number = flight.number();
    let mut look_at = Instant::now() + AHEAD_PATIENCE;
    loop {
        match timeout_at(look_at, &mut reply).await {
            Ok(Ok(Ok(Reply::Returned))) => {
                flight.disarm();
                return returned(call, copy);
            }
            Ok(reply) => {
                let waited = waited(&reply, asked_at);
                return Ahead::Ended { result: answered(link, reply, flight), waited };
            }
            Err(_) => {}
        }
        let now = Instant::now();
        let deadline = link.flights().deadline(number);
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ahead::at_once(Err(overdue(link, flight).await));
        }
        link.take_back(number);
        look_at = deadline.unwrap_or(now + AHEAD_LOOK);
    }
}

fn returned(mut call: Call, content: Content) -> Ahead {
    call.body = match content {
        Content::Whole(whole, _) => Body::full(whole),
        Content::Stream(body) => body,
        // Not what calls that are sent ahead have.
        Content::Shared(_) => Body::empty(),
    };
    Ahead::Returned(Box::new(call))
}

type Received = Result<Result<Reply, Fault>, oneshot::error::RecvError>;

fn waited(reply: &Received, asked_at: Instant) -> Duration {
    match reply {
        Ok(Ok(Reply::Whole(_, _, begun_at))) => begun_at.saturating_duration_since(asked_at),
        _ => Duration::ZERO,
    }
}

fn answered(link: &Link, reply: Received, mut flight: Cancelling) -> Result<Answer, Fault> {
    match reply {
        Ok(Ok(reply)) => answer::answer_of(&link.room, reply, flight),
        Ok(Err(fault)) => {
            flight.disarm();
            Err(fault)
        }
        Err(_) => Err(link.room.fault(ErrorCode::Internal, "the platform lost track of the call")),
    }
}

/// Ends a call whose time is over.
async fn overdue(link: &Link, mut flight: Cancelling) -> Fault {
    // The guest has its grace behind the answer, so neither the answer nor its end may end the cancelling.
    let number = flight.number();
    if let Some(link) = flight.disarm() {
        let cancelling = tokio::spawn(link.cancel(number, CancelReason::Deadline));
        let _ = timeout(LAST_WORDS, cancelling).await;
    }
    link.room.timed_out()
}

type Waiter = oneshot::Receiver<Result<Reply, Fault>>;

/// What became of sending a call.
enum Launched {
    /// The guest has it.
    Sent(Cancelling, Waiter),
    /// It may not lie behind the running call.
    NotYet(Content),
}

/// Sends the call to the guest.
fn launch(link: &Arc<Link>, modes: Modes, call: &Call, content: Content) -> Result<Launched, Fault> {
    check_meta(call)?;
    if link.room.is_gone() {
        let message = "the function's process ended before the call";
        return Err(link.room.fault(ErrorCode::FunctionCrashed, message));
    }
    let mut flights = link.flights();
    let is_ahead = flights.is_full();
    if is_ahead && !content.is_short() {
        return Ok(Launched::NotYet(content));
    }
    let (waiter, reply) = oneshot::channel();
    let outgoing = content.into_outgoing();
    let credit = outgoing.credit();
    let Outgoing { inline, flags, rest, held } = outgoing;
    let number = flights.insert(Flight {
        call: RunningCall::of(call),
        stage: Stage::Waiting(waiter),
        credit,
        pump: None,
        is_gathered: !modes.streams_responses,
        time_limit: call.deadline.saturating_duration_since(Instant::now()),
        begun: None,
        _held: held,
    });
    drop(flights);
    if let Some(started) = &call.events.started {
        started.store(true, Ordering::Release);
    }
    let flags = flags
        .with_if(Flags::AHEAD, is_ahead)
        .with_if(Flags::WAITING, !modes.takes_ahead && link.take_waiting())
        .with_if(Flags::EVENT, call.is_event);
    let answers_taken = link.arena.as_ref().map_or(0, |arena| arena.taken());
    let head = Head::new(Kind::Invoke, number).flags(flags).aux(answers_taken);
    let encode = |out: &mut Vec<u8>| encode(out, head, call, &inline);
    match is_ahead {
        true => link.outbox.gather(encode),
        false => link.outbox.send(encode),
    }
    match rest {
        Rest::Nothing => {}
        Rest::Pieces(whole) => link.outbox.send_body(number, whole, true),
        Rest::Stream(body, credit) => start_pump(link, number, credit, body),
    }
    Ok(Launched::Sent(Cancelling::new(Arc::clone(link), number), reply))
}

fn start_pump(link: &Arc<Link>, number: u32, credit: Arc<Credit>, body: Body) {
    let (link_of_task, pump_link) = (Arc::downgrade(link), Arc::clone(&link.outbox));
    let task = tokio::spawn(async move {
        let Err(error) = pump(&pump_link, &credit, number, body).await else { return };
        let Some(link) = link_of_task.upgrade() else { return };
        // The guest cannot finish what it will never get whole.
        link.refuse(number, request_fault(&error));
    });
    if let Some(flight) = link.flights().get(number) {
        flight.pump = Some(AbortOnDrop(task));
    } else {
        task.abort();
    }
}

/// Refuses what the format has no way to carry.
fn check_meta(call: &Call) -> Result<(), Fault> {
    let has_nul = |text: &String| text.contains('\0');
    if call.parameters.iter().any(|(name, value)| has_nul(name) || has_nul(value)) {
        return Err(Fault::new(ErrorCode::InvalidRequest, "a parameter in the path has a NUL character"));
    }
    let headers: usize = call.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
    let parameters: usize = call.parameters.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    // Room for method, address, id and numbers, each of which is short.
    let fixed = 512 + call.target.path().len() + call.target.query().unwrap_or_default().len();
    if headers + parameters + fixed <= META_BYTES_MAX {
        return Ok(());
    }
    let message = "the request's headers are larger than a function can be given";
    let (name, value) = ("META_BYTES_MAX", META_BYTES_MAX as u64);
    Err(Fault::limit(ErrorCode::HeadersTooLarge, message, name, value, "fixed"))
}

fn encode(out: &mut Vec<u8>, head: Head, call: &Call, body: &[u8]) {
    use std::io::Write as _;
    let mut frame = FrameWriter::new(out, head);
    frame.field(call.method.as_str().as_bytes());
    frame.field(call.target.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    frame.text(|out| call.remote.map_or(Ok(()), |remote| write!(out, "{remote}")));
    frame.field(call.id.as_str().as_bytes());
    frame.text(|out| write!(out, "{}", call.deadline_at.as_millis()));
    frame.text(|out| write!(out, "{}", call.parameters.len()));
    for (name, value) in &call.parameters {
        frame.field(name.as_bytes());
        frame.field(value.as_bytes());
    }
    for (name, value) in &call.headers {
        frame.field(name.as_str().as_bytes());
        frame.field(value.as_bytes());
    }
    if call.is_event && !call.headers.contains_key(CONTENT_TYPE) {
        frame.field(b"content-type");
        frame.field(b"application/json");
    }
    frame.finish(body);
}
