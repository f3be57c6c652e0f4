"""What one POST of one event costs the server, beside Nchan and Centrifugo.

    python benches/bench_publish.py [alone] [delivered] [--quick] [--rounds 3] [--seconds 3] [--json PATH]

Events of 64 bytes, one a POST, over 1 and over 16 kept-alive connections; each server started afresh for every turn,
the turns interleaved. **asgi** is sse_fast as it is served where there is no front: the same app under Granian alone.

- **alone**: to 1,000 channels, and nobody listens. Goals: at most 1.5 times Nchan's CPU a POST, and 0.8 times that of
  Centrifugo's HTTP API.
- **delivered**: one subscriber on each of 10,000 channels, and the next event of a connection is sent when the last one
  was answered and its subscriber has it. The same goals.

Every answer is checked, and of `delivered` every stream: each event once and whole. Without --quick Nchan and
Centrifugo are installed if they are missing; why one is not here is said. Exits with 1 if an answer is wrong or an
event missing, or if a goal is missed, without --quick.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from exchanges import PATIENCE, Exchanges, exchange, publish_for
from harness import Running, arguments_for, in_turn, machine, parse, say
from peers import centrifugo, nchan, sse_fast_asgi
from peers.base import SERVERS, Peer
from peers.report import spread, table
from peers.sse_fast import PEER as OURS
from verdict import Verdict, available, conclude

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Plan, modes
from sse_fast.bench.runner import Fleet

PARTS = ("alone", "delivered")
CONNECTIONS = (1, 16)
NCHAN_GOAL, CENTRIFUGO_GOAL = 1.5, 0.8  # times their CPU

CLOCK = """\
CPU: user and system time of all processes of the server over the window, divided by the answers in it; the kernel's
work on the server's side of loopback is in it, and of `delivered` what it takes to write the event to its subscriber.
The answer's time: from just before the request is sent until its last byte is read. Client and server share the
machine. Medians over the rounds, in brackets the least and the greatest; ratios are taken within a round."""


# ---- the servers, with as many channels as are asked for -------------------------------------------------------------


def nchan_command(port: int, scratch: Path) -> list[str]:
    values = {"MODULE": nchan.MODULE, "PORT": str(port), "PREFIX": str(scratch)}
    config = nchan.filled_in(SERVERS / "nchan_channels.conf.in", scratch, values)
    return [nchan.nginx(), "-p", str(scratch), "-e", str(scratch / "error.log"), "-c", str(config)]


def centrifugo_command(port: int, scratch: Path) -> list[str]:
    command = centrifugo.command(port, scratch)
    config = scratch / "centrifugo.json"
    # Its streams name their channels themselves, or each would need a token of its own.
    anybody = {"allow_anonymous_connect_without_token": True, "allow_subscribe_for_anonymous": True}
    config.write_text(json.dumps(json.loads(config.read_text()) | anybody | {"allow_subscribe_for_client": True}))
    return command


CHANNEL = "bench-{channel}"
CONNECT = quote(json.dumps({"subs": {CHANNEL: {}}})).replace(quote("{channel}"), "{channel}")
FRONT = replace(OURS, subscribe=f"/sse/{CHANNEL}", publish=f"/publish/{CHANNEL}")
PEERS = (
    FRONT,
    replace(FRONT, name=sse_fast_asgi.PEER.name, about=sse_fast_asgi.PEER.about, command=sse_fast_asgi.PEER.command),
    replace(nchan.PEER, subscribe=f"/sse?id={CHANNEL}", publish=f"/publish?id={CHANNEL}", command=nchan_command),
    replace(
        centrifugo.PEER,
        subscribe=f"/connection/uni_sse?cf_connect={CONNECT}",
        body=f'{{"channel":"{CHANNEL}","data":{{json}}}}',
        command=centrifugo_command,
    ),
)


# ---- the parts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    part: str
    connections: int
    peer: str
    round: int
    found: Exchanges


def alone(peer: Peer, running: Running, seconds: float, channels: int) -> Iterator[Exchanges]:
    for connections in CONNECTIONS:
        yield exchange(running, peer.target(running.port), connections, seconds, channels)


def delivered(peer: Peer, running: Running, seconds: float, channels: int) -> Iterator[Exchanges]:
    plan = Plan(
        Broadcast(channels, channels=channels, in_flight=max(CONNECTIONS)),
        peer.target(running.port),
        publishers=max(CONNECTIONS),
        connecting=peer.connecting,
        drain=PATIENCE,
        server_pid=running.process.pid,
    )
    with Fleet(plan) as fleet:
        modes.ramp(fleet, channels)
        for connections in CONNECTIONS:
            publish_for(fleet, connections, seconds / 4)
            before = fleet.moment()
            publish_for(fleet, connections, seconds)
            after = fleet.moment()
            modes.settle(fleet)
            passed = {name: after.counters[name] - before.counters[name] for name in ("answered", "deliveries")}
            answers = max(1, passed["answered"])
            problems = {one.kind: f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems}
            if passed["deliveries"] != passed["answered"] or not passed["answered"]:
                problems["deliveries"] = f"{passed['deliveries']} deliveries of {passed['answered']} events"
            yield Exchanges(
                passed["answered"],
                after.at - before.at,
                cpu_us=((after.server_cpu or 0.0) - (before.server_cpu or 0.0)) / answers * 1e6,
                client_cpu_us=(after.client_cpu - before.client_cpu) / answers * 1e6,
                problems=problems,
            )


MEASURE: dict[str, tuple[Callable[[Peer, Running, float, int], Iterator[Exchanges]], int, int]] = {
    "alone": (alone, 1000, 100),  # channels, and with --quick
    "delivered": (delivered, 10_000, 200),
}


# ---- what is said of them --------------------------------------------------------------------------------------------


def part_table(findings: list[Finding]) -> str:
    by_row: defaultdict[tuple[int, str], list[Exchanges]] = defaultdict(list)
    for one in findings:
        by_row[one.connections, one.peer].append(one.found)
    rows = []
    for (connections, peer), found in sorted(by_row.items(), key=lambda item: item[0][0]):
        costs = [spread((one.cpu_us for one in found), 1), spread((one.client_cpu_us for one in found), 1)]
        rate = spread((one.answers / one.seconds for one in found), 0)
        p99 = spread((one.latency_us["p99"] for one in found if one.latency_us), 0)
        rows.append([str(connections), peer, *costs, rate, p99])
    return table(["connections", "server", "CPU µs a POST", "the client's", "answers/s", "p99 µs"], rows)


def judge(findings: list[Finding]) -> Verdict:
    """Of the goals those that this run can speak about."""
    verdict = Verdict()
    costs = {
        (one.part, one.connections, one.peer, one.round): one.found.cpu_us for one in findings if one.found.answers
    }
    for part, connections in dict.fromkeys((one.part, one.connections) for one in findings):
        for peer, goal in ((nchan.PEER.name, NCHAN_GOAL), (centrifugo.PEER.name, CENTRIFUGO_GOAL)):
            ratios = [
                costs[part, connections, OURS.name, round_] / cost
                for (*of, name, round_), cost in costs.items()
                if of == [part, connections] and name == peer and (part, connections, OURS.name, round_) in costs
            ]
            if ratios:
                verdict.add(f"{part}, {connections} connections", ratios, f"of {peer}'s CPU", goal)
    return verdict


def parse_arguments() -> argparse.Namespace:
    quick = "one round, for a moment: is every answer right?"
    parser = arguments_for("One POST of one event, beside Nchan and Centrifugo.", PARTS, seconds=3.0, quick=quick)
    parser.add_argument("--only", default="", help="these servers, comma-separated")
    arguments = parse(parser, PARTS, seconds=0.3)
    names = set(arguments.only.split(",")) if arguments.only else {peer.name for peer in PEERS}
    if unknown := names - {peer.name for peer in PEERS}:
        parser.error(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in PEERS)}")
    arguments.peers = [peer for peer in PEERS if peer.name in names]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    peers = available(arguments.peers, install=not arguments.quick)
    absent = [peer.name for peer in arguments.peers if peer not in peers]
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}; {', '.join(f'{peer.name} {peer.version()}' for peer in peers)}")
    if absent:
        print(f"not here, so nothing is said of: {', '.join(absent)}")
    for part in arguments.parts:
        measure, channels, few = MEASURE[part]
        for round_ in range(arguments.rounds):
            for peer in in_turn(peers, round_):
                with Running(peer) as running:
                    found = measure(peer, running, arguments.seconds, few if arguments.quick else channels)
                    for connections, one in zip(CONNECTIONS, found, strict=True):
                        findings.append(Finding(part, connections, peer.name, round_, one))
                        words = f"{one.cpu_us:.2f} µs of CPU a POST, {one.answers / one.seconds:,.0f}/s"
                        problems = "; ".join(one.problems.values())
                        say(f"{part}, round {round_ + 1}, {peer.name}, {connections} connections: {words} {problems}")
        print(f"\n## {part}\n\n{part_table([one for one in findings if one.part == part])}", flush=True)
    bad = [one for one in findings if one.found.problems]
    wrong = [f"{one.part}, {one.peer}, round {one.round + 1}: {'; '.join(one.found.problems.values())}" for one in bad]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
