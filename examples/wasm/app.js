addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === '/echo') return new Response(await request.arrayBuffer());
  console.log(`greeting ${searchParams.get('name') ?? 'nobody'}`);
  return new Response(`hello, ${searchParams.get('name') ?? 'world'}\n`);
}
