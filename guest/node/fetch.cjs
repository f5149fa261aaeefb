"use strict";
// Fetch applications: web-standard Request in, Response out, both bodies streamed.

const { frame, EMPTY, BODY_MAX } = require("./shim.cjs");

const DATA = 3, CREDIT = 4, REPLY = 0x82;
const MORE = 1, END = 2;
const WINDOW = 262144; // bytes of a streamed body that may be sent before the platform grants more

// The request body, as it comes.
class Incoming {
  constructor(link, call, first) {
    this.stream = new ReadableStream({
      type: "bytes",
      start: (controller) => { this.controller = controller; },
      pull: () => this.grant(),
    }, { highWaterMark: 0 });
    this.link = link;
    this.call = call;
    this.owed = 0;
    this.isOpen = true;
    if (first.length) this.controller.enqueue(new Uint8Array(first));
  }

  // The application has taken what was there: the platform may send as much again.
  grant() {
    if (!this.owed || !this.isOpen) return;
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(this.owed);
    this.owed = 0;
    this.link.send(frame(CREDIT, this.call, 0, 0, null, bytes));
  }

  data(body, isLast) {
    if (!this.isOpen) return;
    try {
      this.owed += body.length;
      if (body.length) this.controller.enqueue(new Uint8Array(body));
      if (isLast) this.close();
    } catch {
      this.isOpen = false; // The application cancelled the stream.
    }
  }

  close() {
    this.isOpen = false;
    this.controller.close();
    this.controller.byobRequest?.respond(0);
  }

  fail(error) {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.controller.error(error);
  }
}

// What may be sent of the response body.
class Window {
  size = WINDOW;
  #wake = null;

  grant(bytes) {
    this.size += bytes;
    this.#wake?.();
  }

  async take(bytes) {
    while (this.size < bytes) await new Promise((resolve) => { this.#wake = resolve; });
    this.size -= bytes;
  }
}

const afterThisTick = () => new Promise((resolve) => setImmediate(resolve, "later"));

function responseMeta(response) {
  const fields = [];
  for (const [name, value] of response.headers) fields.push(name, value);
  return fields.join("\0");
}

class Responder {
  constructor(shim, call, signal) {
    this.shim = shim;
    this.call = call;
    this.signal = signal;
    this.window = new Window();
  }

  async send(response) {
    if (!(response instanceof Response)) throw new TypeError("fetch did not return a Response");
    const meta = responseMeta(response);
    if (!response.body) return this.shim.ended(this.call, frame(REPLY, this.call, response.status, 0, meta, EMPTY));
    const reader = response.body.getReader();
    const first = await reader.read();
    let next = first.done ? first : reader.read();
    // A body that is there as a whole ends at once; waiting longer would hold back the first piece of a stream.
    const ended = first.done || (await Promise.race([next, afterThisTick()])).done;
    const size = first.value?.length ?? 0;
    if (ended && size <= BODY_MAX) {
      const body = size ? Buffer.from(first.value.buffer, first.value.byteOffset, size) : EMPTY;
      return this.shim.ended(this.call, frame(REPLY, this.call, response.status, 0, meta, body));
    }
    this.shim.link.send(frame(REPLY, this.call, response.status, MORE, meta, EMPTY));
    this.signal.addEventListener("abort", () => reader.cancel(this.signal.reason).catch(() => {}));
    for (let piece = first; !piece.done; piece = await next) {
      if (piece !== first) next = reader.read();
      await this.write(piece.value);
    }
    this.shim.ended(this.call, frame(DATA, this.call, 0, END, null, EMPTY));
  }

  async write(value) {
    const bytes = typeof value === "string" ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    for (let at = 0; at < bytes.length; at += BODY_MAX) {
      const piece = bytes.subarray(at, at + BODY_MAX);
      await this.window.take(piece.length);
      this.shim.link.send(frame(DATA, this.call, 0, 0, null, piece));
    }
  }
}

// Node loads what is behind these names at their first use: let that be part of the start, not of a call.
function warmUp() {
  new Request("http://localhost/", { method: "POST", body: new ReadableStream(), duplex: "half" });
  new Response("").body.getReader();
}

module.exports = (shim, application) => {
  warmUp();

  function makeRequest(fields, body, signal) {
    const [method, target, , , , count] = fields;
    const headers = new Headers();
    for (let i = 6 + 2 * Number(count); i + 1 < fields.length; i += 2) headers.append(fields[i], fields[i + 1]);
    const scheme = headers.get("x-forwarded-proto") === "https" ? "https" : "http";
    const url = `${scheme}://${headers.get("host") ?? "localhost"}${target}`;
    return new Request(url, { method, headers, body, signal, duplex: "half" });
  }

  async function run(call, flags, meta, body) {
    const fields = meta.latin1Slice().split("\0");
    const controller = new AbortController();
    const responder = new Responder(shim, call, controller.signal);
    const mayHaveBody = fields[0] !== "GET" && fields[0] !== "HEAD";
    const incoming = flags & MORE ? new Incoming(shim.link, call, body) : null;
    shim.begin(call, {
      cancel() {
        const reason = new Error("the call was cancelled");
        controller.abort(reason);
        incoming?.fail(reason);
        responder.window.grant(Infinity);
      },
      data: (piece, isLast) => incoming?.data(piece, isLast),
      credit: (bytes) => responder.window.grant(bytes),
    });
    try {
      const content = incoming ? incoming.stream : body.length ? new Uint8Array(body) : null;
      await responder.send(await application(makeRequest(fields, mayHaveBody ? content : null, controller.signal)));
    } catch (error) {
      shim.failed(call, error);
    }
  }

  return { streams: true, serve: (call, flags, meta, body) => void run(call, flags, meta, body) };
};
