//! Reading the head of a proxy request: `CONNECT host:port`, or a request with an absolute `http://` address,
//! which is rewritten to the form that a server expects. Only what a proxy must understand is understood.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head of a request: what servers usually take.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where a request goes and what is sent there first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Empty for a tunnel.
    pub(super) first_bytes: Vec<u8>,
    pub(super) kind: Kind,
}

/// How a request is carried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `CONNECT`: bytes both ways after our 200.
    Tunnel,
    /// One plain request and its answer.
    Plain,
}

/// Reads up to the empty line; the second part is what followed it. `None` when the client went away
/// silently.
pub(super) async fn read(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let searched = bytes.len().saturating_sub(3);
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        let unseen = bytes.get(searched..).unwrap_or_default();
        if let Some(end) = unseen.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(searched + end + 4);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "header_bytes"));
        }
    }
}

/// Understands a head; the error is the rule that it breaks.
pub(super) fn parse(head: &[u8]) -> Result<Target, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "malformed_request")?;
    let (line, headers) = text.split_once("\r\n").ok_or("malformed_request")?;
    let mut parts = line.split(' ');
    let (Some(method), Some(address), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("malformed_request");
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() {
        return Err("malformed_request");
    }
    if method == "CONNECT" {
        let (host, port) = authority(address, None)?;
        return Ok(Target { host, port, first_bytes: Vec::new(), kind: Kind::Tunnel });
    }
    let rest = address.strip_prefix("http://").ok_or("absolute_http_address_needed")?;
    let (place, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = authority(place, Some(80))?;
    let slash = if path.starts_with('?') { "/" } else { "" };
    let mut first = format!("{method} {slash}{path} {version}\r\n");
    let mut lines = headers.split("\r\n").take_while(|header| !header.is_empty());
    // One request on one connection: what came next would otherwise pass unread to a server of the client's
    // choice.
    lines.by_ref().filter(|header| !is_for_proxy(header)).for_each(|header| {
        first.push_str(header);
        first.push_str("\r\n");
    });
    first.push_str("Connection: close\r\n\r\n");
    Ok(Target { host, port, first_bytes: first.into_bytes(), kind: Kind::Plain })
}

/// Headers between the client and this proxy.
fn is_for_proxy(header: &str) -> bool {
    let name = header.split(':').next().unwrap_or("").trim();
    ["connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

/// `host:port`, with `[v6]:port`.
fn authority(text: &str, default_port: Option<u16>) -> Result<(String, u16), &'static str> {
    if text.contains('@') {
        return Err("malformed_address");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("malformed_address")?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok(),
        None => default_port,
    };
    match port {
        Some(port) if !host.is_empty() && port != 0 => Ok((host.to_owned(), port)),
        _ => Err("malformed_address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Result<(String, u16, String), &'static str> {
        parse(head.as_bytes()).map(|t| (t.host, t.port, String::from_utf8(t.first_bytes).unwrap()))
    }

    #[test]
    fn a_tunnel_names_host_and_port() {
        let ok = |host: &str, port| Ok((host.to_owned(), port, String::new()));
        assert_eq!(parsed("CONNECT example.com:443 HTTP/1.1\r\n\r\n"), ok("example.com", 443));
        assert_eq!(parsed("CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n"), ok("::1", 443));
        for bad in ["example.com", "example.com:0", "example.com:99999", ":443", "a@b:443", "[::1:443"] {
            assert!(parsed(&format!("CONNECT {bad} HTTP/1.1\r\n\r\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plain_request_is_rewritten_for_its_server() {
        let head = "GET http://example.com/a?b=c HTTP/1.1\r\nHost: example.com\r\nProxy-Connection: keep-alive\r\n\
                    Proxy-Authorization: secret\r\nAccept: */*\r\n\r\n";
        let (host, port, first) = parsed(head).unwrap();
        assert_eq!((host.as_str(), port), ("example.com", 80));
        assert_eq!(
            first,
            "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        assert!(parsed("GET http://h:8080?q HTTP/1.1\r\n\r\n").unwrap().2.starts_with("GET /?q HTTP/1.1"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET ftp://x/ HTTP/1.1\r\n\r\n",
            "GET http:// HTTP/1.1\r\n\r\n",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        assert!(parse(b"\xff\xfe\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_head_is_read_in_pieces_and_has_an_end() {
        let mut pieces = tokio_test_pieces(&[b"GET x\r", b"\n\r", b"\nbody"]);
        let (head, rest) = read(&mut pieces).await.unwrap().unwrap();
        assert_eq!((head.as_slice(), rest.as_slice()), (b"GET x\r\n\r\n".as_slice(), b"body".as_slice()));
        let long = vec![b'x'; HEAD_BYTES_MAX + 1];
        assert!(read(&mut long.as_slice()).await.is_err());
        assert!(read(&mut b"GET".as_slice()).await.unwrap().is_none());
    }

    fn tokio_test_pieces(pieces: &[&'static [u8]]) -> impl AsyncRead + Unpin + use<> {
        let [a, b, c] = pieces else { panic!("three pieces") };
        a.chain(*b).chain(*c)
    }
}
