export const handler = (event, context) => {
  if (event.rawPath === undefined) return [event.n, context.awsRequestId.length > 0];
  const text = `${event.queryStringParameters.name} at ${event.rawPath}: ${event.body}`;
  return { statusCode: 201, headers: { "content-type": "text/plain; charset=utf-8" }, body: text };
};
