// node mercure-sdks.mjs CLIENT HUB TOKEN JSON: npm `mercure` publishes; `eventsource`, `fetch-event-source` and
// `event-source-polyfill` subscribe. What each has to say goes to stdout, a JSON object a line.
import { createRequire } from "node:module";
import { setMaxListeners } from "node:events";

const require = createRequire(import.meta.url);
const [client, hub, token, json] = process.argv.slice(2);
const given = JSON.parse(json);
const say = (happening) => process.stdout.write(JSON.stringify(happening) + "\n");
const headers = { Authorization: `Bearer ${token}` };
const url = new URL(hub);
for (const topic of given.topics ?? []) url.searchParams.append("topic", topic);

function listen(source) {
  source.onopen = () => say({ open: true });
  for (const type of ["message", given.type].filter(Boolean)) {
    source.addEventListener(type, (event) => say({ id: event.lastEventId, type: event.type, data: event.data }));
  }
}

if (client === "mercure") {
  const { Publisher } = require("mercure");
  const publisher = new Publisher({ protocol: "http", host: url.hostname, port: Number(url.port), path: url.pathname, jwt: token });
  for (const { topics, data, id, type, retry } of given) say({ id: await publisher.publish(topics, data, { id, type, retry }) });
} else if (client === "eventsource") {
  const { EventSource } = await import("eventsource");
  listen(new EventSource(url, { fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }) }));
} else if (client === "event-source-polyfill") {
  const { EventSourcePolyfill } = require("event-source-polyfill");
  listen(new EventSourcePolyfill(url.href, { headers }));
} else if (client === "fetch-event-source") {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  setMaxListeners(0);
  const { fetchEventSource } = require("@microsoft/fetch-event-source");
  await fetchEventSource(url.href, {
    headers,
    onopen: async () => say({ open: true }),
    onmessage: ({ event, data, id }) => say({ id, type: event || "message", data }),
  });
} else {
  throw new Error(`no such client: ${client}`);
}
