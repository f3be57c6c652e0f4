"""Several workers: what a second one brings on two cores, and 60,000 connections at once on one machine.

    python benches/bench_workers.py [fan-out] [hold] [--quick] [--rounds 3] [--streams 60000] [--json PATH]

- **fan-out**: `sse-fast serve` with one worker and with two, in turn; 10,000 streams of one channel, 64-byte events in
  a closed loop, 1 and 16 in flight. The load client uses the same cores, so the speed-up is less than two workers have
  in them; the columns say how many cores each side had.
- **hold**: as many workers as the descriptors need. What a stream costs in memory; one event must reach everybody; then
  all are cut at once, miss 100 events, come back to whichever worker they meet, and must get each event once, whole and
  in order.

Exits with 1 if any stream misses an event, or gets one twice, torn or out of order.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from harness import EDGE, START_SECONDS, Running, Server, edge_command, machine, say
from peers.report import spread, table

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Mode, Plan, Storm, Target, modes
from sse_fast.bench.runner import Fleet

PARTS = ("fan-out", "hold")
IN_FLIGHT = (1, 16)
MISSED = 100  # events, by each stream of the storm
DESCRIPTORS_BESIDE = 1000  # of a worker, and room for the kernel's uneven shares
PATIENCE = 60.0

CLOCK = """\
Deliveries a second: over the window, all streams open. Cores: CPU seconds (user and system, of all processes) in a
second. Memory: the growth of the proportional set size (PSS) of all processes of the server; pages that workers share
count once. Figures are medians over the rounds, in brackets the least and the greatest; ratios are taken within one."""


def command(workers: int, port: int, scratch: Path) -> list[str]:
    return [*edge_command(port, scratch), "--workers", str(workers)]


def edge(workers: int) -> Server:
    return replace(EDGE, name=f"{workers} worker{'s'[: workers > 1]}", command=partial(command, workers))


@contextmanager
def fleet_for(workers: int, mode: Mode) -> Iterator[Fleet]:
    """An edge of so many workers, all of them listening, and a load client of as few processes as may be."""
    server = edge(workers)
    with Running(server) as running:
        wait_for_listeners(running, workers)
        base = f"http://127.0.0.1:{running.port}"
        target = Target(f"{base}{server.subscribe}", f"{base}{server.publish}")
        with Fleet(Plan(mode, target, drain=PATIENCE, server_pid=running.process.pid)) as fleet:
            yield fleet


def wait_for_listeners(running: Running, workers: int) -> None:
    """Until each worker listens: who connects before goes to those that do."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = [one for one in psutil.net_connections("tcp4") if one.status == psutil.CONN_LISTEN]
        if len({(one.pid, one.fd) for one in found if one.laddr.port == running.port}) >= workers:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{workers} workers did not listen in {START_SECONDS} s")


def problems_of(fleet: Fleet) -> list[str]:
    return [f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems]


# ---- fan-out ---------------------------------------------------------------------------------------------------------


def measure_fan_out(workers: int, streams: int, seconds: float) -> tuple[dict[int, dict[str, float]], list[str]]:
    """(figures by events in flight, problems)"""
    figures = {}
    with fleet_for(workers, Broadcast(streams)) as fleet:
        modes.ramp(fleet, streams)
        for in_flight in IN_FLIGHT:
            fleet.order("closed_loop", in_flight=in_flight, events=0)
            fleet.stay(seconds / 2)
            before = fleet.moment()
            fleet.stay(seconds)
            modes.measure(fleet, before, fleet.moment())
            modes.settle(fleet)
            figures[in_flight] = {
                name: float(fleet.figures[name] or 0)
                for name in ("deliveries_per_second", "server_cores", "client_cores", "server_cpu_us_per_delivery")
            }
        return figures, problems_of(fleet)


def fan_out(streams: int, rounds: int, seconds: float) -> tuple[list[dict[str, Any]], list[str]]:
    record, problems = [], []
    for round_ in range(rounds):
        for workers in (1, 2) if round_ % 2 else (2, 1):
            figures, wrong = measure_fan_out(workers, streams, seconds)
            problems += wrong
            for in_flight, found in figures.items():
                record.append({"workers": workers, "in_flight": in_flight, "round": round_} | found)
                say(f"fan-out, round {round_ + 1}, {workers} worker(s), {in_flight} in flight: {found} {wrong or ''}")
    rows = []
    for in_flight in IN_FLIGHT:
        speed = {(one["workers"], one["round"]): one for one in record if one["in_flight"] == in_flight}
        for workers in (1, 2):
            mine = [one for (count, _), one in speed.items() if count == workers]
            ratios = [one["deliveries_per_second"] / speed[1, one["round"]]["deliveries_per_second"] for one in mine]
            rows.append(
                [
                    str(workers),
                    str(in_flight),
                    spread((one["deliveries_per_second"] / 1000 for one in mine), 0),
                    "–" if workers == 1 else spread(ratios, 2),
                    spread((one["server_cpu_us_per_delivery"] for one in mine), 2),
                    f"{median(one['server_cores'] for one in mine):.2f}",
                    f"{median(one['client_cores'] for one in mine):.2f}",
                ]
            )
    head = ["workers", "in flight", "thousand deliveries/s", "speed-up", "CPU µs per delivery", "server cores"]
    print(f"\n## fan-out, {streams:,} streams\n\n{table([*head, 'load client cores'], rows)}", flush=True)
    return record, problems


# ---- 60,000 at once --------------------------------------------------------------------------------------------------


def hold(streams: int, workers: int) -> tuple[dict[str, Any], list[str]]:
    figures: dict[str, Any] = {"streams": streams, "workers": workers}
    with fleet_for(workers, Storm(streams)) as fleet:
        figures["load client processes"] = fleet.workers
        modes.ramp(fleet, streams)
        figures["bytes per stream"] = fleet.figures["user_memory_per_connection"]
        figures["CPU µs per stream opened"] = fleet.figures["server_cpu_us_per_connect"]
        figures["streams of the emptiest and the fullest process"] = spread_over_processes(fleet)
        began = fleet.moment()
        publish(fleet, 1)
        figures["one event reached"] = fleet.board.counters()["deliveries"] - began.counters["deliveries"]
        figures["s until it reached the last"] = round(time.monotonic() - began.at, 2)
        fleet.order_all("cut")
        publish(fleet, MISSED)
        fleet.stay(2.0)
        before = fleet.moment()
        fleet.board.aim()
        fleet.order_all("come_back")
        fleet.wait(lambda: fleet.board.counters()["caught_up"] / streams, PATIENCE)
        after = fleet.moment()
        modes.settle(fleet)
        figures |= {
            "came back complete": after.counters["caught_up"],
            "events delivered in the storm": after.counters["deliveries"] - before.counters["deliveries"],
            "s until all were complete": round(after.at - before.at, 2),
            "server CPU s of the storm": round((after.server_cpu or 0) - (before.server_cpu or 0), 2),
        }
        problems = problems_of(fleet)
    wanted = {
        "one event reached": streams,
        "came back complete": streams,
        "events delivered in the storm": streams * MISSED,
    }
    problems += [
        f"{name}: {figures[name]:,}, not {value:,}" for name, value in wanted.items() if figures[name] != value
    ]
    rows = [[name, f"{value:,}" if isinstance(value, int | float) else str(value)] for name, value in figures.items()]
    print(f"\n## hold\n\n{table(['what', 'figure'], rows)}", flush=True)
    return figures, problems


def publish(fleet: Fleet, events: int) -> None:
    """So many events, one after the other, until everybody has them."""
    settled = fleet.board.counters()["settled"] + events
    fleet.order("closed_loop", in_flight=1, events=events)
    fleet.wait(lambda: 1 - (settled - fleet.board.counters()["settled"]) / events, PATIENCE)


def spread_over_processes(fleet: Fleet) -> str:
    """The kernel hands connections to the workers by chance."""
    assert fleet.server is not None
    counts = [
        len([fd for fd in process.net_connections("tcp4") if fd.status == psutil.CONN_ESTABLISHED])
        for process in fleet.server.all()
    ]
    held = [count for count in counts if count > 1]
    return f"{min(held, default=0):,} and {max(held, default=0):,}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Several workers beside one, and very many connections.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the fan-out (default: %(default)s)")
    parser.add_argument("--subscribers", type=int, default=10_000, help="of the fan-out (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=60_000, help="to hold (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="that hold them; 0: as many as they need")
    parser.add_argument("--quick", action="store_true", help="a few streams, for a moment: is it all whole?")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if arguments.quick:
        arguments.rounds, arguments.subscribers, arguments.seconds, arguments.streams = 1, 200, 0.5, 400
    parts = arguments.parts or PARTS
    descriptors = raise_descriptor_limit()
    workers = arguments.workers or max(2, -(-arguments.streams // (descriptors - DESCRIPTORS_BESIDE)))
    record: dict[str, Any] = {"machine": machine()}
    problems: list[str] = []
    print(f"{CLOCK}\n\n{machine()}")
    if "fan-out" in parts:
        record["fan-out"], wrong = fan_out(arguments.subscribers, arguments.rounds, arguments.seconds)
        problems += wrong
    if "hold" in parts:
        record["hold"], wrong = hold(arguments.streams, workers)
        problems += wrong
    if arguments.json:
        arguments.json.write_text(json.dumps(record | {"problems": problems}, indent=1, ensure_ascii=False) + "\n")
    for problem in problems:
        say(f"NOT WHOLE: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
