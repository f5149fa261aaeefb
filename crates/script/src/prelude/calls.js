// From the platform's call to the handler and back.
let handler; // (request, env, context) => Response or a promise of one
let environment;
const running = new Map(); // calls that have not been answered at once

class Context {
  waitUntil(promise) {
    Promise.resolve(promise).catch((error) => console.error("waitUntil:", error));
  }

  passThroughOnException() {}
}
const context = new Context();

const begin = (id, method, url, headers, body, isStreamed) => {
  const source = isStreamed ? incoming(id) : body;
  const request = new Request(INTERNAL, { method, url, headers, source });
  let result;
  try {
    result = handler(request, environment, context);
  } catch (error) {
    return failed(id, error);
  }
  if (result instanceof Response) return answer(id, request, result);
  running.set(id, { request, body: null });
  Promise.resolve(result).then((response) => answer(id, request, response), (error) => failed(id, error));
};

// The request's body, asked for piece by piece.
const bodies = new Map();
const incoming = (id) => new ReadableStream({
  pull: (controller) => new Promise((resolve) => {
    bodies.set(id, { controller, resolve });
    native.readBody(id);
  }),
}, { highWaterMark: 0 });

const bodyPiece = (id, piece, error) => {
  const entry = bodies.get(id);
  if (!entry) return;
  bodies.delete(id);
  if (error !== undefined) entry.controller.error(new TypeError(`the request broke off: ${error}`));
  else if (piece === undefined) entry.controller.close();
  else entry.controller.enqueue(piece);
  entry.resolve();
};

const failed = (id, error) => {
  running.delete(id);
  const isError = error instanceof Error || error instanceof DOMException;
  const name = isError ? String(error.name) : typeof error;
  const message = isError ? String(error.message) : inspect(error);
  const stack = isError ? native.sourceLines(String(error.stack ?? "").trimEnd()) : "";
  native.fail(id, name, message, stack);
};

const answer = (id, request, response) => {
  if (!(response instanceof Response)) {
    running.delete(id);
    return native.refuse(id, `fetch returned ${response === null ? "null" : typeof response} and not a Response`);
  }
  if (response.status === 0) {
    running.delete(id);
    return native.refuse(id, "fetch returned Response.error()");
  }
  if (response.bodyUsed) {
    running.delete(id);
    return native.refuse(id, "the body of the response was read already");
  }
  const { [kHeaders]: held, [kSource]: source } = response;
  const headers = typeof held === "string" ? held : flattenHeaders(held);
  if (!(source instanceof ReadableStream) && !response[kStream]) {
    running.delete(id);
    if (!native.respond(id, response.status, headers, source)) {
      native.respond(id, response.status, headers, source.toWellFormed());
    }
    return;
  }
  native.respondStream(id, response.status, headers);
  running.set(id, { request, body: response.body });
  send(id, response.body).then(() => running.delete(id), (error) => {
    running.delete(id);
    if (error !== GONE) console.error("the body of a response broke off:", error);
    native.endBody(id, false);
  });
};

const GONE = Symbol("gone");
const drains = new Map(); // calls whose reader is slower than they are

const send = async (id, body) => {
  for await (const chunk of body) {
    if (native.sendPiece(id, chunkBytes(chunk))) continue;
    await new Promise((resolve) => { drains.set(id, resolve); });
  }
  native.endBody(id, true);
};

const drained = (id) => {
  const resolve = drains.get(id);
  drains.delete(id);
  resolve?.();
};

// Nobody waits for the answer any more.
const cancel = (id) => {
  const entry = running.get(id);
  running.delete(id);
  bodies.delete(id);
  if (!entry) return;
  const reason = new DOMException("the call was cancelled", "AbortError");
  if (entry.request[kSignal]) abortSignal(entry.request[kSignal], reason);
  if (entry.body) streamState(entry.body).cancel(reason).catch(() => {});
  drained(id);
};

const choose = (exported, name) => {
  const isHandler = (value) => typeof value === "function" || typeof value?.fetch === "function";
  const names = name ? [name] : ["default", "fetch", "handler"];
  const found = names.map((candidate) => exported[candidate]).find(isHandler);
  if (!found) {
    const all = Object.keys(exported).join(", ") || "nothing";
    throw new TypeError(`the module exports no fetch handler (${names.join(", ")}); exported are: ${all}`);
  }
  handler = typeof found === "function" ? found : found.fetch.bind(found);
};

// The script's top level runs until the promise is settled; then its handler is known.
const loaded = (id, promise, exported, name) => {
  promise.then(() => choose(exported, name)).then(() => native.respond(id, 200, "", null), (error) => failed(id, error));
};

export const install = (functions, variables) => {
  native = functions;
  environment = Object.freeze(Object.fromEntries(variables));
  define({
    AbortController, AbortSignal, Event, EventTarget, Headers, ReadableStream, Request, Response, TextDecoder,
    TextEncoder, URL, URLSearchParams, console, crypto, fetch, structuredClone,
    atob: (text) => {
      const decoded = native.atob(`${text}`);
      if (decoded === undefined) throw new DOMException("the text is not base64", "InvalidCharacterError");
      return decoded;
    },
    btoa: (text) => {
      const encoded = native.btoa(`${text}`);
      if (encoded === undefined) throw new DOMException("a character is above 255", "InvalidCharacterError");
      return encoded;
    },
    queueMicrotask: (callback) => {
      if (typeof callback !== "function") throw new TypeError("a microtask is a function");
      Promise.resolve().then(callback).catch((error) => console.error("uncaught in a microtask:", error));
    },
    setTimeout: (callback, ms, ...args) => startTimer(callback, ms, args, false),
    setInterval: (callback, ms, ...args) => startTimer(callback, Math.max(1, ms), args, true),
    clearTimeout: stopTimer,
    clearInterval: stopTimer,
    self: globalThis,
  });
  return { begin, cancel, loaded, bodyPiece, drained, fireTimer, fetched, fetchedPiece };
};
