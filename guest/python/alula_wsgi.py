"""WSGI applications (PEP 3333): the request whole, the response streamed as the application yields it."""

import sys
from io import BytesIO
from urllib.parse import unquote_to_bytes

from alula_frames import BODY_MAX, CANCEL, CREDIT, DATA, END, MORE, REPLY, WINDOW, frame
from alula_log import Cancelled


class Response:
    """What the application said with start_response, and how much may be sent."""

    def __init__(self, link, call):
        self.link, self.call = link, call
        self.status, self.meta = 0, b""
        self.is_sent = False
        self.window = WINDOW

    def start(self, status, headers, exc_info=None):
        if exc_info and self.is_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status and not exc_info:
            raise AssertionError("start_response was called twice")
        self.status = int(status.split(" ", 1)[0])
        self.meta = "\0".join(text for pair in headers for text in pair).encode("latin-1")
        return self.write

    def write(self, data):
        """Sends a piece of the body, after the head where that is still due."""
        if not self.status:
            raise AssertionError("the application answered before it called start_response")
        if not self.is_sent:
            self.is_sent = True
            self.link.send(frame(REPLY, self.call, self.status, MORE, self.meta))
        for at in range(0, len(data), BODY_MAX):
            piece = data[at : at + BODY_MAX]
            while self.window < len(piece):
                self.wait_for_credit()
            self.window -= len(piece)
            self.link.send(frame(DATA, self.call, body=piece))

    def wait_for_credit(self):
        link = self.link
        cancellable, link.cancellable = link.cancellable, 0
        kind, flags, aux, call, meta, body = link.receive()
        if call == self.call and kind == CREDIT:
            self.window += int.from_bytes(body[:4], "little")
        elif call == self.call and kind == CANCEL:
            raise Cancelled("the call was cancelled")
        else:
            link.set_aside.append((kind, flags, aux, call, meta, body))
        link.cancellable = cancellable


def environ(meta, body, errors):
    fields = meta.decode("latin-1").split("\0")
    method, target, remote = fields[:3]
    headers = fields[6 + 2 * int(fields[5]) :]
    path, _, query = target.partition("?")
    values = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "RAW_URI": target,
        "QUERY_STRING": query,
        "REMOTE_ADDR": remote,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "alula.request_id": fields[3],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": errors,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in zip(headers[::2], headers[1::2]):
        key = name.upper().replace("-", "_")
        if key == "CONTENT_LENGTH":
            continue
        if key != "CONTENT_TYPE":
            key = f"HTTP_{key}"
        values[key] = f"{values[key]},{value}" if key in values else value
    host, _, port = values.get("HTTP_HOST", "localhost").partition(":")
    values["SERVER_NAME"], values["SERVER_PORT"] = host, port or "80"
    if values.get("HTTP_X_FORWARDED_PROTO") == "https":
        values["wsgi.url_scheme"] = "https"
    return values


def runner(link, app):
    """The function that runs one call and gives the last frames of its answer."""

    def run(call, flags, meta, body):
        response = Response(link, call)
        pieces = app(environ(meta, body, sys.stderr), response.start)
        try:
            if isinstance(pieces, (list, tuple)) and not response.is_sent:
                whole = b"".join(pieces)
                if len(whole) <= BODY_MAX and response.status:
                    return frame(REPLY, call, response.status, 0, response.meta, whole)
                pieces = (whole,)
            for piece in pieces:
                if piece:
                    response.write(piece)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        if not response.is_sent:
            response.write(b"")
        return frame(DATA, call, flags=END)

    return run
