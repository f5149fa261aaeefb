// Tries to get at what is not its own, and to take more than its share.

const attempt = async (act: () => unknown): Promise<string> => {
  try {
    await act();
    return "succeeded";
  } catch {
    return "refused";
  }
};

const reach = async (env: Record<string, string>) => ({
  eval: await attempt(() => (0, eval)("1 + 1")),
  constructor: await attempt(() => (async () => {}).constructor("return 1")()),
  process: typeof (globalThis as any).process,
  require: typeof (globalThis as any).require,
  import: await attempt(() => {
    const name = "./main.ts";
    return (globalThis as any).Function(`return import(${JSON.stringify(name)})`)();
  }),
  neighbour: typeof (globalThis as any).neighbour,
  secret: typeof env.SECRET,
  fetch: await attempt(() => fetch("http://127.0.0.1/")),
});

export default async (request: Request, env: Record<string, string>): Promise<Response> => {
  switch (new URL(request.url).search) {
    case "?reach":
      return Response.json(await reach(env));
    case "?loop":
      for (;;);
    case "?jobs": {
      // Each ends before the next begins, so that it is time and not memory that they take.
      const again = (): void => void Promise.resolve().then(again);
      again();
      return new Promise(() => {});
    }
    case "?memory": {
      const all: Uint8Array[] = [];
      for (;;) all.push(new Uint8Array(1 << 20).fill(1));
    }
    case "?recursion": {
      const down = (): number => down() + 1;
      return new Response(`${down()}`);
    }
    case "?builtin":
      // One function of the engine that runs for a long time and never looks whether it should stop.
      return new Response(new Array(2 ** 32 - 1).join(""));
    default:
      Promise.reject(new Error("nobody looks at me"));
      return new Response("fine");
  }
};
