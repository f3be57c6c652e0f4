// Joins the parts: the figures once a second, what is followed, and on a phone one part at a time.

import { markFollowed, watchChannels, withChannels } from "./channels.js";
import { drawCharts, showCharts } from "./charts.js";
import { $, show } from "./dom.js";
import { chooseChannel, explain, openDrawer, publish, withDrawer } from "./drawer.js";
import { followNow, withFeed } from "./feed.js";
import { health, withHealth } from "./health.js";
import { add, remember } from "./history.js";
import { node } from "./node.js";
import { follow, sleep, withToken } from "./session.js";

const WORDS = { live: "Live", reconnecting: "Reconnecting", refused: "Figures are for operators" };
const onPhone = matchMedia("(width < 48rem)");
let watching = null, live = false, welcomed = false;

function figures(now) {
  add(now.second);
  drawCharts();
  health(now);
  node(now);
  const unused = !now.published && !now.log.events;
  document.body.classList.toggle("unused", unused);
  if (unused && !welcomed && onPhone.matches) view("feed");
  welcomed = true;
}

/** Once more from the start: with another token, for one. */
async function watch() {
  watching?.abort();
  const { signal } = (watching = new AbortController());
  const onState = async (state) => {
    if (signal.aborted) return;
    show($("stats-state"), state, WORDS[state]);
    live = state === "live";
    document.body.dataset.figures = state;
    watchChannels(live);
    if (live) {
      await remember(signal); // what was before, or went on while nobody was told
      drawCharts();
    }
  };
  const onEvent = ({ type, data }) => { if (type === "stats") figures(JSON.parse(data)); };
  while (!signal.aborted) {
    await follow(["$stats"], { envelope: false }, signal, onState, onEvent);
    await sleep(30_000 + 40_000 * Math.random(), signal); // whoever was refused may be granted it later
  }
}

/** What the field says, from now on. */
function followThem() {
  const channels = followNow(live);
  markFollowed(channels);
  chooseChannel(channels[0]);
}

function view(name) {
  document.body.dataset.view = name;
  for (const button of $("tabs").children) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

/** The first visit: an event, and somebody who gets it. */
async function first() {
  $("channels").value = "demo";
  followThem();
  if (onPhone.matches) view("feed");
  if (!await publish("demo", JSON.stringify({ hello: "world" }), "")) {
    if (onPhone.matches) view("publish");
    else openDrawer(true, $("first"));
  }
}

withToken(() => { explain(); watch(); });
withDrawer();
withHealth();
showCharts();
withChannels((name) => {
  $("channels").value = name;
  followThem();
  if (onPhone.matches) view("feed");
});
withFeed({
  onFollow: followThem,
  onStop: () => markFollowed([]),
});
$("first").addEventListener("click", first);
$("tabs").addEventListener("click", ({ target }) => {
  const { view: name } = target.closest("button")?.dataset ?? {};
  if (name) view(name);
});
view("figures");
watch();
