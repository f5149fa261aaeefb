//! Degraded answers: what callers get where a function cannot answer.
//!
//! Only who waits for an answer gets one: a call from the queue waits instead. What is answered the function's owner states
//! (`DegradedSpec`), in this order: the last good answer where one is kept, then a fixed one, a file of the package, or
//! another function, which the invoker calls.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alula_guard::degraded::{Bounds, Kept};
use alula_model::{Degraded, DegradedSpec, Fault, InvocationId, LastGoodSpec, Name, VersionKey};
use alula_runtime::{Answer, Body, BodyError, BoxFuture, VersionPlan};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::{Invocation, Outcome};

/// Largest file and largest kept answer, in bytes: what is larger is no answer for bad times.
pub const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// How long a file of a package is kept in memory; it cannot change.
const FILE_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Headers of an answer that belong to its moment or to its caller.
const NOT_KEPT: [HeaderName; 5] =
    [header::DATE, header::SET_COOKIE, header::AGE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
/// Headers that say who asks.
const PERSONAL: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// Reads files of packages.
pub trait PackageFiles: Send + Sync + fmt::Debug {
    /// The content of a file of a version's code, up to `limit_bytes`; `None` where there is none, or more.
    fn read<'a>(
        &'a self,
        plan: &'a Arc<VersionPlan>,
        path: &'a str,
        limit_bytes: u64,
    ) -> BoxFuture<'a, Option<Bytes>>;
}

/// Knows no files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl PackageFiles for NoFiles {
    fn read<'a>(&'a self, _: &'a Arc<VersionPlan>, _: &'a str, _: u64) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(std::future::ready(None))
    }
}

/// Makes degraded answers and keeps good ones for them. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Degrader {
    files: Arc<dyn PackageFiles>,
    kept: Arc<Kept<Arc<Good>>>,
}

/// An answer, whole.
#[derive(Debug)]
struct Good {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What is needed of a call to answer something else in its place.
#[derive(Debug)]
pub(crate) struct Spare {
    spec: DegradedSpec,
    received: Instant,
    /// The key of its last good answer, where such answers are kept.
    key: Option<String>,
}

impl Default for Degrader {
    fn default() -> Self {
        Self::new(Arc::new(NoFiles))
    }
}

impl Degrader {
    /// Answers with files from `files`; nothing is kept yet.
    #[must_use]
    pub fn new(files: Arc<dyn PackageFiles>) -> Self {
        Self { files, kept: Arc::default() }
    }

    /// Lets go of what is kept of functions that are no more.
    pub fn retain(&self, is_there: impl Fn(&Name, &Name) -> bool) {
        self.kept.retain(is_there);
    }

    /// What is answered in place of a call; `None` where there is nothing.
    pub(crate) async fn answer(&self, plan: &Arc<VersionPlan>, spare: &Spare) -> Option<Answer> {
        if let Some(answer) = self.last_good(&plan.key, spare) {
            return Some(answer);
        }
        let spec = &spare.spec;
        match (&spec.body, &spec.file) {
            (Some(body), _) => Some(fixed(spec, "text/plain; charset=utf-8", Bytes::from(body.clone()))),
            (None, Some(path)) => Some(fixed(spec, media_type(path), self.file(plan, path).await?)),
            (None, None) => None,
        }
    }

    fn last_good(&self, key: &VersionKey, spare: &Spare) -> Option<Answer> {
        let max_age = Duration::from_millis(spare.spec.last_good.as_ref()?.max_age_ms);
        let (good, age) = self.kept.get(&shelf(key), spare.key.as_deref()?, max_age, Instant::now())?;
        let mut headers = good.headers.clone();
        headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        Some(Answer::new(good.status, headers, Body::full(good.body.clone())))
    }

    async fn file(&self, plan: &Arc<VersionPlan>, path: &str) -> Option<Bytes> {
        // No request's key begins like this.
        let (of, key) = (shelf(&plan.key), format!("\0{} {path}", plan.key.version));
        if let Some((known, _)) = self.kept.get(&of, &key, FILE_AGE_MAX, Instant::now()) {
            return Some(known.body.clone());
        }
        let body = self.files.read(plan, path, ANSWER_BYTES_MAX).await;
        let Some(body) = body else {
            tracing::warn!(function = %plan.key, path, "there is no such file for a degraded answer");
            return None;
        };
        let good = Good { status: StatusCode::OK, headers: HeaderMap::new(), body: body.clone() };
        self.put(&of, key, good, Bounds { entries: 2, bytes: 2 * ANSWER_BYTES_MAX });
        Some(body)
    }

    fn put(&self, of: &(Name, Name), key: String, good: Good, bounds: Bounds) {
        let text = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes = good.body.len() + good.headers.iter().map(text).sum::<usize>();
        self.kept.put(of, key, (Arc::new(good), bytes as u64), bounds, Instant::now());
    }

    /// Keeps an answer for later, where it is a good one: at once if it is whole, else when it has been passed on.
    pub(crate) fn keep(&self, plan: &Arc<VersionPlan>, spare: &Spare, mut outcome: Outcome) -> Outcome {
        let (Some(last_good), Some(key)) = (&spare.spec.last_good, &spare.key) else { return outcome };
        let answer = &mut outcome.answer;
        if answer.upgraded.is_some() || !may_be_kept(answer.status, &answer.headers) {
            return outcome;
        }
        let mut headers = answer.headers.clone();
        NOT_KEPT.iter().for_each(|name| drop(headers.remove(name)));
        let (degrader, of, key, status) = (self.clone(), shelf(&plan.key), key.clone(), answer.status);
        let bounds = Bounds { entries: last_good.entries_max as usize, bytes: last_good.bytes_max };
        let keep = move |body: Bytes| degrader.put(&of, key, Good { status, headers, body }, bounds);
        match answer.body.as_full() {
            Some(whole) if whole.len() as u64 <= ANSWER_BYTES_MAX => keep(Bytes::copy_from_slice(whole)),
            Some(_) => {}
            None => {
                let inner = std::mem::take(&mut answer.body);
                let seen = Some((BytesMut::new(), Box::new(keep) as Box<dyn FnOnce(Bytes) + Send>));
                answer.body = Body::stream(Remembered { inner, seen });
            }
        }
        outcome
    }
}

impl Spare {
    /// What is needed of a call; `None` where nothing else would be answered.
    pub(crate) fn of(plan: &VersionPlan, invocation: &Invocation) -> Option<Self> {
        let spec = plan.spec.degraded.as_ref().filter(|_| invocation.is_waited_for())?.clone();
        let key = spec.last_good.as_ref();
        let key = key.and_then(|last| key_of(last, &invocation.method, &invocation.uri, &invocation.headers));
        Some(Self { spec, received: invocation.received, key })
    }

    /// When the caller is given something else at the latest.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let after = self.spec.overdue_ms.filter(|_| self.spec.serves(Degraded::Overdue))?;
        Some(self.received + Duration::from_millis(after))
    }

    /// Why something else is answered to a call that failed so; `None` where nothing is.
    pub(crate) fn reason(&self, fault: &Fault, is_switched: bool) -> Option<Degraded> {
        let is_ours = fault.code == alula_model::ErrorCode::CircuitOpen;
        let reason =
            if is_switched && is_ours { Degraded::Switched } else { Degraded::of_fault(fault.code)? };
        self.spec.serves(reason).then_some(reason)
    }

    /// The same call of the function that answers instead, led on by this one; a call of its own, with a run of its own. A
    /// body that is still coming cannot be sent twice, so for such a call there is none.
    pub(crate) fn fallback(&self, key: &VersionKey, call: &Invocation) -> Option<Invocation> {
        let target = self.spec.fallback(&key.namespace).filter(|target| target.name != key.function)?;
        let body = Bytes::copy_from_slice(call.body.as_full()?);
        Some(Invocation {
            id: InvocationId::new(&format!("{}-degraded", call.id))?,
            target,
            version: None,
            trigger: call.trigger,
            lineage: call.lineage.with(&key.namespace, &key.function).led_by(call.id.clone()),
            attempt: 1,
            method: call.method.clone(),
            uri: call.uri.clone(),
            headers: call.headers.clone(),
            body: Body::full(body),
            caller: call.caller.clone(),
            remote: call.remote,
            parameters: call.parameters.clone(),
            is_event: call.is_event,
            received: call.received,
            received_at: call.received_at,
            waiters: call.waiters.clone(),
            began: None,
        })
    }
}

fn shelf(key: &VersionKey) -> (Name, Name) {
    (key.namespace.clone(), key.function.clone())
}

/// What tells a request from others whose answers are others; `None` where its answer is not kept.
fn key_of(spec: &LastGoodSpec, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let is_named =
        |name: &HeaderName| spec.key_headers.iter().any(|named| name.as_str().eq_ignore_ascii_case(named));
    let is_kept = spec.methods.iter().any(|kept| method.as_str().eq_ignore_ascii_case(kept));
    if !is_kept || PERSONAL.iter().any(|name| headers.contains_key(name) && !is_named(name)) {
        return None;
    }
    let mut key = format!("{method} {}", uri.path());
    let query = uri.query().unwrap_or_default();
    match &spec.key_query {
        None => key.push_str(&format!("?{query}")),
        Some(names) => {
            let is_part =
                |pair: &&str| names.iter().any(|name| name == pair.split('=').next().unwrap_or_default());
            query.split('&').filter(is_part).for_each(|pair| key.push_str(&format!("&{pair}")));
        }
    }
    for name in &spec.key_headers {
        // Neither a name nor a value holds a line end, so no value can pass for another header.
        for value in headers.get_all(name.as_str()) {
            key.push_str(&format!("\n{}:{}", name.to_ascii_lowercase(), value.as_bytes().escape_ascii()));
        }
    }
    Some(key)
}

/// Whether an answer is a good one, and one for everybody who asks the same.
fn may_be_kept(status: StatusCode, headers: &HeaderMap) -> bool {
    let forbids = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or("private").to_ascii_lowercase();
        ["private", "no-store"].iter().any(|word| text.contains(word))
    };
    status.is_success()
        && status != StatusCode::PARTIAL_CONTENT
        && !headers.contains_key(header::SET_COOKIE)
        && !headers.get_all(header::CACHE_CONTROL).iter().any(forbids)
}

/// The fixed answer of a spec with this content.
fn fixed(spec: &DegradedSpec, media_type: &'static str, body: Bytes) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // Nobody on the way shall take it for the function's own answer.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in &spec.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    let status = StatusCode::from_u16(spec.status).unwrap_or(StatusCode::OK);
    Answer::new(status, headers, Body::full(body))
}

/// The type that a file's name tells.
fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/octet-stream",
    }
}

/// Takes what was seen of a body, when it has ended.
type Keeper = Box<dyn FnOnce(Bytes) + Send>;

/// A streamed body that is kept when it has ended, as long as it is small enough.
struct Remembered {
    inner: Body,
    seen: Option<(BytesMut, Keeper)>,
}

impl http_body::Body for Remembered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(part)) => {
                let data = part.data_ref();
                let fits =
                    |seen: &BytesMut, data: &Bytes| (seen.len() + data.len()) as u64 <= ANSWER_BYTES_MAX;
                match (&mut self.seen, data) {
                    (Some((seen, _)), Some(data)) if fits(seen, data) => seen.extend_from_slice(data),
                    (Some(_), Some(_)) => self.seen = None,
                    _ => {}
                }
            }
            Some(Err(_)) => self.seen = None,
            None => {}
        }
        let has_ended = frame.is_none() || self.inner.is_end_stream();
        if let Some((seen, keep)) = self.seen.take_if(|_| has_ended) {
            keep(seen.freeze());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
