"""The report of a run of bench_peers.py, made from its JSON alone: a page of tables and a picture.

python -m peers.report results/peers.json      (in benches/)
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from .picture import draw
from .record import ALMOST_WHOLE, CONNECT, CPU, MEMORY, OURS, PUBLISH, Record, Window, figure, latency_ms

NOTHING = "no whole window"

CLOCK = """\
The servers take turns, started afresh for each, and each round begins with another one. Publishing: {bytes}-byte events
to one channel that nobody listens to, one a POST, over kept-alive connections of which each waits for its answer, for
{seconds:g} s. Streams: the client opens them, then publishes events of that size to all of them in a closed loop, so
many in flight, for as long and until the last event has reached everybody; it checks that every subscriber gets every
event once and whole.

CPU: user and system time of all processes of the server in that window, divided by POSTs or by deliveries (events ×
subscribers), which includes publishing them; the kernel's work on the server's side of loopback is in both. A server
that writes several events at once, when several are in flight, can get below the floor, which writes each by itself.
Latency: from just before the client sends the publish request to its answer, or to the event at a subscriber, over all
subscribers; client and server share the machine. Memory is the server's own (PSS) for a stream that is open and idle.
Each figure is the median over {rounds} rounds, in brackets the least and the greatest; a ratio is taken within its
round. How each server is set: benches/peers/."""


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
            _marked(record, *where),
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
            _marked(record, *where),
            spread(record.values(CONNECT, *where), 0),
            spread(record.ratios(CONNECT, *where), 2),
            spread(record.values(MEMORY, *where), 1),
            spread(record.ratios(MEMORY, *where), 2),
        ]

    head = ["server", "CPU µs per stream opened", f"× {OURS}", "memory KB per idle stream", f"× {OURS}"]
    return table(head, map(row, record.names))


def publish_table(record: Record, connections: int) -> str:
    def row(name: str) -> list[str]:
        where = (name, 0, connections)
        if not record.values(PUBLISH, *where):
            return [name, NOTHING, *["–"] * 4]
        return [
            _marked(record, *where),
            spread(record.values(PUBLISH, *where), 2),
            spread(record.ratios(PUBLISH, *where), 2),
            spread(record.values(figure("publishes_per_second", 1000), *where), 1),
            spread(record.values(latency_ms("p50"), *where), 2),
            spread(record.values(latency_ms("p99"), *where), 2),
        ]

    head = ["server", "CPU µs per POST", f"× {OURS}", "thousand POSTs/s", "p50 ms", "p99 ms"]
    return table(head, map(row, record.names))


def _marked(record: Record, *where: *tuple[str, int, int]) -> str:
    """The server's name, and a star where not every window was whole."""
    return where[0] + (" \\*" if record.faulty(*where) else "")


def page(record: Record) -> str:
    about = record.about
    machine = about["machine"]
    parts = [
        "# sse_fast beside its peers",
        CLOCK.format(**about["settings"]),
        f"{about['started']}; {machine['cores']} cores ({machine['cpu']}), {machine['system']}, "
        f"Python {about['versions']['python']}.",
        table(["server", "what", "version"], ([n, p["about"], p["version"]] for n, p in about["peers"].items()), "---"),
    ]
    for connections in record.connections:
        many = "1 connection" if connections == 1 else f"{connections} connections"
        parts.append(f"## Publishing over {many}")
        parts.append(publish_table(record, connections))
    for subscribers in record.subscribers:
        for in_flight in record.in_flight:
            parts.append(f"## {subscribers:,} subscribers, {in_flight} in flight")
            parts.append(fan_out_table(record, subscribers, in_flight))
        parts.append(f"## {subscribers:,} streams opened")
        parts.append(connection_table(record, subscribers))
    if wrong := [window for window in about["windows"] if window["problems"]]:
        parts.append("## \\* Not whole")
        parts.append(f"Somebody did not get everything. Figures stand where {ALMOST_WHOLE:.0%} of all deliveries came.")
        parts.append("\n".join(f"- {place(window)}: {'; '.join(window['problems'].values())}" for window in wrong))
    return "\n\n".join(parts) + "\n"


def place(window: Window) -> str:
    """Which window it is, in words."""
    if window["subscribers"]:
        what = f"{window['subscribers']:,} subscribers, {window['in_flight']} in flight"
    else:
        what = f"publishing over {window['in_flight']}"
    return f"{window['peer']}, {what}, round {window['round'] + 1}"


def write_report(path: Path) -> str:
    """peers.md and peers.svg beside the JSON; the page."""
    record = Record(json.loads(path.read_text()))
    text = page(record)
    path.with_suffix(".md").write_text(text)
    path.with_suffix(".svg").write_text(draw(record))
    return text


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
