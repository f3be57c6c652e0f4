// Publishing, and how to do it from elsewhere, for the channel that is chosen.

import { $, make, write } from "./dom.js";
import { bearer, complaint, copier, token } from "./session.js";

const origin = location.origin + location.pathname.replace(/[^/]*$/, "").replace(/\/$/, "");
const home = `${origin}/`.replaceAll("'", "%27");
const LANGUAGES = ["curl", "JavaScript", "Python"];

let language = "curl", opener = null;

function answer(good, title, detail) {
  $("answer").className = good ? "" : "bad";
  $("answer").replaceChildren(make("strong", {}, title), " ", make("span", { class: good ? "mono" : "" }, detail));
}

/** Whether it was taken. */
export async function publish(channel, data, type) {
  const credential = $("key").value || token();
  const headers = { "Content-Type": "application/json", ...bearer(credential) };
  $("send").disabled = true;
  try {
    const body = JSON.stringify(type ? { channel, data, event: type } : { channel, data });
    const response = await fetch("publish", { method: "POST", headers, body });
    $("key").setAttribute("aria-invalid", String(response.status === 401 || response.status === 403));
    if (response.ok) answer(true, "Published", (await response.json()).id);
    else {
      const { title, detail } = await complaint(response);
      answer(false, title, detail);
    }
    return response.ok;
  } catch (error) {
    answer(false, "Not sent", error.message);
    return false;
  } finally {
    $("send").disabled = false;
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'").replaceAll("\n", "\\n")}'`;

/** [title, text]. With a token where the page has one: by its name, as a secret that is shown is one no more. */
function snippets(channel, data, type) {
  const at = encodeURIComponent(channel).replaceAll("%3A", ":").replaceAll("'", "%27");
  const named = type ? `?event=${encodeURIComponent(type).replaceAll("'", "%27")}` : "";
  const [reads, writes] = [token(), $("key").value || token()];
  const header = (has, name) => (has ? ` -H "Authorization: Bearer $${name}"` : "");
  const by = $("key").value ? "KEY" : "TOKEN";
  if (language === "curl") {
    return [
      ["Listen", `curl -N${header(reads, "TOKEN")} '${home}sse/${at}'`],
      ["Publish", `curl -d ${quoted(data)}${header(writes, by)} '${home}publish/${at}${named}'`],
    ];
  }
  if (language === "JavaScript") {
    const listen = reads
      ? `(await import('${home}client.js')).connect('${home}sse/${at}', { getToken: () => TOKEN, onEvent: (e) => console.log(e.data) })`
      : `new EventSource('${home}sse/${at}').onmessage = (e) => console.log(e.data)`;
    const options = `{ method: 'POST', body: ${literal(data)}${writes ? `, headers: { Authorization: \`Bearer \${${by}}\` }` : ""} }`;
    return [
      [type && !reads ? "Listen (events without a type)" : "Listen", listen],
      ["Publish", `await fetch('${home}publish/${at}${named}', ${options})`],
    ];
  }
  const client = (has, name) => `from sse_fast.client import Client\n\nedge = Client(${literal(origin)}${has ? `, token=${name}` : ""})\n`;
  return [
    ["Listen", `${client(reads, "TOKEN")}with edge.listen(${literal(channel)}) as items:\n    for item in items:\n        print(item)`],
    ["Publish", `${client(writes, by)}edge.publish(${literal(channel)}, ${literal(data)}${type ? `, event=${literal(type)}` : ""})`],
  ];
}

/** The snippets of what the form says. */
export function explain() {
  const [channel, data, type] = [$("to").value.trim() || "demo", $("data").value, $("type").value.trim()];
  for (const tab of $("languages").children) {
    const mine = tab.dataset.language === language;
    tab.setAttribute("aria-selected", String(mine));
    tab.tabIndex = mine ? 0 : -1;
  }
  $("lines").setAttribute("aria-labelledby", `language-${language}`);
  $("lines").replaceChildren(...snippets(channel, data, type).flatMap(([title, text]) => {
    const code = make("code", {}, text);
    return [
      make("div", { class: "line-head" }, make("h3", {}, title), copier(`Copy: ${title} with ${language}`, () => text, code)),
      make("pre", { class: "snippet", tabindex: "0", "aria-label": `${title} with ${language}` }, code),
    ];
  }));
}

/** The channel that is chosen elsewhere. */
export function chooseChannel(name) {
  if (!name) return;
  $("to").value = name;
  explain();
}

export function openDrawer(open, from = document.activeElement) {
  if (open) opener = from;
  document.body.classList.toggle("drawn", open);
  $("open-drawer").setAttribute("aria-expanded", String(open));
  if (open) $("to").focus({ preventScroll: true });
  else if ($("drawer").contains(document.activeElement) || document.activeElement === document.body) (opener ?? $("open-drawer")).focus();
}

export function withDrawer() {
  $("open-drawer").addEventListener("click", () => openDrawer(!document.body.classList.contains("drawn")));
  $("close-drawer").addEventListener("click", () => openDrawer(false));
  $("drawer").addEventListener("keydown", ({ key }) => { if (key === "Escape" && document.body.classList.contains("drawn")) openDrawer(false); });
  $("publish").addEventListener("submit", (event) => {
    event.preventDefault();
    publish($("to").value.trim(), $("data").value, $("type").value.trim());
  });
  $("publish").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (!$("send").disabled) $("publish").requestSubmit();
  });
  $("publish").addEventListener("input", explain);
  $("languages").append(...LANGUAGES.map((name) =>
    make("button", { type: "button", role: "tab", id: `language-${name}`, "data-language": name, "aria-controls": "lines" }, name)));
  $("languages").addEventListener("click", ({ target }) => {
    if (target.dataset.language) { language = target.dataset.language; explain(); }
  });
  $("languages").addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: LANGUAGES.length - 1 }[key];
    if (!step) return;
    language = LANGUAGES[(LANGUAGES.indexOf(language) + step) % LANGUAGES.length];
    explain();
    $(`language-${language}`).focus();
  });
  explain();
}
