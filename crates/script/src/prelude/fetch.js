// fetch: the request goes to the platform, which decides what may be reached.
const fetches = new Map();
let lastFetch = 0;

const fetch = async (input, init) => {
  const request = new Request(input, init);
  request[kSignal]?.throwIfAborted();
  const body = request[kSource] === null ? null : await request.bytes();
  lastFetch += 1;
  const id = lastFetch;
  const pending = Promise.withResolvers();
  const entry = { pending, url: request.url };
  fetches.set(id, entry);
  native.fetch(id, request.method, request.url, flattenHeaders(request.headers), body, request.redirect);
  if (request[kSignal]) {
    request[kSignal].addEventListener("abort", () => {
      if (!fetches.delete(id)) return;
      native.stopFetch(id);
      const { reason } = request[kSignal];
      entry.pending.reject(reason);
      entry.controller?.error(reason);
    }, { once: true });
  }
  return pending.promise;
};

// The platform has the head of an answer, or says why there is none.
const fetched = (id, error, status, headers, url) => {
  const entry = fetches.get(id);
  if (!entry) return;
  if (error !== undefined) {
    fetches.delete(id);
    entry.pending.reject(new TypeError(`fetch failed: ${error}`));
    return;
  }
  const hasBody = !NULL_BODY_STATUS.includes(status);
  const body = hasBody ? new ReadableStream({
    start(controller) { entry.controller = controller; },
    pull: () => new Promise((resolve) => {
      entry.pulled = resolve;
      native.readFetch(id);
    }),
    cancel() {
      if (fetches.delete(id)) native.stopFetch(id);
    },
  }, { highWaterMark: 0 }) : null;
  if (!hasBody) {
    fetches.delete(id);
    native.stopFetch(id);
  }
  const response = new Response(body, { status });
  response[kHeaders] = headers;
  response.url = url;
  response.redirected = url !== entry.url;
  entry.pending.resolve(response);
};

// A piece of an answer's body; without a piece, its end or its error.
const fetchedPiece = (id, piece, error) => {
  const entry = fetches.get(id);
  if (!entry) return;
  if (error !== undefined) entry.controller.error(new TypeError(`the answer broke off: ${error}`));
  else if (piece === undefined) entry.controller.close();
  else entry.controller.enqueue(piece);
  if (piece === undefined) fetches.delete(id);
  entry.pulled();
};
