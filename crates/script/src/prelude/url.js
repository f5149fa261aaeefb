// URL and URLSearchParams; parsing and serialising is the platform's.
const PARTS = ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

class URLSearchParams {
  #list = [];
  #changed = null;

  constructor(init = "") {
    if (typeof init === "object" && init !== null) {
      const pairs = init[Symbol.iterator] ? [...init] : Object.entries(init);
      for (const pair of pairs) {
        const [name, value, ...more] = pair;
        if (value === undefined || more.length) throw new TypeError("a parameter is a pair of a name and a value");
        this.#list.push([`${name}`, `${value}`]);
      }
    } else {
      this.#parse(`${init}`);
    }
  }

  static bind(query, changed) {
    const parameters = new URLSearchParams(query);
    parameters.#changed = changed;
    return parameters;
  }

  static replace(parameters, query) {
    parameters.#parse(query);
  }

  #parse(query) {
    const fields = native.parseQuery(query.startsWith("?") ? query.slice(1) : query);
    this.#list = [];
    for (let i = 0; i + 1 < fields.length; i += 2) this.#list.push([fields[i], fields[i + 1]]);
  }

  #set(list) {
    this.#list = list;
    this.#changed?.(this.toString());
  }

  get size() {
    return this.#list.length;
  }

  append(name, value) {
    this.#set([...this.#list, [`${name}`, `${value}`]]);
  }

  delete(name, value) {
    this.#set(this.#list.filter(([key, held]) => key !== `${name}` || (value !== undefined && held !== `${value}`)));
  }

  get(name) {
    return this.#list.find(([key]) => key === `${name}`)?.[1] ?? null;
  }

  getAll(name) {
    return this.#list.filter(([key]) => key === `${name}`).map(([, value]) => value);
  }

  has(name, value) {
    return this.#list.some(([key, held]) => key === `${name}` && (value === undefined || held === `${value}`));
  }

  set(name, value) {
    const at = this.#list.findIndex(([key]) => key === `${name}`);
    const list = this.#list.filter(([key], i) => key !== `${name}` || i === at);
    if (at < 0) list.push([`${name}`, `${value}`]);
    else list[at] = [`${name}`, `${value}`];
    this.#set(list);
  }

  sort() {
    this.#set([...this.#list].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }

  forEach(callback, thisArg) {
    for (const [name, value] of this.#list) callback.call(thisArg, value, name, this);
  }

  *entries() {
    for (const [name, value] of this.#list) yield [name, value];
  }

  *keys() {
    for (const [name] of this.#list) yield name;
  }

  *values() {
    for (const [, value] of this.#list) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  toString() {
    return native.formatQuery(this.#list.flat());
  }
}
const boundParams = URLSearchParams.bind;
const replaceParams = URLSearchParams.replace;
delete URLSearchParams.bind;
delete URLSearchParams.replace;
tag(URLSearchParams);

class URL {
  #href;
  #parts = null;
  #parameters = null;

  constructor(url, base) {
    const href = native.parseUrl(`${url}`, base === undefined ? undefined : `${base}`);
    if (href === undefined) throw new TypeError(`${JSON.stringify(`${url}`)} is not a valid URL`);
    this.#href = href;
  }

  static canParse(url, base) {
    return native.parseUrl(`${url}`, base === undefined ? undefined : `${base}`) !== undefined;
  }

  static parse(url, base) {
    return URL.canParse(url, base) ? new URL(url, base) : null;
  }

  static read(url, part) {
    return (url.#parts ??= native.splitUrl(url.#href))[part];
  }

  static write(url, part, value) {
    url.#href = native.changeUrl(url.#href, part, `${value}`);
    url.#parts = null;
    if (part === "search" && url.#parameters) replaceParams(url.#parameters, url.search);
  }

  get href() {
    return this.#href;
  }

  set href(value) {
    this.#href = new URL(value).href;
    this.#parts = null;
    if (this.#parameters) replaceParams(this.#parameters, this.search);
  }

  get origin() {
    return readUrl(this, PARTS.length);
  }

  get searchParams() {
    return (this.#parameters ??= boundParams(this.search, (query) => {
      this.#href = native.changeUrl(this.#href, "search", query);
      this.#parts = null;
    }));
  }

  toString() {
    return this.#href;
  }

  toJSON() {
    return this.#href;
  }
}
const readUrl = URL.read;
const writeUrl = URL.write;
delete URL.read;
delete URL.write;
PARTS.forEach((part, at) => {
  Object.defineProperty(URL.prototype, part, {
    configurable: true,
    enumerable: true,
    get() { return readUrl(this, at); },
    set(value) { writeUrl(this, part, value); },
  });
});
tag(URL);
