addEventListener('fetch', (event) => event.respondWith(ask(event.request)));

async function ask(request) {
  const host = new URL(request.url).pathname === '/gateway' ? 'gateway:8080' : '127.0.0.1:3129';
  const answer = await fetch(`http://${host}/function/told-by-wasm`, { method: 'POST', body: await request.text() });
  return new Response(await answer.text());
}
