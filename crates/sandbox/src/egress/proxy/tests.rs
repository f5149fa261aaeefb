//! The proxy against servers on the loopback interface, which an exception in the policy allows.

use super::*;

async fn proxy(allow: &[&str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let policy = EgressPolicy { allow: allow.iter().map(|subnet| subnet.parse().unwrap()).collect() };
    tokio::spawn(serve(listener, Arc::new(policy)));
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
        ("2130706433", "loopback"),
        ("0x7f.1", "loopback"),
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
