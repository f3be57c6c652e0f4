// Tabs that share a stream by who they are, in one process: node browser-users.mjs. Ends with status 1 where a law is broken.
import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

// Web Locks, but for stealing: nobody dies here.
const queues = new Map();
const locks = {
  query: async () => ({}),
  async request(name, { signal, steal }, held) {
    assert.ok(!steal);
    const before = queues.get(name);
    let release;
    queues.set(name, new Promise((done) => { release = done; }));
    signal?.addEventListener("abort", () => before?.then(release));
    await before;
    if (signal?.aborted) throw signal.reason;
    try { await held(); } finally { release(); }
  },
};
Object.defineProperty(globalThis, "navigator", { value: { locks, onLine: true } });
globalThis.document = Object.assign(new EventTarget(), { hidden: false, baseURI: "http://localhost/" });
const { connect } = await import("../../sse_fast/js/sse-fast.js");

const streams = new Set();
let asked = 0, position = 1;
const server = http.createServer((request, response) => {
  const stream = { response, token: request.headers.authorization.slice("Bearer ".length) };
  asked++;
  streams.add(stream);
  response.on("close", () => streams.delete(stream));
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(`retry: 1\nid: e-${position}\nevent: $connected\ndata: {"resume":"complete"}\n\n`);
});
await once(server.listen(0, "127.0.0.1"), "listening");
/** To each stream: whose it is. */
const tell = () => {
  position++;
  for (const { response, token } of streams) response.write(`id: e-${position}\ndata: ${userOf(token)}\n\n`);
};
const cut = () => { for (const { response } of streams) response.destroy(); };
const jwt = (sub) => `h.${Buffer.from(JSON.stringify({ sub, jti: Math.random() })).toString("base64url")}.s`;
const userOf = (token) => token.includes(".") ? JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub : token;

let pages = 0;
async function until(holds) {
  for (const began = Date.now(); !holds(); await sleep(10)) assert.ok(Date.now() - began < 30_000, `in vain: ${holds}`);
}
function tab(channel, getToken) {
  const told = [];
  const url = `http://127.0.0.1:${server.address().port}/sse?channel=${channel}`;
  const stream = connect(url, { shareAcrossTabs: true, getToken, minDelay: 1, maxDelay: 1, onEvent: ({ data }) => told.push(data) });
  pages++;
  return { told, stream };
}
async function end(...tabs) {
  for (const { stream } of tabs) stream.close();
  await until(() => !streams.size);
  asked = 0;
}

{ // who becomes another one gets no event of before, nor does anybody of theirs
  let user = "alice";
  const one = tab("a", () => jwt(user));
  await until(() => one.stream.state.name === "open");
  const other = tab("a", () => jwt("alice"));
  await until(() => other.stream.state.name === "open");
  tell();
  await until(() => one.told.length && other.told.length);
  assert.equal(streams.size, 1);
  user = "bob";
  cut();
  await until(() => streams.size === 2 && new Set([...streams].map(({ token }) => userOf(token))).size === 2);
  await until(() => (tell(), one.told.includes("bob") && other.told.length > 1));
  assert.deepEqual([new Set(one.told.slice(1)), new Set(other.told)], [new Set(["bob"]), new Set(["alice"])]);
  await end(one, other);
}
{ // a token that does not come is asked for again
  const timeout = AbortSignal.timeout;
  AbortSignal.timeout = () => timeout.call(AbortSignal, 1);
  const given = [];
  const one = tab("d", ({ signal }) => (given.push(signal), given.length > 1 ? jwt("alice") : new Promise(() => {})));
  await until(() => given.length > 1);
  AbortSignal.timeout = timeout;
  await until(() => one.stream.state.name === "open");
  assert.ok(given[0].aborted);
  await end(one);
}
{ // who follows another tab sends no token; somebody looks at it, and it is seen whose it is by now
  let user = "alice";
  const one = tab("d", () => jwt("alice"));
  await until(() => one.stream.state.name === "open");
  const other = tab("d", () => jwt(user));
  await until(() => other.stream.state.name === "open");
  tell();
  await until(() => one.told.length && other.told.length);
  const looked = () => document.dispatchEvent(new Event("visibilitychange"));
  looked();
  tell();
  await until(() => other.told.length === 2);
  assert.equal(streams.size, 1);
  user = "bob";
  looked();
  await until(() => streams.size === 2);
  await until(() => (tell(), other.told.at(-1) === "bob"));
  assert.ok(!one.told.includes("bob"));
  await end(one, other);
}
{ // a token that says nothing of whom, and is changed for all: they go on sharing
  let token = "first";
  const one = tab("b", () => token);
  await until(() => one.stream.state.name === "open");
  const other = tab("b", () => token);
  await until(() => other.stream.state.name === "open");
  token = "second";
  cut();
  await until(() => streams.size === 1 && [...streams][0].token === "second");
  await until(() => (tell(), [one, other].every(({ told }) => told.at(-1) === "second")));
  assert.equal(streams.size, 1);
  await end(one, other);
}
{ // a token that is another one each time: a stream of its own, at once
  let tokens = 0;
  const one = tab("c", () => `t${++tokens}`);
  await until(() => one.stream.state.name === "open");
  cut();
  await until(() => (tell(), one.told.at(-1) === `t${tokens}` && asked === 2));
  assert.ok(tokens < 8);
  await end(one);
}
console.log(pages);
process.exit();
