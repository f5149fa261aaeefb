//! One instance: the guest protocol on one side, a module of the engine on the other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use alula_runtime::frames::{
    BODY_BYTES_MAX, Decoder, FailClass, Flags, Frame, Head, Kind, PROTOCOL_VERSION, WINDOW_BYTES, pairs,
};
use alula_script::{
    Artifact, BodyStream, Console, Engine, Fetch, Level, Limits, Meter as _, Module, ModuleOptions, NoFetch,
    Request, RequestBody, Response, ResponseBody, ScriptError,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderValue;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::control::Packet;

use super::call_meta::{CallMeta, latin1, to_bytes};
use super::frames_out::FramesOut;
use super::inbox::Inbox;
use super::meter::ContextMeter;
use super::outgoing::{Client, Outgoing};

/// The variable that says where the proxy is; absent for scripts without a network.
const PROXY_VARIABLE: &str = "HTTPS_PROXY";
/// The variable that says where the platform is called; absent for scripts that may not.
const FUNCTIONS_VARIABLE: &str = "ALULA_FUNCTIONS_URL";
/// The variable that names the instance.
const INSTANCE_VARIABLE: &str = "ALULA_INSTANCE";
/// Largest compiled script.
const ARTIFACT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const MIB: usize = 1024 * 1024;
/// Time of a call where the platform names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest body that is put together before the script is entered, where its length is known: what may be sent without
/// credit. One turn is far cheaper than one for every piece.
const WHOLE_BYTES_MAX: usize = WINDOW_BYTES as usize;

/// What an instance is opened with.
pub(super) struct Opened {
    reader: pipe::Receiver,
    socket: UnixStream,
    artifact: Artifact,
    env: Vec<(String, String)>,
}

impl Opened {
    /// `None` where a packet does not hold it.
    pub(super) fn from_packet(packet: Packet) -> Option<Self> {
        let [link, script] = <[_; 2]>::try_from(packet.fds).ok()?;
        let socket = UnixStream::from(link);
        socket.set_nonblocking(true).ok()?;
        let content = whole(&File::from(script))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let env = pairs(&packet.text).flatten().map(|(name, value)| (text(name), text(value))).collect();
        Some(Self {
            // The end of a pipe, since of tokio's types only that is watched for reading alone.
            reader: pipe::Receiver::from_owned_fd_unchecked(socket.try_clone().ok()?.into()).ok()?,
            socket,
            artifact: Artifact::from_bytes(content.into()).ok()?,
            env,
        })
    }
}

/// The content of a file whose position others share.
fn whole(file: &File) -> Option<Vec<u8>> {
    let length = file.metadata().ok()?.len();
    if length > ARTIFACT_BYTES_MAX {
        return None;
    }
    let mut content = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut content, 0).ok()?;
    Some(content)
}

/// What to do after a frame.
enum Next {
    /// Take the next one, or read on.
    Read,
    /// Start the script, as this frame says, before anything else.
    Start(Frame),
    /// There is nothing more to do.
    End,
}

/// One instance, from INIT to its end.
pub(super) struct Session {
    engine: Engine,
    fetch: Rc<dyn Fetch>,
    artifact: Artifact,
    env: Vec<(String, String)>,
    reader: RefCell<Option<pipe::Receiver>>,
    out: Rc<FramesOut>,
    meter: Rc<ContextMeter>,
    module: RefCell<Option<Module>>,
    timeout: Cell<Duration>,
    calls: RefCell<HashMap<u32, InFlight>>,
    /// Calls whose bodies are being put together, with the frames that began them.
    gathering: RefCell<HashMap<u32, (Frame, Inbox)>>,
    worked: Notify,
}

/// What can be told to a call that has not ended.
#[derive(Default)]
struct InFlight {
    task: Option<JoinHandle<()>>,
    body: Option<Rc<Inbox>>,
    credit: Option<Rc<Semaphore>>,
}

/// Ends the calls of a session when it is over, also where it is broken off.
struct EndCalls(Rc<Session>);

impl Drop for EndCalls {
    fn drop(&mut self) {
        self.0.calls.take().into_values().filter_map(|call| call.task).for_each(|task| task.abort());
    }
}

/// Lines of one instance, as frames.
#[derive(Debug)]
struct Log(Rc<FramesOut>);

impl Console for Log {
    fn log(&self, call: Option<u32>, level: Level, text: &str) {
        let stream: u16 = if level >= Level::Warn { 2 } else { 1 };
        let head = Head::new(Kind::Log, call.unwrap_or(0)).aux(stream << 8 | level as u16);
        // A message of the engine is at most one frame long.
        self.0.send(head, &[], &text.as_bytes()[..text.floor_char_boundary(BODY_BYTES_MAX)]);
    }
}

impl Session {
    pub(super) fn new(engine: Engine, client: Rc<Client>, meter: ContextMeter, opened: Opened) -> Rc<Self> {
        let Opened { reader, socket, artifact, env } = opened;
        let variable =
            |wanted: &str| env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let instance = variable(FUNCTIONS_VARIABLE).and_then(|_| variable(INSTANCE_VARIABLE));
        let instance = instance.and_then(|instance| HeaderValue::try_from(instance).ok());
        let fetch: Rc<dyn Fetch> = match (variable(PROXY_VARIABLE), instance) {
            (None, None) => Rc::new(NoFetch),
            (proxy, instance) => Rc::new(Outgoing::new(client, proxy, instance)),
        };
        Rc::new(Self {
            engine,
            fetch,
            artifact,
            env,
            reader: RefCell::new(Some(reader)),
            out: FramesOut::new(socket),
            meter: Rc::new(meter),
            module: RefCell::default(),
            timeout: Cell::new(TIMEOUT_DEFAULT),
            calls: RefCell::default(),
            gathering: RefCell::default(),
            worked: Notify::new(),
        })
    }

    /// Memory of the context in bytes, as last measured, and the CPU time that it has used in microseconds.
    pub(super) fn usage(&self) -> (u64, u64) {
        let memory = self.module.borrow().as_ref().map_or(0, Module::memory_bytes);
        (memory as u64, u64::try_from(self.meter.used().as_micros()).unwrap_or(u64::MAX))
    }

    /// Waits until something has been done since the last time.
    pub(super) async fn worked(&self) {
        self.worked.notified().await;
    }

    /// Serves until the platform closes the link or asks to end. Called once.
    pub(super) async fn run(self: &Rc<Self>) {
        let _calls_end_with_it = EndCalls(Rc::clone(self));
        let Some(mut reader) = self.reader.take() else { return };
        let mut decoder = Decoder::new();
        while let Ok(1..) = reader.read_buf(decoder.read_buffer()).await {
            loop {
                match self.take_frames(&mut decoder) {
                    Next::Read => break,
                    Next::Start(frame) if self.start(&frame).await => {}
                    Next::Start(_) | Next::End => return,
                }
            }
        }
    }

    /// Works on all frames that are there, and answers in one go what can be answered at once.
    fn take_frames(self: &Rc<Self>, decoder: &mut Decoder) -> Next {
        self.meter.begins();
        self.out.begin_batch();
        let next = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => match self.take(frame) {
                    Next::Read => {}
                    other => break other,
                },
                Ok(None) => break Next::Read,
                Err(_) => break Next::End,
            }
        };
        self.out.end_batch();
        self.meter.ends();
        next
    }

    fn take(self: &Rc<Self>, frame: Frame) -> Next {
        let number = frame.head.call;
        match frame.head.kind {
            Kind::Init => return Next::Start(frame),
            Kind::Invoke => self.invoke(frame),
            Kind::Data => self.data(number, &frame),
            Kind::Credit => self.credit(number, &frame),
            Kind::Cancel => self.cancel(number),
            Kind::Ping => self.out.send(Head::new(Kind::Pong, 0), &[], &[]),
            // What a context need not keep goes when the host says so, not when one script rests.
            Kind::Rest => self.out.send(Head::new(Kind::Rested, 0), &[], &[]),
            Kind::Shutdown => {
                self.out.send(Head::new(Kind::Bye, 0), &[], &[]);
                return Next::End;
            }
            _ => return Next::End,
        }
        Next::Read
    }

    async fn start(self: &Rc<Self>, frame: &Frame) -> bool {
        let setting = |wanted: &str| {
            let found = pairs(frame.meta()).flatten().find(|(name, _)| *name == wanted.as_bytes());
            found.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<usize>().ok())
        };
        let timeout_ms = setting("timeout_ms").unwrap_or(0);
        self.timeout.set(Duration::from_millis(timeout_ms as u64));
        let memory_bytes =
            setting("memory_mb").map_or(Limits::default().memory_bytes, |mb| mb.saturating_mul(MIB));
        let module = self.engine.module(ModuleOptions {
            artifact: self.artifact.clone(),
            env: self.env.clone(),
            limits: Limits { memory_bytes, ..Limits::default() },
            console: Rc::new(Log(Rc::clone(&self.out))),
            fetch: Rc::clone(&self.fetch),
            meter: Rc::clone(&self.meter) as _,
            random,
        });
        let loaded = module.load(None).await;
        *self.module.borrow_mut() = Some(module);
        self.worked.notify_one();
        match loaded {
            Ok(()) => {
                let head = Head::new(Kind::Ready, 0).aux(PROTOCOL_VERSION);
                self.out.send(head, b"request\0stream\0response\0stream", &[]);
                true
            }
            Err(error) => {
                self.fail(0, &error, true);
                false
            }
        }
    }

    fn invoke(self: &Rc<Self>, frame: Frame) {
        if !frame.head.flags.has(Flags::MORE) {
            let body = if frame.body_bytes().is_empty() {
                RequestBody::Empty
            } else {
                RequestBody::Whole(frame.body())
            };
            return self.begin(&frame, body, None);
        }
        let length = CallMeta::parse(frame.meta()).and_then(|head| head.content_length());
        if length.is_some_and(|length| length <= WHOLE_BYTES_MAX) {
            self.gathering.borrow_mut().insert(frame.head.call, (frame, Inbox::default()));
            return;
        }
        let (inbox, out, number) = (Rc::new(Inbox::default()), Rc::clone(&self.out), frame.head.call);
        let give = move |bytes: u32| out.send(Head::new(Kind::Credit, number), &[], &bytes.to_le_bytes());
        let body = RequestBody::Stream(Box::pin(Rc::clone(&inbox).pieces(give)));
        self.begin(&frame, body, Some(inbox));
    }

    /// Enters the script.
    fn begin(self: &Rc<Self>, frame: &Frame, body: RequestBody, inbox: Option<Rc<Inbox>>) {
        let number = frame.head.call;
        let Some(request) = self.request(frame, body) else {
            return self.fail(number, &broken("the platform sent a call without its fields"), false);
        };
        let Some(module) = self.module.borrow().clone() else { return };
        self.calls.borrow_mut().insert(number, InFlight { body: inbox, ..InFlight::default() });
        let session = Rc::clone(self);
        let mut call = Box::pin(async move {
            match module.call(request).await {
                Ok(response) => session.answer(number, response).await,
                Err(error) => session.fail(number, &error, false),
            }
            session.calls.borrow_mut().remove(&number);
            session.worked.notify_one();
        });
        // Most calls are answered at once, and need no task.
        if call.as_mut().now_or_never().is_none() {
            let task = tokio::task::spawn_local(call);
            if let Some(flight) = self.calls.borrow_mut().get_mut(&number) {
                flight.task = Some(task);
            }
        }
    }

    fn request(&self, frame: &Frame, body: RequestBody) -> Option<Request> {
        let head = CallMeta::parse(frame.meta())?;
        Some(Request {
            method: head.method.to_owned(),
            url: head.url(),
            headers: latin1(head.headers),
            body,
            deadline: Some(Instant::now() + self.timeout.get()),
            log_id: frame.head.call,
            call: head.info(frame.head.flags.has(Flags::EVENT)),
        })
    }

    fn data(self: &Rc<Self>, number: u32, frame: &Frame) {
        let is_last = frame.head.flags.has(Flags::END);
        let take = |inbox: &Inbox| {
            inbox.push(frame.body_bytes());
            if is_last {
                inbox.end();
            }
        };
        if let Some(inbox) = self.calls.borrow().get(&number).and_then(|flight| flight.body.as_deref()) {
            return take(inbox);
        }
        let gathered = {
            let mut gathering = self.gathering.borrow_mut();
            let Some((_, inbox)) = gathering.get(&number) else { return };
            take(inbox);
            if is_last { gathering.remove(&number) } else { None }
        };
        if let Some((frame, inbox)) = gathered {
            self.begin(&frame, RequestBody::Whole(inbox.take()), None);
        }
    }

    fn credit(&self, number: u32, frame: &Frame) {
        let bytes = frame.body_bytes().first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if let Some(credit) = self.calls.borrow().get(&number).and_then(|flight| flight.credit.as_ref()) {
            credit.add_permits((bytes.min(WINDOW_BYTES)) as usize);
        }
    }

    fn cancel(&self, number: u32) {
        let flight = self.calls.borrow_mut().remove(&number);
        let task = flight.and_then(|flight| flight.task);
        if let Some(task) = &task {
            task.abort();
        }
        let is_gathered = self.gathering.borrow_mut().remove(&number).is_some();
        if task.is_some() || is_gathered {
            let head = Head::new(Kind::Fail, number).aux(4);
            self.out.send(
                head,
                &[],
                br#"{"errorType":"AbortError","errorMessage":"the call was cancelled"}"#,
            );
        }
    }

    async fn answer(&self, number: u32, response: Response) {
        let Response { status, headers, body } = response;
        let meta = to_bytes(&headers);
        let head = Head::new(Kind::Reply, number).aux(status);
        match body {
            ResponseBody::Whole(bytes) if bytes.len() <= BODY_BYTES_MAX => self.out.send(head, &meta, &bytes),
            body => {
                let credit = Rc::new(Semaphore::new(WINDOW_BYTES as usize));
                if let Some(flight) = self.calls.borrow_mut().get_mut(&number) {
                    flight.credit = Some(Rc::clone(&credit));
                }
                self.out.send(head.flags(Flags::MORE), &meta, &[]);
                match body {
                    ResponseBody::Whole(bytes) => {
                        self.send_piece(number, &credit, bytes).await;
                        self.out.send(Head::new(Kind::Data, number).flags(Flags::END), &[], &[]);
                    }
                    ResponseBody::Stream(stream) => self.stream(number, &credit, stream).await,
                }
            }
        }
    }

    async fn stream(&self, number: u32, credit: &Semaphore, mut stream: BodyStream) {
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(bytes) => self.send_piece(number, credit, bytes).await,
                Err(error) => return self.fail(number, &error, false),
            }
        }
        self.out.send(Head::new(Kind::Data, number).flags(Flags::END), &[], &[]);
    }

    async fn send_piece(&self, number: u32, credit: &Semaphore, bytes: Bytes) {
        for piece in bytes.chunks(BODY_BYTES_MAX) {
            let length = u32::try_from(piece.len()).unwrap_or(WINDOW_BYTES);
            // The semaphore is never closed.
            if let Ok(permit) = credit.acquire_many(length).await {
                permit.forget();
            }
            self.out.send(Head::new(Kind::Data, number), &[], piece);
        }
    }

    /// Reports an error; its stack goes into the log, for the owner's eyes.
    fn fail(&self, number: u32, error: &ScriptError, is_start: bool) {
        let (kind, message, stack) = match error {
            ScriptError::Threw { name, message, stack } => (name.as_str(), message.clone(), stack.as_str()),
            other => (name_of(other), other.to_string(), ""),
        };
        let text = if stack.is_empty() {
            format!("{kind}: {message}")
        } else {
            format!("{kind}: {message}\n{stack}")
        };
        Log(Rc::clone(&self.out)).log(Some(number), Level::Error, &text);
        let class = match error {
            _ if is_start => FailClass::Init,
            ScriptError::BadResponse { .. } => FailClass::BadResult,
            ScriptError::OutOfMemory { .. } => FailClass::OutOfMemory,
            _ => FailClass::Handler,
        };
        let trace: Vec<&str> = stack.lines().collect();
        let body = serde_json::json!({ "errorType": kind, "errorMessage": message, "stackTrace": trace });
        self.out.send(Head::new(Kind::Fail, number).aux(number_of(class)), &[], body.to_string().as_bytes());
    }
}

const fn name_of(error: &ScriptError) -> &'static str {
    match error {
        ScriptError::TimedOut => "TimeoutError",
        ScriptError::TurnTooLong { .. } => "TurnLimitError",
        ScriptError::OutOfMemory { .. } => "OutOfMemoryError",
        ScriptError::BadResponse { .. } => "TypeError",
        _ => "Error",
    }
}

const fn number_of(class: FailClass) -> u16 {
    match class {
        FailClass::Handler => 1,
        FailClass::BadResult => 2,
        FailClass::Init => 3,
        FailClass::Cancelled => 4,
        FailClass::OutOfMemory => 5,
        FailClass::ResultTooLarge => 6,
        FailClass::NotBegun => 7,
    }
}

fn broken(reason: &str) -> ScriptError {
    ScriptError::Broken { reason: reason.to_owned() }
}

fn random(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        // Fails only before the machine's first randomness is there, and then not for long.
        at += rustix::rand::getrandom(&mut bytes[at..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
}
