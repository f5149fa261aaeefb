// What every other file of the prelude uses. The files are joined into two modules, in the order of prelude.rs: one
// that every context has, and one that is loaded when a script first needs something of it.
let native; // the functions of the platform
const define = (names) => {
  for (const [name, value] of Object.entries(names)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
};
const tag = (constructor, name = constructor.name) =>
  Object.defineProperty(constructor.prototype, Symbol.toStringTag, { value: name, configurable: true });
const utf8 = (text) => native.encode(text) ?? native.encode(text.toWellFormed());
const isView = (value) => ArrayBuffer.isView(value);
const toBytes = (value) =>
  value instanceof Uint8Array ? value
    : value instanceof ArrayBuffer ? new Uint8Array(value)
      : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
const joined = (chunks) => {
  if (chunks.length === 1) return chunks[0];
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
};

let loaded = null;
const more = () => (loaded ??= native.loadMore());
// Without the second module no such value can exist.
const isStream = (value) => loaded !== null && value instanceof loaded.ReadableStream;
