//! Carrying out proxy requests: connect by the gate, copy.

use std::io;
use std::time::Duration;

use alula_runtime::{Behalf, EgressError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gate::EgressGate;
use super::head::{self, Kind};
use super::relay::copy_both;

/// Time for the head of a request; a client that is slower is not there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Serves one connection of a program in a cell.
pub(super) async fn serve(mut client: TcpStream, gate: &EgressGate, by: &Behalf) -> io::Result<()> {
    let (head, rest) = match timeout(HEAD_TIMEOUT, head::read(&mut client)).await? {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(&mut client, "unknown", &EgressError::Refused("header_bytes")).await;
        }
        Err(error) => return Err(error),
    };
    let target = match head::parse(&head) {
        Ok(target) => target,
        Err(rule) => return refuse(&mut client, "unknown", &EgressError::Refused(rule)).await,
    };
    match gate.reach(by, &target.host, target.port).await {
        Ok(mut server) => {
            if target.kind == Kind::Tunnel {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            }
            server.write_all(&target.first_bytes).await?;
            server.write_all(&rest).await?;
            copy_both(&mut client, &mut server).await
        }
        Err(refusal) => refuse(&mut client, &target.host, &refusal).await,
    }
}

/// Answers with the reason as JSON and closes.
async fn refuse(client: &mut TcpStream, host: &str, refusal: &EgressError) -> io::Result<()> {
    let (status, body) = match refusal {
        EgressError::Refused(rule) => {
            let message = format!("functions may not reach `{host}`: rule `{rule}`");
            (
                "403 Forbidden",
                serde_json::json!({"error": "egress_refused", "rule": rule, "message": message}),
            )
        }
        EgressError::Limit { name, limit, setting } => {
            let message = format!("{limit} connections are open already; {setting} changes that");
            let body = serde_json::json!({"error": "egress_limited", "limit": name, "message": message});
            ("429 Too Many Requests", body)
        }
        EgressError::Unreachable(error) => {
            let message = format!("`{host}` cannot be reached: {error}");
            ("502 Bad Gateway", serde_json::json!({"error": "egress_unreachable", "message": message}))
        }
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests;
