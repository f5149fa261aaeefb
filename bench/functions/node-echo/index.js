exports.handler = async (event) => ({ statusCode: 200, headers: { 'content-type': 'text/plain' }, body: event.body });
