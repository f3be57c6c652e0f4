// One chart: a heading, the value of now or of where the crosshair is, and lines over a window of time, with axes.

import { make, write } from "./dom.js";
import { brief } from "./format.js";
import { points } from "./history.js";

const LEFT = 38, RIGHT = 10, TOP = 8, BOTTOM = 20; // px round the plot
const WIDEST = 220; // points

/** The least of 1, 2 and 5 times a power of ten that is not less. */
function roundedUp(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= n * 0.999);
}

export class Chart {
  /** lines: [{ name, of, most, soft }]; format: of a value; least: the top of the axis at least; floor: the foot of a
   * logarithmic one. */
  constructor({ title, unit, lines, format, least, floor, nothing, about }) {
    Object.assign(this, { lines, format, least, floor, nothing });
    this.top = least;
    this.values = lines.map(({ name }) => [make("b", {}, "–"), name]);
    this.note = make("span", { class: "quiet note" }, "\u00a0");
    const figures = this.values.map(([value, name], at) =>
      make("span", { class: lines[at].soft ? "figure soft" : "figure" }, ...(name ? [make("span", { class: "key" }, name), " "] : []), value));
    this.svg = make("svg", { "aria-hidden": "true" });
    this.node = make("article", { class: "chart" },
      make("h3", about ? { title: about } : {}, title),
      make("p", { class: "figures" }, ...figures, make("span", { class: "unit" }, unit), this.note), this.svg);
    this.rules = make("g");
    this.times = make("g");
    this.paths = lines.map(({ soft }) => [make("path", { class: "area" }), make("path", { class: soft ? "line soft" : "line" })]);
    this.hair = make("line", { class: "hair" });
    this.dots = lines.map(({ soft }) => make("circle", { class: soft ? "dot soft" : "dot", r: 3 }));
    this.words = make("text", { class: "nothing" });
    this.svg.append(this.rules, this.times, ...this.paths.flat(), this.words, this.hair, ...this.dots);
  }

  resize() {
    const { width, height } = this.svg.getBoundingClientRect();
    [this.width, this.height] = [width, height];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  get plot() { return this.width - LEFT - RIGHT; }

  x(time) { return LEFT + ((time - this.since) / (this.until - this.since)) * this.plot; }

  y(value) {
    const { floor, top } = this;
    const share = floor ? Math.log(Math.max(value, floor) / floor) / Math.log(top / floor) : value / top;
    return TOP + (1 - Math.min(share, 1)) * (this.height - TOP - BOTTOM);
  }

  timeAt(x) { return this.since + ((x - LEFT) / this.plot) * (this.until - this.since); }

  /** since, until: ms; ticks: [time, words]. */
  draw(since, until, ticks) {
    if (!this.width) return;
    Object.assign(this, { since, until });
    const step = 1000 * Math.max(1, Math.ceil((until - since) / 1000 / Math.min(WIDEST, this.plot / 2)));
    const drawn = this.lines.map(({ of, most }) => points(of, since, step, most));
    const peak = Math.max(this.least, ...drawn.flat().map(([, value]) => value ?? 0));
    if (this.floor) this.top = 10 ** Math.ceil(Math.log10(peak) - 0.01);
    else if (peak > this.top || peak < 0.45 * this.top) this.top = roundedUp(peak);
    this.axes(ticks);
    drawn.forEach((line, at) => this.trace(line, ...this.paths[at], step));
    const empty = drawn.every((line) => line.every(([, value]) => value === null));
    write(this.words, empty ? this.nothing : "");
    if (empty) place(this.words, LEFT + this.plot / 2, TOP + (this.height - TOP - BOTTOM) / 2 + 4);
  }

  axes(ticks) {
    const levels = [0, this.top / 2, this.top];
    if (this.floor) for (let level = this.top, at = 0; (levels[at++] = level) > this.floor * 1.01;) level /= 10;
    this.rules.replaceChildren(...levels.flatMap((level) => {
      const y = Math.round(this.y(level)) + 0.5;
      const words = make("text", { class: "mark", x: LEFT - 7, y: y + 3.5 }, brief(level));
      return [make("line", { class: "rule", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }), words];
    }));
    const texts = ticks.map(([time, words], at) => {
      const text = make("text", { class: at === ticks.length - 1 ? "time last" : "time" }, words);
      place(text, this.x(time), this.height - 4);
      return text;
    });
    this.times.replaceChildren(...texts);
  }

  /** A line, and what is under it; a hole in it is a hole. */
  trace(line, area, path, step) {
    let above = "", under = "", from = null, to = null;
    const foot = this.y(0);
    const close = () => {
      if (from !== null) {
        if (from === to) above += "h.01"; // a point alone
        under += `V${foot}H${from}Z`;
      }
      from = null;
    };
    for (const [time, value] of line) {
      if (value === null) { close(); continue; }
      to = Math.min(Math.max(this.x(time), LEFT), this.width - RIGHT).toFixed(1);
      const at = `${to} ${this.y(value).toFixed(1)}`;
      above += (from === null ? "M" : "L") + at;
      under += (from === null ? "M" : "L") + at;
      from ??= to;
    }
    close();
    path.setAttribute("d", above);
    area.setAttribute("d", under);
  }

  /** second: what the figures say; time: where the crosshair is, or null. */
  point(second, time, words) {
    this.values.forEach(([node], at) => {
      const value = second === null ? null : this.lines[at].of(second);
      write(node, value === null ? "–" : this.format(value));
      const seen = time !== null && value !== null && this.width;
      this.dots[at].toggleAttribute("hidden", !seen);
      if (seen) {
        this.dots[at].setAttribute("cx", this.x(second.time));
        this.dots[at].setAttribute("cy", this.y(value));
      }
    });
    write(this.note, words);
    this.hair.toggleAttribute("hidden", time === null);
    if (time === null || !this.width) return;
    const x = Math.round(this.x(time)) + 0.5;
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM })) this.hair.setAttribute(name, value);
  }
}

function place(node, x, y) {
  node.setAttribute("x", x);
  node.setAttribute("y", y);
}
