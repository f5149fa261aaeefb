// The smallest handler and the echo, for functions-framework.
const framework = require('@google-cloud/functions-framework');

framework.http('hello', (request, response) => {
  if (request.path === '/echo') response.type('text/plain').send(request.rawBody);
  else response.type('text/plain').send('Hello, World!\n');
});
