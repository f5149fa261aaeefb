// console: a plain text goes straight into the log, everything else is formatted first.
const say = (level) => (...values) => {
  const isPlain = values.length === 1 && typeof values[0] === "string" && !values[0].includes("%");
  native.log(level, isPlain ? values[0] : more().format(values));
};

const marks = new Map();
const console = {
  debug: say(0),
  log: say(1),
  info: say(1),
  warn: say(2),
  error: say(3),
  trace: (...values) => say(0)(...values, `\n${native.sourceLines(new Error().stack)}`),
  dir: (value) => say(1)(value),
  assert: (condition, ...values) => condition || say(3)("assertion failed:", ...values),
  time: (label = "default") => { marks.set(label, performance.now()); },
  timeEnd: (label = "default") => {
    if (marks.has(label)) say(1)(`${label}: ${(performance.now() - marks.get(label)).toFixed(3)} ms`);
    marks.delete(label);
  },
};
