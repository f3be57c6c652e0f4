"""Mercure's endpoints, beside Mercure's own hub: what a delivery costs the server, and what publishing does.

    python benches/bench_mercure.py [fanout] [publish] [--quick] [--subscribers 1000,10000] [--rounds 3] [--json PATH]

Both servers are spoken to in the same words: `GET /.well-known/mercure?topic=bench` and `POST /.well-known/mercure`, a
form, with a token for who subscribes and one for who publishes (HS256). Mercure's hub is the library of its last 0.x
release under its own handler, without Caddy (peers/mercure_hub.py); sse_fast is `sse-fast serve --mercure`. Each is
started afresh for every turn, the turns interleaved.

- **fanout**: N streams of one topic; 64-byte updates in a closed loop, with 1 on its way and then with 16. Goals: at
  most 0.5 times the hub's CPU a delivery with 1 on its way, 0.15 times with 16.
- **publish**: updates to which nobody subscribes, over 1 and over 16 kept-alive connections. Goal: at most its CPU.

Every stream is checked: each update once and whole; every answer, too. Without --quick the hub is built if it is
missing (Go); why it is not here is said. Exits with 1 if anything is wrong, or a goal missed, without --quick.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from exchanges import PATIENCE, exchange, publish_for
from harness import Running, arguments_for, in_turn, machine, parse, say
from peers import mercure_hub
from peers.base import Peer
from peers.report import spread, table
from verdict import Verdict, available, conclude

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Plan, Target, modes
from sse_fast.bench.runner import Fleet

PARTS = ("fanout", "publish")
IN_FLIGHT = (1, 16)
THEIRS, OURS = mercure_hub.PEER, mercure_hub.OURS
GOALS = {("fanout", 1): 0.5, ("fanout", 16): 0.15, ("publish", 1): 1.0, ("publish", 16): 1.0}

CLOCK = """\
CPU: user and system time of all processes of the server over the window, divided by the deliveries or the answers in
it; the kernel's work on the server's side of loopback is in it, and of a delivery its share of publishing. Client and
server share the machine. Medians over the rounds, in brackets the least and the greatest; ratios are taken within a
round."""


@dataclass(frozen=True)
class Finding:
    part: str
    subscribers: int
    in_flight: int  # of publish: connections
    peer: str
    round: int
    cpu_us: float  # of the server, a delivery or an answer
    client_cpu_us: float
    rate: float  # deliveries or answers a second
    p99_ms: float
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def row(self) -> tuple[str, int, int]:
        return self.part, self.subscribers, self.in_flight


def target(peer: Peer, running: Running) -> Target:
    return replace(peer.target(running.port), headers=mercure_hub.SUBSCRIBE_HEADERS)


def fanout(peer: Peer, round_: int, seconds: float, subscribers: int) -> Iterator[Finding]:
    with Running(peer) as running:
        plan = Plan(
            Broadcast(subscribers, in_flight=max(IN_FLIGHT)),
            target(peer, running),
            publishers=max(IN_FLIGHT),
            connecting=peer.connecting,
            drain=PATIENCE,
            server_pid=running.process.pid,
        )
        with Fleet(plan) as fleet:
            modes.ramp(fleet, subscribers)
            for in_flight in IN_FLIGHT:
                publish_for(fleet, in_flight, min(1.0, seconds / 2))  # to warm up
                before = fleet.moment()
                publish_for(fleet, in_flight, seconds)
                after = fleet.moment()
                modes.settle(fleet)
                modes.measure(fleet, before, after)
                result = fleet.result()
                figures, latency = result.figures, result.timings.get("latency")
                yield Finding(
                    "fanout",
                    subscribers,
                    in_flight,
                    peer.name,
                    round_,
                    cpu_us=float(figures["server_cpu_us_per_delivery"] or 0),
                    client_cpu_us=float(figures["client_cpu_us_per_delivery"] or 0),
                    rate=(after.counters["deliveries"] - before.counters["deliveries"]) / (after.at - before.at),
                    p99_ms=latency.p99 / 1e3 if latency else 0.0,
                    problems={one.kind: f"{one.count:,} {one.meaning}: {one.example}" for one in result.problems},
                )


def publish(peer: Peer, round_: int, seconds: float, subscribers: int) -> Iterator[Finding]:
    with Running(peer) as running:
        for connections in IN_FLIGHT:
            found = exchange(running, target(peer, running), connections, seconds)
            yield Finding(
                "publish",
                0,
                connections,
                peer.name,
                round_,
                cpu_us=found.cpu_us,
                client_cpu_us=found.client_cpu_us,
                rate=found.answers / found.seconds,
                p99_ms=found.latency_us.get("p99", 0) / 1e3,
                problems=found.problems,
            )


MEASURE: dict[str, Callable[[Peer, int, float, int], Iterator[Finding]]] = {"fanout": fanout, "publish": publish}


def part_table(part: str, findings: list[Finding]) -> str:
    by_row: defaultdict[tuple[int, int, str], list[Finding]] = defaultdict(list)
    for one in findings:
        if one.part == part:
            by_row[one.subscribers, one.in_flight, one.peer].append(one)
    rows = []
    for (subscribers, in_flight, peer), found in sorted(by_row.items(), key=lambda item: item[0][:2]):
        costs = [spread((one.cpu_us for one in found), 2), spread((one.client_cpu_us for one in found), 2)]
        rest = [spread((one.rate for one in found), 0), spread((one.p99_ms for one in found), 1)]
        rows.append([f"{subscribers:,}", str(in_flight), peer, *costs, *rest])
    of = ["CPU µs a delivery", "deliveries/s"] if part == "fanout" else ["CPU µs an answer", "answers/s"]
    return table(["streams", "at once", "server", of[0], "the client's", of[1], "p99 ms"], rows)


def judge(findings: list[Finding]) -> Verdict:
    verdict = Verdict()
    costs = {(one.row, one.peer, one.round): one.cpu_us for one in findings if one.cpu_us}
    for row in dict.fromkeys(one.row for one in findings):
        part, subscribers, in_flight = row
        ratios = [
            costs[row, OURS.name, round_] / cost
            for (of, name, round_), cost in costs.items()
            if of == row and name == THEIRS.name and (row, OURS.name, round_) in costs
        ]
        if ratios:
            what = f"{subscribers:,} streams, {in_flight} in flight" if part == "fanout" else f"{in_flight} connections"
            verdict.add(f"{part}, {what}", ratios, "of the hub's CPU", GOALS[part, in_flight])
    return verdict


def parse_arguments() -> argparse.Namespace:
    quick = "one round, for a moment: is everything right?"
    parser = arguments_for("Mercure's endpoints, beside Mercure's own hub.", PARTS, seconds=4.0, quick=quick)
    parser.add_argument("--subscribers", default="1000,10000", help="comma-separated counts (default: %(default)s)")
    parser.add_argument("--only", default="", help="this server alone")
    arguments = parse(parser, PARTS, seconds=0.3)
    if arguments.quick:
        arguments.subscribers = "200"
    if arguments.only and arguments.only not in (names := [OURS.name, THEIRS.name]):
        parser.error(f"no such server: {arguments.only}; there are {', '.join(names)}")
    arguments.peers = [peer for peer in (OURS, THEIRS) if arguments.only in ("", peer.name)]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    peers = available(arguments.peers, install=not arguments.quick)
    print(f"{CLOCK}\n\n{machine()}; {', '.join(f'{peer.name} {peer.version()}' for peer in peers)}")
    findings: list[Finding] = []
    for part in arguments.parts:
        for subscribers in map(int, arguments.subscribers.split(",")) if part == "fanout" else (0,):
            for round_ in range(arguments.rounds):
                for peer in in_turn(peers, round_):
                    for one in MEASURE[part](peer, round_, arguments.seconds, subscribers):
                        findings.append(one)
                        words = f"{one.cpu_us:.2f} µs of CPU, {one.rate:,.0f}/s {'; '.join(one.problems.values())}"
                        say(f"{part}, {subscribers:,}, round {round_ + 1}, {peer.name}, {one.in_flight}: {words}")
        print(f"\n## {part}\n\n{part_table(part, findings)}", flush=True)
    wrong = [
        f"{one.part}, {one.subscribers:,}, {one.in_flight}, {one.peer}, round {one.round + 1}: {problem}"
        for one in findings
        for problem in one.problems.values()
    ]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
