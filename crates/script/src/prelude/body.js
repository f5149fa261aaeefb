// Bodies of requests and responses: a text, bytes, or a stream, as they were given.
const kSource = Symbol("source"); // string, Uint8Array, ReadableStream or null
const kStream = Symbol("stream"); // the stream that `body` made of the source
const kUsed = Symbol("used");
const NULL_BODY_STATUS = [101, 204, 205, 304];

// The source of a body and the content type that follows from it.
const extract = (value) => {
  if (typeof value === "string") return [value, "text/plain;charset=UTF-8"];
  if (value === null || value === undefined) return [null, null];
  if (value instanceof ArrayBuffer) return [new Uint8Array(value.slice(0)), null];
  if (isView(value)) return [toBytes(value).slice(), null];
  if (loaded !== null && value instanceof loaded.URLSearchParams) return [value.toString(), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (isStream(value)) {
    if (value.locked || loaded.streamState(value).isDisturbed) throw new TypeError("the stream was read already");
    return [value, null];
  }
  if (typeof value === "object" && value[Symbol.asyncIterator]) return [more().ReadableStream.from(value), null];
  return [`${value}`, "text/plain;charset=UTF-8"];
};

const chunkBytes = (chunk) => {
  if (typeof chunk === "string") return utf8(chunk);
  if (chunk instanceof ArrayBuffer || isView(chunk)) return toBytes(chunk);
  throw new TypeError("a body is made of texts and bytes");
};

class Body {
  get body() {
    if (this[kStream]) return this[kStream];
    const source = this[kSource];
    if (source === null) return null;
    if (isStream(source)) return (this[kStream] = source);
    this[kStream] = new (more().ReadableStream)({
      pull(controller) {
        const bytes = chunkBytes(source);
        if (bytes.length) controller.enqueue(bytes);
        controller.close();
      },
    }, { highWaterMark: 0 });
    return this[kStream];
  }

  get bodyUsed() {
    return Boolean(this[kUsed] || (this[kStream] && loaded.streamState(this[kStream]).isDisturbed));
  }

  async bytes() {
    const whole = takeWhole(this);
    if (whole !== undefined) return whole === null ? new Uint8Array() : chunkBytes(whole).slice();
    return gather(this.body);
  }

  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.buffer.byteLength === bytes.length ? bytes.buffer : bytes.slice().buffer;
  }

  async text() {
    const whole = takeWhole(this);
    if (typeof whole === "string") return whole;
    if (whole === null) return "";
    return native.decode(whole ?? (await gather(this.body)), false, false);
  }

  async json() {
    return JSON.parse(await this.text());
  }

  async formData() {
    throw new TypeError("form data is not supported: read text() into URLSearchParams");
  }
}

// The source where it is there as a whole, marked as used; undefined for a stream.
const takeWhole = (holder) => {
  if (holder.bodyUsed || (holder[kStream] && holder[kStream].locked)) throw new TypeError("the body was read already");
  const source = holder[kSource];
  if (isStream(source)) return undefined;
  holder[kUsed] = source !== null;
  return source;
};

const gather = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunkBytes(chunk));
  return chunks.length === 0 ? new Uint8Array() : joined(chunks);
};

// Two sources of one, for clone().
const split = (holder) => {
  if (holder.bodyUsed || (holder[kStream] && holder[kStream].locked)) throw new TypeError("the body was read already");
  if (!isStream(holder[kSource])) return holder[kSource];
  const [mine, other] = holder[kSource].tee();
  holder[kSource] = mine;
  holder[kStream] = null;
  return other;
};
