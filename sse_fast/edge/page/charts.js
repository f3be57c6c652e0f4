// All charts over one window of time, and one crosshair for them.

import { Chart } from "./chart.js";
import { $, seldom } from "./dom.js";
import { ago, count, measure, timeOfDay, whole } from "./format.js";
import { secondAt, seconds } from "./history.js";

const ENOUGH = 10; // deliveries a second, so that what the server does beside them counts for little
const CHARTS = [
  { title: "Published", unit: "events/s", lines: [{ of: ({ published }) => published }], format: count, least: 5, nothing: "" },
  { title: "Delivered", unit: "events/s", lines: [{ of: ({ deliveries }) => deliveries }], format: count, least: 5, nothing: "" },
  {
    title: "Publish to last receiver", unit: "ms", format: measure, least: 10, floor: 0.1, nothing: "nothing was delivered",
    about: "From the publish of an event, known to the millisecond, to its write to the last stream of each worker that could be written to; percentiles by the bounds of a histogram",
    lines: [{ name: "p50", of: ({ p50 }) => p50, soft: true }, { name: "p99", of: ({ p99 }) => p99, most: true }],
  },
  {
    title: "CPU per delivery", unit: "µs", format: measure, least: 5, nothing: `fewer than ${ENOUGH} deliveries a second`,
    about: "All CPU of the workers, whatever it was for, over all deliveries",
    lines: [{ of: ({ deliveries, cpu_per_delivery: cpu }) => (deliveries < ENOUGH ? null : cpu) }],
  },
  {
    title: "Events per write", unit: "", format: measure, least: 2, nothing: "nothing was written",
    about: "How many events one write to a stream carries",
    lines: [{ of: (second) => second.events_per_write }],
  },
  { title: "Streams", unit: "open", lines: [{ of: ({ streams }) => streams }], format: count, least: 5, nothing: "" },
];
const STEPS = { 60: 15, 300: 60, 600: 120 }; // s between words on the axis of time, by the window

const charts = CHARTS.map((spec) => new Chart(spec));
let span = 600; // s
let cursor = null; // ms before the newest second, where the crosshair is
let until = Date.now();

const newest = () => seconds.at(-1)?.time ?? Date.now();

export const drawCharts = seldom(0, () => {
  until = newest();
  const since = until - 1000 * span;
  const ticks = [];
  for (let before = STEPS[span] * Math.floor(span / STEPS[span] - 0.5); before >= 0; before -= STEPS[span]) {
    ticks.push([until - 1000 * before, before === 0 ? "now" : before % 60 ? `−${before} s` : `−${before / 60} min`]);
  }
  for (const chart of charts) chart.draw(since, until, ticks);
  aim();
});

/** Where the crosshair is, or the newest second. */
function aim() {
  const time = cursor === null ? null : until - cursor;
  const second = time === null ? seconds.at(-1) ?? null : secondAt(time);
  const words = time === null ? "\u00a0" : `${timeOfDay(time)}, ${ago(cursor / 1000)}`;
  for (const chart of charts) chart.point(second, time, words);
}

function say() {
  const second = cursor === null ? null : secondAt(until - cursor);
  if (second === null) return;
  const of = (n, unit) => (n === null ? `no ${unit}` : `${measure(n)} ${unit}`);
  $("read-out").textContent = `${timeOfDay(second.time)}: ${whole(second.published)} published, ${whole(second.deliveries)} delivered a second, `
    + `${of(second.p99, "milliseconds at the 99th percentile")}, ${of(second.cpu_per_delivery, "microseconds of CPU per delivery")}, ${whole(second.streams)} streams`;
}

function move(by) {
  cursor = Math.min(Math.max((cursor ?? 0) + 1000 * by, 0), 1000 * span);
  aim();
  say();
}

export function showCharts() {
  $("charts").append(...charts.map(({ node }) => node));
  new ResizeObserver(() => { for (const chart of charts) chart.resize(); drawCharts(); }).observe($("charts"));
  for (const chart of charts) {
    const at = (event) => {
      const time = chart.timeAt(event.clientX - chart.svg.getBoundingClientRect().left);
      cursor = Math.min(Math.max(until - time, 0), 1000 * span);
      aim();
    };
    chart.svg.addEventListener("pointermove", at);
    chart.svg.addEventListener("pointerdown", at);
    chart.svg.addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") { cursor = null; aim(); } });
  }
  $("charts").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: 1, ArrowRight: -1, Home: span, End: -span }[event.key];
    if (steps !== undefined) {
      event.preventDefault();
      move(steps * (event.shiftKey ? 10 : 1));
    } else if (event.key === "Escape") { cursor = null; aim(); }
  });
  $("charts").addEventListener("blur", () => { cursor = null; aim(); });
  for (const radio of $("window").elements) {
    radio.addEventListener("change", () => { span = Number(radio.value); cursor = null; drawCharts(); });
  }
  aim();
}
