// Numbers, times and texts, as they are written on this page.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const finest = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const whole = (n) => plain.format(n);

export function count(n) {
  if (n >= 100_000) return compact.format(n);
  return (n < 10 ? fine : plain).format(n);
}

/** Three digits, so that it stays as wide as it is while it moves. */
export function measure(n) {
  if (n >= 100_000) return compact.format(n);
  return n < 9.995 ? n.toFixed(2) : n < 99.95 ? n.toFixed(1) : plain.format(n);
}

/** In a column: the points stand under each other. */
export function perSecond(n) {
  if (n > 0 && n < 0.05) return "<0.1";
  return n < 10_000 ? tenth.format(n) : count(n);
}

/** On an axis. */
export const brief = (n) => (n >= 1000 ? short.format(n) : finest.format(n));

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return `${(n < 100 && unit ? fine : plain).format(n)} ${units[unit]}`;
}

export function duration(seconds) {
  const [d, h, m, s] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

/** As `duration`, in one unit. */
export function ago(seconds) {
  if (seconds < 1) return "now";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const timeOfDay = (at) => clock.format(new Date(at));

/** When it was published: the time of day, of another day its date before it. */
export function timeText(at) {
  const [then, today] = [new Date(at), new Date()];
  return then.toDateString() === today.toDateString() ? exact.format(then) : `${day.format(then)} ${exact.format(then)}`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

const TOKENS = /"(?:[^"\\]|\\.)*"|[^\s"[\]{},:]+|[[\]{},:]/g;
/** JSON text over several lines, but for what fits into `width`; what is no JSON object or array as it stands. Numbers keep
 * their digits. */
export function indented(text, width = 0) {
  if (!/^\s*[[{]/.test(text)) return text;
  try { JSON.parse(text); } catch { return text; }
  const tokens = text.match(TOKENS), closes = new Map(), ends = [], opened = [];
  let length = 0;
  tokens.forEach((token, at) => {
    length += token.length + (token === ":" || token === ","); // with the space behind it
    ends.push(length);
    if (token === "{" || token === "[") opened.push(at);
    else if (token === "}" || token === "]") closes.set(opened.pop(), at);
  });
  let out = "", depth = 0, inline = -1; // up to that token all is on one line
  const feed = () => "\n" + "  ".repeat(depth);
  tokens.forEach((token, at) => {
    const onOne = at <= inline;
    if (closes.has(at)) {
      const end = closes.get(at);
      out += token;
      if (!onOne && (end === at + 1 || ends[end] - ends[at] + 1 + 2 * depth <= width)) inline = end;
      else if (!onOne) { depth++; out += feed(); }
    } else if ((token === "}" || token === "]") && !onOne) { depth--; out += feed() + token; }
    else if (token === ":") out += ": ";
    else if (token === ",") out += onOne ? ", " : "," + feed();
    else out += token;
  });
  return out;
}
