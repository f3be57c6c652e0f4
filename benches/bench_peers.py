"""sse_fast beside its peers: one client, one traffic, one report.

    python benches/bench_peers.py [--quick] [--only nchan,mercure] [--subscribers 1000,10000] [--rounds 3]

Every server that can be had (see peers/) takes its turn, started afresh for every run; all turns are repeated, and each
round begins with another server. The load client (sse_fast.swarm) opens N streams of one channel and publishes 64-byte
events in a closed loop with W on their way. It checks that every subscriber gets every event once and whole; a run in
which one did not has no figures.

`--quick` takes who is installed already, for a moment each, and fails if anybody lost anything. Without it what is
missing is installed first. The report is peers.json, peers.md and peers.png in benches/results/.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness import HERE, START_SECONDS, Running, raise_descriptor_limit
from peers import PEERS, CannotInstall, Peer
from peers.report import write_report
from sse_fast.swarm import Broadcast, Plan, Result, Target, run
from sse_fast.swarm.results import machine, versions

IN_FLIGHT = (1, 16)


@dataclass(frozen=True)
class Run:
    """One server, once: microseconds, bytes, per second. None: not measured, or not whole."""

    peer: str
    subscribers: int
    in_flight: int
    round: int
    problems: list[str]
    figures: dict[str, float | int | None] = field(default_factory=dict)
    latency_us: dict[str, int] = field(default_factory=dict)


def measure(peer: Peer, subscribers: int, in_flight: int, round_: int, seconds: float) -> Run:
    where = (peer.name, subscribers, in_flight, round_)
    try:
        with Running(peer) as running:
            wait_until_it_streams(peer, running.port)
            result = run(plan(peer, running, subscribers, in_flight, seconds))
    except (RuntimeError, OSError) as error:
        return Run(*where, problems=[str(error)])
    problems = [f"{problem.count:,} {problem.meaning} {problem.example}".strip() for problem in result.problems]
    return Run(*where, problems, result.figures, latency(result))


def plan(peer: Peer, running: Running, subscribers: int, in_flight: int, seconds: float) -> Plan:
    target = Target(
        peer.subscribe_url(running.port),
        peer.publish_url(running.port),
        body=peer.body,
        content_type=peer.content_type,
        publish_headers=peer.publish_headers,
    )
    mode = Broadcast(subscribers, in_flight=in_flight, seconds=seconds, warm_up=min(1.0, seconds / 2))
    return Plan(mode, target, publishers=in_flight, server_pid=running.process.pid)


def latency(result: Result) -> dict[str, int]:
    found = result.timings.get("latency")
    return {name: getattr(found, name) for name in ("count", "p50", "p90", "p99", "p99_9", "max")} if found else {}


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


def available(peers: Iterable[Peer], *, install: bool) -> list[Peer]:
    """Those that are here; the others are named."""
    found = []
    for peer in peers:
        if install and peer.version() is None:
            say(f"{peer.name}: installing")
            try:
                peer.install()
            except CannotInstall as error:
                say(f"{peer.name}: cannot be had here: {error}")
        if version := peer.version():
            say(f"{peer.name}: {version}")
            found.append(peer)
        else:
            say(f"{peer.name}: skipped, it is not installed")
    return found


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


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
    names = {PEERS[0].name, *arguments.only.split(",")} if arguments.only else {peer.name for peer in PEERS}
    arguments.peers = [peer for peer in PEERS if peer.name in names]
    if unknown := names - {peer.name for peer in PEERS}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    peers = available(arguments.peers, install=not arguments.quick)
    started = datetime.now(UTC)
    runs: list[Run] = []
    for subscribers in map(int, arguments.subscribers.split(",")):
        for round_ in range(arguments.rounds):
            # Nobody is always the first after a pause, or always the one behind the heaviest.
            turn = round_ % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                for in_flight in IN_FLIGHT:
                    one = measure(peer, subscribers, in_flight, round_, arguments.seconds)
                    runs.append(one)
                    cpu = one.figures.get("server_cpu_us_per_delivery")
                    words = "; ".join(one.problems) or f"{cpu:.2f} µs of CPU per delivery, nothing lost"
                    say(f"{subscribers:,} x {in_flight}, round {round_ + 1}, {peer.name}: {words}")
    if arguments.output:
        record = {
            "started": started.isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "settings": {"seconds": arguments.seconds, "rounds": arguments.rounds, "bytes": Plan().size},
            "peers": {peer.name: {"about": peer.about, "version": peer.version()} for peer in peers},
            "runs": [asdict(one) for one in runs],
        }
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "peers.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(write_report(arguments.output / "peers.json"))
    bad = [one for one in runs if one.problems and (arguments.quick or one.peer == PEERS[0].name)]
    return 1 if bad or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
