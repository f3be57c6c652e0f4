// The last ten minutes, as the server keeps them, and each further second as it comes.

import { ask } from "./session.js";

export const TEN_MINUTES = 600;
const HOLE = 5000; // ms without a second: nobody knows what was between

/** The oldest first, each as `second` of /stats has it. */
export let seconds = [];

/** Fetch them; what has come meanwhile stays. */
export async function remember(signal) {
  const columns = await ask("stats/history", signal);
  if (columns === null) return;
  const names = Object.keys(columns);
  const fetched = columns.time.map((_, at) => Object.fromEntries(names.map((name) => [name, columns[name][at]])));
  const newest = fetched.at(-1)?.time ?? 0;
  seconds = [...fetched, ...seconds.filter(({ time }) => time > newest && newest > 0)];
}

export function add(second) {
  if (!second || second.time <= (seconds.at(-1)?.time ?? 0)) return; // replayed after a reconnect
  seconds.push(second);
  const since = second.time - 1000 * TEN_MINUTES;
  while (seconds[0].time < since) seconds.shift();
}

/** How often it happened in the last ten minutes. */
export function total(name) {
  let sum = 0, before = 0;
  for (const second of seconds) {
    sum += second[name] * Math.min((second.time - before) / 1000, before ? HOLE / 1000 : 1);
    before = second.time;
  }
  return Math.round(sum);
}

/** [time, value] of a window, one for each `step` ms of the clock, so that a point stays what it is as time goes on; a hole
 * is [time, null]. `most`: of several seconds the largest value, not the mean. */
export function points(value, since, step, most) {
  const found = [];
  let bucket = -1, values = [], last = 0;
  const close = () => {
    if (values.length) {
      found.push([(bucket + 0.5) * step, most ? Math.max(...values) : values.reduce((a, b) => a + b) / values.length]);
    }
    values = [];
  };
  for (const second of seconds) {
    if (second.time < since) { last = second.time; continue; }
    const at = Math.floor(second.time / step);
    if (at !== bucket) close();
    if (last && second.time - last > HOLE && found.length) found.push([second.time, null]);
    bucket = at;
    last = second.time;
    const is = value(second);
    if (is !== null) values.push(is);
    else if (!values.length && found.length && found.at(-1)[1] !== null) found.push([second.time, null]);
  }
  close();
  return found;
}

/** The second nearest to a time, if one is near. */
export function secondAt(time) {
  let best = null;
  for (const second of seconds) {
    if (best === null || Math.abs(second.time - time) < Math.abs(best.time - time)) best = second;
  }
  return best !== null && Math.abs(best.time - time) <= HOLE ? best : null;
}
