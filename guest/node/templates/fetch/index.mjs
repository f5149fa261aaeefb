import { setTimeout as delay } from "node:timers/promises";

async function* ticks() {
  for (let count = 0; count < 3; count++) {
    yield new TextEncoder().encode(`tick ${count}\n`);
    await delay(200);
  }
}

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/ticks") return new Response(ReadableStream.from(ticks()));
    return Response.json({ method: request.method, pathname });
  },
};
