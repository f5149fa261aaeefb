"use strict";
// The shim for Node: speaks the platform's frames on descriptor 3 and runs an event handler or a fetch
// application. Calls run at once as far as the platform sends them at once. Fetch applications are served by
// fetch.cjs, events are built in event.cjs; this file is the connection, the log and the loading of user code.

const fs = require("fs");
const net = require("net");
const path = require("path");

const PROTOCOL_VERSION = 1;
const INIT = 1, INVOKE = 2, DATA = 3, CREDIT = 4, CANCEL = 5, PING = 6, SHUTDOWN = 7, TAKE_BACK = 8, WARM = 9, REST = 10;
const READY = 0x81, FAIL = 0x84, PONG = 0x86, BYE = 0x87, LOG = 0x88, WARMED = 0x89, RESTED = 0x8a;
const MORE = 1, END = 2, ARENA = 0x04, WAITING = 0x08, AHEAD = 0x10, SKIPPABLE = 0x80;
const FAIL_HANDLER = 1, FAIL_INIT = 3, FAIL_CANCELLED = 4, FAIL_NOT_BEGUN = 7;
const DEBUG = 0, INFO = 1, WARN = 2, ERROR = 3;
const STDOUT = 1, STDERR = 2;

const LINK_FD = 3;
const BODY_MAX = 65536; // longest body of one frame
const STACK_MAX = 50; // lines of a stack trace
const TEXT_MAX = 8192; // characters of an error message or of a line of its stack trace
const LOG_BUFFER_MAX = 16384; // bytes of log lines that wait for the end of the tick or the reply
const LOG_BURST = 16; // lines that are sent at once after a quiet time, so that code which blocks right after them loses none
const LOG_PER_MS = 1; // lines a millisecond that are sent at once; above that, gathering is worth it
const EMPTY = Buffer.alloc(0);
const LOOK_OUT_MS = 0.05; // how long to look out for the next call, only where the platform says that one is queued

function frame(kind, call, aux, flags, meta, body) {
  const metaLength = typeof meta === "string" ? meta.length : 0;
  const out = Buffer.allocUnsafe(16 + metaLength + body.length);
  out.writeUInt32LE(metaLength + body.length, 0);
  out[4] = kind;
  out[5] = flags;
  out.writeUInt16LE(aux, 6);
  out.writeUInt32LE(call, 8);
  out.writeUInt32LE(metaLength, 12);
  if (metaLength) out.latin1Write(meta, 16);
  if (body.length) body.copy(out, 16 + metaLength);
  return out;
}

class Link {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.rest = EMPTY;
    this.logs = [];
    this.logsSize = 0;
    this.logAllowance = LOG_BURST;
    this.logSentAt = 0;
    this.reads = 0;
    this.socket = new net.Socket({
      fd: LINK_FD,
      onread: { buffer: Buffer.allocUnsafeSlow(BODY_MAX), callback: (length, buffer) => this.received(length, buffer) },
    });
    this.socket.on("end", () => process.exit(0));
    this.socket.on("error", () => process.exit(70));
    this.socket.resume();
  }

  // Keeps the event loop from falling asleep while the platform has another call at hand: being woken costs more.
  lookOut() {
    const { reads } = this;
    const until = performance.now() + LOOK_OUT_MS;
    const look = () => {
      if (this.reads === reads && performance.now() < until) setImmediate(look);
    };
    setImmediate(look);
  }

  received(length, buffer) {
    this.reads += 1;
    let data = buffer.subarray(0, length);
    const isOwn = this.rest.length > 0;
    if (isOwn) data = Buffer.concat([this.rest, data]);
    let at = 0;
    while (data.length - at >= 16) {
      const end = at + 16 + data.readUInt32LE(at);
      if (end > data.length) break;
      const start = at + 16 + data.readUInt32LE(at + 12);
      const meta = data.subarray(at + 16, start);
      // The buffer is read into again, so what lives longer than this call is copied by whoever keeps it.
      this.onFrame(data[at + 4], data[at + 5], data.readUInt16LE(at + 6), data.readUInt32LE(at + 8), meta, data.subarray(start, end));
      at = end;
    }
    this.rest = at === data.length ? EMPTY : isOwn ? data.subarray(at) : Buffer.from(data.subarray(at));
    return true;
  }

  // Writes frames, and the log lines before them.
  send(data) {
    if (this.logs.length) {
      const logs = this.logs;
      this.logs = [];
      this.logsSize = 0;
      logs.push(data);
      data = Buffer.concat(logs);
    }
    let sent = 0;
    if (this.socket.writableLength === 0) {
      try {
        sent = fs.writeSync(LINK_FD, data);
      } catch (error) {
        if (error.code !== "EAGAIN") process.reallyExit(70);
      }
    }
    if (sent < data.length) this.socket.write(sent ? data.subarray(sent) : data);
  }

  // Sends lines at once where they come slowly. Where they come fast, the rest waits for the end of the tick or the reply.
  log(stream, level, body) {
    const call = currentCall();
    for (let at = 0; at < body.length; at += BODY_MAX) {
      this.logs.push(frame(LOG, call, (stream << 8) | level, 0, null, body.subarray(at, at + BODY_MAX)));
    }
    if (this.mayLogNow()) return this.flush();
    if (this.logsSize === 0) setImmediate(() => this.flush());
    this.logsSize += body.length;
    if (this.logsSize > LOG_BUFFER_MAX) this.flush();
  }

  mayLogNow() {
    const now = performance.now();
    const allowance = Math.min(LOG_BURST, this.logAllowance + (now - this.logSentAt) * LOG_PER_MS);
    this.logSentAt = now;
    this.logAllowance = allowance >= 1 ? allowance - 1 : allowance;
    return allowance >= 1;
  }

  flush() {
    if (this.logs.length) this.send(EMPTY);
  }
}

// The call whose code runs now, for log lines. Several at once need Node to follow each one's promises.
let runningCall = 0;
let callStorage = null;
const currentCall = () => (callStorage ? callStorage.getStore() ?? 0 : runningCall);

function trackCalls(concurrency) {
  if (concurrency > 1) callStorage = new (require("async_hooks").AsyncLocalStorage)();
}

function captureOutput(link) {
  const { formatWithOptions } = require("util");
  const say = (stream, level) => (...values) => {
    link.log(stream, level, Buffer.from(`${formatWithOptions({}, ...values)}\n`));
  };
  Object.assign(console, {
    log: say(STDOUT, INFO), info: say(STDOUT, INFO), debug: say(STDOUT, DEBUG),
    warn: say(STDERR, WARN), error: say(STDERR, ERROR),
    trace: (...values) => {
      const { stack } = new Error();
      link.log(STDERR, ERROR, Buffer.from(`Trace: ${formatWithOptions({}, ...values)}\n${stack.split("\n").slice(2).join("\n")}\n`));
    },
  });
  // Only on first use: making these streams costs more than the rest of this file.
  for (const [name, stream] of [["stdout", STDOUT], ["stderr", STDERR]]) {
    const original = Object.getOwnPropertyDescriptor(process, name);
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get() {
        const file = original.get.call(process);
        file.write = (data, encoding, done) => {
          link.log(stream, INFO, typeof data === "string" ? Buffer.from(data, typeof encoding === "string" ? encoding : "utf8") : Buffer.from(data));
          const callback = typeof encoding === "function" ? encoding : done;
          if (callback) process.nextTick(callback);
          return true;
        };
        Object.defineProperty(process, name, { configurable: true, enumerable: true, value: file });
        return file;
      },
    });
  }
}

// The text cut to its limit, without halves of surrogate pairs: strings may hold them, JSON may not.
const printable = (text) => Buffer.from(String(text).slice(0, TEXT_MAX)).toString();

// Any thrown value as the platform reports it. Must not fail whatever it is.
function describe(error) {
  try {
    if (error instanceof Error || (error && typeof error.message === "string")) {
      const stack = String(error.stack ?? "").split("\n").slice(0, STACK_MAX).map(printable);
      return { errorType: printable(error.name ?? "Error"), errorMessage: printable(error.message), stackTrace: stack };
    }
    return { errorType: typeof error, errorMessage: printable(error), stackTrace: [] };
  } catch {
    return { errorType: "Error", errorMessage: "the error cannot be described", stackTrace: [] };
  }
}

function fail(link, call, error, failClass = FAIL_HANDLER) {
  const value = describe(error);
  const text = value.stackTrace.length ? value.stackTrace.join("\n") : `${value.errorType}: ${value.errorMessage}`;
  const line = Buffer.from(`${text}\n`);
  link.logs.push(frame(LOG, call, (STDOUT << 8) | ERROR, 0, null, line.subarray(0, BODY_MAX)));
  let body = Buffer.from(JSON.stringify(value));
  if (body.length > BODY_MAX) body = Buffer.from(JSON.stringify({ ...value, stackTrace: [] }));
  link.send(frame(FAIL, call, error?.failClass ?? failClass, 0, null, body));
}

// Gives a process that waited for a function the environment that it would have been started with.
function become(environment) {
  const texts = environment.toString("utf8").split("\0");
  const wanted = new Map();
  for (let i = 0; i + 1 < texts.length; i += 2) wanted.set(texts[i], texts[i + 1]);
  for (const name of Object.keys(process.env)) if (!wanted.has(name)) delete process.env[name];
  for (const [name, value] of wanted) if (process.env[name] !== value) process.env[name] = value;
}

function readSettings(meta) {
  const fields = meta.toString("utf8").split("\0");
  const settings = {};
  for (let i = 0; i + 1 < fields.length; i += 2) settings[fields[i]] = fields[i + 1];
  settings.concurrency = Number(settings.concurrency);
  settings.responseBytesMax = Number(settings.response_bytes_max);
  if (settings.code) process.chdir(settings.code);
  settings.code = process.cwd();
  return settings;
}

// The file and the export that `folder/file.name` names; without a name, the export is chosen by its look.
function locate(code, text) {
  const find = (base) => ["", ".js", ".mjs", ".cjs"].map((e) => path.join(code, base + e)).find((f) => fs.statSync(f, { throwIfNoEntry: false })?.isFile());
  const dot = text.lastIndexOf(".");
  const whole = find(text);
  if (whole || dot <= text.lastIndexOf("/")) {
    if (!whole) throw new Error(`the code has no file ${text}.js, ${text}.mjs or ${text}.cjs`);
    return [whole, null];
  }
  const file = find(text.slice(0, dot));
  if (!file) throw new Error(`the code has no file ${text.slice(0, dot)}.js, .mjs or .cjs, which the handler ${text} names`);
  return [file, text.slice(dot + 1)];
}

const isModuleSyntax = (error) => error instanceof SyntaxError && /import statement|Unexpected token 'export'|import\.meta|await is only valid/.test(error.message);

async function load(file) {
  const { pathToFileURL } = require("url");
  const url = pathToFileURL(file).href;
  if (file.endsWith(".mjs")) return import(url);
  try {
    return require("module").createRequire(file)(file);
  } catch (error) {
    if (error.code === "ERR_REQUIRE_ESM" || error.code === "ERR_REQUIRE_ASYNC_MODULE") return import(url);
    if (!isModuleSyntax(error)) throw error;
  }
  // A .js file in module syntax, without a package.json that says so.
  const hook = `export const load = (url, context, next) =>
    next(url, url === ${JSON.stringify(url)} ? { ...context, format: "module" } : context);`;
  require("module").register(`data:text/javascript,${encodeURIComponent(hook)}`);
  return import(url);
}

function choose(exported, name, text) {
  const isTarget = (value) => typeof value === "function" || typeof value?.fetch === "function";
  const places = [exported, exported.default].filter((place) => place && (typeof place === "object" || typeof place === "function"));
  const names = name ? [name] : ["handler", "default", "fetch"];
  for (const place of places) {
    for (const candidate of names) {
      const value = place[candidate];
      if (!isTarget(value)) continue;
      if (candidate === "fetch") return { kind: "fetch", target: value.bind(place) };
      if (typeof value === "function") return { kind: "event", target: value };
      return { kind: "fetch", target: value.fetch.bind(value) };
    }
  }
  if (!name && typeof exported === "function") return { kind: "event", target: exported };
  throw new Error(`${text} names no function and no object with a fetch function; exported are: ${Object.keys(exported).join(", ") || "nothing"}`);
}

let collector = null;

// A whole collection. Node gives no access to it without a flag, and the flag holds for contexts that are made after it.
function collectGarbage() {
  if (!collector) {
    require("v8").setFlagsFromString("--expose-gc");
    collector = require("vm").runInNewContext("gc");
    require("v8").setFlagsFromString("--no-expose-gc");
  }
  collector();
}

// Puts the body of a call together that came in several frames.
class Gatherer {
  constructor() {
    this.parts = new Map();
  }

  begin(call, meta, flags, body) {
    this.parts.set(call, { meta: Buffer.from(meta), flags, pieces: [Buffer.from(body)] });
  }

  add(call, flags, body) {
    const entry = this.parts.get(call);
    if (!entry) return null;
    entry.pieces.push(Buffer.from(body));
    if (!(flags & END)) return null;
    this.parts.delete(call);
    return { meta: entry.meta, flags: entry.flags, body: Buffer.concat(entry.pieces) };
  }
}

class Shim {
  constructor() {
    this.link = new Link((...parts) => this.dispatch(...parts));
    this.running = new Map(); // call -> what can be told of CANCEL, DATA and CREDIT
    this.gatherer = new Gatherer();
    this.server = null;
    this.arena = null;
    this.shutdownGrace = -1;
    this.isAwaited = false; // whether the call that runs was sent while another one waited
    this.ahead = []; // calls that lie behind the one that runs
    this.maySpin = false; // on one core, looking out would take the time from the platform
  }

  dispatch(kind, flags, aux, call, meta, body) {
    switch (kind) {
      case INVOKE:
        if (this.arena) this.arena.taken = aux;
        if (flags & ARENA) body = this.arena.body(body);
        if (flags & AHEAD && this.running.size) this.ahead.push({ call, flags, meta: Buffer.from(meta), body: Buffer.from(body) });
        else if (flags & MORE && !this.server.streams) this.gatherer.begin(call, meta, flags, body);
        else this.run(call, flags, meta, body);
        break;
      case DATA:
        this.data(call, flags, body);
        break;
      case CREDIT:
        this.running.get(call)?.credit?.(body.readUInt32LE(0));
        break;
      case CANCEL:
        this.gatherer.parts.delete(call);
        this.running.get(call)?.cancel();
        this.dropAhead(call, FAIL_CANCELLED);
        break;
      case TAKE_BACK:
        this.dropAhead(call, FAIL_NOT_BEGUN);
        break;
      case PING:
        this.link.send(frame(PONG, 0, 0, 0, null, EMPTY));
        break;
      case INIT:
        if (aux !== PROTOCOL_VERSION) process.exit(70);
        if (body.length) become(body);
        this.start(readSettings(meta)).catch((error) => this.startFailed(error));
        break;
      case WARM:
        this.getWarm();
        break;
      case REST:
        this.rest();
        break;
      case SHUTDOWN:
        this.shutdownGrace = aux;
        this.shutDown();
        break;
      default:
        if (!(flags & SKIPPABLE)) process.exit(70);
    }
  }

  data(call, flags, body) {
    if (this.server.streams) return this.running.get(call)?.data?.(body, (flags & END) !== 0);
    const whole = this.gatherer.add(call, flags, body);
    if (whole) this.run(call, whole.flags, whole.meta, whole.body);
  }

  dropAhead(call, failClass) {
    const at = this.ahead.findIndex((waiting) => waiting.call === call);
    if (at < 0) return;
    this.ahead.splice(at, 1);
    this.link.send(frame(FAIL, call, failClass, 0, null, Buffer.from("{}")));
  }

  runAhead() {
    if (this.running.size || !this.ahead.length) return;
    const { call, flags, meta, body } = this.ahead.shift();
    this.run(call, flags, meta, body);
  }

  run(call, flags, meta, body) {
    this.isAwaited = (flags & WAITING) !== 0 && this.maySpin;
    const serve = () => this.server.serve(call, flags, meta, body);
    if (callStorage) callStorage.run(call, serve);
    else {
      runningCall = call;
      serve();
    }
  }

  begin(call, control) {
    this.running.set(call, control);
  }

  ended(call, data) {
    this.running.delete(call);
    this.link.send(data);
    if (this.ahead.length) this.runAhead();
    else if (this.isAwaited) this.link.lookOut();
    if (this.shutdownGrace >= 0) this.shutDown();
  }

  failed(call, error) {
    this.running.delete(call);
    fail(this.link, call, error);
    this.runAhead();
    if (this.shutdownGrace >= 0) this.shutDown();
  }

  async start(settings) {
    trackCalls(settings.concurrency);
    this.maySpin = require("os").availableParallelism() > 1;
    captureOutput(this.link);
    if (settings.arena_bytes) {
      const { Arena } = require("./arena.cjs");
      this.arena = new Arena(Number(settings.arena_bytes), Number(settings.socket_body_bytes_max));
    }
    const [file, name] = locate(settings.code, settings.handler);
    const { kind, target } = choose(await load(file), name, settings.handler);
    this.server = kind === "fetch" ? require("./fetch.cjs")(this, target) : require("./event.cjs")(this, settings, target);
    const mode = this.server.streams ? "stream" : "whole";
    process.on("uncaughtException", (error) => this.crash(error));
    this.link.send(frame(READY, 0, PROTOCOL_VERSION, 0, `request\0${mode}\0response\0${mode}\0ahead\0${this.server.streams ? "no" : "yes"}\0arena\0${this.arena ? "yes" : "no"}`, EMPTY));
  }

  // Does what every function needs, before it is known which one it will be.
  async getWarm() {
    await require("./warm.cjs")();
    this.link.send(frame(WARMED, 0, 0, 0, null, EMPTY));
  }

  // Gives memory back before this process stands still for a while.
  rest() {
    if (!this.running.size) collectGarbage();
    this.link.send(frame(RESTED, 0, 0, 0, null, EMPTY));
  }

  startFailed(error) {
    fail(this.link, 0, error, FAIL_INIT);
    this.link.socket.end(() => process.exit(1));
  }

  // Nobody knows which call threw, and the state of the code is unknown: all of them fail and the process ends.
  crash(error) {
    for (const { call } of [...this.ahead]) this.dropAhead(call, FAIL_NOT_BEGUN);
    for (const call of this.running.keys()) fail(this.link, call, error);
    if (!this.running.size) this.link.log(STDERR, ERROR, Buffer.from(`uncaught: ${describe(error).stackTrace.join("\n")}\n`));
    this.link.flush();
    process.exit(1);
  }

  shutDown() {
    if (this.running.size || this.ahead.length) return;
    if (process.listenerCount("SIGTERM")) process.emit("SIGTERM", "SIGTERM");
    this.link.send(frame(BYE, 0, 0, 0, null, EMPTY));
    process.exit(0);
  }
}

module.exports = { frame, EMPTY, BODY_MAX };
const shim = new Shim();
process.on("exit", () => shim.link.flush());
