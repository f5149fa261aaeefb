exports.handler = async () => [...process.env.API_KEY].reverse().join("");
