"""sse_fast beside its peers: one client, one traffic, one report.

    python benches/bench_peers.py [--quick] [--only nchan,mercure] [--subscribers 1000,10000] [--rounds 3]

Every server that can be had (see peers/) takes its turn, started afresh for each; turns are repeated, and each round
begins with another server. The load client (sse_fast.bench) publishes 64-byte events one by one over 1 and then 16
kept-alive connections, to nobody; started afresh it opens N streams of one channel and publishes in a closed loop, with
1 event on its way and then with 16. It checks that every subscriber gets every event once and whole; where one did not,
the report says so.

`--quick` takes who is installed already, for a moment each, and fails if anybody lost anything. Without it what is
missing is installed first. The report is peers.json, peers.md and peers.svg in benches/results/.
"""

import argparse
import http.client
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exchanges import PATIENCE, exchange, publish_for
from harness import ASGI, HERE, START_SECONDS, Running, in_turn, say
from peers import PEERS, Peer
from peers.record import OURS
from peers.report import place, write_report
from verdict import available

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Plan, modes
from sse_fast.bench.results import machine, versions
from sse_fast.bench.runner import Fleet

IN_FLIGHT = (1, 16)
NOBODY = 0  # subscribers: publishing alone
RECORD = "peers.json"
PERCENTILES = ("count", "p50", "p90", "p99", "p99_9", "max")


@dataclass(frozen=True)
class Window:
    """One server, so many events in flight: microseconds, bytes, per second. Empty figures: there is nothing to say.
    Without subscribers: publishing over so many connections."""

    peer: str
    subscribers: int
    in_flight: int
    round: int
    problems: dict[str, str]  # kind -> how many, what it means, an example
    figures: dict[str, float | int | None] = field(default_factory=dict)
    latency_us: dict[str, int] = field(default_factory=dict)


def measure(peer: Peer, subscribers: int, round_: int, seconds: float) -> list[Window]:
    """Start a server, open the streams if any, and measure a window for each number of events in flight."""
    try:
        with Running(peer) as running:
            wait_until_it_streams(peer, running.port)
            time.sleep(peer.settling)
            if subscribers == NOBODY:
                return [publishing(peer, running, connections, round_, seconds) for connections in IN_FLIGHT]
            return broadcast(peer, running, subscribers, round_, seconds)
    except (RuntimeError, OSError) as error:
        return [Window(peer.name, subscribers, in_flight, round_, {"broken": str(error)}) for in_flight in IN_FLIGHT]


def publishing(peer: Peer, running: Running, connections: int, round_: int, seconds: float) -> Window:
    found = exchange(running, peer.target(running.port), connections, seconds)
    figures: dict[str, float | int | None] = {
        "publishes": found.answers,
        "publishes_per_second": found.answers / found.seconds,
        "server_cpu_us_per_publish": found.cpu_us,
        "client_cpu_us_per_publish": found.client_cpu_us,
    }
    return Window(peer.name, NOBODY, connections, round_, found.problems, figures, found.latency_us)


def broadcast(peer: Peer, running: Running, subscribers: int, round_: int, seconds: float) -> list[Window]:
    windows = []
    with Fleet(plan(peer, running, subscribers)) as fleet:
        modes.ramp(fleet, subscribers)
        for in_flight in IN_FLIGHT:
            publish_for(fleet, in_flight, min(1.0, seconds / 2))  # to warm up
            before = fleet.moment()
            publish_for(fleet, in_flight, seconds)
            after = fleet.moment()
            modes.settle(fleet)
            modes.measure(fleet, before, after)
            result = fleet.result()
            problems = {one.kind: f"{one.count:,} {one.meaning}: {one.example}" for one in result.problems}
            timed = result.timings.get("latency")
            latency = {name: getattr(timed, name) for name in PERCENTILES} if timed else {}
            windows.append(Window(peer.name, subscribers, in_flight, round_, problems, dict(result.figures), latency))
    return windows


def plan(peer: Peer, running: Running, subscribers: int) -> Plan:
    return Plan(
        Broadcast(subscribers, in_flight=max(IN_FLIGHT)),
        peer.target(running.port),
        publishers=max(IN_FLIGHT),
        connecting=peer.connecting,
        drain=PATIENCE,
        server_pid=running.process.pid,
    )


def wait_until_it_streams(peer: Peer, port: int) -> None:
    """A server of several processes listens before all of them are ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", peer.subscribe, headers={"Accept": "text/event-stream"})
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError(f"{peer.name} answered no subscriber with 200 in {START_SECONDS} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="sse_fast beside its peers.")
    parser.add_argument("--subscribers", default="1000,10000", help="comma-separated counts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns each server takes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: %(default)s)")
    parser.add_argument("--only", default="", help="these peers beside sse_fast")
    parser.add_argument("--quick", action="store_true", help="who is here, for a moment: does it all work?")
    parser.add_argument("--output", type=Path, help="directory of the report (default: benches/results)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.subscribers, arguments.rounds, arguments.seconds = "200", 1, 0.5
    elif arguments.output is None:
        arguments.output = HERE / "results"
    names = {OURS, *arguments.only.split(",")} if arguments.only else {peer.name for peer in PEERS}
    arguments.peers = [peer for peer in PEERS if peer.name in names]
    if unknown := names - {peer.name for peer in PEERS}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    peers = available(arguments.peers, install=not arguments.quick)
    windows: list[Window] = []
    about = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": {"seconds": arguments.seconds, "rounds": arguments.rounds, "bytes": Plan().size},
        "peers": {peer.name: {"about": peer.about, "version": peer.version()} for peer in peers},
    }
    for subscribers in (NOBODY, *map(int, arguments.subscribers.split(","))):
        for round_ in range(arguments.rounds):
            for peer in in_turn(peers, round_):
                for one in measure(peer, subscribers, round_, arguments.seconds):
                    windows.append(one)
                    say(in_words(one))
                if arguments.output:  # after each turn, so that a run that is broken off is not for nothing
                    write_record(arguments.output, about | {"windows": [asdict(one) for one in windows]})
    if arguments.output:
        print(write_report(arguments.output / RECORD))
    judged = peers if arguments.quick else [peer for peer in peers if peer.name in (OURS, ASGI.name)]
    tolerated = {peer.name: peer.known_faults for peer in judged}
    bad = [one for one in windows if one.peer in tolerated and one.problems.keys() - tolerated[one.peer]]
    for one in bad:
        say(f"FAILED: {in_words(one)}")
    return 1 if bad or not windows else 0


def write_record(directory: Path, record: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def in_words(window: Window) -> str:
    units = {"server_cpu_us_per_delivery": "delivery", "server_cpu_us_per_publish": "POST"}
    costs = [(window.figures.get(name), unit) for name, unit in units.items()]
    found = [f"{cost:.2f} µs of CPU per {unit}" for cost, unit in costs if cost]
    return f"{place(asdict(window))}: {'; '.join(found + (list(window.problems.values()) or ['nothing lost']))}"


if __name__ == "__main__":
    sys.exit(main())
