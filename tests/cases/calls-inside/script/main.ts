export default {
  async fetch(request: Request, env: Record<string, string>): Promise<Response> {
    return fetch(`${env.ALULA_FUNCTIONS_URL}/function/told`, { method: "POST", body: await request.text() });
  },
};
