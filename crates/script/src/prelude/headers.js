// Headers: kept as one flat text (name NUL value NUL ...) until somebody looks into them.
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

const headerName = (name) => {
  const text = `${name}`;
  if (!TOKEN.test(text)) throw new TypeError(`${JSON.stringify(text)} is not the name of a header`);
  return text.toLowerCase();
};

const headerValue = (value) => {
  const text = `${value}`.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  // eslint-disable-next-line no-control-regex
  if (/[\0\n\r]|[^\0-\xff]/.test(text)) throw new TypeError("a header's value has a character that cannot be sent");
  return text;
};

class Headers {
  #flat = null;
  #list = [];

  constructor(init) {
    if (init === undefined || init === null) return;
    if (init instanceof Headers) {
      this.#list = init.#entries().map((pair) => [...pair]);
    } else if (typeof init !== "object") {
      throw new TypeError("headers are made of an object or of pairs");
    } else if (init[Symbol.iterator]) {
      for (const pair of init) {
        const [name, value, ...more] = pair;
        if (value === undefined || more.length) throw new TypeError("a header is a pair of a name and a value");
        this.append(name, value);
      }
    } else {
      for (const name of Object.keys(init)) this.append(name, init[name]);
    }
  }

  static of(flat) {
    const headers = new Headers();
    headers.#flat = flat;
    return headers;
  }

  static flatten(headers) {
    if (headers.#flat !== null) return headers.#flat;
    let flat = "";
    for (const [name, value] of headers.#list) flat += flat ? `\0${name}\0${value}` : `${name}\0${value}`;
    return flat;
  }

  #entries() {
    if (this.#flat !== null) {
      const fields = this.#flat === "" ? [] : this.#flat.split("\0");
      this.#flat = null;
      for (let i = 0; i + 1 < fields.length; i += 2) this.#list.push([fields[i], fields[i + 1]]);
    }
    return this.#list;
  }

  // In the order of the Fetch standard: sorted, combined, but each Set-Cookie by itself.
  #sorted() {
    const combined = new Map();
    const cookies = [];
    for (const [name, value] of this.#entries()) {
      if (name === "set-cookie") cookies.push([name, value]);
      else combined.set(name, combined.has(name) ? `${combined.get(name)}, ${value}` : value);
    }
    return [...combined, ...cookies].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  }

  append(name, value) {
    this.#entries().push([headerName(name), headerValue(value)]);
  }

  delete(name) {
    const lower = headerName(name);
    this.#list = this.#entries().filter(([other]) => other !== lower);
  }

  get(name) {
    const lower = headerName(name);
    let found = null;
    for (const [other, value] of this.#entries()) {
      if (other === lower) found = found === null ? value : `${found}, ${value}`;
    }
    return found;
  }

  getSetCookie() {
    return this.#entries().filter(([name]) => name === "set-cookie").map(([, value]) => value);
  }

  has(name) {
    const lower = headerName(name);
    return this.#entries().some(([other]) => other === lower);
  }

  set(name, value) {
    const pair = [headerName(name), headerValue(value)];
    const at = this.#entries().findIndex(([other]) => other === pair[0]);
    this.#list = this.#list.filter(([other]) => other !== pair[0]);
    if (at < 0) this.#list.push(pair);
    else this.#list.splice(at, 0, pair);
  }

  forEach(callback, thisArg) {
    for (const [name, value] of this) callback.call(thisArg, value, name, this);
  }

  *entries() {
    yield* this.#sorted();
  }

  *keys() {
    for (const [name] of this.#sorted()) yield name;
  }

  *values() {
    for (const [, value] of this.#sorted()) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}
const flatHeaders = Headers.of;
const flattenHeaders = Headers.flatten;
delete Headers.of;
delete Headers.flatten;
tag(Headers);
