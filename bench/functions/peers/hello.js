// The smallest handler, for functions-framework.
const framework = require('@google-cloud/functions-framework');

framework.http('hello', (request, response) => response.type('text/plain').send('Hello, World!\n'));
