"""`hub.response` of an app behind the front: what a held stream costs beside one of the edge's own.

    python benches/bench_hold.py [--quick] [--streams 10000] [--rounds 3] [--seconds 4] [--json PATH]

One FastAPI app (user_app.py), in turn, started afresh for every round:

- **held**: `sse-fast serve --app`; streams by the app's route, which answers with `hub.response`;
- **edge's own**: the same server; streams by its own `/edge/sse/bench`;
- **ASGI**: the same app under Granian alone: a task and an ASGI `send` for each stream.

Streams of one channel are opened and stay idle; then 64-byte events go to all of them in a closed loop, 1 and 16 in
flight, published over HTTP. Goals: a held stream takes at most 1.1 times the memory of the edge's own, and a delivery
at most 1.1 times the server's CPU. Exits with 1 if a stream misses an event, or gets one twice, torn or out of order;
or if a goal is missed, without --quick.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench_peers import IN_FLIGHT
from bench_relay import ALONE, RELAYED
from exchanges import PATIENCE, publish_for
from harness import Running, Server, arguments_for, in_turn, machine, parse, say
from peers.report import spread, table
from verdict import Verdict, conclude

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Plan, Target, modes
from sse_fast.bench.runner import Fleet

GOAL = 1.1  # times the edge's own
OPEN, MEMORY, IN_ALL = "CPU µs per stream opened", "bytes per idle stream", "MiB for all"

CLOCK = """\
CPU: user and system time of all processes of the server; per stream opened it includes the app's handler, per delivery
reading and answering the publish requests. Memory: the growth of the server's proportional set size (PSS) until all
streams are open and idle; per stream from when half of them are, as what the first requests of an app take (its
routes, its server's connections) is taken once. Figures are medians over the rounds, in brackets the least and the
greatest; ratios are taken within a round."""


def streams_by(server: Server, name: str, about: str, subscribe: str, publish: str) -> Server:
    return Server(name, about, subscribe, publish, server.command)


HELD = streams_by(RELAYED, "held", "hub.response under --app", "/stream/bench", "/edge/publish/bench")
OWN = streams_by(RELAYED, "edge's own", "the same server's", "/edge/sse/bench", "/edge/publish/bench")
ASGI = streams_by(ALONE, "ASGI", "hub.response under Granian alone", "/stream/bench", "/publish/bench")
SERVERS = (HELD, OWN, ASGI)


@dataclass(frozen=True)
class Finding:
    server: str
    round: int
    streams: int
    figures: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def per_delivery(in_flight: int) -> str:
    return f"CPU µs per delivery, {in_flight} in flight"


def turn(server: Server, round_: int, streams: int, seconds: float) -> Finding:
    try:
        with Running(server) as running:
            base = f"http://127.0.0.1:{running.port}"
            plan = Plan(
                Broadcast(streams, in_flight=max(IN_FLIGHT)),
                Target(f"{base}{server.subscribe}", f"{base}{server.publish}"),
                publishers=max(IN_FLIGHT),
                drain=PATIENCE,
                server_pid=running.process.pid,
            )
            with Fleet(plan) as fleet:
                figures = measure(fleet, streams, seconds)
                wrong = tuple(f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems)
                return Finding(server.name, round_, streams, figures, wrong)
    except (RuntimeError, OSError, modes.NothingOpened) as error:
        return Finding(server.name, round_, streams, problems=(f"{type(error).__name__}: {error}",))


def measure(fleet: Fleet, streams: int, seconds: float) -> dict[str, float]:
    first, grown = streams // 2, 0.0
    for share in (first, streams - first):
        modes.ramp(fleet, share)
        each = fleet.figures["user_memory_per_connection"] or 0.0
        grown += each * share
    figures = {OPEN: fleet.figures["server_cpu_us_per_connect"] or 0.0, MEMORY: each, IN_ALL: grown / 2**20}
    for in_flight in IN_FLIGHT:
        publish_for(fleet, in_flight, min(1.0, seconds / 2))  # to warm up
        before = fleet.moment()
        publish_for(fleet, in_flight, seconds)
        after = fleet.moment()
        modes.settle(fleet)
        modes.measure(fleet, before, after)
        figures[per_delivery(in_flight)] = fleet.figures["server_cpu_us_per_delivery"] or 0.0
    return figures


# ---- what is said of them --------------------------------------------------------------------------------------------


def findings_table(findings: list[Finding]) -> str:
    figures = [OPEN, MEMORY, IN_ALL, *map(per_delivery, IN_FLIGHT)]
    rows = []
    for server in SERVERS:
        turns = [one for one in findings if one.server == server.name]
        cells = [
            spread((one.figures[name] for one in turns if name in one.figures), 0 if name == MEMORY else 2)
            for name in figures
        ]
        rows.append([server.name, *cells])
    return table(["streams", *figures], rows)


def ratios(findings: Iterable[Finding], figure: str) -> list[float]:
    """A held stream's figure in multiples of the edge's own, round by round."""
    found = {(one.server, one.round): one.figures[figure] for one in findings if one.figures.get(figure)}
    rounds = [round_ for server, round_ in found if server == HELD.name and (OWN.name, round_) in found]
    return [found[HELD.name, round_] / found[OWN.name, round_] for round_ in rounds]


def judge(findings: list[Finding]) -> Verdict:
    verdict = Verdict()
    for figure in (MEMORY, *map(per_delivery, IN_FLIGHT)):
        verdict.add(figure, ratios(findings, figure), "of the edge's own", GOAL)
    return verdict


def parse_arguments() -> argparse.Namespace:
    quick = "200 streams, for a moment: does it all work?"
    parser = arguments_for("Held streams of an app beside the edge's own.", seconds=4.0, quick=quick)
    parser.add_argument("--streams", type=int, default=10_000, help="(default: %(default)s)")
    return parse(parser, streams=200, seconds=0.5)


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}")
    for round_ in range(arguments.rounds):
        for server in in_turn(SERVERS, round_):
            finding = turn(server, round_, arguments.streams, arguments.seconds)
            findings.append(finding)
            words = [f"{name} {value:,.2f}" for name, value in finding.figures.items()] + list(finding.problems)
            say(f"round {round_ + 1}, {server.name}: {'; '.join(words)}")
    print(f"\n{arguments.streams:,} streams\n\n{findings_table(findings)}")
    wrong = [f"{one.server}, round {one.round + 1}: {'; '.join(one.problems)}" for one in findings if one.problems]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
