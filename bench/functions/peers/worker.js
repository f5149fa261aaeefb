// The smallest handler and the echo, for workerd.
export default {
  async fetch(request) {
    if (new URL(request.url).pathname === '/echo') return new Response(await request.arrayBuffer());
    return new Response('Hello, World!\n');
  },
};
