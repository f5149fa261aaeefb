import { catalogue, discount } from "./catalogue";

interface Line {
  item: string;
  count: number;
}

function total({ item, count }: Line): number {
  const cents = catalogue[item];
  if (cents === undefined) throw new RangeError(`nobody sells ${item}`);
  return Math.round((cents * count * (100 - discount(count))) / 100);
}

async function order(request: Request): Promise<Response> {
  try {
    const lines: Line[] = await request.json();
    const cents = lines.map(total).reduce((sum, price) => sum + price, 0);
    return Response.json({ cents });
  } catch (error) {
    console.warn("refused:", error);
    return Response.json({ error: (error as Error).message }, { status: 400 });
  }
}

export default {
  async fetch(request: Request): Promise<Response> {
    if (request.method === "POST") return order(request);
    const item = new URL(request.url).searchParams.get("item") ?? "apple";
    return Response.json({ item, cents: catalogue[item] ?? null });
  },
};
