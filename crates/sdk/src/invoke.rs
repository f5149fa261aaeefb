//! Calling functions: through the control API, or on the public address as everybody does.
//!
//! Both stream both ways and hand on what the function answered, whatever its status. An error is returned only
//! where no function answered.

use alula_wire::headers;
use alula_wire::query::{Invoke, LogMode};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Body, RequestBuilder, Response, Url};

use crate::client::chunks;
use crate::{Client, ClientError, Result};

/// A call through the control API.
#[derive(Debug)]
pub struct Invocation {
    /// The function.
    pub name: String,
    /// A version's number, an alias or `latest`.
    pub qualifier: Option<String>,
    /// The event, or any bytes.
    pub body: Body,
    /// Its media type, where it is known.
    pub content_type: Option<String>,
    /// Whether the call's last log lines come with the answer.
    pub log: LogMode,
}

/// A call on the public address.
#[derive(Debug)]
pub struct PublicCall {
    /// The function's address with path and query.
    pub url: String,
    /// The method.
    pub method: Method,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body.
    pub body: Option<Body>,
}

/// Whether somebody waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    Later,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub(crate) response: Response,
}

impl Client {
    /// Calls a function through the control API.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Answer> {
        let request = self.invocation(invocation, When::Now);
        self.answer(self.send_unchecked(request).await?).await
    }

    pub(crate) fn invocation(&self, invocation: Invocation, when: When) -> RequestBuilder {
        let query = Invoke {
            namespace: Some(self.namespace().to_owned()),
            qualifier: invocation.qualifier,
            log: (invocation.log == LogMode::Tail).then_some(LogMode::Tail),
            asynchronous: (when == When::Later).then_some(true),
        };
        let path = ["v1", "functions", &invocation.name, "invocations"];
        let request = self.request(Method::POST, &path).query(&query).body(invocation.body);
        match invocation.content_type {
            Some(content_type) => request.header(header::CONTENT_TYPE, content_type),
            None => request,
        }
    }

    /// Calls a function on its public address; the client's token is not sent there.
    pub async fn call(&self, call: PublicCall) -> Result<Answer> {
        let url = Url::parse(&call.url).map_err(|_| ClientError::BadUrl { url: call.url })?;
        let mut request = self.public_request(call.method, url)?;
        *request.headers_mut() = call.headers;
        *request.body_mut() = call.body;
        self.answer(self.execute(request).await?).await
    }

    /// An error of the platform becomes an error; everything else is the function's own answer.
    async fn answer(&self, response: Response) -> Result<Answer> {
        if response.headers().contains_key(headers::ERROR) {
            Err(self.refusal(response).await)
        } else {
            Ok(Answer { response })
        }
    }
}

impl Answer {
    /// The function's HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The invocation's id.
    #[must_use]
    pub fn invocation_id(&self) -> Option<&str> {
        self.header(headers::INVOCATION_ID)
    }

    /// The number of the version that answered.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.header(headers::VERSION)
    }

    /// Where the time went, in the form of the header `Server-Timing`.
    #[must_use]
    pub fn server_timing(&self) -> Option<&str> {
        self.header(headers::SERVER_TIMING)
    }

    /// The status that the function answered with, beside the result of a call that nobody waited for.
    #[must_use]
    pub fn function_status(&self) -> Option<&str> {
        self.header(headers::FUNCTION_STATUS)
    }

    /// The call's last log lines in base64, where they were asked for.
    #[must_use]
    pub fn log_result(&self) -> Option<&str> {
        self.header(headers::LOG_RESULT)
    }

    /// The body, piece by piece.
    pub fn chunks(self) -> impl Stream<Item = Result<Bytes>> + Send {
        chunks(self.response)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}
