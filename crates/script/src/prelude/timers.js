// Timers: the platform keeps the time, the callbacks stay here.
const timers = new Map();
let lastTimer = 0;

const startTimer = (callback, ms, args, repeat) => {
  if (typeof callback !== "function") throw new TypeError("a timer needs a function");
  const wait = Math.max(0, Number(ms) || 0);
  lastTimer += 1;
  timers.set(lastTimer, { callback, args, wait, repeat });
  native.startTimer(lastTimer, wait);
  return lastTimer;
};

const stopTimer = (id) => {
  if (timers.delete(id)) native.stopTimer(id);
};

const fireTimer = (id) => {
  const timer = timers.get(id);
  if (!timer) return;
  if (timer.repeat) native.startTimer(id, timer.wait);
  else timers.delete(id);
  try {
    timer.callback(...timer.args);
  } catch (error) {
    console.error("uncaught in a timer:", error);
  }
};
