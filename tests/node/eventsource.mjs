// npm `eventsource`: node eventsource.mjs URL TYPE...; what it is handed goes to stdout, one JSON object a line.
import { EventSource } from "eventsource";

const say = (happening) => process.stdout.write(JSON.stringify(happening) + "\n");
const [url, ...types] = process.argv.slice(2);
const source = new EventSource(url);
source.onerror = (error) => say({ state: source.readyState === EventSource.CLOSED ? "closed" : "error", why: error.message });
for (const type of ["message", ...types]) {
  source.addEventListener(type, (event) => say({ type: event.type, data: event.data, id: event.lastEventId }));
}
