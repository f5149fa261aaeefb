//! How every request is made: address, token, namespace, time limits, and what an answer means.

use std::time::Duration;

use alula_wire::{ErrorAnswer, ErrorInfo, headers};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderValue, Method, header};
use reqwest::{RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, Refusal, Result};

/// Time to connect: beyond this nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is taken whole: a page of a thousand versions with their specs fits many times over.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client of one platform, acting in one namespace.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    namespace: String,
    /// Sent to the control API only: functions must never see it.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of the control API at `url` (`http://127.0.0.1:8081`), in the namespace `default`.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let base = parse_base(url)?;
        let authorization = token.map(bearer).transpose()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("alula/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy of the environment could not reach this machine's own loopback address.
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Plain HTTP needs no root certificates, and loading them takes longer than most requests.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, base, namespace: "default".to_owned(), authorization })
    }

    /// The same client, acting in another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The namespace it acts in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The control API's address.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request for the resource whose path has these segments; they are percent-encoded as needed.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let request = self.http.request(method, url);
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// A request to any address, with the connections of this client but without its token.
    pub(crate) fn public_request(&self, method: Method, url: Url) -> Result<reqwest::Request> {
        let request = self.http.request(method, url).build();
        request.map_err(|error| self.transport(&error))
    }

    pub(crate) async fn execute(&self, request: reqwest::Request) -> Result<Response> {
        self.http.execute(request).await.map_err(|error| self.transport(&error))
    }

    pub(crate) async fn get<T: DeserializeOwned, Q: Serialize>(
        &self,
        segments: &[&str],
        query: &Q,
    ) -> Result<T> {
        self.fetch(self.request(Method::GET, segments).query(query)).await
    }

    /// Sends a request and takes its whole answer as JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        self.fetch_within(request, ANSWER_TIMEOUT).await
    }

    /// The same for an answer that may take long.
    pub(crate) async fn fetch_within<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<T> {
        self.fetch_unbounded(request.timeout(timeout)).await
    }

    /// The same where the time that the work takes is not known.
    pub(crate) async fn fetch_unbounded<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.send(request).await?;
        let body = self.whole(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_alula(error.to_string()))
    }

    /// Sends a request whose answer says nothing besides that it worked.
    pub(crate) async fn done(&self, request: RequestBuilder) -> Result<()> {
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Sends a request and takes its whole answer as text.
    pub(crate) async fn text(&self, request: RequestBuilder) -> Result<String> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        let body = self.whole(response).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a request and waits for the head of a successful answer; without a time limit.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = self.send_unchecked(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// Sends a request and waits for the head of its answer, whatever its status.
    pub(crate) async fn send_unchecked(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| self.transport(&error))
    }

    /// The values of an answer that is newline-delimited JSON, as they come.
    pub(crate) fn values<T>(&self, response: Response) -> impl Stream<Item = Result<T>> + Send + use<T>
    where
        T: DeserializeOwned + Send,
    {
        crate::ndjson::values(self.url().to_owned(), Box::pin(chunks(response)))
    }

    /// What the server says in an answer that is an error.
    pub(crate) async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let is_ours = response.headers().contains_key(headers::ERROR);
        let body = match self.whole(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) => refused(Some(status), answer.error),
            Err(_) if is_ours => self.not_alula(format!("{status} with an error that cannot be read")),
            Err(_) => self.not_alula(format!("it answered {status}")),
        }
    }

    async fn whole(&self, response: Response) -> Result<Vec<u8>> {
        let mut chunks = Box::pin(chunks(response));
        let mut body = Vec::new();
        while let Some(chunk) = chunks.try_next().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.not_alula(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn not_alula(&self, reason: String) -> ClientError {
        ClientError::NotAlula { url: self.url().to_owned(), reason }
    }

    fn transport(&self, error: &reqwest::Error) -> ClientError {
        // A call on the public address goes elsewhere than to the control API.
        let asked = error.url().map(|url| url.origin().ascii_serialization());
        let url = asked.unwrap_or_else(|| self.url().to_owned());
        if error.is_timeout() && !error.is_connect() {
            return ClientError::TimedOut { url };
        }
        match innermost(error) {
            reason if error.is_connect() => ClientError::Unreachable { url, reason },
            reason => ClientError::Interrupted { reason },
        }
    }
}

/// An error that the server told of.
pub(crate) fn refused(status: Option<http::StatusCode>, info: ErrorInfo) -> ClientError {
    ClientError::Refused(Box::new(Refusal { status, info }))
}

/// The body of an answer, piece by piece.
pub(crate) fn chunks(response: Response) -> impl Stream<Item = Result<Bytes>> + Send {
    response.bytes_stream().map_err(|error| ClientError::Interrupted { reason: innermost(&error) })
}

/// The cause at the end of the chain, which is the one a person can do something about.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().to_lowercase()
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::BadToken)?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_base(text: &str) -> Result<Url> {
    let bad = || ClientError::BadUrl { url: text.to_owned() };
    let url = Url::parse(text).map_err(|_| bad())?;
    let is_usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_usable && url.query().is_none() { Ok(url) } else { Err(bad()) }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_addresses() {
        for good in ["http://127.0.0.1:8081", "https://faas.example.org/alula/", "http://[::1]:8081"] {
            assert!(parse_base(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:8081", "ftp://x", "http://", "http://x?y=1", "localhost:8081"] {
            assert!(matches!(parse_base(bad), Err(ClientError::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn loopback_is_by_name_or_address() {
        let check = |url: &str, expect| assert_eq!(is_loopback(&Url::parse(url).unwrap()), expect, "{url}");
        check("http://127.0.0.1:1", true);
        check("http://[::1]:1", true);
        check("http://localhost", true);
        check("http://localhost.example.org", false);
        check("http://10.0.0.1", false);
    }
}
