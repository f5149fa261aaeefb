//! Reaching for the network: the host, its neighbours, other cells, and other kinds of sockets.

use std::net::{IpAddr, SocketAddr};

use alula_model::Network;
use alula_runtime::{CellSpec, EGRESS_PROXY_PORT};
use alula_sandbox::Sandbox;
use tokio::net::TcpListener;

use crate::harness::{Outcome, tests};
use crate::room::{Room, spec};

tests![
    the_host_cannot_be_reached,
    another_cells_listener_cannot_be_reached,
    a_port_scan_finds_only_the_own_listener,
    other_kinds_of_sockets_are_refused,
    the_proxy_is_there_only_with_internet_and_refuses_inner_addresses,
];

/// Tries to connect and prints each address that answered.
fn connect_script(addresses: &[SocketAddr]) -> String {
    let list: Vec<_> = addresses.iter().map(|a| format!("('{}', {})", a.ip(), a.port())).collect();
    format!(
        "import socket\n\
         reached = []\n\
         for a in [{}]:\n\
         \x20s = socket.socket(socket.AF_INET6 if ':' in a[0] else socket.AF_INET)\n\
         \x20s.settimeout(2)\n\
         \x20try:\n\
         \x20\x20s.connect(a); reached.append(a)\n\
         \x20except OSError: pass\n\
         print(reached)",
        list.join(", ")
    )
}

/// The address that this machine uses towards others, if it has a network.
fn outer_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

async fn the_host_cannot_be_reached(sandbox: &Sandbox) -> Outcome {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The listener can be reached from outside a cell, so that failing to reach it inside says something.
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut addresses: Vec<SocketAddr> = vec![
        ([127, 0, 0, 1], port).into(),
        ([0, 0, 0, 0], port).into(),
        ([169, 254, 169, 254], 80).into(),
        ([1, 1, 1, 1], 53).into(),
        "[::1]:80".parse().unwrap(),
    ];
    match outer_address() {
        Some(own) => addresses.push((own, port).into()),
        None => println!("    this machine has no interface but loopback"),
    }
    for network in [Network::None, Network::Internet] {
        let room = Room::with(sandbox, with(network)).await;
        assert_eq!(room.python(&connect_script(&addresses)).await, "[]");
        let names = room.python("import socket; print([n for _, n in socket.if_nameindex()])").await;
        assert!(names.starts_with("['lo'"), "{names}");
        let routes = room.shell("cat /proc/net/route | tail -n +2").await;
        assert_eq!(routes.stdout, "", "no route leads out");
        room.end().await;
    }
    Outcome::Passed
}

async fn another_cells_listener_cannot_be_reached(sandbox: &Sandbox) -> Outcome {
    let one = Room::with(sandbox, CellSpec { listeners: vec![9001], ..spec() }).await;
    let other = Room::new(sandbox).await;
    let script = connect_script(&[([127, 0, 0, 1], 9001).into()]);
    assert_eq!(one.python(&script).await, "[('127.0.0.1', 9001)]");
    assert_eq!(other.python(&script).await, "[]");
    let abstract_socket = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0name'); s.listen(); print('up', flush=True); s.accept()";
    let (_server, [_, stdout, _]) =
        one.start(&["/usr/bin/python3", "-I", "-c", abstract_socket]).await.unwrap();
    tokio::task::spawn_blocking(move || {
        std::io::Read::read_exact(&mut std::fs::File::from(stdout), &mut [0]).unwrap()
    })
    .await
    .unwrap();
    let connect = "import socket\n\
        try: socket.socket(socket.AF_UNIX).connect('\\0name'); print('reached')\n\
        except OSError: print('refused')";
    assert_eq!(one.python(connect).await, "reached", "the cell's own programs do reach it");
    assert_eq!(other.python(connect).await, "refused");
    one.end().await;
    other.end().await;
    Outcome::Passed
}

async fn a_port_scan_finds_only_the_own_listener(sandbox: &Sandbox) -> Outcome {
    let room = Room::with(sandbox, CellSpec { listeners: vec![9001], ..spec() }).await;
    let script = "import socket\n\
        found = []\n\
        for p in range(1, 65536):\n\
        \x20s = socket.socket()\n\
        \x20if s.connect_ex(('127.0.0.1', p)) == 0 and s.getsockname() != s.getpeername(): found.append(p)\n\
        \x20s.close()\n\
        print(found)";
    assert_eq!(room.python(script).await, "[9001]");
    room.end().await;
    Outcome::Passed
}

async fn other_kinds_of_sockets_are_refused(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "import socket\n\
        made = []\n\
        for family, kind, protocol in ((40, 1, 0), (17, 3, 768), (2, 3, 1), (2, 3, 255), (38, 5, 0), (31, 3, 1), (16, 3, 9), (29, 3, 1), (44, 3, 0), (30, 5, 0), (21, 5, 0)):\n\
        \x20try: socket.socket(family, kind, protocol); made.append((family, kind, protocol))\n\
        \x20except OSError: pass\n\
        print(made)";
    assert_eq!(room.python(script).await, "[]");
    let usual = "import socket; [socket.socket(f, t) for f in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6) for t in (1, 2)]; socket.socket(16, 3, 0); print('fine')";
    assert_eq!(room.python(usual).await, "fine");
    room.end().await;
    Outcome::Passed
}

/// A cell with these rules.
fn with(network: Network) -> CellSpec {
    let namespace = Some(alula_model::Name::default_namespace());
    CellSpec { behalf: alula_runtime::Behalf { namespace, function: None, network: Some(network) }, ..spec() }
}

async fn the_proxy_is_there_only_with_internet_and_refuses_inner_addresses(sandbox: &Sandbox) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fetch = format!(
        "import urllib.request, urllib.error\n\
         o = urllib.request.build_opener(urllib.request.ProxyHandler({{'http': 'http://127.0.0.1:{EGRESS_PROXY_PORT}'}}))\n\
         for url in ('http://127.0.0.1:{port}/', 'http://169.254.169.254/latest/meta-data/', 'http://[::1]:{port}/'):\n\
         \x20try: print(o.open(url, timeout=5).status)\n\
         \x20except urllib.error.HTTPError as e: print(e.code, e.read().decode())\n\
         \x20except OSError as e: print('no proxy')"
    );
    let room = Room::with(sandbox, with(Network::Internet)).await;
    assert!(room.cell.take_listener(EGRESS_PROXY_PORT).is_none(), "the platform serves it itself");
    let answers = room.python(&fetch).await;
    let rules = ["\"rule\":\"loopback\"", "\"rule\":\"link_local_and_metadata\"", "\"rule\":\"loopback\""];
    for (line, rule) in answers.lines().zip(rules) {
        assert!(line.starts_with("403") && line.contains(rule), "{answers}");
    }
    room.end().await;
    let room = Room::new(sandbox).await;
    assert_eq!(room.python(&fetch).await, "no proxy\nno proxy\nno proxy");
    room.end().await;
    Outcome::Passed
}
