// ReadableStream: default readers only, one chunk at a time; what a body needs and no more.
class ReadableStreamDefaultController {
  #stream;

  constructor(stream) {
    this.#stream = stream;
  }

  get desiredSize() {
    return streamState(this.#stream).desiredSize();
  }

  enqueue(chunk) {
    streamState(this.#stream).enqueue(chunk);
  }

  close() {
    streamState(this.#stream).close();
  }

  error(reason) {
    streamState(this.#stream).fail(reason);
  }
}

// The state of a stream, apart from its public object so that nothing of it shows.
class StreamState {
  constructor(source, highWaterMark) {
    this.source = source;
    this.highWaterMark = highWaterMark;
    this.queue = [];
    this.waiting = [];
    this.isClosing = false;
    this.outcome = null; // { error } once nothing more comes
    this.isPulling = false;
    this.reader = null;
    this.isDisturbed = false;
    this.closed = null;
  }

  desiredSize() {
    if (this.outcome) return "error" in this.outcome ? null : 0;
    return this.highWaterMark - this.queue.length;
  }

  enqueue(chunk) {
    if (this.outcome || this.isClosing) throw new TypeError("the stream is closed");
    const first = this.waiting.shift();
    if (first) first.resolve({ value: chunk, done: false });
    else this.queue.push(chunk);
  }

  close() {
    if (this.outcome || this.isClosing) throw new TypeError("the stream is closed already");
    this.isClosing = true;
    if (!this.queue.length) this.end({});
  }

  fail(reason) {
    if (this.outcome) return;
    this.queue = [];
    this.end({ error: reason });
  }

  end(outcome) {
    this.outcome = outcome;
    for (const waiter of this.waiting.splice(0)) {
      if ("error" in outcome) waiter.reject(outcome.error);
      else waiter.resolve({ value: undefined, done: true });
    }
    if ("error" in outcome) this.closed?.reject(outcome.error);
    else this.closed?.resolve();
  }

  async pull(controller) {
    if (this.isPulling || this.outcome || this.isClosing || !this.source.pull) return;
    if (!this.waiting.length && this.queue.length >= this.highWaterMark) return;
    this.isPulling = true;
    try {
      await this.source.pull(controller);
      this.isPulling = false;
      if (this.waiting.length) this.pull(controller);
    } catch (error) {
      this.fail(error);
    }
  }

  read(controller) {
    this.isDisturbed = true;
    if (this.queue.length) {
      const value = this.queue.shift();
      if (this.isClosing && !this.queue.length) this.end({});
      else this.pull(controller);
      return Promise.resolve({ value, done: false });
    }
    if (this.outcome) {
      if ("error" in this.outcome) return Promise.reject(this.outcome.error);
      return Promise.resolve({ value: undefined, done: true });
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.pull(controller);
    });
  }

  async cancel(reason) {
    this.isDisturbed = true;
    if (this.outcome) {
      if ("error" in this.outcome) throw this.outcome.error;
      return;
    }
    this.queue = [];
    this.end({});
    await this.source.cancel?.(reason);
  }
}

class ReadableStreamDefaultReader {
  #stream;
  #closed = Promise.withResolvers();

  constructor(stream) {
    const state = streamState(stream);
    if (state.reader) throw new TypeError("the stream is locked to another reader");
    this.#stream = stream;
    state.reader = this;
    state.closed = this.#closed;
    this.#closed.promise.catch(() => {});
    if (state.outcome) state.end(state.outcome);
  }

  get closed() {
    return this.#closed.promise;
  }

  #state() {
    if (!this.#stream) throw new TypeError("the reader was released");
    return streamState(this.#stream);
  }

  async read() {
    return this.#state().read(streamController(this.#stream));
  }

  async cancel(reason) {
    return this.#state().cancel(reason);
  }

  releaseLock() {
    if (!this.#stream) return;
    const state = this.#state();
    for (const waiter of state.waiting.splice(0)) waiter.reject(new TypeError("the reader was released"));
    state.reader = null;
    state.closed = null;
    this.#stream = null;
  }
}
tag(ReadableStreamDefaultReader);

class ReadableStream {
  #state;
  #controller;

  static state(stream) {
    return stream.#state;
  }

  static controller(stream) {
    return stream.#controller;
  }

  constructor(source = {}, strategy = {}) {
    this.#state = new StreamState(source, strategy.highWaterMark ?? 1);
    this.#controller = new ReadableStreamDefaultController(this);
    const started = source.start?.(this.#controller);
    if (started && typeof started.then === "function") {
      this.#state.isPulling = true;
      started.then(() => {
        this.#state.isPulling = false;
        this.#state.pull(this.#controller);
      }, (error) => this.#state.fail(error));
    } else {
      // Not before the constructor has returned, and not at all where nobody reads: bodies are pulled.
      if (this.#state.highWaterMark > 0 && source.pull) Promise.resolve().then(() => this.#state.pull(this.#controller));
    }
  }

  static from(iterable) {
    const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]();
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel(reason) {
        await iterator.return?.(reason);
      },
    }, { highWaterMark: 0 });
  }

  get locked() {
    return this.#state.reader !== null;
  }

  getReader() {
    return new ReadableStreamDefaultReader(this);
  }

  async cancel(reason) {
    if (this.locked) throw new TypeError("the stream is locked to a reader");
    return this.#state.cancel(reason);
  }

  tee() {
    const reader = this.getReader();
    const branches = [];
    const pull = async () => {
      const { value, done } = await reader.read();
      for (const branch of branches) {
        if (done) branch.close();
        else branch.enqueue(value);
      }
    };
    let isPulling = null;
    const make = () => new ReadableStream({
      start(controller) { branches.push(controller); },
      pull: () => (isPulling ??= pull().finally(() => { isPulling = null; })),
    }, { highWaterMark: 0 });
    return [make(), make()];
  }

  async *values() {
    const reader = this.getReader();
    let isDone = false;
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) {
          isDone = true;
          return;
        }
        yield value;
      }
    } finally {
      if (!isDone) await reader.cancel();
      reader.releaseLock();
    }
  }

  [Symbol.asyncIterator]() {
    return this.values();
  }
}
const streamState = ReadableStream.state;
const streamController = ReadableStream.controller;
delete ReadableStream.state;
delete ReadableStream.controller;
tag(ReadableStream);
