export default {
  fetch(_request, env) {
    console.log("it is", env.API_KEY);
    return new Response([...env.API_KEY].reverse().join(""));
  },
};
