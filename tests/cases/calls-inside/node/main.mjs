export const handler = async (event) => {
  const answer = await fetch(`${process.env.ALULA_FUNCTIONS_URL}/function/told`, { method: "POST", body: event.body });
  return answer.json();
};
