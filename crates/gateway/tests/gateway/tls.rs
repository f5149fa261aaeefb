//! TLS with a certificate made for the test; the protocol is chosen by ALPN.

use std::sync::Arc;

use alula_gateway::{Options, TlsOptions};
use http::{Method, StatusCode};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Gateway, Reply, echo, within};

struct Secure {
    gateway: Gateway,
    certificate: CertificateDer<'static>,
    _files: tempfile::TempDir,
}

async fn secure(options: Options) -> Secure {
    let pair = rcgen::generate_simple_self_signed(vec!["alula.test".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("certificate.pem"), files.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let options = Options { tls: Some(TlsOptions { certificate, key }), ..options };
    let gateway = Gateway::start(options, |invocation| async move {
        assert_eq!(invocation.headers["x-forwarded-proto"], "https");
        echo(invocation).await
    })
    .await;
    Secure { gateway, certificate: pair.cert.der().clone(), _files: files }
}

impl Secure {
    async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.gateway.address).await.unwrap();
        let name = ServerName::try_from("alula.test").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }
}

#[tokio::test]
async fn http2_is_preferred_and_http1_is_served() {
    let secure = secure(Options::default()).await;
    let stream = secure.connect(&["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = crate::http2::client(stream).await;
    let request = crate::http2::request(Method::GET, "https://alula.test/function/hello", "");
    assert_eq!(within(client.send_request(request)).await.unwrap().status(), StatusCode::OK);

    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = secure.connect(protocols).await;
        stream.write_all(crate::support::get_once("/function/hello").as_bytes()).await.unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        assert_eq!(Reply::parse(&text).body, "GET / ");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_or_is_none_ends_the_connection() {
    let secure = secure(Options { header_timeout_ms: 40, ..Options::default() }).await;
    let mut silent = secure.gateway.connect().await;
    assert_eq!(silent.remainder().await, "");
    let mut plain = secure.gateway.connect().await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!plain.remainder().await.contains("HTTP/1.1"));
    secure.gateway.stop().await;
}
