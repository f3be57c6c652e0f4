// Whatever comes from the network goes into the page as text, never as markup. All addresses are relative, so the page
// works wherever the app is mounted.

export const $ = (id) => document.getElementById(id);

const DRAWN = new Set(["svg", "path", "line", "text", "circle", "rect", "g"]);

export function make(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** The same text again would be read out again, and drawn anew. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(pill, state, text) {
  pill.dataset.state = state;
  write(pill, text);
}

/** `act` at most once in so many milliseconds, and not while nobody looks; the last call counts. */
export function seldom(ms, act) {
  let timer = null, last = -Infinity;
  return () => {
    timer ??= setTimeout(() => requestAnimationFrame(() => {
      timer = null;
      last = performance.now();
      act();
    }), Math.max(0, last + ms - performance.now()));
  };
}
