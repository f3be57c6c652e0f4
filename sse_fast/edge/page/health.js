// How the server is, in words; each count leads to what it counts.

import { $, make, write } from "./dom.js";
import { count, duration, plural, whole } from "./format.js";
import { total } from "./history.js";
import { ask } from "./session.js";

const WAITING = 50; // streams that wait
const LATELY = "in the last ten minutes";

let stats = null, parked = [], asking = false, open = null;

/** What is not as it should be: { cause, words }, the worst first. */
function troubles(now) {
  const found = [];
  const say = (cause, n, words) => { if (n) found.push({ cause, words }); };
  say("backplane", now.backplane?.away, "the backplane takes no events");
  if (now.blocked) {
    const since = Math.min(...parked.map(({ parked_since: at }) => at ?? Infinity));
    const seconds = Number.isFinite(since) ? Math.floor(now.time - since) : 0;
    found.push({ cause: "parked", words: `${count(now.blocked)} parked${seconds >= 1 ? `, the oldest for ${duration(seconds)}` : ""}` });
  }
  const [slow, gaps, refused] = ["slow", "gaps", "refused"].map(total);
  say("slow", slow, `${count(slow)} too slow`);
  say("gaps", gaps, `${plural(gaps, "gap")} told`);
  say("refused", refused, `${count(refused)} refused`);
  return found;
}

const CAUSES = {
  parked: {
    title: "Streams that wait for their clients",
    words: "Their clients take no bytes at the moment, or too few. They hold bounded memory and delay nobody; when they read again they go on where they were, or are told of a gap.",
    body: () => table(["Client", "User", "Channels", "Waiting for", "Behind by", "Sent by"], parked.map((stream) => [
      stream.address || "–", stream.user ?? "–", [...stream.channels, ...stream.patterns].join(", "),
      stream.parked_since === null ? "–" : duration(Math.max(0, stats.time - stream.parked_since)),
      stream.lag ? plural(stream.lag, "position") : "what is on its way", stream.transport,
    ]), stats.blocked > parked.length && `The ${parked.length} that have waited longest, of ${whole(stats.blocked)}.`),
  },
  slow: {
    title: "Streams that were too slow",
    words: `They took nothing for longer than send_timeout, or fell out of the log, and met slow_policy ${LATELY}. Clients that come back resume by their last id.`,
    body: () => facts({ [`too slow ${LATELY}`]: total("slow"), "since the start": stats.slow_disconnects, "ended as slow since the start": stats.ended.slow }),
  },
  gaps: {
    title: "Streams that were told of a gap",
    words: `Events after their cursor were no longer in the log ${LATELY}, so they were told so by $gap, in order. A larger log_size, or a reserve of a namespace, keeps more.`,
    body: () => facts({ [`gaps ${LATELY}`]: total("gaps"), "since the start": stats.gaps }),
  },
  refused: {
    title: "Streams and publish requests that were refused",
    words: "By reason, since the start. The log of the server has a line for each, with who asked and why not.",
    body: () => table(["Reason", "Refused"], Object.entries(stats.refused_by).filter(([, n]) => n).sort(([, a], [, b]) => b - a)
      .map(([reason, n]) => [reason.replaceAll("_", " "), whole(n)])),
  },
  backplane: {
    title: "The backplane is away",
    words: "Publishing is answered 503 until it is back; streams stay open, and nothing that was acknowledged is lost.",
    body: () => facts({ "workers without it": stats.backplane?.away ?? 0, "failed publishes since the start": stats.backplane?.failures ?? 0 }),
  },
};

function table(heads, rows, more) {
  const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))));
  const body = make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((text) => make("td", {}, text)))));
  const found = [make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table of causes" }, make("table", {}, head, body))];
  if (more) found.push(make("p", { class: "quiet" }, more));
  return rows.length ? found : [make("p", { class: "quiet" }, "None any more.")];
}

const facts = (said) => [make("dl", { class: "counts" }, ...Object.entries(said).map(([words, n]) =>
  make("div", {}, make("dt", {}, words), make("dd", {}, whole(n)))))];

function showCause(cause) {
  open = cause;
  $("causes").hidden = cause === null;
  for (const button of $("troubles").children) button.setAttribute("aria-expanded", String(button.dataset.cause === cause));
  if (cause === null) return;
  const { title, words, body } = CAUSES[cause];
  write($("causes-title"), title);
  write($("causes-words"), words);
  $("causes-body").replaceChildren(...body());
}

/** Buttons stay the ones they are, so that nobody's focus is lost. */
function drawTroubles(found) {
  const there = new Map([...$("troubles").children].map((button) => [button.dataset.cause, button]));
  const buttons = found.map(({ cause, words }) => {
    const button = there.get(cause) ?? make("button", { type: "button", class: "trouble", "data-cause": cause, "aria-expanded": "false", "aria-controls": "causes" });
    write(button, words);
    return button;
  });
  if (buttons.length !== there.size || buttons.some((button, at) => $("troubles").children[at] !== button)) {
    $("troubles").replaceChildren(...buttons);
  }
}

async function lookAtParked() {
  if (asking) return;
  asking = true;
  parked = (await ask(`streams?parked=true&limit=${WAITING}`))?.streams ?? [];
  asking = false;
  tell();
}

function tell() {
  const found = troubles(stats);
  const bad = found.some(({ cause }) => cause === "backplane");
  const waits = found.some(({ cause }) => cause === "parked");
  const lost = found.length > 0;
  $("health").dataset.state = bad ? "bad" : waits ? "warn" : "good";
  write($("verdict"), bad ? "In trouble." : waits ? "Not all keep up:" : lost ? "All keep up now;" : stats.connections > stats.watching ? "All keep up." : "All is well; nobody listens yet.");
  drawTroubles(found);
  const streams = Math.max(0, stats.connections - stats.watching);
  write($("who"), streams ? `${plural(streams, "stream")} on ${plural(stats.second?.channels ?? stats.channels, "channel")}` : "");
  write($("lately"), found.some(({ cause }) => ["slow", "gaps", "refused"].includes(cause)) ? LATELY : "");
  if (open !== null && (open !== "parked" || stats.blocked || parked.length)) showCause(open);
}

export function health(now) {
  stats = now;
  if (now.blocked) lookAtParked();
  else parked = [];
  tell();
}

export function withHealth() {
  $("troubles").addEventListener("click", ({ target }) => {
    const { cause } = target.closest("button")?.dataset ?? {};
    if (cause) showCause(open === cause ? null : cause);
  });
  $("causes-close").addEventListener("click", () => {
    const button = [...$("troubles").children].find(({ dataset }) => dataset.cause === open);
    showCause(null);
    (button ?? $("troubles").firstElementChild)?.focus();
  });
}
