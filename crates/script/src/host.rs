//! What the embedder gives to scripts: a log, and a way out.

use std::fmt;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::message::Pieces;

/// Takes what a script writes to `console`. Must not block.
pub trait Console: fmt::Debug {
    /// Takes one message, which may have several lines. `call` is the number that [`crate::Request::log_id`] gave,
    /// where it is known whose message it is.
    fn log(&self, call: Option<u32>, level: Level, text: &str);
}

/// Nobody reads the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Console for Silent {
    fn log(&self, _call: Option<u32>, _level: Level, _text: &str) {}
}

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `console.debug`
    Debug,
    /// `console.log` and `console.info`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`, and errors that nobody caught
    Error,
}

impl Level {
    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Debug,
            2 => Self::Warn,
            3 => Self::Error,
            _ => Self::Info,
        }
    }
}

/// Is told when code of a script runs: to count its CPU time, or to see from another thread who keeps this one busy.
pub trait Meter: fmt::Debug {
    /// The script is entered.
    fn begins(&self);
    /// It has returned.
    fn ends(&self);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn begins(&self) {}

    fn ends(&self) {}
}

/// Makes the requests of `fetch`. What may be reached is decided here and nowhere in the engine.
pub trait Fetch: fmt::Debug {
    /// Sends `request`; an error's text is what the script sees. Dropping the future gives up.
    fn fetch(&self, request: FetchRequest) -> LocalBoxFuture<'static, Result<FetchResponse, String>>;
}

/// A request that a script makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The method, in capitals where it is a known one.
    pub method: String,
    /// An absolute URL.
    pub url: String,
    /// `name NUL value NUL ...`, each character a byte.
    pub headers: String,
    /// The whole body; `None` where there is none.
    pub body: Option<Bytes>,
    /// What to do with an answer that points elsewhere.
    pub redirect: Redirect,
}

/// What a script wants done with an answer that points elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect {
    /// Follow it, within a limit.
    Follow,
    /// Give it to the script.
    Manual,
    /// Fail.
    Error,
}

/// The answer to a script's request.
pub struct FetchResponse {
    /// The status.
    pub status: u16,
    /// The URL that answered, after redirections.
    pub url: String,
    /// `name NUL value NUL ...`, each character a byte.
    pub headers: String,
    /// The content.
    pub body: Pieces,
}

impl fmt::Debug for FetchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchResponse").field("status", &self.status).field("url", &self.url).finish()
    }
}

/// No way out: every `fetch` fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetch;

impl NoFetch {
    /// What a script is told.
    pub const REASON: &'static str = "this script has no network";
}

impl Fetch for NoFetch {
    fn fetch(&self, _request: FetchRequest) -> LocalBoxFuture<'static, Result<FetchResponse, String>> {
        Box::pin(std::future::ready(Err(Self::REASON.to_owned())))
    }
}
