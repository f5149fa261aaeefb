// Request and Response.
const kHeaders = Symbol("headers");
const kSignal = Symbol("signal");
const INTERNAL = Symbol("internal");
const METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];
const REDIRECTS = [301, 302, 303, 307, 308];

const methodName = (method) => {
  const text = `${method}`;
  if (!TOKEN.test(text)) throw new TypeError(`${JSON.stringify(text)} is not a method`);
  const upper = text.toUpperCase();
  if (["CONNECT", "TRACE", "TRACK"].includes(upper)) throw new TypeError(`${text} is not allowed`);
  return METHODS.includes(upper) ? upper : text;
};

class Request extends Body {
  constructor(input, init) {
    super();
    this[kUsed] = false;
    this[kStream] = null;
    if (input === INTERNAL) {
      this.method = init.method;
      this.url = init.url;
      this[kHeaders] = init.headers;
      this[kSource] = init.source;
      this[kSignal] = null;
      return;
    }
    const from = input instanceof Request ? input : null;
    this.url = from ? from.url : new (more().URL)(`${input}`).href;
    this.method = methodName(init?.method ?? from?.method ?? "GET");
    this.redirect = init?.redirect ?? from?.redirect ?? "follow";
    this[kHeaders] = new Headers(init?.headers ?? from?.headers);
    this[kSignal] = init?.signal ?? from?.[kSignal] ?? null;
    const given = init?.body ?? null;
    if (given !== null && (this.method === "GET" || this.method === "HEAD")) {
      throw new TypeError(`a ${this.method} request has no body`);
    }
    const [source, type] = given === null && from ? [split(from), null] : extract(given);
    if (given === null && from?.[kSource] != null) from[kUsed] = true;
    this[kSource] = source;
    if (type && !this[kHeaders].has("content-type")) this[kHeaders].append("content-type", type);
  }

  get headers() {
    const headers = this[kHeaders];
    return typeof headers === "string" ? (this[kHeaders] = flatHeaders(headers)) : headers;
  }

  get signal() {
    return (this[kSignal] ??= new (more().AbortSignal)());
  }

  clone() {
    const source = split(this);
    const copy = new Request(INTERNAL, { method: this.method, url: this.url, headers: new Headers(this.headers), source });
    copy[kSignal] = this[kSignal];
    return copy;
  }
}
Request.prototype.redirect = "follow";
tag(Request);

class Response extends Body {
  constructor(body, init) {
    super();
    this[kUsed] = false;
    this[kStream] = null;
    const [source, type] = extract(body);
    this[kSource] = source;
    if (init === undefined) {
      this.status = 200;
      this.statusText = "";
      this[kHeaders] = type === null ? "" : `content-type\0${type}`;
      return;
    }
    this.status = init.status ?? 200;
    this.statusText = `${init.statusText ?? ""}`;
    if (!Number.isInteger(this.status) || this.status < 200 || this.status > 599) {
      throw new RangeError(`${init.status} is not the status of a response`);
    }
    if (source !== null && NULL_BODY_STATUS.includes(this.status)) {
      throw new TypeError(`a response with status ${this.status} has no body`);
    }
    this[kHeaders] = new Headers(init.headers);
    if (type !== null && !this[kHeaders].has("content-type")) this[kHeaders].append("content-type", type);
  }

  static json(value, init = {}) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError("the value has no JSON");
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(text, { ...init, headers });
  }

  static redirect(url, status = 302) {
    if (!REDIRECTS.includes(status)) throw new RangeError(`${status} is not a status of redirection`);
    return new Response(null, { status, headers: { location: new (more().URL)(`${url}`).href } });
  }

  static error() {
    const response = new Response();
    response.status = 0;
    return response;
  }

  get headers() {
    const headers = this[kHeaders];
    return typeof headers === "string" ? (this[kHeaders] = flatHeaders(headers)) : headers;
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  clone() {
    const copy = new Response(split(this), { status: this.status, statusText: this.statusText, headers: this.headers });
    copy.url = this.url;
    copy.redirected = this.redirected;
    return copy;
  }
}
Response.prototype.type = "default";
Response.prototype.url = "";
Response.prototype.redirected = false;
tag(Response);
