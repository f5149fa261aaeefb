interface Event {
  rawPath: string;
  queryStringParameters?: Record<string, string>;
}

export async function handler(event: Event, context: { awsRequestId: string }) {
  const name = event.queryStringParameters?.name ?? "world";
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, path: event.rawPath, id: context.awsRequestId };
}
