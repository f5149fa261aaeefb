//! WebSockets: a request that asks for one, and the raw connection once the function has agreed.
//!
//! Over HTTP/1.1 the upgrade headers are passed through; an extended CONNECT of HTTP/2 (RFC 8441) is told to the
//! function as the same HTTP/1.1 handshake. Frames are not parsed: bytes are copied both ways, each direction
//! ends by itself, and a connection without a byte for too long is ended.

use std::sync::Mutex;
use std::time::Duration;

use alula_invoke::Served;
use alula_model::InvocationId;
use alula_runtime::{Answer, Body, Upgraded};
use base64::Engine as _;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::activity::{Watched, Witness};
use crate::{answer, headers};

const WEBSOCKET: &str = "websocket";

/// A request's wish for a WebSocket.
#[derive(Debug)]
pub(crate) struct Upgrade {
    transport: OnUpgrade,
    style: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `Upgrade: websocket`, answered with 101.
    Switch,
    /// Extended CONNECT, answered with 200.
    Connect,
}

/// The two ends of an upgraded connection, and what is kept until it has ended.
#[derive(Debug)]
pub(crate) struct Joint {
    transport: OnUpgrade,
    function: Upgraded,
    _body: Body,
}

/// What `request` wishes, if it is a WebSocket; an extended CONNECT becomes the GET that it stands for.
pub(crate) fn asked_by(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let style = style_of(request)?;
    let transport = hyper::upgrade::on(&mut *request);
    if style == Style::Connect {
        *request.method_mut() = Method::GET;
    }
    Some(Upgrade { transport, style })
}

fn style_of(request: &Request<Incoming>) -> Option<Style> {
    let is_extended =
        request.extensions().get::<Protocol>().is_some_and(|p| p.as_ref() == WEBSOCKET.as_bytes());
    if request.method() == Method::CONNECT && is_extended {
        return Some(Style::Connect);
    }
    let headers = request.headers();
    let switches = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && headers.contains_key(header::UPGRADE)
        && headers::has_token(headers, &header::UPGRADE, WEBSOCKET)
        && headers::has_token(headers, &header::CONNECTION, "upgrade");
    switches.then_some(Style::Switch)
}

impl Upgrade {
    /// Puts the handshake's hop-by-hop headers back, which were removed with all others.
    pub(crate) fn offer(&self, headers: &mut HeaderMap, random: u128) {
        put_switch(headers);
        if self.style == Style::Connect {
            let key = base64::engine::general_purpose::STANDARD.encode(random.to_be_bytes());
            if let Ok(key) = HeaderValue::try_from(key) {
                headers.insert(header::SEC_WEBSOCKET_KEY, key);
            }
        }
    }

    /// The response for an answer that agrees, and the two ends to join once it is out.
    pub(crate) fn agree(
        self,
        answer: Answer,
        function: Upgraded,
        served: &Served,
        id: &InvocationId,
    ) -> (Response<Body>, Joint) {
        let mut headers = answer.headers;
        headers::strip_response(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        answer::name_call(&mut headers, served, id);
        let mut response = Response::new(Body::empty());
        match self.style {
            Style::Switch => {
                put_switch(&mut headers);
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            // The key was ours, so what the function made of it means nothing to the caller.
            Style::Connect => drop(headers.remove(header::SEC_WEBSOCKET_ACCEPT)),
        }
        *response.headers_mut() = headers;
        (response, Joint { transport: self.transport, function, _body: answer.body })
    }
}

fn put_switch(headers: &mut HeaderMap) {
    const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
    headers.insert::<HeaderName>(header::CONNECTION, UPGRADE);
    headers.insert::<HeaderName>(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

impl Joint {
    /// Copies both ways until both directions have ended, one has failed, or nothing has come for `idle`.
    pub(crate) async fn run(self, idle: Duration) {
        match tokio::time::timeout(idle, self.transport).await {
            Ok(Ok(caller)) => join(TokioIo::new(caller), self.function.0, idle).await,
            Ok(Err(error)) => tracing::debug!(%error, "the caller left before the upgrade"),
            Err(_) => tracing::debug!("the upgrade was not finished in time"),
        }
    }
}

/// When something last came from either side.
#[derive(Debug)]
struct LastByte(Mutex<Instant>);

impl Witness for &LastByte {
    fn received(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }
}

async fn join<A, B>(caller: A, function: B, idle: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = LastByte(Mutex::new(Instant::now()));
    let mut caller = Watched { stream: caller, witness: &last };
    let mut function = Watched { stream: function, witness: &last };
    let silence = async {
        loop {
            let until = *last.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        result = tokio::io::copy_bidirectional(&mut caller, &mut function) => {
            if let Err(error) = result {
                tracing::debug!(%error, "an upgraded connection broke off");
            }
        }
        () = silence => tracing::debug!("an upgraded connection was idle for too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn each_direction_ends_by_itself() {
        let (mut caller, ours) = tokio::io::duplex(64);
        let (theirs, mut function) = tokio::io::duplex(64);
        let joint = tokio::spawn(join(ours, theirs, Duration::from_secs(5)));
        caller.write_all(b"last words").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = Vec::new();
        function.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        function.write_all(b"still here").await.unwrap();
        function.shutdown().await.unwrap();
        heard.clear();
        caller.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"still here");
        joint.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_from_either_side_put_the_end_off_and_silence_brings_it() {
        let (mut caller, ours) = tokio::io::duplex(64);
        let (theirs, mut function) = tokio::io::duplex(64);
        let joint = tokio::spawn(join(ours, theirs, Duration::from_secs(5)));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(4)).await;
            function.write_all(b"x").await.unwrap();
            caller.read_u8().await.unwrap();
        }
        assert!(!joint.is_finished());
        let quiet_since = Instant::now();
        assert_eq!(caller.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(quiet_since.elapsed().as_secs(), 5);
        joint.await.unwrap();
    }
}
