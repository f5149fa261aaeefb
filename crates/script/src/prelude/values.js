// Encoding, digests, copies, and how values look in the log.
class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return utf8(`${text}`);
  }

  encodeInto(text, into) {
    let read = 0;
    let written = 0;
    for (const character of `${text}`) {
      const bytes = utf8(character);
      if (written + bytes.length > into.length) break;
      into.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}
tag(TextEncoder);

class TextDecoder {
  #rest = new Uint8Array();

  constructor(label = "utf-8", options = {}) {
    if (!["utf-8", "utf8", "unicode-1-1-utf-8"].includes(`${label}`.trim().toLowerCase())) {
      throw new RangeError(`${label} is not supported: only UTF-8 is`);
    }
    this.encoding = "utf-8";
    this.fatal = Boolean(options.fatal);
    this.ignoreBOM = Boolean(options.ignoreBOM);
  }

  decode(input, options = {}) {
    let bytes = input === undefined ? new Uint8Array() : toBytes(input);
    if (this.#rest.length) bytes = joined([this.#rest, bytes]);
    const end = options.stream ? native.completeUtf8(bytes) : bytes.length;
    this.#rest = bytes.slice(end);
    return native.decode(bytes.subarray(0, end), this.fatal, this.ignoreBOM);
  }
}
tag(TextDecoder);

const crypto = {
  subtle: {
    async digest(algorithm, data) {
      const name = `${algorithm?.name ?? algorithm}`.toUpperCase();
      const digest = native.digest(name, toBytes(data));
      if (!digest) throw new DOMException(`${name} is not supported: SHA-256, SHA-384 and SHA-512 are`, "NotSupportedError");
      return digest.buffer;
    },
  },
  getRandomValues(view) {
    if (!isView(view) || view instanceof Float32Array || view instanceof Float64Array || view instanceof DataView) {
      throw new DOMException("random values need an array of integers", "TypeMismatchError");
    }
    if (view.byteLength > 65536) throw new DOMException("at most 65536 bytes at once", "QuotaExceededError");
    toBytes(view).set(native.random(view.byteLength));
    return view;
  },
  randomUUID() {
    const bytes = native.random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  },
};

const atob = (text) => {
  const decoded = native.atob(`${text}`);
  if (decoded === undefined) throw new DOMException("the text is not base64", "InvalidCharacterError");
  return decoded;
};

const btoa = (text) => {
  const encoded = native.btoa(`${text}`);
  if (encoded === undefined) throw new DOMException("a character is above 255", "InvalidCharacterError");
  return encoded;
};

const structuredClone = (value) => {
  const seen = new Map();
  const refuse = (what) => {
    throw new DOMException(`${what} cannot be cloned`, "DataCloneError");
  };
  const copy = (value) => {
    if (typeof value === "function" || typeof value === "symbol") refuse(`a ${typeof value}`);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const remember = (made) => {
      seen.set(value, made);
      return made;
    };
    if (value instanceof Date) return remember(new Date(value));
    if (value instanceof RegExp) return remember(new RegExp(value.source, value.flags));
    if (value instanceof ArrayBuffer) return remember(value.slice(0));
    if (value instanceof DataView) return remember(new DataView(copy(value.buffer), value.byteOffset, value.byteLength));
    if (isView(value)) return remember(new value.constructor(copy(value.buffer), value.byteOffset, value.length));
    if (value instanceof Map) {
      const made = remember(new Map());
      for (const [key, held] of value) made.set(copy(key), copy(held));
      return made;
    }
    if (value instanceof Set) {
      const made = remember(new Set());
      for (const held of value) made.add(copy(held));
      return made;
    }
    if (value instanceof Error) {
      const made = remember(Object.create(Object.getPrototypeOf(value)));
      for (const key of ["name", "message", "stack", "cause"]) {
        if (key in value) Object.defineProperty(made, key, { value: copy(value[key]), writable: true, configurable: true });
      }
      return made;
    }
    if (value instanceof Promise || value instanceof WeakMap || value instanceof Headers || value instanceof Body) {
      refuse(`a ${value.constructor.name}`);
    }
    const made = remember(Array.isArray(value) ? new Array(value.length) : {});
    for (const key of Object.keys(value)) made[key] = copy(value[key]);
    return made;
  };
  return copy(value);
};

const INSPECT_DEPTH = 4;
const INSPECT_ITEMS = 100;

const inspect = (value, depth = 0, above = []) => {
  if (typeof value === "string") return depth ? JSON.stringify(value) : value;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `[Function: ${value.name || "anonymous"}]`;
  if (typeof value !== "object" || value === null) return String(value);
  if (above.includes(value)) return "[Circular]";
  if (value instanceof Error) return errorText(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  const name = value.constructor?.name ?? "";
  if (depth > INSPECT_DEPTH) return Array.isArray(value) ? "[Array]" : `[${name || "Object"}]`;
  const inner = (held) => inspect(held, depth + 1, [...above, value]);
  const cut = (items, total) => (total > INSPECT_ITEMS ? [...items, `... ${total - INSPECT_ITEMS} more`] : items);
  if (Array.isArray(value) || (isView(value) && !(value instanceof DataView))) {
    const items = cut(Array.from(value.slice(0, INSPECT_ITEMS), inner), value.length).join(", ");
    return Array.isArray(value) ? `[${items && ` ${items} `}]` : `${name}(${value.length}) [${items && ` ${items} `}]`;
  }
  const first = (entries) => [...entries].slice(0, INSPECT_ITEMS);
  let prefix = name && name !== "Object" ? `${name} ` : "";
  let items;
  if (value instanceof Map) {
    items = cut(first(value).map(([key, held]) => `${inner(key)} => ${inner(held)}`), value.size);
  } else if (value instanceof Set) {
    items = cut(first(value).map(inner), value.size);
  } else if (value instanceof Headers || value instanceof URLSearchParams) {
    items = first(value).map(([key, held]) => `${key}: ${inner(held)}`);
  } else {
    if (value instanceof URL) return value.href;
    const keys = Object.keys(value);
    items = cut(keys.slice(0, INSPECT_ITEMS).map((key) => `${key}: ${inner(value[key])}`), keys.length);
  }
  return items.length ? `${prefix}{ ${items.join(", ")} }` : `${prefix}{}`;
};

const errorText = (error) => {
  const head = `${error.name}: ${error.message}`;
  const stack = native.sourceLines(String(error.stack ?? "").trimEnd());
  const cause = error.cause === undefined ? "" : `\ncaused by: ${inspect(error.cause, 1)}`;
  return (stack ? `${head}\n${stack}` : head) + cause;
};

// Also of values whose own code throws when they are looked at.
const shown = (value) => {
  try {
    return inspect(value);
  } catch {
    return "[cannot be shown]";
  }
};

// What one call of console writes.
const format = (values) => {
  let texts = values;
  if (typeof values[0] === "string" && values[0].includes("%")) {
    let next = 1;
    const filled = values[0].replace(/%[sdifoOj%]/g, (mark) => {
      if (mark === "%%") return "%";
      if (next >= values.length) return mark;
      const value = values[next++];
      if (mark === "%d" || mark === "%i") return String(mark === "%i" ? Math.trunc(Number(value)) : Number(value));
      if (mark === "%f") return String(Number(value));
      if (mark === "%j") return JSON.stringify(value);
      return mark === "%s" && typeof value !== "object" ? String(value) : inspect(value, 1);
    });
    texts = [filled, ...values.slice(next)];
  }
  return texts.map(shown).join(" ");
};
