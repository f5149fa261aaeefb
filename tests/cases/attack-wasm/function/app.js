addEventListener('fetch', (event) => event.respondWith(attack(event.request)));

async function attack(request) {
  const [port, controlPort, hostAddress] = (await request.text()).split(' ');
  const hosts = ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', hostAddress];
  const targets = ['http://169.254.169.254/', 'http://[fd00:ec2::254]/'];
  for (const host of hosts) {
    targets.push(`http://${host}:${port}/`, `http://${host}:${controlPort}/v1/functions`);
  }
  const succeeded = [];
  for (const target of targets) {
    try {
      const answer = await fetch(target);
      succeeded.push(`${target} ${answer.status}`);
    } catch {
      // As it should be.
    }
  }
  return new Response(JSON.stringify({ succeeded, control: 'this guest runs' }));
}
