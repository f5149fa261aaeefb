//! Limits of this API: each who asks has a rate, and so many requests in flight, their answers' bodies included.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use alula_guard::limit::Pass;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::respond::Problem;
use crate::state::Api;

/// Lets `request` of whoever has this name in, or whoever asks from where it comes.
pub(crate) fn pass(api: &Api, name: Option<&str>, request: &Request) -> Result<Pass, Problem> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let source = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let passed = api.parts.invoker.guard().pass(name, source, Instant::now());
    passed.map_err(|refusal| Problem::from(refusal.fault))
}

/// The same answer, which holds its pass until its body has ended.
pub(crate) fn hold(pass: Pass, response: Response) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(Held { body, _pass: pass }))
}

struct Held {
    body: Body,
    _pass: Pass,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
