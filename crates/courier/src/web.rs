//! One request to a web address, over a connection of its own.
//!
//! Redirects are not followed: the address was named by somebody, and where it leads was not.

use alula_invoke::later::{CourierError, Delivery};
use alula_runtime::{Egress, EgressError};
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::signature::SIGNATURE;
use crate::tls;

/// Sends `body` as a POST to the delivery's address.
pub(crate) async fn send(
    egress: &dyn Egress,
    delivery: &Delivery,
    signature: &str,
    body: Bytes,
) -> Result<(), CourierError> {
    let uri: Uri = delivery.url.parse().map_err(|_| refused("it is not an address"))?;
    let stream = connect(egress, &uri).await?;
    let request = request(&uri, delivery, signature, body)?;
    judge(exchange(stream, request).await?.status())
}

/// What lies at `url`, if it is no longer than `bytes_max`.
pub(crate) async fn fetch(egress: &dyn Egress, url: &str, bytes_max: u64) -> Result<Vec<u8>, CourierError> {
    let uri: Uri = url.parse().map_err(|_| refused("it is not an address"))?;
    let stream = connect(egress, &uri).await?;
    let request = head(&uri, Method::GET).body(Full::<Bytes>::default());
    let request = request.map_err(|_| refused("its host or path cannot be sent"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answering = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        judge(answer.status())?;
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let content = Limited::new(answer.into_body(), limit).collect().await;
        let content =
            content.map_err(|error| CourierError::Passing(format!("its content cannot be read: {error}")))?;
        Ok(content.to_bytes().to_vec())
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        biased;
        content = &mut answering => content,
        ended = connection => {
            ended.map_err(broken)?;
            answering.await
        }
    }
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, CourierError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut answering = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answering => answer,
        ended = connection => {
            ended.map_err(broken)?;
            // What arrived before the end may still be the answer.
            answering.await
        }
    };
    answer.map_err(broken)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(egress: &dyn Egress, uri: &Uri) -> Result<Box<dyn Stream>, CourierError> {
    let is_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(refused("only http and https addresses can be sent to")),
    };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = egress.connect(&host, port).await.map_err(|error| match error {
        EgressError::Refused(rule) => {
            refused(&format!("the rule {rule} of the network policy forbids {host}"))
        }
        EgressError::Limit { .. } => CourierError::Passing(error.to_string()),
        EgressError::Unreachable(error) => {
            CourierError::Passing(format!("{host} cannot be reached: {error}"))
        }
    })?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let connector = tls::connector().ok_or_else(|| refused("this machine has no root certificates"))?;
    let name = ServerName::try_from(host.clone()).map_err(|_| refused("its host is not a name"))?;
    let stream = connector.connect(name, stream).await;
    let failed = |error| CourierError::Passing(format!("TLS with {host} failed: {error}"));
    Ok(Box::new(stream.map_err(failed)?))
}

fn request(
    uri: &Uri,
    delivery: &Delivery,
    signature: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, CourierError> {
    let mut request = head(uri, Method::POST)
        .body(Full::new(body))
        .map_err(|_| refused("its host or path cannot be sent"))?;
    let signature = (SIGNATURE.to_owned(), signature.to_owned());
    for (name, value) in delivery.headers.iter().chain([&signature]) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            request.headers_mut().insert(name, value);
        }
    }
    Ok(request)
}

/// The head of a request to `uri`.
fn head(uri: &Uri, method: Method) -> http::request::Builder {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| {
        let text = authority.as_str();
        text.rsplit('@').next().unwrap_or(text)
    });
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("alula/", env!("CARGO_PKG_VERSION")))
}

/// What the receiver's status says about sending it again.
fn judge(status: StatusCode) -> Result<(), CourierError> {
    let said = format!("the receiver answered {status}");
    match status.as_u16() {
        200..300 => Ok(()),
        408 | 425 | 429 | 500.. => Err(CourierError::Passing(said)),
        _ => Err(CourierError::Final(said)),
    }
}

fn refused(why: &str) -> CourierError {
    CourierError::Final(why.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it is the last that is known of the error")]
fn broken(error: hyper::Error) -> CourierError {
    CourierError::Passing(format!("the connection broke: {error}"))
}

#[cfg(test)]
mod tests {
    use alula_invoke::later::DeliveryKind;
    use alula_model::InvocationId;
    use alula_runtime::{BoxFuture, Connection};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Leads every connection to one server, but for a host that is forbidden.
    #[derive(Debug)]
    struct OneServer(std::net::SocketAddr);

    impl Egress for OneServer {
        fn connect<'a>(
            &'a self,
            host: &'a str,
            _port: u16,
        ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
            let (is_forbidden, address) = (host == "10.0.0.1", self.0);
            Box::pin(async move {
                match is_forbidden {
                    true => Err(EgressError::Refused("private")),
                    false => match TcpStream::connect(address).await {
                        Ok(stream) => Ok(Box::new(stream) as Box<dyn Connection>),
                        Err(error) => Err(EgressError::Unreachable(error)),
                    },
                }
            })
        }

        fn resolve<'a>(
            &'a self,
            _host: &'a str,
            _port: u16,
        ) -> BoxFuture<'a, Result<Vec<std::net::SocketAddr>, EgressError>> {
            Box::pin(std::future::ready(Ok(vec![self.0])))
        }
    }

    fn delivery(url: &str) -> Delivery {
        let headers = vec![
            ("content-type".to_owned(), "text/plain".to_owned()),
            ("bad name".to_owned(), "x".to_owned()),
        ];
        let about = InvocationId::new("call-1").unwrap();
        Delivery { kind: DeliveryKind::Callback, url: url.to_owned(), headers, about }
    }

    /// Sends to `url` while the server answers `answer`; gives what came of it and what the server read.
    async fn sent(url: &str, answer: &'static str) -> (Result<(), CourierError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let egress = OneServer(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 4096];
            let length = stream.read(&mut read).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&read[..length]).into_owned()
        });
        let result = send(&egress, &delivery(url), "t=1,v1=2", Bytes::from_static(b"body")).await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_delivery_is_one_request() {
        let (result, read) =
            sent("http://user:secret@a.test:81/done?x=1", "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(read.starts_with("POST /done?x=1 HTTP/1.1\r\n"), "{read}");
        assert!(read.contains("host: a.test:81\r\n"), "{read}");
        assert!(!read.contains("secret"), "{read}");
        assert!(read.contains("x-alula-signature: t=1,v1=2\r\n"), "{read}");
        assert!(read.contains("content-type: text/plain\r\n") && read.ends_with("body"), "{read}");
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_is_final() {
        let passing = |result| matches!(result, Err(CourierError::Passing(_)));
        assert!(passing(sent("http://a.test/", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await.0));
        assert!(passing(sent("http://a.test/", "").await.0));
        let gone = sent("http://a.test/", "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await.0;
        assert_eq!(gone, Err(CourierError::Final("the receiver answered 410 Gone".to_owned())));
        let moved = sent(
            "http://a.test/",
            "HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n",
        )
        .await
        .0;
        assert!(matches!(moved, Err(CourierError::Final(_))), "redirects are not followed");
    }

    #[tokio::test]
    async fn what_functions_may_not_reach_is_not_reached() {
        let egress = OneServer("127.0.0.1:1".parse().unwrap());
        for url in ["http://10.0.0.1/", "ftp://a.test/", "not an address", "http://"] {
            let result = send(&egress, &delivery(url), "", Bytes::new()).await;
            assert!(matches!(result, Err(CourierError::Final(_))), "{url}: {result:?}");
        }
    }
}
