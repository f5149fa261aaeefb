//! `fetch` of scripts: through the egress proxy of the cell, which applies the network policy outside the sandbox, or to the
//! platform itself, which is told which instance asks.

use std::cell::OnceCell;
use std::rc::Rc;

use alula_runtime::{DOOR_PORT, GATEWAY_HOST, GATEWAY_PORT, INSTANCE_HEADER};
use alula_script::{Fetch, FetchRequest, FetchResponse, NoFetch, Redirect};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Url;

/// Redirections of one request, as the Fetch standard has it.
const REDIRECTS_MAX: usize = 20;

/// The connections of one thread, made with the first request: its certificates take a while to read.
#[derive(Debug, Default)]
pub(super) struct Client(OnceCell<reqwest::Client>);

impl Client {
    /// All scripts of a host have the same proxy, or none.
    fn get(&self, proxy: Option<&str>) -> Result<reqwest::Client, String> {
        if let Some(client) = self.0.get() {
            return Ok(client.clone());
        }
        let proxy: Option<Url> =
            proxy.map(str::parse).transpose().map_err(|_| "the proxy is not one".to_owned())?;
        let proxy = reqwest::Proxy::custom(move |url| proxy.clone().filter(|_| !is_platform(url)));
        let policy = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().proxy(proxy).redirect(policy).build();
        let client = client.map_err(|error| deepest(&error))?;
        Ok(self.0.get_or_init(|| client).clone())
    }
}

/// One instance's way out.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    client: Rc<Client>,
    /// The egress proxy, for scripts with a network.
    proxy: Option<String>,
    /// As whom it calls the platform, where it may.
    instance: Option<HeaderValue>,
}

impl Outgoing {
    pub(super) fn new(client: Rc<Client>, proxy: Option<String>, instance: Option<HeaderValue>) -> Self {
        Self { client, proxy, instance }
    }

    /// Refuses what the script may not reach, and tells the platform who asks it.
    fn check(&self, url: &Url, headers: &mut HeaderMap) -> Result<(), String> {
        headers.remove(INSTANCE_HEADER);
        match &self.instance {
            Some(instance) if is_platform(url) => drop(headers.insert(INSTANCE_HEADER, instance.clone())),
            _ if self.proxy.is_none() || is_platform(url) => return Err(NoFetch::REASON.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

impl Fetch for Outgoing {
    fn fetch(&self, request: FetchRequest) -> LocalBoxFuture<'static, Result<FetchResponse, String>> {
        send(self.clone(), request).boxed_local()
    }
}

/// Whether the platform itself answers there.
fn is_platform(url: &Url) -> bool {
    let at =
        |host: &str, port: u16| url.host_str() == Some(host) && url.port_or_known_default() == Some(port);
    url.scheme() == "http" && (at("127.0.0.1", DOOR_PORT) || at(GATEWAY_HOST, GATEWAY_PORT))
}

async fn send(outgoing: Outgoing, request: FetchRequest) -> Result<FetchResponse, String> {
    let mut method: Method = request.method.parse().map_err(|_| "the method is not one".to_owned())?;
    let mut url: Url = request.url.parse().map_err(|_| "the URL is not one".to_owned())?;
    let mut headers = headers_of(&request.headers)?;
    let mut body = request.body;
    let client = outgoing.client.get(outgoing.proxy.as_deref())?;
    for _ in 0..=REDIRECTS_MAX {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{}: URLs cannot be fetched", url.scheme()));
        }
        outgoing.check(&url, &mut headers)?;
        let mut asked = client.request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(body) = &body {
            asked = asked.body(body.clone());
        }
        let answer = asked.send().await.map_err(|error| deepest(&error))?;
        let Some(next) = target(&answer, &url).filter(|_| request.redirect != Redirect::Manual) else {
            return Ok(response(answer));
        };
        if request.redirect == Redirect::Error {
            return Err("the answer is a redirection".to_owned());
        }
        let status = answer.status();
        let changes = status == StatusCode::SEE_OTHER && method != Method::HEAD
            || matches!(status.as_u16(), 301 | 302) && method == Method::POST;
        if changes {
            method = Method::GET;
            body = None;
            headers.remove(CONTENT_TYPE);
            headers.remove(CONTENT_LENGTH);
        }
        if next.origin() != url.origin() {
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
        }
        url = next;
    }
    Err(format!("more than {REDIRECTS_MAX} redirections"))
}

fn target(answer: &reqwest::Response, from: &Url) -> Option<Url> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(LOCATION).filter(|_| redirects)?;
    from.join(location.to_str().ok()?).ok()
}

fn response(answer: reqwest::Response) -> FetchResponse {
    let fields = answer.headers().iter().flat_map(|(name, value)| {
        [name.as_str().to_owned(), value.as_bytes().iter().copied().map(char::from).collect()]
    });
    FetchResponse {
        status: answer.status().as_u16(),
        url: answer.url().to_string(),
        headers: fields.collect::<Vec<String>>().join("\0"),
        body: answer.bytes_stream().map(|piece| piece.map_err(|error| deepest(&error))).boxed_local(),
    }
}

fn headers_of(flat: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let fields: Vec<&str> = if flat.is_empty() { Vec::new() } else { flat.split('\0').collect() };
    for pair in fields.chunks_exact(2) {
        let value: Vec<u8> = pair[1].chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        let name = HeaderName::from_bytes(pair[0].as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(&value).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The reason at the bottom, which is the one that helps.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
