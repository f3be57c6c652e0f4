// What else there is to know of the node: its log, its workers and transports where there are several.

import { $, make, write } from "./dom.js";
import { bytes, count, duration, plural, whole } from "./format.js";

function chips(list, items) {
  list.replaceChildren(...items.map(([name, ...words]) => make("li", {}, make("b", {}, name), " ", words.join(" · "))));
}

export function node(now) {
  const { used, capacity, events } = now.log;
  write($("version"), now.version);
  write($("uptime"), duration(now.uptime));
  write($("kept"), whole(events));
  write($("published"), whole(now.published));
  write($("log"), `${bytes(used)} of ${bytes(capacity)}`);
  $("meter").setAttribute("aria-valuenow", Math.round(capacity ? (100 * used) / capacity : 0));
  $("meter").firstElementChild.style.setProperty("--fill", `${capacity ? (100 * used) / capacity : 0}%`);

  const workers = now.workers.length > 1 ? now.workers : [];
  $("workers").hidden = !workers.length;
  chips($("workers-list"), workers.map(({ pid, connections, uptime }) => [`${pid}`, plural(connections, "stream"), duration(uptime)]));
  const transports = Object.entries(now.transports).filter(([, { accepted }]) => accepted);
  $("transports").hidden = transports.length < 2; // with one in use there is nothing to tell apart
  chips($("transports-list"), transports.map(([name, { connections, accepted }]) => [name, `${count(connections)} open`, `${count(accepted)} accepted`]));
  $("more").hidden = !workers.length && transports.length < 2;
}
