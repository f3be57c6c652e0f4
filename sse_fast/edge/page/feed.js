// The feed: what comes on the channels that are followed, newest first. Whoever reads further down is not moved.

import { $, make, seldom, write } from "./dom.js";
import { indented, plural, timeText, whole } from "./format.js";
import { follow } from "./session.js";

const ROWS = 200; // in the page
const HELD = 1000; // events, for the filter
const LONGEST = 4000; // characters shown of one event
const SELDOM = 150; // ms between two looks at what came

let events = []; // the oldest first
let unseen = 0; // how many of the last ones are not in the page yet
let received = 0, paused = false, subscription = null;

/** Of a gap: how many events it may be, where it says; those of other channels count too. */
function atMost(event) {
  try {
    const { positions } = event.type === "$gap" ? JSON.parse(event.data) : {};
    return Number.isSafeInteger(positions) ? `At most ${whole(positions)}: ` : "";
  } catch { return ""; }
}

/** Characters of JSON that fit into a line. */
const width = () => Math.min(96, Math.floor($("scroll").clientWidth / 8.5) - 2);

/** The text of an event, the names in JSON apart. */
function dataOf(event) {
  const text = atMost(event) + ($("indent").checked ? indented(event.data, width()) : event.data);
  const more = text.length - LONGEST;
  const shown = more > 0 ? text.slice(0, LONGEST) : text;
  const parts = [];
  let last = 0;
  for (const found of /^\s*[[{]/.test(shown) ? shown.matchAll(/"(?:[^"\\]|\\.)*"(?=\s*:)/g) : []) {
    parts.push(shown.slice(last, found.index), make("span", { class: "name" }, found[0]));
    last = found.index + found[0].length;
  }
  parts.push(shown.slice(last));
  return more > 0 ? [...parts, make("span", { class: "name" }, `… ${whole(more)} more characters`)] : parts;
}

function row(event) {
  const kind = event.type === "$gap" ? "gap" : event.type[0] === "$" ? "note" : "";
  const cut = event.id.lastIndexOf("-") + 1;
  return make("li", { class: kind },
    make("time", { datetime: new Date(event.at).toISOString() }, timeText(event.at)),
    make("span", { class: "channel" }, (event.channels ?? []).join(", ")),
    make("span", { class: event.type === "message" ? "type plain" : "type" }, event.type),
    make("span", { class: "id" }, make("span", {}, event.id.slice(0, cut)), event.id.slice(cut)),
    make("pre", { class: "data" }, ...dataOf(event)));
}

function isWanted(event) {
  const wanted = $("filter").value.trim().toLowerCase();
  return !wanted || [event.type, event.id, event.data, ...(event.channels ?? [])].some((text) => text.toLowerCase().includes(wanted));
}

const isAtTop = () => $("scroll").scrollTop < 4;

/** What came: into the page where somebody looks at the newest; else it is counted. */
function take() {
  const rows = $("rows");
  if (unseen && !paused && isAtTop()) {
    rows.prepend(...events.slice(-unseen).filter(isWanted).slice(-ROWS).map(row).reverse());
    while (rows.childElementCount > ROWS) rows.lastElementChild.remove();
    unseen = 0;
  }
  const waiting = unseen ? events.slice(-unseen).filter(isWanted).length : 0;
  $("new").hidden = !waiting;
  if (waiting) write($("new"), `${waiting >= HELD ? `${whole(HELD)}+` : whole(waiting)} new`);
  const filtered = $("filter").value.trim() ? `${whole(events.filter(isWanted).length)} of ${whole(events.length)} match` : "";
  write($("received"), filtered || (received ? `${plural(received, "event")}${received > HELD ? `, the newest ${whole(HELD)} here` : ""}` : ""));
  $("empty").hidden = events.length > 0;
  $("nothing-matches").hidden = !events.length || rows.childElementCount > 0 || waiting > 0;
}

const soon = seldom(SELDOM, take);

function redraw() {
  unseen = 0;
  $("rows").replaceChildren(...events.filter(isWanted).slice(-ROWS).map(row).reverse());
  take();
}

function receive(event) {
  if (event.type === "$connected" || event.channel === "$stats") return; // the state says the one, the charts the other
  received++;
  unseen = Math.min(unseen + 1, HELD);
  events.push({ at: Date.now(), ...event });
  if (events.length > 2 * HELD) events = events.slice(-HELD);
  soon();
}

function clear() {
  events = [];
  unseen = received = 0;
  redraw();
}

export function stopFollowing() {
  subscription?.abort();
  subscription = null;
  $("stop").disabled = true;
  $("waits").textContent = "";
}

const named = () => [...new Set($("channels").value.split(",").map((name) => name.trim()).filter(Boolean))];

/** watches: this page has the figures, and with `$stats` beside the channels it is left out of them. */
export function followNow(watches) {
  const channels = named();
  if (!channels.length) return [];
  stopFollowing();
  clear();
  $("waits").textContent = `Waiting for events on ${channels.join(", ")}.`;
  $("stop").disabled = false;
  paused = false;
  pausing();
  const pill = $("feed-state");
  pill.dataset.state = "connecting";
  write(pill, "Connecting");
  const mine = (subscription = new AbortController());
  const onState = (state, text, status) => {
    if (subscription !== mine) return; // a newer subscription has the word
    pill.dataset.state = state;
    write(pill, text);
    $("token").setAttribute("aria-invalid", String(status === 401 || status === 403));
    if (state === "refused") stopFollowing();
  };
  follow(watches ? [...channels, "$stats"] : channels, { history: $("history").value }, mine.signal, onState, receive);
  return channels;
}

function pausing() {
  $("pause").setAttribute("aria-pressed", String(paused));
  write($("pause"), paused ? "Go on" : "Pause");
}

/** onFollow: the form was sent. */
export function withFeed({ onFollow, onStop }) {
  $("subscribe").addEventListener("submit", (event) => { event.preventDefault(); onFollow(); });
  $("stop").addEventListener("click", () => {
    stopFollowing();
    $("feed-state").dataset.state = "closed";
    write($("feed-state"), "Not following");
    onStop();
  });
  $("clear").addEventListener("click", clear);
  $("pause").addEventListener("click", () => { paused = !paused; pausing(); take(); });
  $("new").addEventListener("click", () => {
    paused = false;
    pausing();
    $("scroll").scrollTop = 0;
    redraw();
    $("scroll").focus();
  });
  $("scroll").addEventListener("scroll", () => { if (unseen && isAtTop()) soon(); });
  $("indent").addEventListener("change", redraw);
  $("filter").addEventListener("input", redraw);
}
