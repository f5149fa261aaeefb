"use strict";
// Event handlers: HTTP requests as events of the Lambda function URL format 2.0, and values as responses.

const { frame, EMPTY, BODY_MAX } = require("./shim.cjs");

const DATA = 3, REPLY = 0x82, RESULT = 0x83;
const MORE = 1, END = 2, ARENA = 0x04, EVENT = 0x20;
const FAIL_BAD_RESULT = 2, FAIL_TOO_LARGE = 6;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const TEXT_TYPE = /text\/|application\/(json|xml|javascript)|\+json|\+xml/i;

class BadResult extends Error {
  name = "BadResult";
  failClass = FAIL_BAD_RESULT;
}

class ResultTooLarge extends Error {
  name = "ResultTooLarge";
  failClass = FAIL_TOO_LARGE;
}

class Context {
  #deadline;
  #fields;
  #settings;
  #controller = null;
  callbackWaitsForEmptyEventLoop = false;

  constructor(fields, settings) {
    this.awsRequestId = fields[3];
    this.#deadline = fields[4];
    this.#fields = fields;
    this.#settings = settings;
  }

  get functionName() { return this.#settings.function; }
  get functionVersion() { return this.#settings.version; }
  get memoryLimitInMB() { return this.#settings.memory_mb; }
  get logGroupName() { return `/alula/${this.#settings.namespace}/${this.#settings.function}`; }
  get logStreamName() { return this.#settings.instance; }
  get invokedFunctionArn() {
    const { namespace, function: name, version } = this.#settings;
    return `arn:aws:lambda:local:${namespace}:function:${name}:${version}`;
  }
  // What calls of other functions are to carry in the header X-Alula-Lineage.
  get lineage() {
    const fields = this.#fields;
    for (let i = 6 + 2 * Number(fields[5]); i + 1 < fields.length; i += 2) if (fields[i] === "x-alula-lineage") return fields[i + 1];
    return "";
  }
  getRemainingTimeInMillis() { return Math.max(0, Number(this.#deadline) - Date.now()); }

  // Aborted when the platform has no more use for the call.
  get signal() { return (this.#controller ??= new AbortController()).signal; }
  abort() { (this.#controller ??= new AbortController()).abort(new Error("the call was cancelled")); }
}

let stampSecond = -1, stampText = "";

// The time in the format of access logs; made once a second.
function stamp(now) {
  const second = Math.floor(now / 1000);
  if (second !== stampSecond) {
    const t = new Date(now);
    const two = (n) => String(n).padStart(2, "0");
    stampText = `${two(t.getUTCDate())}/${MONTHS[t.getUTCMonth()]}/${t.getUTCFullYear()}:${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())} +0000`;
    stampSecond = second;
  }
  return stampText;
}

/** Who calls, as the platform says, and what a token of another authority says about that. */
function authorizer(headers) {
  const told = { principalId: headers["x-alula-caller"] };
  if (headers["x-alula-claims"] === undefined) return told;
  const claims = JSON.parse(Buffer.from(headers["x-alula-claims"], "base64url").toString("utf8"));
  told.jwt = { claims, scopes: typeof claims.scope === "string" ? claims.scope.split(" ") : null };
  return told;
}

function httpEvent(fields, body) {
  const [method, target, remote, requestId, , count] = fields;
  const headersAt = 6 + 2 * Number(count);
  const headers = {};
  for (let i = headersAt; i + 1 < fields.length; i += 2) {
    const name = fields[i];
    headers[name] = headers[name] === undefined ? fields[i + 1] : `${headers[name]}${name === "cookie" ? "; " : ","}${fields[i + 1]}`;
  }
  const mark = target.indexOf("?");
  const rawPath = mark < 0 ? target : target.slice(0, mark);
  const rawQueryString = mark < 0 ? "" : target.slice(mark + 1);
  const host = headers.host ?? "";
  const now = Date.now();
  const event = {
    version: "2.0", routeKey: "$default", rawPath, rawQueryString, headers,
    requestContext: {
      accountId: "anonymous", apiId: "alula", domainName: host, domainPrefix: host.split(".", 1)[0],
      http: { method, path: rawPath, protocol: "HTTP/1.1", sourceIp: remote, userAgent: headers["user-agent"] ?? "" },
      requestId, routeKey: "$default", stage: "$default", time: stamp(now), timeEpoch: now,
    },
    isBase64Encoded: false,
  };
  if (headers["x-alula-caller"] !== undefined) event.requestContext.authorizer = authorizer(headers);
  if (headers.cookie !== undefined) {
    event.cookies = headers.cookie.split("; ");
    delete headers.cookie;
  }
  if (rawQueryString) event.queryStringParameters = foldQuery(rawQueryString);
  if (headersAt > 6) {
    event.pathParameters = {};
    for (let i = 6; i < headersAt; i += 2) event.pathParameters[utf8(fields[i])] = utf8(fields[i + 1]);
  }
  if (body.length) addBody(event, headers["content-type"] ?? "", body);
  return event;
}

const utf8 = (text) => Buffer.from(text, "latin1").toString("utf8");

function foldQuery(query) {
  const values = {};
  for (const [name, value] of new URLSearchParams(query)) values[name] = Object.hasOwn(values, name) ? `${values[name]},${value}` : value;
  return values;
}

function addBody(event, contentType, body) {
  if (TEXT_TYPE.test(contentType) && require("buffer").isUtf8(body)) {
    event.body = body.toString("utf8");
  } else {
    event.body = body.toString("base64");
    event.isBase64Encoded = true;
  }
}

function toJson(value) {
  try {
    return Buffer.from(JSON.stringify(value) ?? "null");
  } catch (error) {
    throw new BadResult(`the handler's value cannot be written as JSON: ${error.message}`);
  }
}

function headerFields(value) {
  const fields = [];
  for (const [name, text] of Object.entries(value.headers ?? {})) fields.push(name, String(text));
  for (const [name, texts] of Object.entries(value.multiValueHeaders ?? {})) for (const text of texts) fields.push(name, String(text));
  for (const cookie of value.cookies ?? []) fields.push("set-cookie", String(cookie));
  return fields;
}

function httpAnswer(arena, call, value, limit) {
  if (value === null || typeof value !== "object" || value.statusCode === undefined) {
    return answerFrames(arena, REPLY, call, 200, "content-type\0application/json", toJson(value), limit);
  }
  const status = Number(value.statusCode);
  if (!Number.isInteger(status) || status < 100 || status > 999) throw new BadResult(`statusCode is ${value.statusCode}, which is not an HTTP status`);
  const fields = headerFields(value);
  if (!fields.some((text, i) => i % 2 === 0 && text.toLowerCase() === "content-type")) fields.push("content-type", "application/json");
  for (const text of fields) {
    if (/[^\x01-\xff]/.test(text)) throw new BadResult("a header of the response has a NUL or a character outside Latin-1; encode it");
  }
  return answerFrames(arena, REPLY, call, status, fields.join("\0"), bodyBytes(value), limit);
}

function bodyBytes({ body, isBase64Encoded }) {
  if (body === undefined || body === null) return EMPTY;
  if (typeof body === "string") return Buffer.from(body, isBase64Encoded ? "base64" : "utf8");
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : toJson(body);
}

function answerFrames(arena, kind, call, aux, meta, body, limit) {
  if (body.length > limit) throw new ResultTooLarge(`the answer has ${body.length} bytes, at most ${limit} are allowed`);
  if (body.length <= BODY_MAX) return frame(kind, call, aux, 0, meta, body);
  const place = arena?.put(body);
  if (place) return frame(kind, call, aux, ARENA, meta, place);
  const frames = [frame(kind, call, aux, MORE, meta, EMPTY)];
  for (let at = 0; at < body.length; at += BODY_MAX) {
    frames.push(frame(DATA, call, 0, at + BODY_MAX >= body.length ? END : 0, null, body.subarray(at, at + BODY_MAX)));
  }
  return Buffer.concat(frames);
}

module.exports = (shim, settings, handler) => {
  const limit = settings.responseBytesMax;

  function answer(call, flags, value) {
    let data;
    try {
      data = flags & EVENT ? answerFrames(shim.arena, RESULT, call, 0, null, toJson(value), limit) : httpAnswer(shim.arena, call, value, limit);
    } catch (error) {
      return shim.failed(call, error);
    }
    shim.ended(call, data);
  }

  function invoke(call, flags, event, context) {
    if (handler.length < 3) return handler(event, context);
    return new Promise((resolve, reject) => {
      handler(event, context, (error, value) => (error ? reject(error) : resolve(value)));
    });
  }

  function serve(call, flags, meta, body) {
    const fields = meta.latin1Slice().split("\0");
    const context = new Context(fields, settings);
    shim.begin(call, { cancel: () => context.abort() });
    let value;
    try {
      const event = flags & EVENT ? (body.length ? JSON.parse(body.toString("utf8")) : null) : httpEvent(fields, body);
      value = invoke(call, flags, event, context);
    } catch (error) {
      return shim.failed(call, error);
    }
    if (typeof value?.then !== "function") return answer(call, flags, value);
    value.then((result) => answer(call, flags, result), (error) => shim.failed(call, error));
  }

  return { streams: false, serve };
};
