interface Greeting {
  message: string;
  path: string;
}

export default {
  async fetch(request: Request, env: Record<string, string>): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const name = searchParams.get("name") ?? "world";
    console.log(`greeting ${name}`);
    const greeting: Greeting = { message: `Hello, ${name}, from ${env.ALULA_FUNCTION}!`, path: pathname };
    return Response.json(greeting);
  },
};
