// The browser client under Node, against servers that follow a script: node browser-client.mjs. Each law below is told
// on stdout, one JSON object a line: {law, failed?}. They run side by side.
import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, StreamError } from "../../sse_fast/js/sse-fast.js";

const PATIENCE = 60_000; // ms
const FAST = { minDelay: 1, maxDelay: 20 };
const laws = {};

/** A server whose n-th answer the n-th of `answers` writes, the last one all further; `asked` has the requests. */
async function scripted(...answers) {
  const asked = [];
  const server = http.createServer((request, response) => {
    const answer = answers[Math.min(asked.push(request), answers.length) - 1];
    answer(response, request);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const url = `http://127.0.0.1:${server.address().port}/sse?channel=a`;
  return { url, asked, end: () => { server.close(); server.closeAllConnections(); } };
}

const head = (response, headers = {}) => response.writeHead(200, { "Content-Type": "text/event-stream", ...headers });
const connected = (resume, id, more = "") => `:\nretry: 1\nevent: $connected\ndata: {"resume":"${resume}"${more}}\nid: ${id}\n\n`;
const event = (n, data = n) => `data: ${data}\nid: e-${n}\n\n`;
/** A stream of this text, which stays open, or is cut. */
const streams = (...pieces) => (response) => head(response).write(pieces.join(""));
const cut = (...pieces) => (response) => head(response).end(pieces.join(""), () => {});
const refuses = (status, headers = {}, body = "") => (response) => response.writeHead(status, headers).end(body);
const silent = (response) => { head(response).flushHeaders(); };

/** Everything that a page is told, and `until(holds)`. */
function page(url, options = {}) {
  const told = { events: [], gaps: [], states: [], errors: [], reconnects: [], closing: [], expiring: [], forgotten: [] };
  let looks = [];
  const note = (what, also) => (value, event) => {
    told[what].push(value);
    also?.(value, event);
    looks = looks.filter((look) => !look());
  };
  const handlers = { events: "onEvent", gaps: "onGap", states: "onState", errors: "onError", reconnects: "onReconnect",
    closing: "onClosing", expiring: "onExpiring", forgotten: "onForgotten" };
  const noted = Object.entries(handlers).map(([what, name]) => [name, note(what, options[name])]);
  const connection = connect(url, { ...FAST, ...options, ...Object.fromEntries(noted) });
  const until = (holds) => new Promise((done, fail) => {
    if (holds(told)) return done();
    const timer = setTimeout(() => fail(new Error(`in vain; told: ${JSON.stringify(told)}`)), PATIENCE / 2);
    looks.push(() => holds(told) && (clearTimeout(timer), done(), true));
  });
  return { ...told, connection, until, data: () => told.events.map(({ data }) => data) };
}

/** A law over a server with these answers; what it opened is closed behind it. */
function law(name, answers, check) {
  laws[name] = async () => {
    const server = await scripted(...answers);
    const pages = [];
    try {
      await check((options, url = server.url) => (pages.push(page(url, options)), pages.at(-1)), server);
    } finally {
      for (const { connection } of pages) connection.close();
      server.end();
    }
  };
}

law("it resumes behind the last event, with token and headers of each attempt", [
  cut(connected("live", "e-1"), event(2), event(3), "data: torn"),
  streams(connected("complete", "e-3"), event(4)),
], async (open, { asked }) => {
  let tokens = 0;
  const { until, data, reconnects, connection } = open({ getToken: async () => `t${++tokens}`, headers: () => ({ "X-Page": `${tokens}` }) });
  await until(({ events }) => events.length === 3);
  assert.deepEqual(data(), ["2", "3", "4"]);
  assert.deepEqual(reconnects, [{ resume: "complete" }]);
  assert.equal(connection.lastEventId, "e-4");
  assert.deepEqual(asked.map(({ headers }) => [headers["last-event-id"], headers.authorization]), [[undefined, "Bearer t1"], ["e-3", "Bearer t2"]]);
  assert.deepEqual(asked.map(({ headers }) => headers["x-page"]), ["0", "1"]);
});

law("a drop before the first event loses nothing", [cut(connected("live", "e-7")), streams(connected("complete", "e-7"))],
  async (open, { asked }) => {
    const { until } = open();
    await until(({ reconnects }) => reconnects.length);
    assert.equal(asked[1].headers["last-event-id"], "e-7");
  });

law("an id of any letters is said in UTF-8, as EventSource says it", [cut("retry: 1\ndata: x\nid: 价-\u00e9\n\n"), silent],
  async (open, { asked }) => {
    const { until } = open();
    await until(() => asked.length === 2);
    assert.equal(Buffer.from(asked[1].headers["last-event-id"], "latin1").toString(), "价-\u00e9");
  });

law("states: connecting, open, waiting until a moment and why, closed", [cut(connected("live", "e-1")), streams(connected("complete", "e-1"))],
  async (open) => {
    const { until, states, connection } = open();
    assert.equal(connection.state.name, "connecting");
    await until(({ reconnects }) => reconnects.length);
    connection.close();
    assert.deepEqual(states.map(({ name }) => name), ["connecting", "open", "waiting", "connecting", "open", "closed"]);
    const { until: moment, why } = states[2];
    assert.ok(Math.abs(moment - Date.now()) < PATIENCE && why);
    assert.equal(connection.state.name, "closed");
  });

law("the server's retry is honoured", [(response) => head(response).end("retry: 60000\ndata: x\n\n"), silent], async (open, { asked }) => {
  const { until, states } = open();
  await until(({ states }) => states.at(-1)?.name === "waiting");
  assert.ok(Math.abs(states.at(-1).until - Date.now() - 60_000) < 5000);
  assert.equal(asked.length, 1);
});

law("who does not want to wait goes on at once", [(response) => head(response).end("retry: 60000\n\n"), streams(connected("live", "e-1"))], async (open) => {
  const { until, connection } = open();
  await until(({ states }) => states.at(-1)?.name === "waiting");
  connection.reconnect();
  await until(({ states }) => states.at(-1)?.name === "open");
});

law("204 ends it for good, and the iterator", [refuses(204)], async (open, { asked }) => {
  const { until, connection, states, errors } = open();
  for await (const never of connection) assert.fail(never);
  await until(() => states.at(-1)?.name === "closed");
  await sleep(30);
  assert.deepEqual([asked.length, errors], [1, []]);
});

for (const status of [400, 403, 404, 410, 451]) {
  law(`${status} is final, in the server's words`, [refuses(status, {}, '{"detail": "you may not"}')], async (open, { asked }) => {
    const { connection, states, errors } = open();
    await assert.rejects(connection[Symbol.asyncIterator]().next(), (error) => error instanceof StreamError && error.final && error.status === status);
    assert.equal(errors[0].detail, "you may not");
    assert.ok(states.at(-1)?.name === "closed" && states.at(-1).why.includes("you may not"));
    assert.equal(asked.length, 1);
  });
}

law("what is no event stream is final", [(response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<p>")], async (open, { asked }) => {
  const { until, errors } = open();
  await until(({ states }) => states.at(-1)?.name === "closed");
  assert.ok(errors[0].final && errors[0].message.includes("text/html"));
  assert.equal(asked.length, 1);
});

for (const status of [408, 425, 429, 500, 502, 503]) {
  law(`after ${status} it comes back`, [refuses(status), streams(connected("live", "e-1"), event(2))], async (open) => {
    const { until, errors } = open();
    await until(({ events }) => events.length);
    assert.deepEqual(errors.map(({ status, final }) => [status, final]), [[status, false]]);
  });
}

law("of a refusal that never ends the connection is given back", [
  (response) => response.writeHead(503).write("x"),
  streams(connected("live", "e-1")),
], async (open, { asked }) => {
  await open().until(({ states }) => states.at(-1)?.name === "open");
  if (!asked[0].destroyed) await new Promise((done) => { asked[0].on("error", () => {}).on("close", done); });
});

law("Retry-After is honoured, in seconds and as a date", [
  refuses(503, { "Retry-After": "70" }),
  refuses(429, { "Retry-After": new Date(Date.now() + 3_600_000).toUTCString() }),
], async (open) => {
  const { until, connection, states } = open();
  for (const [attempts, seconds] of [[1, 70], [2, 3600]]) {
    await until(({ errors }) => errors.length === attempts);
    await until(() => connection.state.name === "waiting");
    assert.ok(Math.abs(states.at(-1).until - Date.now() - 1000 * seconds) < 10_000);
    connection.reconnect();
  }
});

law("no server sends it away for more than a day", [
  refuses(503, { "Retry-After": "9".repeat(30) }),
  (response) => head(response).end(`retry: ${"9".repeat(30)}\ndata: x\n\n`),
], async (open) => {
  const { until, connection } = open();
  for (const attempts of [1, 2]) {
    await until(({ states }) => states.filter(({ name }) => name === "waiting").length === attempts);
    const { until: moment } = connection.state;
    assert.ok(moment > Date.now() + 80_000_000 && moment < Date.now() + 90_000_000, `${moment}`);
    connection.reconnect();
  }
});

law("401 asks for a token once more, and no more", [refuses(401), streams(connected("live", "e-1")), refuses(401)], async (open, { asked }) => {
  const given = [];
  const getToken = ({ again }) => { given.push(again); return `t${given.length}`; };
  const { until } = open({ getToken });
  await until(({ states }) => states.at(-1)?.name === "open");
  assert.deepEqual(given, [false, true]);
  asked[1].socket.destroy();
  await until(({ states }) => states.at(-1)?.name === "closed");
  assert.deepEqual(given, [false, true, false, true]);
});

law("401 is final for who has no getToken", [refuses(401)], async (open, { asked }) => {
  await open().until(({ states }) => states.at(-1)?.name === "closed");
  assert.equal(asked.length, 1);
});

law("a token that cannot be had is tried for again", [streams(connected("live", "e-1"), event(2))], async (open, { asked }) => {
  let calls = 0;
  const { until, errors } = open({ getToken: () => { if (++calls < 3) throw new Error("the login is down"); return "t"; } });
  await until(({ events }) => events.length);
  assert.deepEqual([asked.length, errors.length], [1, 2]);
});

law("what the server says of the stream comes as calls", [
  cut(connected("live", "e-1"), 'event: $expiring\ndata: {"seconds":30}\n\n', 'event: $forgotten\ndata: {"channel":"a"}\nid: e-2\n\n',
    'event: $closing\nretry: 1\ndata: {"reason":"expired"}\n\n'),
  streams('event: $connected\ndata: {"resume":"gap"}\n\n', 'event: $gap\ndata: {"after":"e-2","until":"e-9","positions":7}\nid: e-9\n\n', event(10)),
], async (open) => {
  const { until, events, gaps, expiring, closing, forgotten, reconnects } = open();
  await until(({ events }) => events.length);
  assert.deepEqual(events.map(({ id }) => id), ["e-10"]);
  assert.deepEqual(gaps, [{ after: "e-2", until: "e-9", positions: 7 }]);
  assert.deepEqual([expiring, closing], [[{ seconds: 30 }], [{ reason: "expired" }]]);
  assert.deepEqual([forgotten, reconnects], [[{ channel: "a", id: "e-2" }], [{ resume: "gap" }]]);
});

law("what a channel forgets is told out of its envelope", [
  streams(connected("live", "e-1", ',"envelope":"json"'),
    `event: $forgotten\ndata: ${JSON.stringify({ channel: "a", time: "2026-01-02T03:04:05.678Z", data: '{"channel":"a"}' })}\nid: e-2\n\n`),
], async (open) => {
  const { until, forgotten } = open();
  await until(({ forgotten }) => forgotten.length);
  assert.deepEqual(forgotten, [{ channel: "a", id: "e-2" }]);
});

law("where there is no stream it is said where an edge may be", [refuses(404)], async (open) => {
  const { until, errors } = open();
  await until(({ errors }) => errors.length);
  assert.equal(errors[0].message, "the server answers 404 (beside an app an edge is under its path: /edge/sse)");
});

law("an iterator has a gap in its place, where somebody says what it is made into", [
  streams(connected("live", "e-1"), event(2), 'event: $gap\ndata: {"after":"e-2","until":"e-9"}\nid: e-9\n\n', event(10)),
], async (open) => {
  const { connection } = open({ decodeGap: (gap, id) => ({ gap, id }), decode: ({ id }) => ({ id }) });
  const came = [];
  for await (const each of connection) if (came.push(each) === 3) break;
  assert.deepEqual(came, [{ id: "e-2" }, { gap: { after: "e-2", until: "e-9" }, id: "e-9" }, { id: "e-10" }]);
});

law("a source that is no address is refused at once", [], async (open) => {
  assert.throws(() => open({}, { url: "http://" }), /TypeError: url: http:\/\/ is no address that a stream can be asked for at/);
});

law("before its token ends it is renewed, without a word to the page", [
  streams(connected("live", "e-1"), event(2), 'event: $expiring\ndata: {"seconds":30}\n\n'),
  streams(connected("complete", "e-2"), event(3)),
], async (open, { asked }) => {
  let tokens = 0;
  const { until, data, states } = open({ getToken: () => `t${++tokens}` });
  await until(({ events }) => events.length === 2);
  assert.deepEqual(data(), ["2", "3"]);
  assert.deepEqual(asked.map(({ headers }) => [headers.authorization, headers["last-event-id"]]), [["Bearer t1", undefined], ["Bearer t2", "e-2"]]);
  assert.deepEqual(states.map(({ name }) => name), ["connecting", "open"]);
  assert.ok(asked[0].socket.destroyed || asked[0].aborted || await once(asked[0].socket, "close"));
});

law("a page is told when going on takes its time", [
  streams(connected("live", "e-1"), 'event: $expiring\ndata: {"seconds":30}\n\n'),
  () => {},
], async (open, { asked }) => {
  let tokens = 0;
  const { until, states } = open({ getToken: () => `t${++tokens}` });
  await until(({ states }) => states.length === 3);
  assert.deepEqual([states.map(({ name }) => name), asked.length], [["connecting", "open", "connecting"], 2]);
});

law("a token that stays the same renews nothing", [streams(connected("live", "e-1"), 'event: $expiring\ndata: {"seconds":30}\n\n', event(2))], async (open, { asked }) => {
  const { until } = open({ getToken: () => "t" });
  await until(({ events }) => events.length);
  await sleep(30);
  assert.equal(asked.length, 1);
});

law("a full server is not open, and is left alone as long as it says", [
  (response) => head(response).end(':\nretry: 60000\nevent: $closing\ndata: {"reason":"overloaded"}\n\n'),
], async (open) => {
  const { until, states } = open();
  await until(({ states }) => states.at(-1)?.name === "waiting");
  assert.deepEqual(states.map(({ name }) => name), ["connecting", "waiting"]);
  assert.ok(states[1].why.includes("overloaded") && states[1].until > Date.now() + 50_000);
});

law("waits grow up to a bound, at random, and an end that was announced is no failure", [
  ...Array(6).fill((response) => response.destroy()),
  (response) => {
    head(response).write(connected("live", "e-1"));
    setTimeout(() => response.end('event: $closing\nretry: 1\ndata: {"reason":"expired"}\n\n'), 1100);
  },
  silent,
], async (open) => {
  const waits = [];
  const { until } = open({ minDelay: 8, maxDelay: 64, onState: (state) => state.name === "waiting" && waits.push({ ...state, ms: state.until - Date.now() }) });
  await until(() => waits.length === 7);
  assert.deepEqual(waits.map(({ attempt }) => attempt), [1, 2, 3, 4, 5, 6, 1]);
  for (const { attempt, ms } of waits.slice(0, 6)) assert.ok(ms <= 8 + Math.min(64, 8 * (2 ** (attempt - 1) - 1)), `${ms}`);
});

law("a stream without a heartbeat when it is due is dead", [
  (response) => {
    head(response).write(connected("live", "e-1"));
    let beats = 0; // some, and no more
    const timer = setInterval(() => { response.write(":\n"); if (++beats === 25) clearInterval(timer); }, 40);
  },
  streams(connected("complete", "e-1"), event(2)),
], async (open) => {
  const began = Date.now();
  const { until, states } = open();
  await until(({ events }) => events.length);
  assert.ok(Date.now() - began < 40_000, "it learnt how often they come");
  assert.deepEqual(states.map(({ name }) => name), ["connecting", "open"]);
});

law("with heartbeats it lives as long as they come", [
  (response) => {
    head(response).write(connected("live", "e-1"));
    const timer = setInterval(() => response.write(":\n"), 50);
    setTimeout(() => { clearInterval(timer); response.write(event(2)); }, 1800);
  },
], async (open, { asked }) => {
  await open().until(({ events }) => events.length);
  assert.equal(asked.length, 1);
});

law("neither a decoder nor a handler that throws ends it", [streams(connected("live", "e-1"), event(2, "{"), event(3, "[3]"), event(4, "[4]"))], async (open, { asked }) => {
  const { until, errors, connection, events } = open({ decode: ({ data }) => JSON.parse(data) });
  connection.on("message", ([n]) => { if (n === 3) throw new Error("three"); });
  await until(({ events }) => events.length === 2);
  assert.deepEqual(events, [[3], [4]]);
  assert.ok(errors[0] instanceof SyntaxError && errors[1].message === "three" && errors.length === 2);
  assert.equal(asked.length, 1);
});

law("handlers are by type, and can be taken off", [streams(connected("live", "e-1"), "event: x\n", event(2), event(3), "event: x\n", event(4), event(5))], async (open) => {
  const { until, connection } = open();
  const x = [];
  const off = connection.on("x", ({ data }) => { x.push(data); off(); });
  await until(({ events }) => events.length === 4);
  assert.deepEqual(x, ["2"]);
});

const MANY = 20_000, LONG = "x".repeat(1000);
law("while an iterator is slow no more is read than the queue has room for, and nothing is lost", [
  (response) => {
    head(response).write(connected("live", "e-1"));
    response.sent = 0;
    const more = () => {
      while (response.sent < MANY) if (!response.write(event(++response.sent + 1, `${response.sent} ${LONG}`))) return void response.once("drain", more);
    };
    response.req.response = response;
    more();
  },
], async (open, { asked }) => {
  const { connection } = open({ queueSize: 50 });
  let expected = 0;
  for await (const { data } of connection) {
    assert.equal(data.split(" ")[0], `${++expected}`);
    if (expected === 1) {
      let before; // wait until the server can send no more, and has not been waiting for this process
      for (let still = 0; still < 10; still = asked[0].response.sent === before ? still + 1 : 0) {
        before = asked[0].response.sent;
        await sleep(50);
      }
      assert.ok(before < MANY, "it was read without end");
    }
    if (expected === MANY) break;
  }
  assert.equal(asked.length, 1);
});

law("an event that is too long is left out, and told", [streams(connected("live", "e-1"), event(2, "x".repeat(5000)), "data: ab\n".repeat(2000), "id: e-3\n\n", event(4))], async (open) => {
  const { until, data, errors } = open({ maxEventSize: 1000 });
  await until(({ events }) => events.length);
  assert.deepEqual([data(), errors.length], [["4"], 2]);
});

law("events come out of their envelopes", [
  streams(connected("live", "e-1", ',"envelope":"json","left_out":["b"]'), event(2, '{"channel":"a","event":"message","time":"2026-01-02T03:04:05.678Z","data":"{\\"n\\":1.0}"}')),
], async (open) => {
  const { until, events, connection } = open();
  await until(({ events }) => events.length);
  assert.deepEqual(events, [{ type: "message", data: '{"n":1.0}', id: "e-2", channel: "a", channels: ["a"], time: "2026-01-02T03:04:05.678Z" }]);
  assert.deepEqual(connection.state.leftOut, ["b"]);
});

law("a page that was made with an id begins behind it", [streams(connected("complete", "e-5"), event(6))], async (open, { asked }) => {
  await open({ lastEventId: "e-5" }).until(({ events }) => events.length);
  assert.equal(asked[0].headers["last-event-id"], "e-5");
});

law("where there are no Web Locks each has a stream of its own", [streams(connected("live", "e-1"), event(2))], async (open, { asked }) => {
  assert.equal(globalThis.navigator?.locks, undefined);
  for (const { until } of [open({ shareAcrossTabs: true }), open({ shareAcrossTabs: true })]) await until(({ events }) => events.length);
  assert.equal(asked.length, 2);
});

law("heartbeats that a busy page read late teach it nothing wrong", [
  (response) => {
    head(response).write(connected("live", "e-1"));
    response.write(":\n");
    setTimeout(() => response.write(":\n"), 20);
    setTimeout(() => response.write(event(2)), 2300);
  },
], async (open, { asked }) => {
  await open().until(({ events }) => events.length);
  assert.equal(asked.length, 1);
});

law("channels and patterns make the URL", [silent], async (open, { url, asked }) => {
  const source = { url: url.split("?")[0], channels: ["a b", "ü"], patterns: ["x:*"], history: 5, envelope: true, allowedOnly: true };
  await open({}, source).until(({ states }) => states.at(-1)?.name === "open");
  assert.equal(asked[0].url, "/sse?channel=a+b&channel=%C3%BC&pattern=x%3A*&history=5&envelope=json&allowed=only");
});

for (const [how, close] of Object.entries({ "closed": ({ connection }) => connection.close(), "aborted": ({ abort }) => abort.abort() })) {
  law(`when it is ${how} the server's connection ends, and nothing more is said`, [streams(connected("live", "e-1"), event(2))], async (open, { asked }) => {
    const abort = new AbortController();
    const opened = open({ signal: abort.signal, onEvent: () => close({ ...opened, abort }) });
    await opened.until(({ states }) => states.at(-1)?.name === "closed");
    if (!asked[0].destroyed) await new Promise((done) => { asked[0].on("error", () => {}).on("close", done); });
    assert.equal(opened.states.filter(({ name }) => name === "closed").length, 1);
    assert.equal((await opened.connection[Symbol.asyncIterator]().next()).done, true);
  });
}

const patient = (promise) => Promise.race([promise, sleep(PATIENCE, undefined, { ref: false }).then(() => { throw new Error("it took too long"); })]);
if (process.argv[2] === "--list") for (const name in laws) console.log(name);
else {
  await Promise.all(Object.entries(laws).map(async ([name, check]) => {
    const failed = await patient(check()).then(() => undefined, (error) => error.stack);
    console.log(JSON.stringify({ law: name, failed }));
  }));
  process.exit();
}
