"""Asks the egress proxy for inner addresses in every spelling; answers with those that it went to."""

import os
import socket
from urllib.parse import urlsplit

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

WITHIN_S = 5
METADATA = [
    "169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "2852039166", "0xa9fea9fe", "169.254.170.2",
    "metadata.google.internal",
]
LOOPBACK = [
    "127.0.0.1", "localhost", "127.1", "127.9.9.9", "0.0.0.0", "0", "2130706433", "0x7f000001", "017700000001", "[::1]",
    "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "LOCALHOST.", "localhost.localdomain",
]


def ask(text):
    """The status that the proxy answers with, 0 where it just closes."""
    proxy = urlsplit(os.environ["HTTP_PROXY"])
    with socket.create_connection((proxy.hostname, proxy.port), WITHIN_S) as connection:
        connection.sendall(text.encode())
        head = connection.recv(4096).split(b" ")
    return int(head[1]) if len(head) > 1 and head[1][:3].isdigit() else 0


def goes_to(host, port):
    """Whether the proxy connects, asked in both ways. A refusal is its own 4xx or 5xx."""
    ways = [
        f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n",
        f"GET http://{host}:{port}/livez HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n",
        f"GET http://{host}:{port}/livez HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
        f"GET http://example.org@{host}:{port}/livez HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    ]
    try:
        return any(200 <= ask(way) < 400 for way in ways)
    except OSError:
        return False


def handler(event, context):
    port, control_port, host = event["body"].split()
    targets = [(address, 80) for address in METADATA]
    targets += [(address, p) for address in [*LOOPBACK, host, f"[::ffff:{host}]"] for p in (port, control_port, 80, 443)]
    succeeded = [f"{address} {port}" for address, port in targets if goes_to(address, port)]
    # It does answer, so that no answer above is a broken proxy.
    works = ask("GET / HTTP/1.1\r\n\r\n") >= 400
    return {"succeeded": succeeded, "control": "the proxy answers" if works else "broken"}
