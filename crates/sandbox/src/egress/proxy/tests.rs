//! The proxy against servers on the loopback interface, which an exception in the policy allows.

use std::net::SocketAddr;
use std::sync::Arc;

use alula_model::{Name, Network, NetworkCeilings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::egress::{EgressLimits, EgressOptions, EgressPolicy, Unobserved};

/// A gate under which `ceiling` holds, and somebody in its namespace with `rules`.
fn gate(allow: &[&str], rules: &[&str], ceiling: &[&str]) -> (EgressGate, Behalf) {
    let network = |rules: &[&str]| Network::of(rules.iter().map(|rule| rule.parse().unwrap()).collect());
    let options = EgressOptions {
        policy: EgressPolicy { allow: allow.iter().map(|subnet| subnet.parse().unwrap()).collect() },
        ceilings: NetworkCeilings { usual: network(ceiling), ..NetworkCeilings::default() },
        extra_hosts: [(alula_model::HostName::new("db.internal").unwrap(), "127.0.0.1".parse().unwrap())]
            .into(),
        services: Network::None,
        limits: EgressLimits { namespace_connections_max: 2, ..EgressLimits::default() },
    };
    let behalf = Behalf {
        namespace: Some(Name::default_namespace()),
        network: Some(network(rules)),
        ..Behalf::default()
    };
    (EgressGate::new(options, Arc::new(Unobserved)), behalf)
}

async fn proxy(allow: &[&str]) -> SocketAddr {
    serving(gate(allow, &["internet"], &["internet"])).await
}

async fn serving((gate, by): (EgressGate, Behalf)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (gate, by) = (gate.clone(), by.clone());
            tokio::spawn(async move { serve(client, &gate, &by).await });
        }
    });
    address
}

/// Answers every connection with what it received up to the end of the head.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut got = vec![0; 4096];
            let count = client.read(&mut got).await.unwrap();
            client.write_all(b"echo:").await.unwrap();
            client.write_all(&got[..count]).await.unwrap();
        }
    });
    address
}

async fn exchange(proxy: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn inner_addresses_are_refused_with_the_rule() {
    let proxy = proxy(&[]).await;
    for (host, rule) in [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("169.254.169.254", "link_local_and_metadata"),
        ("10.0.0.1", "private"),
        ("0.0.0.0", "unspecified"),
        ("2130706433", "malformed_address"),
        ("0x7f.1", "malformed_address"),
    ] {
        for request in [
            format!("CONNECT {host}:80 HTTP/1.1\r\n\r\n"),
            format!("GET http://{host}/latest/meta-data HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            let answer = exchange(proxy, &request).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{request} {answer}");
            assert!(answer.contains(&format!("\"rule\":\"{rule}\"")), "{request} {answer}");
        }
    }
}

#[tokio::test]
async fn tunnels_and_plain_requests_reach_what_is_allowed() {
    let proxy = proxy(&["127.0.0.0/8"]).await;
    let server = echo_server().await;
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\nearly");
    let answer = exchange(proxy, &request).await;
    assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\necho:early");
    let request = format!("GET http://{server}/path HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let answer = exchange(proxy, &request).await;
    assert_eq!(answer, format!("echo:GET /path HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let proxy = proxy(&[]).await;
    let answer = exchange(proxy, &format!("GET http://{}", "x".repeat(head::HEAD_BYTES_MAX - 11))).await;
    assert!(answer.contains("header_bytes"), "{answer}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_bad_gateway() {
    let proxy = proxy(&["127.0.0.0/8"]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = exchange(proxy, &format!("CONNECT {closed} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn rules_and_the_ceiling_must_both_permit() {
    let server = echo_server().await;
    let (port, other) = (server.port(), server.port().wrapping_add(1).max(1024));
    let here = "127.0.0.1/32";
    for (allow, rules, ceiling, host, expected) in [
        (&[here][..], vec!["internet".to_owned()], vec!["internet".to_owned()], "127.0.0.1", "200"),
        (&[here], vec![format!("localhost:{port}")], vec!["internet".to_owned()], "localhost", "200"),
        (
            &[here],
            vec![format!("localhost:{other}")],
            vec!["internet".to_owned()],
            "localhost",
            "not_in_the_rules",
        ),
        (
            &[here],
            vec!["example.com".to_owned()],
            vec!["internet".to_owned()],
            "localhost",
            "not_in_the_rules",
        ),
        (&[here], vec![format!("127.0.0.1:{port}")], vec![format!("127.0.0.0/8:{port}")], "127.0.0.1", "200"),
        (&[here], vec!["internet".to_owned()], vec![], "127.0.0.1", "above_the_ceiling"),
        (
            &[here],
            vec!["internet".to_owned()],
            vec!["example.com".to_owned()],
            "localhost",
            "above_the_ceiling",
        ),
        (&[here], vec![], vec!["internet".to_owned()], "127.0.0.1", "not_in_the_rules"),
        // What nobody reaches no rule opens.
        (&[], vec!["127.0.0.0/8".to_owned()], vec!["0.0.0.0/0".to_owned()], "127.0.0.1", "loopback"),
        (&[], vec!["localhost".to_owned()], vec!["127.0.0.0/8".to_owned()], "localhost", "loopback"),
        (
            &[],
            vec!["169.254.0.0/16".to_owned()],
            vec!["0.0.0.0/0".to_owned()],
            "169.254.169.254",
            "link_local",
        ),
        (&[], vec!["0.0.0.0/0".to_owned()], vec!["0.0.0.0/0".to_owned()], "[64:ff9b::7f00:1]", "loopback"),
        // The operator's own name for it, where rules and ceiling name it too.
        (&[], vec!["db.internal".to_owned()], vec!["db.internal".to_owned()], "db.internal", "200"),
        (
            &[],
            vec!["db.internal".to_owned()],
            vec!["internet".to_owned()],
            "db.internal",
            "above_the_ceiling",
        ),
        (&[], vec!["internet".to_owned()], vec!["db.internal".to_owned()], "db.internal", "not_in_the_rules"),
    ] {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let ceiling: Vec<&str> = ceiling.iter().map(String::as_str).collect();
        let proxy = serving(gate(allow, &rules, &ceiling)).await;
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.contains(expected), "{rules:?} under {ceiling:?} to {host}: {answer}");
    }
}

#[tokio::test]
async fn a_lowered_ceiling_ends_what_is_open_at_once() {
    let server = echo_server().await;
    let (gate, by) = gate(&["127.0.0.1/32"], &["internet"], &["internet"]);
    let proxy = serving((gate.clone(), by)).await;
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("CONNECT {server} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    // Another ceiling that permits it too changes nothing.
    gate.set_ceilings(NetworkCeilings {
        usual: Network::of(vec!["127.0.0.1".parse().unwrap()]),
        ..NetworkCeilings::default()
    });
    stream.write_all(b"still").await.unwrap();
    let count = stream.read(&mut answer).await.unwrap();
    assert_eq!(&answer[..count], b"echo:still");
    gate.set_ceilings(NetworkCeilings::default());
    assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0, "it has ended");
    let refused = exchange(proxy, &format!("CONNECT {server} HTTP/1.1\r\n\r\n")).await;
    assert!(refused.contains("above_the_ceiling"), "{refused}");
}

#[tokio::test]
async fn a_namespace_has_no_more_connections_than_it_may_have() {
    let server = echo_server().await;
    let proxy = serving(gate(&["127.0.0.1/32"], &["internet"], &["internet"])).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(format!("CONNECT {server} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    let refused = exchange(proxy, &format!("CONNECT {server} HTTP/1.1\r\n\r\n")).await;
    assert!(
        refused.starts_with("HTTP/1.1 429") && refused.contains("namespace_connections_max"),
        "{refused}"
    );
}
