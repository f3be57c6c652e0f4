// @microsoft/fetch-event-source: node fetch-event-source.mjs URL; what it is handed goes to stdout, one JSON object a
// line. It comes back after an error, as its own default is, and stops after a clean end.
import { setMaxListeners } from "node:events";
import fetchEventSource from "@microsoft/fetch-event-source";

// What it needs of a browser.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
setMaxListeners(0);

const say = (happening) => process.stdout.write(JSON.stringify(happening) + "\n");
await fetchEventSource.fetchEventSource(process.argv[2], {
  onmessage: ({ event, data, id }) => say({ type: event || "message", data, id }),
  onerror: (error) => say({ state: "error", why: String(error.cause ?? error) }),
  onclose: () => say({ state: "closed" }),
});
