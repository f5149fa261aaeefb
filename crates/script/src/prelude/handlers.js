// Event handlers: requests as events of the Lambda function URL format 2.0, and values as responses.
const TEXT_TYPE = /text\/|application\/(json|xml|javascript)|\+json|\+xml/i;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

class HandlerContext {
  #until;
  #request;
  #environment;

  constructor(call, environment, request) {
    this.#until = performance.now() + call.remainingMs;
    this.#environment = environment;
    this.#request = request;
    this.awsRequestId = call.id;
  }

  // The environment variables.
  get env() { return this.#environment; }
  get functionName() { return this.#environment.ALULA_FUNCTION; }
  get functionVersion() { return this.#environment.ALULA_VERSION; }
  get memoryLimitInMB() { return this.#environment.ALULA_MEMORY_MB; }
  get logStreamName() { return this.#environment.ALULA_INSTANCE; }
  getRemainingTimeInMillis() { return Math.max(0, Math.floor(this.#until - performance.now())); }

  // Aborted when the platform has no more use for the call.
  get signal() { return this.#request.signal; }
}

const foldedHeaders = (request) => {
  const held = request[kHeaders];
  const fields = (typeof held === "string" ? held : flattenHeaders(held)).split("\0");
  const headers = {};
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i];
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]}${name === "cookie" ? "; " : ","}${fields[i + 1]}` : fields[i + 1];
  }
  return headers;
};

const stamp = (now) => {
  const t = new Date(now);
  const two = (number) => String(number).padStart(2, "0");
  const time = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())}`;
  return `${two(t.getUTCDate())}/${MONTHS[t.getUTCMonth()]}/${t.getUTCFullYear()}:${time} +0000`;
};

// Who calls, as the platform says, and what a token of another authority says about that.
const authorizer = (headers) => {
  const told = { principalId: headers["x-alula-caller"] };
  if (headers["x-alula-claims"] === undefined) return told;
  const bytes = atob(headers["x-alula-claims"].replaceAll("-", "+").replaceAll("_", "/"));
  const claims = JSON.parse(native.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)), true, true));
  told.jwt = { claims, scopes: typeof claims.scope === "string" ? claims.scope.split(" ") : null };
  return told;
};

const httpEvent = (request, bytes, call) => {
  const headers = foldedHeaders(request);
  const { method, url } = request;
  const target = url.slice(url.indexOf("/", url.indexOf("://") + 3));
  const mark = target.indexOf("?");
  const rawPath = mark < 0 ? target : target.slice(0, mark);
  const rawQueryString = mark < 0 ? "" : target.slice(mark + 1);
  const host = headers.host ?? "";
  const now = Date.now();
  const event = {
    version: "2.0", routeKey: "$default", rawPath, rawQueryString, headers,
    requestContext: {
      accountId: "anonymous", apiId: "alula", domainName: host, domainPrefix: host.split(".", 1)[0],
      http: { method, path: rawPath, protocol: "HTTP/1.1", sourceIp: call.remote, userAgent: headers["user-agent"] ?? "" },
      requestId: call.id, routeKey: "$default", stage: "$default", time: stamp(now), timeEpoch: now,
    },
    isBase64Encoded: false,
  };
  if (headers["x-alula-caller"] !== undefined) event.requestContext.authorizer = authorizer(headers);
  if (headers.cookie !== undefined) {
    event.cookies = headers.cookie.split("; ");
    delete headers.cookie;
  }
  if (rawQueryString) {
    event.queryStringParameters = {};
    const values = event.queryStringParameters;
    for (const [name, value] of new URLSearchParams(rawQueryString)) {
      values[name] = Object.hasOwn(values, name) ? `${values[name]},${value}` : value;
    }
  }
  if (call.parameters.length) event.pathParameters = Object.fromEntries(call.parameters);
  if (bytes.length) addBody(event, headers["content-type"] ?? "", bytes);
  return event;
};

const addBody = (event, type, bytes) => {
  if (TEXT_TYPE.test(type)) {
    try {
      event.body = native.decode(bytes, true, true);
      return;
    } catch {
      // No text after all.
    }
  }
  event.body = native.toBase64(bytes);
  event.isBase64Encoded = true;
};

class BadResult extends Error {}

const toJson = (value) => {
  try {
    return JSON.stringify(value) ?? "null";
  } catch (error) {
    throw new BadResult(`the handler's value cannot be written as JSON: ${error.message}`);
  }
};

const jsonResponse = (value) => new Response(toJson(value), { headers: { "content-type": "application/json" } });

const bodyOf = ({ body, isBase64Encoded }) => {
  if (body === undefined || body === null || body === "") return null;
  if (isView(body)) return body;
  if (typeof body !== "string") return toJson(body);
  if (!isBase64Encoded) return body;
  const decoded = native.ofBase64(body);
  if (decoded == null) throw new BadResult("isBase64Encoded is set, and the body is not base64");
  return decoded;
};

const responseOf = (value) => {
  if (value === null || typeof value !== "object" || value.statusCode === undefined) return jsonResponse(value);
  const body = bodyOf(value);
  try {
    const headers = new Headers();
    for (const [name, text] of Object.entries(value.headers ?? {})) headers.append(name, `${text}`);
    for (const [name, texts] of Object.entries(value.multiValueHeaders ?? {})) for (const text of texts) headers.append(name, `${text}`);
    for (const cookie of value.cookies ?? []) headers.append("set-cookie", `${cookie}`);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(body, { status: Number(value.statusCode), headers });
  } catch (error) {
    throw new BadResult(`the handler's value is no response: ${error.message}`);
  }
};

// Runs an event handler for a request.
const runHandler = async (handler, environment, request, call) => {
  const bytes = new Uint8Array(await request.arrayBuffer());
  const context = new HandlerContext(call, environment, request);
  if (!call.isEvent) return responseOf(await handler(httpEvent(request, bytes, call), context));
  return jsonResponse(await handler(bytes.length ? JSON.parse(utf8Text(bytes)) : null, context));
};
const utf8Text = (bytes) => native.decode(bytes, false, false);
