// Tabs that share a stream, as threads of Node, and a server with a log: node browser-tabs.mjs SECONDS SEED. Tabs come,
// hang, are slow and die; the server cuts, forgets, and begins new epochs. Each tab's ledger has to be whole: every event
// behind the one before, or told by a gap. Says what happened, as JSON; ends with status 1 where a ledger is not whole.
import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

// ---- a tab: a thread, so that it dies as tabs do ----

async function tab({ url, lastEventId, slow, share }) {
  const asked = new Map();
  const ask = (message) => parentPort.postMessage(message);
  // Web Locks (https://w3c.github.io/web-locks/), kept by the main thread.
  const locks = {
    query: async () => ({}),
    request(name, { steal = false, signal }, held) {
      const id = Math.random();
      return new Promise((done, fail) => {
        asked.set(id, {
          granted: async () => { await held(); ask({ lock: "release", name, id }); done(); },
          stolen: () => fail(new DOMException("stolen", "AbortError")),
        });
        signal?.addEventListener("abort", () => { ask({ lock: "release", name, id }); fail(signal.reason); });
        ask({ lock: "request", name, id, steal });
      });
    },
  };
  Object.defineProperty(globalThis, "navigator", { value: { locks, onLine: true } });
  const { connect } = await import("../../sse_fast/js/sse-fast.js");
  const say = (...what) => ask({ told: what });
  const stream = connect(url, {
    lastEventId, shareAcrossTabs: share, queueSize: slow ? 5 : 1000, minDelay: 1, maxDelay: 50,
    onEvent: slow ? undefined : ({ id, data }) => say("event", id, Number(data)),
    onGap: ({ after, until }) => say("gap", until, after),
    onError: (error, event) => event && say("error", String(error)),
    onState: ({ name }) => say("state", name),
  });
  parentPort.on("message", ({ lock, id, hang }) => {
    if (lock) asked.get(id)[lock]();
    else if (hang) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, hang);
  });
  if (slow) {
    for await (const { id, data } of stream) {
      say("event", id, Number(data));
      await sleep(slow);
    }
  }
}

// ---- the server: a log whose events are numbered for ever, by ids of the epoch that they were published in ----

class Server {
  log = []; // ids; the number of an event is its place
  kept = 0; // the first that is still there
  epoch = 1;
  position = 0;
  streams = new Set();
  asked = []; // ids
  held = []; // what goes on with streams that have said `$connected` and no more
  holds = false;

  async start() {
    this.server = http.createServer((request, response) => this.open(request, response));
    await once(this.server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}/sse?channel=a`;
  }

  get cursor() { return `e${this.epoch}-${this.position}`; }

  /** The number behind which a stream with this id goes on; undefined: nobody knows it. */
  place(id) {
    const [, epoch, position] = /^e(\d+)-(\d+)$/.exec(id);
    if (Number(epoch) === this.epoch && Number(position) <= this.position && Number(position) >= this.began) {
      return this.numbers.get(id) ?? (Number(position) === this.began ? this.beganAt : undefined);
    }
    return this.numbers.get(id);
  }

  numbers = new Map(); // id -> its number
  began = 0; // position at which the epoch began
  beganAt = -1; // and the number before its first event

  publish() {
    const id = `e${this.epoch}-${++this.position}`;
    this.numbers.set(id, this.log.push(id) - 1);
    for (const response of this.streams) response.write(this.frame(this.log.length - 1));
  }

  frame(number) { return `data: ${number}\nid: ${this.log[number]}\n\n`; }

  release() {
    this.holds = false;
    for (const goOn of this.held.splice(0)) goOn();
  }

  open(request, response) {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(":\nretry: 1\n");
    const asked = request.headers["last-event-id"];
    this.asked.push(asked);
    const history = Number(new URL(request.url, this.url).searchParams.get("history") ?? 0);
    let from = this.log.length;
    if (asked) {
      const place = this.place(asked);
      if (place === undefined || place + 1 < this.kept) {
        from = this.kept;
        const until = from ? this.log[from - 1] : `e${this.epoch}-${this.began}`;
        response.write(`event: $connected\ndata: {"resume":"gap"}\n\nevent: $gap\ndata: {"after":"${asked}","until":"${until}"}\nid: ${until}\n\n`);
      } else {
        from = place + 1;
        response.write(`event: $connected\ndata: {"resume":"complete"}\nid: ${asked}\n\n`);
      }
    } else {
      from = Math.max(this.kept, from - history);
      const id = from > this.kept || from > 0 ? this.log[from - 1] ?? this.cursor : this.cursor;
      response.write(`event: $connected\ndata: {"resume":"live"}\nid: ${from === this.log.length ? this.cursor : id}\n\n`);
    }
    const goOn = () => {
      for (; from < this.log.length; from++) response.write(this.frame(from));
      this.streams.add(response);
    };
    if (this.holds) this.held.push(goOn);
    else goOn();
    request.on("close", () => this.streams.delete(response)).on("error", () => {});
  }

  cut() { for (const response of this.streams) response.destroy(); }

  /** Begin a new epoch; `forget`: as a server whose log was in memory, else as one with a log file. */
  restart(forget) {
    this.cut();
    this.epoch++;
    if (forget) {
      this.kept = this.log.length;
      this.numbers = new Map();
      this.position = 0;
    }
    this.began = this.position;
    this.beganAt = this.log.length - 1;
  }
}

// ---- the run ----

async function main(seconds, seed) {
  const random = () => { // mulberry32
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const choose = (...among) => among[Math.floor(random() * among.length)];
  const server = new Server();
  await server.start();
  const tabs = new Set(), locks = new Map(), counts = {};
  const count = (what) => { counts[what] = (counts[what] ?? 0) + 1; };

  function lock(tab, { lock, name, id, steal }) {
    const queue = locks.get(name) ?? locks.set(name, []).get(name);
    if (lock === "release") {
      const at = queue.findIndex((each) => each.id === id);
      if (at >= 0) queue.splice(at, 1);
      if (at === 0) queue[0]?.grant();
      return;
    }
    const grant = () => tab.worker.postMessage({ lock: "granted", id });
    const one = { tab, id, grant };
    if (steal) {
      const [robbed] = queue.splice(0, 1, one);
      robbed?.tab.worker.postMessage({ lock: "stolen", id: robbed.id });
      count("stolen");
      grant();
    } else if (queue.push(one) === 1) grant();
  }

  function open(from = choose("new", "new", "recent", "old", "history"), slow = choose(0, 0, 1, 5), share = "all") {
    const back = { recent: 3, old: 100 }[from];
    const number = Math.max(0, server.log.length - (back ?? 0) - 1);
    const lastEventId = back && server.log.length ? server.log[number] : "";
    const url = server.url + (from === "history" ? "&history=20" : "");
    const tab = { from, slow, next: lastEventId ? number + 1 : undefined, events: 0, gaps: [], states: [], last: lastEventId };
    tab.worker = new Worker(new URL(import.meta.url), { workerData: { url, lastEventId, slow, share } });
    tab.worker.on("message", (message) => (message.told ? told(tab, message.told) : lock(tab, message)));
    tabs.add(tab);
    count(`opened ${from}`);
    return tab;
  }

  const until = async (holds) => { for (const end = Date.now() + 40_000; !holds(); await sleep(5)) assert.ok(Date.now() < end, `${holds}`); };

  /** The tab that leads is slow; one comes late, and before the stream that went back for it has said anything, the slow
   * one takes events again: it may not move the stream on. */
  async function slowLeader() {
    const slow = open("new", 200);
    await until(() => server.streams.size);
    for (let n = 0; n < 15; n++) await sleep(5, server.publish());
    server.holds = true;
    const late = open("old", 0);
    await until(() => server.asked.at(-1) === server.log[0]);
    const taken = slow.events;
    await until(() => slow.events > taken + 3 || Date.now() - slow.at > 1000); // of five; there are no more
    server.release();
    server.publish();
    await until(() => late.seen === server.log.length && slow.seen === server.log.length);
    for (const tab of tabs) await end(tab);
  }

  function told(tab, [what, id, value]) {
    if (what === "state") return void tab.states.push(id);
    assert.notEqual(what, "error", id);
    if (what === "gap") {
      count("gap");
      const at = server.log.lastIndexOf(id), next = at >= 0 ? at + 1 : id === `e${server.epoch}-${server.began}` ? server.beganAt + 1 : undefined;
      if (!tab.slow) tab.next = next;
      else if (next === undefined) tab.any = true;
      return void tab.gaps.push(next); // a slow one is told at once, and of what is before it later
    }
    count("event");
    tab.events++;
    tab.at = Date.now();
    const right = tab.next === undefined || value === tab.next || (tab.slow && (tab.any || tab.gaps.includes(value)) && value > tab.next);
    assert.ok(right, `a tab (${JSON.stringify({ ...tab, worker: 0 })}) got ${value} (${id}) and not ${tab.next}`);
    tab.seen = value + 1;
    tab.next = value + 1;
    tab.last = id;
  }

  function end(tab) {
    tabs.delete(tab);
    for (const [name, queue] of locks) for (const each of [...queue]) if (each.tab === tab) lock(tab, { lock: "release", name, id: each.id });
    return tab.worker.terminate();
  }

  /** The tab that leads lives and does not answer: another takes the stream over. */
  async function hungLeader() {
    const leader = open("new", 0, "hung");
    await until(() => leader.states.includes("open"));
    server.publish();
    const since = Date.now();
    leader.worker.postMessage({ hang: 20_000 });
    const late = open("old", 0, "hung");
    await until(() => late.states.includes("open") && (server.publish(), late.events));
    assert.ok(Date.now() - since < 20_000, "it waited for who hung");
    for (const tab of tabs) await end(tab);
  }

  await slowLeader();
  await hungLeader();
  const publishing = setInterval(() => server.publish(), 5);
  const deadline = Date.now() + 1000 * seconds;
  while (Date.now() < deadline) {
    const tab = choose(...tabs);
    const what = choose("open", "open", "open", "kill", "kill", "hang", "cut", "restart", "forget", "trim", "wait", "wait");
    if (what === "open" && tabs.size < 8) open();
    else if (what === "kill" && tabs.size > 2) await end(tab);
    else if (what === "hang" && tab) tab.worker.postMessage({ hang: choose(50, 500, seconds > 10 ? 4000 : 100) });
    else if (what === "cut") server.cut();
    else if (what === "restart" || what === "forget") random() < 0.3 && (server.restart(what === "forget"), count(what));
    else if (what === "trim") server.kept = Math.max(server.kept, server.log.length - 60);
    await sleep(choose(0, 20, 200));
  }
  clearInterval(publishing);
  const last = server.log.length;
  for (const until = Date.now() + 40_000; [...tabs].some(({ seen }) => !(seen > last)); await sleep(50)) {
    server.publish(); // also for those who open only now
    assert.ok(Date.now() < until, `behind ${last}: ${[...tabs].map((tab) => JSON.stringify({ ...tab, worker: 0 }))}`);
  }
  const standing = () => [...server.streams].filter(({ closed }) => !closed).length; // some had left before they were answered
  for (const until = Date.now() + 15_000; standing() > 2; await sleep(20)) {
    assert.ok(Date.now() < until, `${standing()} streams for two URLs`);
  }
  console.log(JSON.stringify({ ...counts, requests: server.asked.length, published: last }));
  process.exit();
}

if (isMainThread) await main(Number(process.argv[2]), Number(process.argv[3]));
else await tab(workerData);
