"use strict";
// What a process does before it knows which function it will run: loads what Node loads at first use, and one call
// from end to end. Nothing of it can be seen by the function.

const CALLS = 3; // the first ones fill caches
const EVENT = 0x20;
const META = ["POST", "/path?name=value", "127.0.0.1", "id", "0", "0", "host", "localhost", "content-type", "application/json"];

function sampleCalls() {
  const silent = { begin() {}, ended() {}, failed() {}, link: { send() {} } };
  const handler = (event) => ({ statusCode: 200, headers: { "content-type": "application/json" }, body: JSON.stringify({ event }) });
  const settings = { function: "x", version: "1", namespace: "x", instance: "x", memory_mb: "1", responseBytesMax: 1e6 };
  const { serve } = require("./event.cjs")(silent, settings, handler);
  const body = Buffer.from('{"key":[1,2.5,"text"]}');
  for (let i = 0; i < CALLS; i++) {
    serve(1, 0, Buffer.from(META.join("\0"), "latin1"), body);
    serve(1, EVENT, Buffer.from(META.join("\0"), "latin1"), body);
  }
}

module.exports = async () => {
  require("./arena.cjs");
  for (const name of ["async_hooks", "buffer", "events", "fs", "module", "os", "path", "stream", "url", "util"]) require(name);
  require("crypto").createHash("sha256").update("x").digest("hex");
  require("util").formatWithOptions({}, "%s", { a: 1 });
  sampleCalls();
  // The loader of modules in module syntax.
  await import("data:text/javascript,export default 1");
};
