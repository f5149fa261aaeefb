"""ASGI applications, and async handlers of which several run at once: everything that lives in an event loop."""

import asyncio
import contextvars
import signal
from functools import partial
from urllib.parse import unquote

import alula_log
import alula_shim
from alula_frames import (
    ARENA, BODY_MAX, CANCEL, CREDIT, DATA, END, FAIL, FAIL_BAD_RESULT, FAIL_CANCELLED, INVOKE, MORE, PING, PONG, REST, REPLY,
    SHUTDOWN, WINDOW, frame, unpack,
)

running_call = contextvars.ContextVar("alula_call", default=0)


class Exchange:
    """One call: the request body as it comes, the response as it goes."""

    def __init__(self, server, call, is_whole, body):
        self.server, self.call = server, call
        self.pieces = [body] if body or is_whole else []
        self.is_whole = is_whole
        self.is_cancelled = False
        self.changed = asyncio.Event()
        self.window = WINDOW
        self.head = None
        self.is_sent = self.is_done = False
        self.is_received = False
        self.task = None

    def arrived(self, piece, is_last):
        self.pieces.append(piece)
        self.is_whole = self.is_whole or is_last
        self.changed.set()

    async def wait(self):
        self.changed.clear()
        await self.changed.wait()

    async def receive(self):
        while not self.pieces and not self.is_whole and not self.is_cancelled:
            await self.wait()
        if self.is_cancelled:
            return {"type": "http.disconnect"}
        if self.is_received:
            while not self.is_done and not self.is_cancelled:
                await self.wait()
            return {"type": "http.disconnect"}
        body = b"".join(self.pieces)
        self.pieces.clear()
        self.is_received = self.is_whole
        if not self.is_whole:
            self.server.link.send(frame(CREDIT, self.call, body=len(body).to_bytes(4, "little")))
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.start":
            if self.head is not None:
                raise RuntimeError("http.response.start was sent twice")
            meta = b"\0".join(bytes(text) for pair in message.get("headers", ()) for text in pair)
            self.head = (message["status"], meta)
        elif kind == "http.response.body":
            if self.head is None or self.is_done:
                raise RuntimeError("http.response.body was sent before the start or after the end")
            await self.send_body(bytes(message.get("body", b"")), message.get("more_body", False))
        else:
            raise RuntimeError(f"the message {kind!r} is not known here")

    async def send_body(self, body, more):
        status, meta = self.head
        link = self.server.link
        if not self.is_sent and not more and len(body) <= BODY_MAX:
            link.send(frame(REPLY, self.call, status, 0, meta, body))
        else:
            if not self.is_sent:
                link.send(frame(REPLY, self.call, status, MORE, meta))
            self.is_sent = True
            for at in range(0, len(body), BODY_MAX):
                piece = body[at : at + BODY_MAX]
                while self.window < len(piece):
                    await self.wait()
                self.window -= len(piece)
                link.send(frame(DATA, self.call, body=piece))
            if not more:
                link.send(frame(DATA, self.call, flags=END))
        self.is_sent = True
        if not more:
            self.is_done = True
            self.changed.set()


class Server:
    """Reads frames in an event loop and runs each call as a task."""

    def __init__(self, link, settings, target):
        self.link, self.settings, self.target = link, settings, target
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.exchanges = {}
        self.state = {}
        self.lifespan = None
        self.stopping = None
        link.current_call = running_call.get

    def serve(self, response):
        self.loop.add_reader(self.link.fd, self.readable)
        # The platform's signal is for code that keeps frames from being read; here CANCEL is read like any other.
        signal.signal(signal.SIGUSR1, lambda *_: None)
        request = "whole" if response == "whole" else "stream"
        alula_shim.ready(self.link, request, response)
        self.loop.run_forever()

    def readable(self):
        link = self.link
        link.fill()
        while link.buffer:
            size = unpack(link.buffer, link.at)[0] + 16 if len(link.buffer) - link.at >= 16 else None
            if size is None or len(link.buffer) - link.at < size:
                return
            self.dispatch(*link.receive())

    def dispatch(self, kind, flags, aux, call, meta, body):
        exchange = self.exchanges.get(call)
        if kind == INVOKE:
            if self.link.arena:
                self.link.arena.taken = aux
            if flags & ARENA:
                body = self.link.arena.body(body)
            exchange = Exchange(self, call, not flags & MORE, body)
            self.exchanges[call] = exchange
            context = contextvars.copy_context()
            context.run(running_call.set, call)
            exchange.task = context.run(self.loop.create_task, self.run(exchange, flags, meta))
        elif kind == DATA and exchange:
            exchange.arrived(body, flags & END)
        elif kind == CREDIT and exchange:
            exchange.window += int.from_bytes(body[:4], "little")
            exchange.changed.set()
        elif kind == CANCEL and exchange:
            exchange.is_cancelled = True
            exchange.changed.set()
            exchange.task.cancel()
        elif kind == PING:
            self.link.send(frame(PONG))
        elif kind == REST:
            alula_shim.rest(self.link)
        elif kind == SHUTDOWN and self.stopping is None:
            self.stopping = self.loop.create_task(self.shut_down())

    async def run(self, exchange, flags, meta):
        try:
            await self.answer(exchange, flags, meta)
        except asyncio.CancelledError:
            self.link.send(frame(FAIL, exchange.call, FAIL_CANCELLED, body=b"{}"))
        except BaseException as error:
            alula_log.report(self.link, exchange.call, error)
        finally:
            for file in alula_log.streams:
                file.flush()
            self.exchanges.pop(exchange.call, None)

    async def shut_down(self):
        if self.lifespan:
            await self.lifespan.stop()
        alula_shim.shut_down(self.link)


class IncompleteResponse(Exception):
    """What has been sent of the response is all there will be, so its caller sees a connection that breaks off."""

    fail_class = FAIL_BAD_RESULT


class Application(Server):
    """An ASGI application."""

    async def answer(self, exchange, flags, meta):
        await self.target(self.scope(meta), exchange.receive, exchange.send)
        if not exchange.is_done:
            due = "http.response.start" if exchange.head is None else "http.response.body without more_body"
            raise IncompleteResponse(f"the application returned before its response was complete: {due} is due")

    def scope(self, meta):
        method, target, remote, request_id, _, count, *rest = meta.split(b"\0")
        headers = rest[2 * int(count) :]
        path, _, query = target.partition(b"?")
        pairs = list(zip(headers[::2], headers[1::2]))
        by_name = dict(pairs)
        host, _, port = by_name.get(b"host", b"localhost").decode("latin-1").partition(":")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method.decode("latin-1"),
            "scheme": "https" if by_name.get(b"x-forwarded-proto") == b"https" else "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": pairs,
            "client": (remote.decode("latin-1"), 0) if remote else None,
            "server": (host, int(port) if port.isdigit() else 80),
            "state": self.state.copy(),
            "alula.request_id": request_id.decode("latin-1"),
        }


class Lifespan:
    """The conversation about start and end that an application may take part in."""

    def __init__(self, server):
        self.server = server
        self.questions, self.answers = asyncio.Queue(), asyncio.Queue()
        self.task = None

    async def start(self):
        """Whether the application takes part; raises where its start failed."""
        self.task = asyncio.ensure_future(self.run())
        self.questions.put_nowait({"type": "lifespan.startup"})
        message = await self.answers.get()
        if message["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"the application failed to start: {message.get('message', '')}")
        return message["type"] == "lifespan.startup.complete"

    async def run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.server.state}
        try:
            await self.server.target(scope, self.questions.get, self.answers.put)
        except Exception:
            pass  # An application that does not know lifespan raises; that is its way to say so.
        self.answers.put_nowait({"type": "ended"})

    async def stop(self):
        self.questions.put_nowait({"type": "lifespan.shutdown"})
        await self.answers.get()


class Handler(Server):
    """An async event handler of which several calls run at once."""

    async def answer(self, exchange, flags, meta):
        import alula_event

        event, context = alula_event.arguments(self.settings, flags, meta, await self.whole_body(exchange))
        value = await self.target(event, context)
        self.link.send(alula_event.answer(self.link, self.settings, exchange.call, flags, value))

    async def whole_body(self, exchange):
        while not exchange.is_whole:
            await exchange.wait()
        return b"".join(exchange.pieces)


def prepare(link, settings, target, kind):
    """Gives the function that makes an event loop in the process that will serve, and gives the one that does."""
    if kind == "event":
        import alula_event  # noqa: F401 while the shim's folder can be imported from

        return lambda: partial(Handler(link, settings, target).serve, "whole")

    def begin():
        server = Application(link, settings, target)
        lifespan = Lifespan(server)
        if server.loop.run_until_complete(lifespan.start()):
            server.lifespan = lifespan
        return partial(server.serve, "stream")

    return begin
