let calls = 0;
(globalThis as any).neighbour = "seen";

export default () => new Response(`${++calls}`);
