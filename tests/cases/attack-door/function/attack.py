"""Asks the platform, where functions are called from inside, for what it must not give; answers with what it got."""

import json
import os
import socket

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

DOOR = ("127.0.0.1", 3129)
WITHIN_S = 2
CONNECTIONS = 400
OWN = "attack-door.default>witness.default"


def witness(event, context):
    """Who called, as it is told."""
    return {"chain": context.lineage.split(":")[1], "namespace": os.environ["ALULA_NAMESPACE"], "path": event["rawPath"]}


def say(text, place=DOOR):
    """All that is answered to some bytes."""
    with socket.create_connection(place, WITHIN_S) as connection:
        answer = b""
        try:
            connection.sendall(text if isinstance(text, bytes) else text.encode())
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            # It may be cut off, or left open.
            pass
    return answer.decode(errors="replace")


def get(path, *headers, method="GET", host="127.0.0.1:3129", body=""):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return say("\r\n".join(lines) + "\r\n\r\n" + body)


def is_given(answer):
    """Whether something was done: a 2xx, but for the health of the gateway."""
    return " 2" in answer.split("\r\n")[0]


def places(port, control_port, host):
    """What is not to be reached by the platform's own address."""
    for path in [
        "/v1/functions", "/v1/namespaces", "/metrics", "/openapi.json", "/", "/witness", "/webhook/default/witness/x",
        "/function/witness.others", "/async-function/witness.others", "/topic/x.others", "/function/..%2fv1%2ffunctions",
        "/function/%2e%2e/v1/functions", "/functions/witness", "//v1/functions", "/function/witness%2eothers",
    ]:
        yield path, get(path)
        yield f"POST {path}", get(path, method="POST", body="{}")
    for target in [f"127.0.0.1:{control_port}", f"127.0.0.1:{port}", f"{host}:{port}", "169.254.169.254:80", "127.0.0.1:3129"]:
        yield f"CONNECT {target}", get(target, method="CONNECT", host=target)
        yield f"http://{target}/", get(f"http://{target}/v1/functions", host=target)
        yield f"http://{target}/function", get(f"http://{target}/function/witness", host=target)
    yield "a host with routes", get("/witness", host=f"127.0.0.1:{port}")
    yield "preface of HTTP/2", say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0" * 64)


def chains():
    """The chain that the witness is told, whatever is claimed."""
    forged = [
        "X-Alula-Lineage: 1::", "X-Alula-Lineage: 1:a.default:AAAAAAAAAAAAAAAAAAAAAA", "X-Alula-Lineage: ",
        "X-Alula-Instance: i-1", "X-Alula-Instance: ", "X-Alula-Namespace: others", "x-alula-parent: call-1",
        "X-Forwarded-For: 10.0.0.1", "Connection: close, X-Alula-Lineage", "traceparent: 00-11111111111111111111111111111111-2222222222222222-01",
    ]
    for header in forged:
        yield header, get("/function/witness", header)
    yield "twice", get("/function/witness", forged[0], forged[1])


def smuggled():
    """Requests of which one part might be read as another request."""
    inner = "GET /function/witness/inner HTTP/1.1\r\nHost: x\r\n\r\n"
    head = "POST /function/witness/outer HTTP/1.1\r\nHost: x\r\n"
    yield "two lengths", say(f"{head}Content-Length: 0\r\nContent-Length: {len(inner)}\r\n\r\n{inner}")
    yield "lengths in one", say(f"{head}Content-Length: 0, {len(inner)}\r\n\r\n{inner}")
    yield "a signed length", say(f"{head}Content-Length: +{len(inner)}\r\n\r\n{inner}")
    chunks = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
    yield "length and chunks", say(f"{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}")
    yield "odd chunks", say(f"{head}Transfer-Encoding: chunked, identity\r\nConnection: close\r\n\r\n{chunks}")
    yield "a space before the colon", say(f"{head}Content-Length : {len(inner)}\r\n\r\n{inner}")
    yield "a folded header", say(f"{head}X: a\r\n b\r\nContent-Length: {len(inner)}\r\nConnection: close\r\n\r\n{inner}")
    yield "a bare line feed", say(f"{head}X: a\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
    yield "two hosts", say(f"GET /function/witness HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    yield "no end", say("GET /function/witness HTTP/1.1\r\nHost: x\r\nX: " + "a" * 200_000)
    yield "many headers", say("GET /function/witness HTTP/1.1\r\nHost: x\r\n" + "X: a\r\n" * 10_000 + "\r\n")
    yield "nonsense", say(os.urandom(4096))


def crowd():
    """Opens far more connections than it may; none is used, and the next call must be answered all the same."""
    held = []
    for _ in range(CONNECTIONS):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(DOOR)
        held.append(connection)
    for connection in held:
        connection.close()


def handler(event, context):
    succeeded = [name for name, answer in places(*event["body"].split()) if is_given(answer)]
    succeeded += [name for name, answer in chains() if f'"chain":"{OWN}"' not in answer or '"namespace":"default"' not in answer]
    for name, answer in smuggled():
        if "/inner" in answer or answer.count("HTTP/1.1 200") > 1:
            succeeded.append(name)
    crowd()
    works = json.loads(get("/function/witness").split("\r\n\r\n", 1)[1])["chain"] == OWN
    return {"succeeded": succeeded, "control": "the witness answers" if works else "broken"}
