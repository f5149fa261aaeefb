// A Lambda function as it stands in its own documentation: nothing here knows where it runs.
exports.handler = async (event, context) => {
  if (event.rawQueryString === "fail") throw new Error("asked to fail");
  const name = event.name ?? event.queryStringParameters.name;
  return { hello: name, version: context.functionVersion };
};
