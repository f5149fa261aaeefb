// Events and abort signals.
class Event {
  constructor(type, init = {}) {
    this.type = `${type}`;
    this.bubbles = Boolean(init.bubbles);
    this.cancelable = Boolean(init.cancelable);
    this.defaultPrevented = false;
    this.target = null;
    this.currentTarget = null;
    this.timeStamp = performance.now();
  }

  preventDefault() {
    if (this.cancelable) this.defaultPrevented = true;
  }

  stopPropagation() {}

  stopImmediatePropagation() {
    this.isStopped = true;
  }
}
tag(Event);

class EventTarget {
  #listeners = new Map();

  addEventListener(type, callback, options) {
    if (!callback) return;
    const listeners = this.#listeners.get(type) ?? [];
    if (listeners.some((listener) => listener.callback === callback)) return;
    listeners.push({ callback, once: Boolean(options?.once) });
    this.#listeners.set(type, listeners);
  }

  removeEventListener(type, callback) {
    const left = this.#listeners.get(type)?.filter((listener) => listener.callback !== callback);
    if (left) this.#listeners.set(type, left);
  }

  dispatchEvent(event) {
    event.target = event.currentTarget = this;
    const handlers = [...(this.#listeners.get(event.type) ?? [])];
    const property = this[`on${event.type}`];
    if (typeof property === "function") handlers.unshift({ callback: property });
    for (const { callback, once } of handlers) {
      if (event.isStopped) break;
      if (once) this.removeEventListener(event.type, callback);
      try {
        if (typeof callback === "function") callback.call(this, event);
        else callback.handleEvent(event);
      } catch (error) {
        console.error("uncaught", error);
      }
    }
    return !event.defaultPrevented;
  }
}
tag(EventTarget);

class AbortSignal extends EventTarget {
  #reason = undefined;
  #aborted = false;
  onabort = null;

  get aborted() {
    return this.#aborted;
  }

  get reason() {
    return this.#reason;
  }

  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }

  static trigger(signal, reason) {
    if (signal.#aborted) return;
    signal.#aborted = true;
    signal.#reason = reason === undefined ? new DOMException("the operation was aborted", "AbortError") : reason;
    signal.dispatchEvent(new Event("abort"));
  }

  static abort(reason) {
    const signal = new AbortSignal();
    abortSignal(signal, reason);
    return signal;
  }

  static timeout(ms) {
    const signal = new AbortSignal();
    setTimeout(() => abortSignal(signal, new DOMException("the operation took too long", "TimeoutError")), ms);
    return signal;
  }

  static any(signals) {
    const any = new AbortSignal();
    for (const signal of signals) {
      if (signal.aborted) abortSignal(any, signal.reason);
      else signal.addEventListener("abort", () => abortSignal(any, signal.reason), { once: true });
    }
    return any;
  }
}
const abortSignal = AbortSignal.trigger;
delete AbortSignal.trigger;
tag(AbortSignal);

class AbortController {
  signal = new AbortSignal();

  abort(reason) {
    abortSignal(this.signal, reason);
  }
}
tag(AbortController);
