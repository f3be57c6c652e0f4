"""Two nodes over one Redis, beside Centrifugo with its Redis engine and history: CPU a publish, and events' delay.

    python benches/bench_fleet.py [publish] [across] [--quick] [--rounds 3] [--seconds 3] [--appendonly] [--json PATH]

Each server is two nodes of one process each, and a Redis of their own, started afresh for every turn, the turns
interleaved. The Redis servers have the same settings: nothing on a disk; with --appendonly an append-only file that is
synced every second. Centrifugo keeps the last 1,000 events of a channel for five minutes, sse_fast 1 GiB of all.

- **publish**: POSTs of one event of 64 bytes to one node, over 1, 16 and 64 kept-alive connections, to 1,000 channels
  to which nobody listens. CPU a POST of the node and Redis together: at 16 and 64 at most Centrifugo's. That of the
  other node is said too: ours follows the log whoever listens, Centrifugo's has nothing to do.
- **across**: 100 streams on the other node, one of each of 100 channels; 200 events a second at one node. From when an
  event was due until a stream has it: p50 at most 1.5 times Centrifugo's.

Every answer is checked, and every stream: each event once and whole. Exits with 1 if something is wrong or missing, or
a goal is missed, without --quick.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from bench_publish import centrifugo_command
from exchanges import PATIENCE, WARM_UP
from harness import Running, arguments_for, in_turn, machine, parse, process_cpu_seconds, say
from peers import centrifugo
from peers.base import Peer
from peers.report import spread, table
from peers.sse_fast import PEER as OURS
from verdict import Verdict, available, conclude

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from bench_publish import PEERS as OVER_HTTP
from redis_servers import Redis, servers

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Broadcast, Plan, Target, modes
from sse_fast.bench.results import difference, timing
from sse_fast.bench.runner import Fleet

PARTS = ("publish", "across")
CONNECTIONS = (1, 16, 64)
JUDGED = (16, 64)
CPU_GOAL, LATENCY_GOAL = 1.0, 1.5  # times Centrifugo's
RATE = 200.0  # events a second
STREAMS = 100
SYNCED = ("appendonly yes", "appendfsync everysec")

CLOCK = """\
CPU: user and system time of all threads over the window, divided by the answers in it. The time of an answer: from just
before the request is sent until its last byte is read; of an event: from when it was due until its stream has it. All
share the machine. Medians over the rounds, in brackets the least and the greatest; ratios are taken within a round."""

Command = Callable[[int, Path], list[str]]


def our_command(redis: Redis) -> Command:
    return lambda port, scratch: [*OURS.command(port, scratch), "--backplane", redis.url]


def centrifugo_over(redis: Redis) -> Command:
    def command(port: int, scratch: Path) -> list[str]:
        made = centrifugo_command(port, scratch)
        config = scratch / "centrifugo.json"
        settings = {"engine": "redis", "redis_address": redis.address, "history_size": 1000, "history_ttl": "300s"}
        config.write_text(json.dumps(json.loads(config.read_text()) | settings))
        return made

    return command


OVER: dict[str, Callable[[Redis], Command]] = {OURS.name: our_command, centrifugo.PEER.name: centrifugo_over}
PEERS = tuple(peer for peer in OVER_HTTP if peer.name in OVER)


@dataclass
class Turn:
    """One server's two nodes and their Redis."""

    peer: Peer
    nodes: list[Running]
    redis: psutil.Process

    def target(self) -> Target:
        """Published at the first node, listened to at the second."""
        there, here = (self.peer.target(node.port) for node in self.nodes)
        return replace(here, publish=there.publish)

    def clocks(self) -> tuple[float, float, float]:
        """CPU seconds of the node that is published to, of Redis, of the other node."""
        return self.nodes[0].cpu_seconds(), process_cpu_seconds(self.redis), self.nodes[1].cpu_seconds()


@contextmanager
def turn(peer: Peer, *settings: str) -> Iterator[Turn]:
    with ExitStack() as stack:
        redis = stack.enter_context(servers()).redis(*settings)
        assert redis.process is not None
        over = replace(peer, command=OVER[peer.name](redis))
        nodes = [stack.enter_context(Running(over)) for _ in range(2)]
        yield Turn(peer, nodes, psutil.Process(redis.process.pid))


@dataclass
class Finding:
    """CPU in microseconds a POST; times in microseconds."""

    part: str
    connections: int
    peer: str
    round: int
    events: int
    seconds: float
    node: float = 0.0
    redis: float = 0.0
    other: float = 0.0
    times: dict[str, int] = field(default_factory=dict)  # p50, p99, max: of answers, or of events at their streams
    problems: dict[str, str] = field(default_factory=dict)


def problems_of(fleet: Fleet) -> dict[str, str]:
    return {one.kind: f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems}


def measured(
    fleet: Fleet, of: Turn, seconds: float, where: tuple[str, int, str, int], counted: str, histogram: str
) -> Finding:
    """One window of a load that has begun, behind its warm-up. counted: the counter whose rise is its events."""
    fleet.stay(min(WARM_UP, seconds / 2))
    before, clocks = fleet.moment(), of.clocks()
    fleet.stay(seconds)
    after, ended = fleet.moment(), of.clocks()
    modes.settle(fleet)
    problems = problems_of(fleet)
    events = after.counters[counted] - before.counters[counted]
    timed = timing(difference(after.histograms[histogram], before.histograms[histogram]))
    if not events or timed is None:
        problems.setdefault("silent", f"the counter {counted!r} stood still in the window")
    spent = [1e6 * (end - begin) / max(1, events) for begin, end in zip(clocks, ended, strict=True)]
    times = {name: getattr(timed, name) for name in ("p50", "p99", "max")} if timed else {}
    return Finding(*where, events, after.at - before.at, *spent, times=times, problems=problems)


def publish(of: Turn, seconds: float, round_: int, channels: int) -> Iterator[Finding]:
    for connections in CONNECTIONS:
        plan = Plan(
            Broadcast(subscribers=0, channels=channels, in_flight=connections),
            of.target(),
            publishers=connections,
            processes=1,
        )
        with Fleet(plan) as fleet:
            fleet.order("closed_loop", in_flight=connections, events=0)
            yield measured(fleet, of, seconds, ("publish", connections, of.peer.name, round_), "answered", "answer")


def across(of: Turn, seconds: float, round_: int, streams: int) -> Iterator[Finding]:
    plan = Plan(Broadcast(streams, channels=streams), of.target(), publishers=16, processes=1, drain=PATIENCE)
    with Fleet(plan) as fleet:
        modes.ramp(fleet, streams)
        fleet.order("open_loop", rate=RATE, events=0)
        yield measured(fleet, of, seconds, ("across", 1, of.peer.name, round_), "deliveries", "latency")


MEASURE: dict[str, tuple[Callable[[Turn, float, int, int], Iterator[Finding]], int, int]] = {
    "publish": (publish, 1000, 100),  # channels, and with --quick
    "across": (across, STREAMS, 10),  # streams
}


def part_table(findings: list[Finding]) -> str:
    by_row: defaultdict[tuple[int, str], list[Finding]] = defaultdict(list)
    for one in findings:
        by_row[one.connections, one.peer].append(one)
    rows = []
    for (connections, peer), found in sorted(by_row.items(), key=lambda item: item[0][0]):
        costs = [
            spread((cost(one) for one in found), 1)
            for cost in (
                lambda one: one.node + one.redis,
                lambda one: one.node,
                lambda one: one.redis,
                lambda one: one.other,
            )
        ]
        rate = spread((one.events / one.seconds for one in found), 0)
        times = [spread((one.times[name] for one in found if one.times), 0) for name in ("p50", "p99")]
        rows.append([str(connections), peer, *costs, rate, *times])
    head = ["connections", "server", "CPU µs an event", "the node's", "Redis'", "the other node's", "a second"]
    return table([*head, "p50 µs", "p99 µs"], rows)


def judge(findings: list[Finding]) -> Verdict:
    """Of the goals those that this run can speak about."""
    verdict = Verdict()
    found = {(one.part, one.connections, one.round, one.peer): one for one in findings if one.events}
    pairs = [
        (one, found[part, connections, round_, OURS.name])
        for (part, connections, round_, peer), one in found.items()
        if peer != OURS.name and (part, connections, round_, OURS.name) in found
    ]
    for connections in CONNECTIONS:
        of = [pair for pair in pairs if pair[0].part == "publish" and pair[0].connections == connections]
        if of:
            goal = CPU_GOAL if connections in JUDGED else None
            what = f"{connections} connections, node and Redis"
            verdict.add(what, [(our.node + our.redis) / (its.node + its.redis) for its, our in of], "of its CPU", goal)
            both = [(our.node + our.redis + our.other) / (its.node + its.redis + its.other) for its, our in of]
            verdict.add(f"{connections} connections, with the other node", both, "of its CPU", None)
    if of := [pair for pair in pairs if pair[0].part == "across"]:
        for name, goal in (("p50", LATENCY_GOAL), ("p99", None)):
            verdict.add(f"across, {name}", [our.times[name] / its.times[name] for its, our in of], "of its", goal)
    return verdict


def main() -> int:
    about = "Two nodes over one Redis, beside Centrifugo with its Redis engine."
    parser = arguments_for(about, PARTS, seconds=3.0, quick="one round, for a moment: does everything come?")
    parser.add_argument("--only", choices=sorted(OVER), help="this server alone")
    parser.add_argument("--appendonly", action="store_true", help="Redis writes a file, and syncs it every second")
    arguments = parse(parser, PARTS, seconds=0.3)
    raise_descriptor_limit()
    peers = available([peer for peer in PEERS if arguments.only in (None, peer.name)], install=not arguments.quick)
    settings = SYNCED if arguments.appendonly else ()
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}; {', '.join(f'{peer.name} {peer.version()}' for peer in peers)}")
    for part in arguments.parts:
        measure, many, few = MEASURE[part]
        for round_ in range(arguments.rounds):
            for peer in in_turn(peers, round_):
                with turn(peer, *settings) as of:
                    for one in measure(of, arguments.seconds, round_, few if arguments.quick else many):
                        findings.append(one)
                        words = f"{one.node:.1f} + {one.redis:.1f} (+ {one.other:.1f}) µs an event, p50 {one.times}"
                        problems = "; ".join(one.problems.values())
                        say(
                            f"{part}, round {round_ + 1}, {one.peer}, {one.connections} connections: {words} {problems}"
                        )
        print(f"\n## {part}\n\n{part_table([one for one in findings if one.part == part])}", flush=True)
    wrong = [
        f"{one.part}, {one.peer}, round {one.round + 1}: {'; '.join(one.problems.values())}"
        for one in findings
        if one.problems
    ]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
