// From the platform's call to the handler and back.
let handler; // (request, env, context, call) => Response or a promise of one
let environment;
const running = new Map(); // calls that have not been answered at once

class Context {
  waitUntil(promise) {
    Promise.resolve(promise).catch((error) => console.error("waitUntil:", error));
  }

  passThroughOnException() {}
}
const context = new Context();

// `call` is what an event handler is told besides.
const begin = (id, method, url, headers, body, isStreamed, call) => {
  const source = isStreamed ? incoming(id) : body;
  const request = new Request(INTERNAL, { method, url, headers, source });
  let result;
  try {
    result = handler(request, environment, context, call);
  } catch (error) {
    return failed(id, error);
  }
  if (result instanceof Response) return answer(id, request, result);
  running.set(id, { request, body: null });
  Promise.resolve(result).then((response) => answer(id, request, response), (error) => failed(id, error));
};

// The request's body, asked for piece by piece.
const bodies = new Map();
const incoming = (id) => new (more().ReadableStream)({
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
  // The engine throws null where there is no memory left for an error.
  if (error === null) return native.fail(id, "InternalError", "out of memory", "");
  if (takesEvents && error instanceof more().BadResult) return native.refuse(id, error.message);
  let told;
  try {
    told = described(error);
  } catch {
    told = ["Error", "the error cannot be described", ""];
  }
  native.fail(id, ...told);
};

// Runs the error's own code, where it has some.
const described = (error) => {
  if (!(error instanceof Error || error instanceof DOMException)) return [typeof error, more().format([error]), ""];
  return [String(error.name), String(error.message), native.sourceLines(String(error.stack ?? "").trimEnd())];
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
  if (!isStream(source) && !response[kStream]) {
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
  if (entry.request[kSignal]) more().abortSignal(entry.request[kSignal], reason);
  if (entry.body) more().streamState(entry.body).cancel(reason).catch(() => {});
  drained(id);
};

const uncaught = (reason) => console.error("uncaught in a promise:", reason);

// A function of any other name than these takes events.
const FETCH_NAMES = ["default", "fetch"];
let takesEvents = false;

const choose = (exported, name) => {
  const isHandler = (value) => typeof value === "function" || typeof value?.fetch === "function";
  const chosen = (name ? [name] : [...FETCH_NAMES, "handler"]).find((candidate) => isHandler(exported[candidate]));
  if (!chosen) {
    const all = Object.keys(exported).join(", ") || "nothing";
    const wanted = name ?? "handler(event, context) and no fetch handler";
    throw new TypeError(`the module exports no ${wanted}; exported are: ${all}`);
  }
  const found = exported[chosen];
  if (typeof found !== "function") handler = found.fetch.bind(found);
  else if (FETCH_NAMES.includes(chosen)) handler = found;
  else {
    takesEvents = true;
    native.takesEvents();
    handler = (request, variables, _, call) => more().runHandler(found, variables, request, call);
  }
};

// The script's top level runs until the promise is settled; then its handler is known.
const settle = (id, promise, exported, name) => {
  promise.then(() => choose(exported, name)).then(() => native.respond(id, 200, "", null), (error) => failed(id, error));
};

const LATER = [
  "AbortController", "AbortSignal", "Event", "EventTarget", "ReadableStream", "TextDecoder", "TextEncoder", "URL",
  "URLSearchParams", "atob", "btoa", "crypto", "fetch", "structuredClone",
];

export const install = (functions, variables) => {
  native = functions;
  environment = Object.freeze(Object.fromEntries(variables));
  define({
    Headers, Request, Response, console,
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
  for (const name of LATER) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get() {
        const value = more()[name];
        define({ [name]: value });
        return value;
      },
      set(value) { define({ [name]: value }); },
    });
  }
  return {
    begin, cancel, loaded: settle, bodyPiece, drained, fireTimer, uncaught,
    fetched: (...answer) => more().fetched(...answer),
    fetchedPiece: (...piece) => more().fetchedPiece(...piece),
  };
};

export {
  Body, Headers, NULL_BODY_STATUS, Request, Response, define, flattenHeaders, isView, joined, kHeaders,
  kSignal, kSource, native, tag, toBytes, utf8,
};
