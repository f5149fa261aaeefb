//! Bodies of any size, both ways, with bounded memory; streams that never end; upgraded connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use crate::platform::{Platform, client, folder_function};

const GIGABYTE: u64 = 1 << 30;
/// What a stream of any length may add to the memory of the platform.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

fn peak_kib(platform: &Platform) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", platform.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn connect(platform: &Platform) -> TcpStream {
    TcpStream::connect(("127.0.0.1", platform.port)).unwrap()
}

/// Reads the head of a response.
fn head(reader: &mut impl std::io::BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection ended: {head}");
    }
    head
}

#[test]
fn a_gigabyte_in_and_a_gigabyte_out_within_16_megabytes() {
    let platform = Platform::start();
    let count = "name = 'count'\nruntime = 'exec'\ncommand = ['/usr/bin/wc', '-c']\ntimeout_ms = 300000\n";
    folder_function(&platform, "count", &[("alula.toml", count)]);
    let zeros = "name = 'zeros'\nruntime = 'exec'\ncommand = ['/usr/bin/head', '-c', '1073741824', '/dev/zero']\n\
                 timeout_ms = 300000\n";
    folder_function(&platform, "zeros", &[("alula.toml", zeros)]);
    assert!(upload(&platform, 1 << 20).contains("1048576"));
    let before = peak_kib(&platform);

    assert!(upload(&platform, GIGABYTE).contains(&GIGABYTE.to_string()));
    assert_eq!(download(&platform), GIGABYTE);

    let growth = peak_kib(&platform).saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "the platform grew by {growth} KiB");
}

fn upload(platform: &Platform, bytes: u64) -> String {
    let mut stream = connect(platform);
    write!(stream, "POST /function/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n")
        .unwrap();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..bytes / block.len() as u64 {
        stream.write_all(&block).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    answer
}

fn download(platform: &Platform) -> u64 {
    let client = client();
    let url = platform.url("/function/zeros");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut response = client.get(url).send().await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            bytes += chunk.len() as u64;
        }
        bytes
    })
}

const SERVER: &str = r#"
"""Streams events, and echoes over an upgraded connection."""
import os, socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        if b"upgrade: websocket" in head.lower():
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while data := self.request.recv(65536):
                self.wfile.write(data.upper())
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(1000000):
            event = b"data: %d\n\n" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            if number >= 2:
                # The client has to go first.
                while self.request.recv(65536):
                    pass
                print("client gone", flush=True)
                return

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn events_arrive_one_by_one_and_a_websocket_passes() {
    if !Path::new("/usr/bin/python3").exists() {
        println!("SKIPPED: python3 is not on this machine");
        return;
    }
    let platform = Platform::start();
    let spec = "name = 'live'\nruntime = 'http'\ncommand = ['python3', 'server.py']\nconcurrency = 4\n";
    folder_function(&platform, "live", &[("alula.toml", spec), ("server.py", SERVER)]);

    let mut stream = connect(&platform);
    write!(stream, "GET /function/live/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert!(head(&mut reader).contains("text/event-stream"));
    let mut seen = String::new();
    // The server sends three events and then waits for us to go: they can only be here if nothing gathers them.
    while !seen.contains("data: 2") {
        assert!(reader.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    drop((reader, stream));

    let mut stream = connect(&platform);
    write!(
        stream,
        "GET /function/live/socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert!(head(&mut reader).contains("101"));
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut echoed = [0; 3];
        reader.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed.as_slice(), word.to_uppercase().as_bytes());
    }
}
