// Renders the Markdown in the request's body as HTML.
const { marked } = require('marked');

exports.handler = async (event) => {
  const body = event.body ?? '';
  const markdown = event.isBase64Encoded ? Buffer.from(body, 'base64').toString() : body;
  if (markdown.trim() === '') {
    return { statusCode: 400, headers: { 'content-type': 'text/plain' }, body: 'post some Markdown\n' };
  }
  const html = await marked.parse(markdown);
  console.log(`${markdown.length} characters in, ${html.length} out`);
  return { statusCode: 200, headers: { 'content-type': 'text/html; charset=utf-8' }, body: html };
};
