"""Connects to whatever it can name and scans ports; answers with what could be reached."""

import os
import socket

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

# Metadata of clouds, name servers, and the networks that machines usually are in.
OUTSIDE = [
    ("169.254.169.254", 80), ("169.254.170.2", 80), ("100.100.100.200", 80), ("fd00:ec2::254", 80), ("1.1.1.1", 53),
    ("8.8.8.8", 443), ("10.0.0.1", 80), ("172.17.0.1", 80), ("192.168.0.1", 80), ("2606:4700::1111", 53),
]
WITHIN_S = 0.5
NEIGHBOUR_PORT = 8080


def reaches(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as connection:
            connection.settimeout(WITHIN_S)
            connection.connect((host, port))
            # A port of the range that callers get may be given to this very socket, which then meets itself.
            return connection.getsockname() != connection.getpeername()
    except OSError:
        return False


def scan():
    """Ports of the loopback interface that answer."""
    return [port for port in range(1, 65536) if reaches("127.0.0.1", port)]


def odd_sockets():
    """Sockets that see more than their own connections."""
    kinds = [
        ("raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), ("packet", socket.AF_PACKET, socket.SOCK_RAW, 0),
        ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0), ("alg", socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
    ]
    for name, *kind in kinds:
        try:
            socket.socket(*kind).close()
            yield name
        except OSError:
            pass


def unix_names():
    """Sockets that other processes have bound."""
    with open("/proc/net/unix") as file:
        return [line.split()[-1] for line in file.readlines()[1:] if "/" in line or "@" in line]


def handler(event, context):
    port, control_port, host = event["body"].split()
    own = [(address, int(p)) for address in ("127.0.0.1", "::1", "0.0.0.0", host) for p in (port, control_port)]
    targets = OUTSIDE + own + [("127.0.0.1", NEIGHBOUR_PORT), (host, NEIGHBOUR_PORT), (host, 22)]
    succeeded = [f"connected to {host} {port}" for host, port in targets if reaches(host, port)]
    succeeded += [f"port {port} answers" for port in scan()]
    succeeded += [f"a {kind} socket" for kind in odd_sockets()] + unix_names()
    with socket.create_server(("127.0.0.1", 0)) as server:
        works = reaches("127.0.0.1", server.getsockname()[1])
    return {"succeeded": succeeded, "control": "the own server was reached" if works else "broken"}
