// Who asks, and how: the token of this tab, requests, and streams by the browser client, which stands in front of this script.

import { $, make } from "./dom.js";

const KEPT = "sse_fast token";

/** What can be a token, or nothing. */
export function token() {
  const text = $("token").value.trim();
  const good = /^[\x21-\x7e]*$/.test(text);
  if (!good) $("token").setAttribute("aria-invalid", "true");
  return good ? text : "";
}

export const bearer = (credential) => (credential ? { Authorization: `Bearer ${credential}` } : {});

/** Where a page may not store anything, it is asked for again after a reload. */
export function withToken(changed) {
  try { $("token").value = sessionStorage.getItem(KEPT) ?? ""; } catch { /* so be it */ }
  $("token").addEventListener("change", () => {
    $("token").setAttribute("aria-invalid", "false");
    try { sessionStorage.setItem(KEPT, token()); } catch { /* so be it */ }
    changed();
  });
}

export const sleep = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

/** What a path under the edge says, or null: it is not there, not for us, or nobody answers. */
export async function ask(path, signal) {
  try {
    const response = await fetch(path, { headers: bearer(token()), signal });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** An answer that is no success, in words: an RFC 9457 problem if it is one. */
export async function complaint(response) {
  const text = await response.text();
  try {
    const { title, detail } = JSON.parse(text);
    return { title: `${response.status} ${title ?? response.statusText}`, detail: detail ?? "" };
  } catch {
    return { title: `${response.status} ${response.statusText}`, detail: text.slice(0, 300) };
  }
}

/** Read channels until `signal` aborts or the server refuses, which `onState` is told with the status. The client comes
 * back after a drop, by the last id, and with the token of then. */
export function follow(channels, { history = "0", envelope = true }, signal, onState, onEvent) {
  const told = (type) => (said, id = "") => onEvent({ type, id, data: JSON.stringify(said) });
  return new Promise((done) => connect({ url: "sse", channels, envelope, history: Number(history) || 0 }, {
    signal,
    lastEventId: history === "earliest" ? history : "",
    headers: () => bearer(token()),
    onEvent: ({ time, ...event }) => onEvent(time ? { ...event, at: Date.parse(time) } : event),
    onGap: told("$gap"),
    onForgotten: ({ id, ...said }) => told("$forgotten")(said, id),
    onExpiring: told("$expiring"),
    onClosing: told("$closing"),
    onError(error) { if (!(error instanceof StreamError)) throw error; }, // of the others the state tells
    onState({ name, until, why, error }) {
      if (name === "open") onState("live", "Live");
      else if (name === "waiting") {
        const when = until === null ? "when it can" : `in ${((until - Date.now()) / 1000).toFixed(1)} s`;
        onState("reconnecting", `Reconnecting ${when}: ${why}`);
      } else if (name === "closed") {
        if (!signal.aborted) onState("refused", why, error?.status);
        done();
      }
    },
  }));
}

/** A button that copies what `text` says, or selects `node` where the page may not. */
export function copier(label, text, node) {
  const button = make("button", { class: "small", type: "button", "aria-label": label }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch { // browsers give the clipboard to secure origins only
      getSelection().selectAllChildren(node);
    }
  });
  return button;
}
