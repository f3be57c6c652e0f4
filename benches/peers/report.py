"""The report of a run of bench_peers.py, made from its JSON alone: a page of tables and a picture.

python -m peers.report results/peers.json      (in benches/)
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

OURS = "sse_fast"
Window = dict[str, Any]
Look = Callable[[Window], float | None]
NOTHING = "no whole window"
ALMOST_WHOLE = 0.99  # of all deliveries; with less the figures say nothing

CLOCK = """\
The servers take turns, started afresh for each, and each round begins with another one. The client opens the streams,
then publishes {bytes}-byte events to all of them in a closed loop, so many in flight, for {seconds:g} s and until the
last event has reached everybody; it checks that every subscriber gets every event once and whole.

CPU: user and system time of all processes of the server in that window, divided by deliveries (events × subscribers);
it includes reading and answering the publish requests, and the kernel's work on the server's side of loopback. A server
that writes several events at once, when several are in flight, can get below the floor, which writes each by itself.
Latency: from just before the client sends the publish request to the event at a subscriber, over all subscribers;
client and server share the machine. Memory is the server's own (PSS) for a stream that is open and idle. Each figure is
the median over {rounds} rounds, in brackets the least and the greatest; a ratio is taken within its round. How each
server is set: benches/peers/."""


def figure(name: str, scale: float = 1) -> Look:
    def look(window: Window) -> float | None:
        value = window["figures"].get(name)
        return None if value is None else value / scale

    return look


def latency_ms(name: str) -> Look:
    def look(window: Window) -> float | None:
        value = window["latency_us"].get(name)
        return None if value is None else value / 1e3

    return look


CPU = figure("server_cpu_us_per_delivery")
CONNECT = figure("server_cpu_us_per_connect")
MEMORY = figure("user_memory_per_connection", 1024)


class Record:
    """What was measured, by server, subscribers and events in flight."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        self.names = list(record["peers"])
        self.subscribers = sorted({window["subscribers"] for window in record["windows"]})
        self.in_flight = sorted({window["in_flight"] for window in record["windows"]})

    def of(self, name: str, subscribers: int, in_flight: int) -> list[Window]:
        wanted = (name, subscribers, in_flight)
        windows = self.record["windows"]
        return [w for w in windows if (w["peer"], w["subscribers"], w["in_flight"]) == wanted and tells_something(w)]

    def values(self, look: Look, name: str, subscribers: int, in_flight: int) -> list[float]:
        return [value for window in self.of(name, subscribers, in_flight) if (value := look(window)) is not None]

    def ratios(self, look: Look, name: str, subscribers: int, in_flight: int) -> list[float]:
        """In multiples of sse_fast's, round by round."""
        ours = {window["round"]: look(window) for window in self.of(OURS, subscribers, in_flight)}
        found = []
        for window in self.of(name, subscribers, in_flight):
            value, other = look(window), ours.get(window["round"])
            if value is not None and other:
                found.append(value / other)
        return found

    def mark(self, name: str, subscribers: int, in_flight: int) -> str:
        """The name, and a star where not every window was whole."""
        return name + (" \\*" if any(window["problems"] for window in self.of(name, subscribers, in_flight)) else "")


def tells_something(window: Window) -> bool:
    figures = window["figures"]
    expected = figures.get("events", 0) * window["subscribers"]
    return bool(expected and figures["deliveries"] >= ALMOST_WHOLE * expected)


def spread(values: Iterable[float], digits: int) -> str:
    ordered = sorted(values)
    if not ordered:
        return "–"
    text = f"{median(ordered):,.{digits}f}"
    return text if len(ordered) == 1 else f"{text} ({ordered[0]:,.{digits}f}–{ordered[-1]:,.{digits}f})"


def table(head: list[str], rows: Iterable[list[str]], column: str = "--:") -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{f'{column}|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def fan_out_table(record: Record, subscribers: int, in_flight: int) -> str:
    def row(name: str) -> list[str]:
        where = (name, subscribers, in_flight)
        if not record.values(CPU, *where):
            return [name, NOTHING, *["–"] * 4]
        return [
            record.mark(*where),
            spread(record.values(CPU, *where), 2),
            spread(record.ratios(CPU, *where), 2),
            spread(record.values(figure("deliveries_per_second", 1000), *where), 0),
            spread(record.values(latency_ms("p50"), *where), 1),
            spread(record.values(latency_ms("p99"), *where), 1),
        ]

    head = ["server", "CPU µs per delivery", f"× {OURS}", "thousand deliveries/s", "p50 ms", "p99 ms"]
    return table(head, map(row, record.names))


def connection_table(record: Record, subscribers: int) -> str:
    def row(name: str) -> list[str]:
        where = (name, subscribers, record.in_flight[0])  # the same streams for each number in flight
        return [
            record.mark(*where),
            spread(record.values(CONNECT, *where), 0),
            spread(record.ratios(CONNECT, *where), 2),
            spread(record.values(MEMORY, *where), 1),
            spread(record.ratios(MEMORY, *where), 2),
        ]

    head = ["server", "CPU µs per stream opened", f"× {OURS}", "memory KB per idle stream", f"× {OURS}"]
    return table(head, map(row, record.names))


def page(record: Record) -> str:
    data = record.record
    machine = data["machine"]
    parts = [
        "# sse_fast beside its peers",
        CLOCK.format(**data["settings"]),
        f"{data['started']}; {machine['cores']} cores ({machine['cpu']}), {machine['system']}, "
        f"Python {data['versions']['python']}.",
        table(["server", "what", "version"], ([n, p["about"], p["version"]] for n, p in data["peers"].items()), "---"),
    ]
    for subscribers in record.subscribers:
        for in_flight in record.in_flight:
            parts.append(f"## {subscribers:,} subscribers, {in_flight} in flight")
            parts.append(fan_out_table(record, subscribers, in_flight))
        parts.append(f"## {subscribers:,} streams opened")
        parts.append(connection_table(record, subscribers))
    if wrong := [window for window in data["windows"] if window["problems"]]:
        parts.append("## \\* Not whole")
        parts.append(f"Somebody did not get everything. Figures stand where {ALMOST_WHOLE:.0%} of all deliveries came.")
        parts.append(
            "\n".join(
                f"- {window['peer']}, {window['subscribers']:,} subscribers, {window['in_flight']} in flight, "
                f"round {window['round'] + 1}: {'; '.join(window['problems'].values())}"
                for window in wrong
            )
        )
    return "\n\n".join(parts) + "\n"


def picture(record: Record, path: Path) -> None:
    """CPU per delivery, a panel for each pair of subscribers and events in flight; beneath it what a stream costs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pairs = [(n, w) for n in record.subscribers for w in record.in_flight]
    most = record.subscribers[-1]
    panels = [(f"{n:,} subscribers, {w} in flight", "CPU µs per delivery", CPU, n, w) for n, w in pairs]
    panels.append((f"{most:,} streams opened", "CPU µs per stream", CONNECT, most, record.in_flight[0]))
    panels.append((f"{most:,} idle streams", "memory KB per stream", MEMORY, most, record.in_flight[0]))
    rows = -(-len(panels) // 2)
    chart, axes = pyplot.subplots(rows, 2, figsize=(11, 0.34 * rows * (len(record.names) + 3)), layout="constrained")
    for axis, (title, unit, look, subscribers, in_flight) in zip(axes.flat, panels, strict=False):
        bars(axis, record, look, subscribers, in_flight)
        axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axis.set_xlabel(f"{unit}, and in multiples of {OURS}'s; less is better", fontsize=8, color="#555")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    chart.savefig(path, dpi=130)
    pyplot.close(chart)


def bars(axis: Any, record: Record, look: Look, subscribers: int, in_flight: int) -> None:
    measured = {name: record.values(look, name, subscribers, in_flight) for name in record.names}
    longest = sorted(max(values) for values in measured.values() if values) or [1.0]
    edge = 1.35 * min(longest[-1], 2 * longest[-2:][0])  # one that is far beyond all others is cut off
    for place, (name, values) in enumerate(measured.items()):
        if not values:
            axis.text(0, place, f" {NOTHING}", va="center", fontsize=8, color="#555")
            continue
        middle = median(values)
        reach = [[middle - min(values)], [max(values) - middle]]
        color = "#d1495b" if name == OURS else "#8d99ae"
        axis.barh(place, middle, color=color, height=0.7, xerr=reach, error_kw={"lw": 1, "ecolor": "#333"})
        ratios = record.ratios(look, name, subscribers, in_flight)
        words = short(middle, 3) + (f"  ({short(median(ratios), 2)}×)" if ratios and name != OURS else "")
        if max(values) < 0.85 * edge:
            axis.text(max(values) + edge * 0.012, place, words, va="center", fontsize=8)
        else:
            axis.text(edge * 0.985, place, f"{words}  →", va="center", ha="right", fontsize=8, backgroundcolor="white")
    axis.set_xlim(0, edge)
    axis.set_ylim(len(measured) - 0.4, -0.6)
    axis.set_yticks(range(len(measured)), list(measured), fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", labelsize=8)


def short(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if value < 10**digits - 0.5 else f"{value:,.0f}"  # from there on it would be 1e+02


def write_report(path: Path) -> str:
    """peers.md and peers.png beside the JSON; the page."""
    record = Record(json.loads(path.read_text()))
    text = page(record)
    path.with_suffix(".md").write_text(text)
    picture(record, path.with_suffix(".png"))
    return text


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
