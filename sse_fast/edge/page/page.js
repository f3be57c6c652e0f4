// Whatever comes from the network goes into the page as text, never as markup. All addresses are relative, so the page
// works wherever the app is mounted.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function show(pill, state, text) {
  pill.dataset.state = state;
  if (pill.textContent !== text) pill.textContent = text; // the same text again would be read out again
}

// ---- figures ----

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", minimumFractionDigits: 1, maximumFractionDigits: 1 });

function count(n) {
  if (n >= 100_000) return compact.format(n);
  return (n < 10 ? fine : plain).format(n);
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return [(n < 100 && unit ? fine : plain).format(n), units[unit]];
}

function duration(seconds) {
  const [d, h, m, s] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

const rate = (key) => (now, before) => before && (now[key] - before[key]) / (now.time - before.time);
const perSecond = (n) => [count(n), "/s"];
const TILES = [
  { label: "Connections", value: (now) => now.connections, format: (n) => [count(n), ""] },
  { label: "Events", value: rate("published"), format: perSecond },
  { label: "Deliveries", value: rate("deliveries"), format: perSecond },
  { label: "Delivered", value: rate("delivered_bytes"), format: (n) => bytes(n).map((part, i) => (i ? part + "/s" : part)) },
  { label: "Channels", value: (now) => now.channels, format: (n) => [count(n), ""] },
];

class Tile {
  static SPAN = 120; // seconds of history drawn
  static WIDTH = 240;
  static HEIGHT = 52;

  constructor({ label, value, format }) {
    Object.assign(this, { value, format, samples: [] }); // samples: [time, value]; a null value breaks the line
    this.number = make("b", {}, "–");
    this.unit = make("span");
    this.note = make("p", { class: "quiet" }, "\u00a0");
    this.area = make("path", { class: "area" });
    this.line = make("path");
    this.dot = make("path", { class: "dot" });
    const box = `0 0 ${Tile.WIDTH} ${Tile.HEIGHT}`;
    this.chart = make("svg", { viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line, this.dot);
    this.chart.addEventListener("pointermove", (event) => {
      const { left, width } = this.chart.getBoundingClientRect();
      this.pointer = (event.clientX - left) / width;
      this.draw();
    });
    this.chart.addEventListener("pointerleave", () => { this.pointer = undefined; this.draw(); });
    this.node = make("article", { class: "card tile" }, make("h2", {}, label), make("p", {}, this.number, this.unit), this.note, this.chart);
  }

  add(now, before) {
    this.samples.push([now.time, this.value(now, before) ?? null]);
    while (this.samples[0][0] < now.time - Tile.SPAN) this.samples.shift();
    this.draw();
  }

  draw() {
    const known = this.samples.filter(([, value]) => value !== null);
    if (!known.length) return;
    const last = known.at(-1);
    const peak = Math.max(...known.map(([, value]) => value));
    const start = this.samples.at(-1)[0] - Tile.SPAN;
    const x = (time) => (((time - start) / Tile.SPAN) * Tile.WIDTH).toFixed(1);
    const y = (value) => (Tile.HEIGHT - 2 - (value / (peak || 1)) * (Tile.HEIGHT - 8)).toFixed(1);

    [this.number.textContent, this.unit.textContent] = this.format(last[1]);
    let line = "", area = "", from = null, previous = null;
    const close = () => { if (from !== null) area += `V${Tile.HEIGHT}H${from}Z`; from = null; };
    for (const [time, value] of this.samples) {
      if (value === null || (previous !== null && time - previous > 5)) close();
      if (value === null) continue;
      const point = `${x(time)} ${y(value)}`;
      line += (from === null ? "M" : "L") + point;
      area += (from === null ? "M" : "L") + point;
      from ??= x(time);
      previous = time;
    }
    close();
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);

    const at = this.pointer === undefined ? null : this.nearest(known, start + this.pointer * Tile.SPAN);
    this.dot.setAttribute("d", at ? `M${x(at[0])} ${y(at[1])}h0` : "");
    const [number, unit] = this.format(at ? at[1] : peak);
    const text = number + (unit.startsWith("/") ? "" : " ") + unit;
    this.note.textContent = at ? `${text}, ${Math.round(last[0] - at[0])} s ago` : `peak ${text}`;
  }

  nearest(samples, time) {
    return samples.reduce((best, sample) => (Math.abs(sample[0] - time) < Math.abs(best[0] - time) ? sample : best));
  }
}

const tiles = TILES.map((spec) => new Tile(spec));
$("tiles").append(...tiles.map((tile) => tile.node));
let before = null;

function figures(now) {
  if (before && now.time <= before.time) return; // replayed after a reconnect
  if (before && now.uptime < before.uptime) before = null; // a new server: its totals began again at nought
  for (const tile of tiles) tile.add(now, before);
  before = now;

  const { used, capacity, events } = now.log;
  const fill = capacity ? (100 * used) / capacity : 0;
  $("meter").firstElementChild.style.setProperty("--fill", `${fill}%`);
  $("meter").setAttribute("aria-valuenow", Math.round(fill));
  $("log").textContent = `${bytes(used).join(" ")} of ${bytes(capacity).join(" ")}`;
  $("uptime").textContent = duration(now.uptime);
  $("version").textContent = now.version;
  $("kept").textContent = count(events);
  $("published").textContent = count(now.published);
  for (const [id, n] of [["blocked", now.blocked], ["gaps", now.gaps], ["slow", now.slow_disconnects], ["refused", now.refused]]) {
    $(id).textContent = count(n);
    $(id).toggleAttribute("data-alarm", n > 0);
  }
  const used_by = Object.values(now.transports).filter(({ accepted }) => accepted).length;
  for (const [id, { connections, accepted }] of Object.entries(now.transports)) {
    $(id).textContent = `${count(connections)} open, ${count(accepted)} accepted`;
    $(id).parentElement.hidden = used_by < 2; // with one in use there is nothing to tell apart
  }
}

const WORDS = { live: "Live", reconnecting: "Reconnecting", refused: "Figures are for operators" };
let watching = null;

/** Once more from the start: with another token, for one. */
async function watch() {
  watching?.abort();
  const { signal } = (watching = new AbortController());
  const onState = (state) => {
    if (signal.aborted) return;
    show($("stats-state"), state, WORDS[state]);
    document.body.classList.toggle("stale", state !== "live");
  };
  const onEvent = ({ type, data }) => { if (type === "stats") figures(JSON.parse(data)); };
  while (!signal.aborted) {
    await follow(["$stats"], { envelope: false }, signal, onState, onEvent);
    await sleep(30_000 + 40_000 * Math.random(), signal); // whoever was refused may be granted it later
  }
}

// ---- the token ----

const KEPT = "sse_fast token";

/** What can be a token, or nothing. */
function token() {
  const text = $("token").value.trim();
  const good = /^[\x21-\x7e]*$/.test(text);
  if (!good) $("token").setAttribute("aria-invalid", "true");
  return good ? text : "";
}

// Where a page may not store anything, it is asked for again after a reload.
try { $("token").value = sessionStorage.getItem(KEPT) ?? ""; } catch { /* so be it */ }
$("token").addEventListener("change", () => {
  $("token").setAttribute("aria-invalid", "false");
  try { sessionStorage.setItem(KEPT, token()); } catch { /* so be it */ }
  explain();
  watch();
});

// ---- streams ----

const sleep = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

/** An answer that is no success, in words: an RFC 9457 problem if it is one. */
async function complaint(response) {
  const text = await response.text();
  try {
    const { title, detail } = JSON.parse(text);
    return { title: `${response.status} ${title ?? response.statusText}`, detail: detail ?? "" };
  } catch {
    return { title: `${response.status} ${response.statusText}`, detail: text.slice(0, 300) };
  }
}

/** Read channels until `signal` aborts or the server refuses, which `onState` is told with the status. The browser client,
 * which stands in front of this script, comes back after a drop, by the last id, and with the token of then. */
function follow(channels, { history = "0", envelope = true }, signal, onState, onEvent) {
  const told = (type) => (said, id = "") => onEvent({ type, id, data: JSON.stringify(said) });
  return new Promise((done) => connect({ url: "sse", channels, envelope, history: Number(history) || 0 }, {
    signal,
    lastEventId: history === "earliest" ? history : "",
    headers: () => (token() ? { Authorization: `Bearer ${token()}` } : {}),
    onEvent: ({ time, ...event }) => onEvent(time ? { ...event, at: Date.parse(time) } : event),
    onGap: told("$gap"),
    onForgotten: ({ id, ...said }) => told("$forgotten")(said, id),
    onExpiring: told("$expiring"),
    onClosing: told("$closing"),
    onError(error) { if (!(error instanceof StreamError)) throw error; }, // of the others the state tells
    onState({ name, until, why, error }) {
      if (name === "open") onState("live", "Live");
      else if (name === "waiting") {
        const when = until === null ? "when it can" : `in ${fine.format((until - Date.now()) / 1000)} s`;
        onState("reconnecting", `Reconnecting ${when}: ${why}`);
      } else if (name === "closed") {
        if (!signal.aborted) onState("refused", why, error?.status);
        done();
      }
    },
  }));
}

const ROWS = 200; // rows in the page, and events held for it
const LONGEST = 4000; // characters shown of one event
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const shown = new WeakMap(); // row -> its event
let held = [], received = 0, paused = false, subscription = null, scheduled = false;

/** JSON text over several lines; what is no JSON object or array as it stands. Numbers keep their digits. */
function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try { JSON.parse(text); } catch { return text; }
  let out = "", depth = 0, opened = false;
  const feed = () => "\n" + "  ".repeat(depth);
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[^\s"[\]{},:]+|[[\]{},:]/g)) {
    if (token === "}" || token === "]") { depth--; out += opened ? token : feed() + token; opened = false; continue; }
    if (opened) out += feed();
    opened = token === "{" || token === "[";
    if (opened) depth++;
    out += token === ":" ? ": " : token === "," ? token + feed() : token;
  }
  return out;
}

/** Of a gap: how many events it may be, where it says; those of other channels count too. */
function atMost(event) {
  try {
    const { positions } = event.type === "$gap" ? JSON.parse(event.data) : {};
    return Number.isSafeInteger(positions) ? `At most ${plain.format(positions)}: ` : "";
  } catch { return ""; }
}

function dataText(event) {
  const text = $("indent").checked ? indented(event.data) : event.data;
  const more = text.length - LONGEST;
  return more > 0 ? `${text.slice(0, LONGEST)}… ${plain.format(more)} more characters` : text;
}

/** When it was published: the time of day, of another day its date above. */
function timeText(at) {
  const [then, today] = [new Date(at), new Date()];
  return then.toDateString() === today.toDateString() ? clock.format(then) : `${day.format(then)} ${clock.format(then)}`;
}

function row(event) {
  const kind = event.type === "$gap" ? "gap" : event.type[0] === "$" ? "note" : "";
  const cut = event.id.lastIndexOf("-") + 1;
  const node = make("li", { class: kind },
    make("time", { datetime: new Date(event.at).toISOString() }, timeText(event.at)),
    make("span", { class: "channel" }, (event.channels ?? []).join(", ")),
    make("span", { class: event.type === "message" ? "type plain" : "type" }, event.type),
    make("span", { class: "data" }, atMost(event) + dataText(event)),
    make("span", { class: "id" }, make("span", {}, event.id.slice(0, cut)), event.id.slice(cut)));
  shown.set(node, event);
  return node;
}

/** Draw once a frame however fast events come: what a frame can't show is counted and dropped. */
function draw() {
  scheduled = false;
  if (!paused) {
    const rows = $("rows");
    rows.prepend(...held.map(row).reverse());
    held = [];
    while (rows.childElementCount > ROWS) rows.lastElementChild.remove();
    $("empty").hidden = rows.childElementCount > 0;
  }
  $("pause").textContent = !paused ? "Pause" : held.length ? `Resume (${held.length}${held.length === ROWS ? "+" : ""})` : "Resume";
  $("received").textContent = received ? `${plain.format(received)} received` : "";
}

function redraw() {
  if (!scheduled) requestAnimationFrame(draw);
  scheduled = true;
}

function receive(event) {
  if (event.type === "$connected") return; // the state says it
  received++;
  held.push({ at: Date.now(), ...event });
  if (held.length > ROWS) held.shift();
  redraw();
}

function clear() {
  held = [];
  received = 0;
  $("rows").replaceChildren();
  redraw();
}

function stop() {
  subscription?.abort();
  subscription = null;
  $("stop").disabled = true;
  $("empty").textContent = "Subscribe to a channel, and its events appear here.";
}

stop();
$("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  const channels = [...new Set($("channels").value.split(",").map((name) => name.trim()).filter(Boolean))];
  if (!channels.length) return;
  stop();
  clear();
  $("empty").textContent = `Waiting for events on ${channels.join(", ")}.`;
  $("stop").disabled = false;
  show($("feed-state"), "connecting", "Connecting");
  const mine = (subscription = new AbortController());
  const onState = (state, text, status) => {
    if (subscription !== mine) return; // a newer subscription has the word
    show($("feed-state"), state, text);
    $("token").setAttribute("aria-invalid", String(status === 401 || status === 403));
    if (state === "refused") stop();
  };
  follow(channels, { history: $("history").value }, mine.signal, onState, receive);
});
$("stop").addEventListener("click", () => { stop(); show($("feed-state"), "closed", "Closed"); });
$("clear").addEventListener("click", clear);
$("pause").addEventListener("click", () => { paused = !paused; redraw(); });
$("indent").addEventListener("change", () => {
  for (const node of $("rows").children) node.querySelector(".data").textContent = dataText(shown.get(node));
});

// ---- publishing ----

function answer(good, title, detail) {
  $("answer").className = good ? "" : "bad";
  $("answer").replaceChildren(make("strong", {}, title), " ", make("span", { class: good ? "mono" : "" }, detail));
}

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "Content-Type": "application/json" };
  const credential = $("key").value || token();
  if (credential) headers.Authorization = `Bearer ${credential}`;
  const body = { channel: $("to").value.trim(), data: $("data").value };
  if ($("type").value.trim()) body.event = $("type").value.trim();
  $("send").disabled = true;
  try {
    const response = await fetch("publish", { method: "POST", headers, body: JSON.stringify(body) });
    $("key").setAttribute("aria-invalid", String(response.status === 401 || response.status === 403));
    if (response.ok) answer(true, "Published", (await response.json()).id);
    else {
      const { title, detail } = await complaint(response);
      answer(false, title, detail);
    }
  } catch (error) {
    answer(false, "Not sent", error.message);
  } finally {
    $("send").disabled = false;
  }
});
$("publish").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (!$("send").disabled) $("publish").requestSubmit();
});

// ---- how to use ----

const home = (location.origin + location.pathname.replace(/[^/]*$/, "")).replaceAll("'", "%27");

/** A line, and a button that copies it. */
function copied(title, line) {
  const code = make("code", {}, line);
  const copy = make("button", { class: "small", type: "button", "aria-label": `Copy: ${title}` }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    } catch { // browsers give the clipboard to secure origins only
      getSelection().selectAllChildren(code);
    }
  });
  return [make("h3", {}, title), make("div", { class: "line" }, code, copy)];
}

/** With a token where the page has one: by its name, as a secret that is shown is one no more. */
function explain() {
  const bearer = token() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const listen = token()
    ? `(await import('${home}client.js')).connect('${home}sse/demo', { getToken: () => TOKEN, onEvent: (e) => console.log(e.data) })`
    : `new EventSource('${home}sse/demo').onmessage = (e) => console.log(e.data)`;
  $("lines").replaceChildren(
    ...copied("Listen", `curl -N${bearer} '${home}sse/demo'`),
    ...copied("Publish", `curl -d 'hello'${bearer} '${home}publish/demo'`),
    ...copied("Publish, with an event type and a publish key", `curl -d 'hello' -H "Authorization: Bearer $KEY" '${home}publish/demo?event=greeting'`),
    ...copied("Listen in JavaScript", listen),
  );
}

explain();

watch();
