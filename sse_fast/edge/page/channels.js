// The channels: how much goes over each, who listens, and what came last. A click follows one.

import { $, make, write } from "./dom.js";
import { ago, count, perSecond, plural, whole } from "./format.js";
import { ask, sleep } from "./session.js";

const LISTED = 200;
const EVERY = 2000; // ms
const COLUMNS = {
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  rate: (a, b) => b.rate - a.rate,
  subscribers: (a, b) => b.subscribers - a.subscribers,
  kept: (a, b) => b.kept - a.kept,
  last_time: (a, b) => (b.last_time ?? "").localeCompare(a.last_time ?? ""),
};

const rows = new Map(); // name -> its row, and the cells of it that change
let listed = [], inAll = 0, order = "name", followed = new Set(), looking = null, onFollow = () => {};

function rowOf(name) {
  if (!rows.has(name)) {
    const [rate, subscribers, kept, last] = ["number rate", "number", "number", "number"].map((kind) => make("td", { class: kind }));
    const bar = make("i");
    const figure = make("span");
    rate.append(bar, figure);
    const button = make("button", { type: "button", "aria-pressed": "false", title: `Follow ${name}` }, name);
    button.addEventListener("click", () => onFollow(name));
    rows.set(name, { row: make("tr", {}, make("th", { scope: "row" }, button), rate, subscribers, kept, last), button, bar, figure, subscribers, kept, last });
  }
  return rows.get(name);
}

/** Rows stay where they are as long as the order does, and are not put elsewhere under somebody's pointer. */
function drawChannels() {
  const most = Math.max(...listed.map(({ rate }) => rate), 1);
  const now = Date.now();
  for (const { name, rate, subscribers, kept, last_time: last } of listed) {
    const cells = rowOf(name);
    write(cells.figure, perSecond(rate));
    cells.bar.style.setProperty("--share", `${(100 * rate) / most}%`);
    write(cells.subscribers, whole(Math.max(0, subscribers - followed.has(name)))); // this page is none of them
    write(cells.kept, count(kept));
    write(cells.last, last ? ago(Math.max(0, now - Date.parse(last)) / 1000) : "–");
    cells.button.setAttribute("aria-pressed", String(followed.has(name)));
  }
  const body = $("channel-rows");
  const sorted = [...listed].sort((a, b) => COLUMNS[order](a, b) || COLUMNS.name(a, b)).map(({ name }) => rowOf(name).row);
  const same = sorted.length === body.childElementCount && sorted.every((row) => row.parentNode === body);
  const busy = body.matches(":hover") || body.contains(document.activeElement);
  if (!(same && busy) && sorted.some((row, at) => body.children[at] !== row) || !same) body.replaceChildren(...sorted);
  for (const name of rows.keys()) if (!listed.some((channel) => channel.name === name)) rows.delete(name);
  const searched = $("search").value;
  $("no-channels").hidden = listed.length > 0;
  write($("no-channels"), searched ? `No channel begins with “${searched}”.` : "No channels yet. One begins with its first event, or its first subscriber.");
  write($("channel-count"), inAll > listed.length ? `the newest ${whole(listed.length)} of ${whole(inAll)}` : inAll ? plural(inAll, "channel") : "");
}

async function lookAtChannels(signal) {
  const prefix = $("search").value.trim();
  const found = await ask(`channels?limit=${LISTED}&prefix=${encodeURIComponent(prefix)}`, signal);
  if (found === null || signal.aborted) return;
  listed = found.channels.filter(({ name }) => !name.startsWith("$"));
  inAll = prefix ? (found.next ? found.total : listed.length) : found.total - (found.channels.length - listed.length);
  drawChannels();
}

async function keepLooking() {
  looking?.abort();
  const { signal } = (looking = new AbortController());
  while (!signal.aborted) {
    if (!document.hidden) await lookAtChannels(signal);
    await sleep(EVERY, signal);
  }
}

/** Look for them, from now on, or no more. */
export function watchChannels(granted) {
  if (granted) keepLooking();
  else looking?.abort();
}

export function markFollowed(names) {
  followed = new Set(names);
  for (const [name, { button }] of rows) button.setAttribute("aria-pressed", String(followed.has(name)));
}

export function withChannels(follow) {
  onFollow = follow;
  let typed = 0;
  $("search").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(keepLooking, 150); });
  for (const button of document.querySelectorAll("#channel-table thead button")) {
    button.addEventListener("click", () => {
      order = button.dataset.order;
      for (const head of document.querySelectorAll("#channel-table thead th")) {
        const mine = head.contains(button);
        if (mine) head.setAttribute("aria-sort", order === "name" ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      }
      drawChannels();
    });
  }
}
