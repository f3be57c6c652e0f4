"""The picture of a run of bench_peers.py: an SVG, drawn from its record alone.

A row is a server, a column a figure; every bar has its number beside it, and how many times sse_fast's that is. It has
a ground of its own, and colours for light and dark, so that it reads well on any page.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from statistics import median

from .record import CONNECT, CPU, FLOOR, MEMORY, OURS, PUBLISH, Look, Record

WIDTH = 960
LEFT, NAMES = 24, 118  # px: the margin; what the servers' names take
ROW, BAR = 25, 13
TOP = 144  # of the first row
MOST = 74  # px of the longest bar; behind it is room for the figures
OUTLIER = 3.0  # times the median of a column: a bar that is longer is broken, or nothing else could be compared

STYLE = """\
  :root { --ground: #fff; --ink: #171a20; --muted: #59616e; --line: #e1e5ea; --bar: #b4bcc8; --ours: #0b7a6b; }
  @media (prefers-color-scheme: dark) {
    :root { --ground: #14181e; --ink: #e9ecf1; --muted: #98a2b1; --line: #2b323c; --bar: #667186; --ours: #45d0b5; }
  }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; fill: var(--ink);
    font-variant-numeric: tabular-nums; }
  .ground { fill: var(--ground); stroke: var(--line); }
  .title { font-size: 17px; font-weight: 650; }
  .head { font-weight: 650; }
  .muted { fill: var(--muted); }
  .small { font-size: 11px; }
  .bar { fill: var(--bar); }
  .ours { fill: var(--ours); }
  text.ours { font-weight: 650; }
  .floor { fill: none; stroke: var(--bar); }
  .break { stroke: var(--ground); stroke-width: 3; fill: none; }
  .rule { stroke: var(--line); }"""


@dataclass(frozen=True)
class Column:
    title: str
    unit: str
    load: str
    look: Look
    subscribers: int
    in_flight: int


def columns_of(record: Record) -> list[Column]:
    """Those that the run measured: publishing, then what the most subscribers cost."""
    most, few = record.subscribers[-1], record.in_flight[0]
    columns = [
        Column("Delivering an event", "CPU µs a subscriber", f"{few} in flight", CPU, most, few),
        *(
            Column("Delivering many", "CPU µs a subscriber", f"{many} in flight", CPU, most, many)
            for many in record.in_flight[1:]
        ),
        Column("Opening a stream", "CPU µs", "", CONNECT, most, few),
        Column("Holding a stream", "KB of memory", "idle", MEMORY, most, few),
    ]
    if record.connections:
        many = record.connections[-1]
        columns.insert(0, Column("Publishing an event", "CPU µs a POST", f"{many} at once", PUBLISH, 0, many))
    return columns


def draw(record: Record) -> str:
    """The SVG's text."""
    names = sorted(record.names, key=lambda name: name == FLOOR)  # the floor is no server, and stands below them
    foot = TOP + len(names) * ROW + 26
    columns = columns_of(record)
    machine = record.about["machine"]
    most = record.subscribers[-1]
    title = "What server-sent events cost, by server"
    heading = f"One worker each, {most:,} streams of one channel, events of {record.about['settings']['bytes']} bytes."
    run = (
        f"{record.about['started'][:10]}, {machine['cores']} cores ({machine['cpu']}), {machine['system']}. "
        f"Medians of {record.about['settings']['rounds']} rounds, servers in turn; the load client on the same machine."
    )
    marks = f"×: how many times {OURS}'s."
    if FLOOR in names:
        marks += f" {FLOOR}: a loop of send(2), the floor of a write for each event and subscriber."
    if any(_mark(record, name) for name in names):
        marks += " * Not every stream got everything."
    summary = "; ".join(_said(record, name, columns) for name in names)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + 54}" width="{WIDTH}" '
        f'height="{foot + 54}" role="img" aria-labelledby="title summary">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="summary">{escape(summary)}</desc>',
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{foot + 53}" rx="8"/>',
        _text(LEFT, 38, "title", title),
        _text(LEFT, 60, "muted", f"{heading} Shorter is better; a broken bar is longer than drawn."),
    ]
    wide = (WIDTH - LEFT - NAMES) / len(columns)
    for place, column in enumerate(columns):
        x = LEFT + NAMES + place * wide
        lines += [
            _text(x, TOP - 45, "head", column.title),
            _text(x, TOP - 28, "muted small", column.unit),
            _text(x, TOP - 13, "muted small", column.load),
        ]
        lines += _bars(record, names, column, x)
    for row, name in enumerate(names):
        kind = "ours" if name == OURS else "muted" if name == FLOOR else ""
        lines.append(_text(LEFT, _middle(row) + 4, kind, name + _mark(record, name)))
    lines += [
        f'<path class="rule" d="M{LEFT} {foot - 10.5}H{WIDTH - LEFT}"/>',
        _text(LEFT, foot + 12, "muted small", marks),
        _text(LEFT, foot + 30, "muted small", run),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bars(record: Record, names: list[str], column: Column, x: float) -> Iterator[str]:
    measured = {name: record.values(column.look, name, column.subscribers, column.in_flight) for name in names}
    middles = {name: median(values) for name, values in measured.items() if values}
    end = min(max(middles.values(), default=0), OUTLIER * median(middles.values() or [0])) or 1.0
    for row, name in enumerate(names):
        y = _middle(row)
        if name not in middles:
            yield _text(x, y + 4, "muted", "–")
            continue
        broken = middles[name] > end
        width = MOST if broken else MOST * middles[name] / end
        kind = "bar ours" if name == OURS else "floor" if name == FLOOR else "bar"
        if width >= 0.1:
            yield f'<rect class="{kind}" x="{x:.1f}" y="{y - BAR / 2}" width="{width:.1f}" height="{BAR}" rx="1.5"/>'
        if broken:
            at = x + MOST - 12
            yield f'<path class="break" d="M{at:.1f} {y + 9}l5 -18m3 0l-5 18"/>'
        ratios = record.ratios(column.look, name, column.subscribers, column.in_flight)
        times = median(ratios) if ratios and name != OURS else 0.0
        beside = f"{short(times, 2 if times >= 1 else 3)}×" if times else ""
        yield _text(x + width + 6, y + 4, "ours" if name == OURS else "", short(middles[name], 3), beside)


def _said(record: Record, name: str, columns: list[Column]) -> str:
    """A server's row for who does not see it."""
    cells = []
    for column in columns:
        if values := record.values(column.look, name, column.subscribers, column.in_flight):
            unit = f"{column.unit}, {column.load}" if column.load else column.unit
            cells.append(f"{column.title.lower()} {short(median(values), 3)} {unit}")
    return f"{name}: {', '.join(cells) or 'nothing measured'}"


def _mark(record: Record, name: str) -> str:
    return " *" if any(record.faulty(name, record.subscribers[-1], in_flight) for in_flight in record.in_flight) else ""


def _middle(row: int) -> float:
    return TOP + row * ROW + ROW / 2


def _text(x: float, y: float, kind: str, words: str, beside: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    more = f'<tspan class="muted small" dx="5">{escape(beside)}</tspan>' if beside else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(words)}{more}</text>'


def short(value: float, digits: int) -> str:
    """So many digits, but never an exponent; below 1 so many places less one."""
    if value < 1:
        return f"{value:.{digits - 1}f}" if value else "0"
    whole = len(f"{value:.0f}")
    return f"{value:,.{max(0, digits - whole)}f}"
