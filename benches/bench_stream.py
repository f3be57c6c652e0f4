"""Streams beside Nchan and the floor: what one costs to open and to hold, what a storm of resuming clients costs, and
whether everybody gets everything when some don't read.

    python benches/bench_stream.py [open] [resume] [exact] [--quick] [--rounds 3] [--json PATH]

- **open**: 15,000 streams of one channel are opened and stay idle. Goals: the server's own memory per idle stream at
  most 0.5 KiB; its CPU per opened stream at most Nchan's.
- **resume**: 10,000 streams are cut, 100 events of 64 bytes are published, and all come back at once, each with the
  last id it was given. Goal: the server's CPU until all are complete is at most a third of Nchan's.
- **exact**: 5 % of the streams stop reading, 5 % read a byte at a time, and the server ends whoever takes nothing for
  1.5 s. Events flow to all, 16 in flight; then the others are cut, miss 100 events, and resume. They must get each
  event once, whole and in order. Then the slow and the stopped read on, or come back if they were ended, and must get
  the same.

Servers take turns, started afresh for each, and each round begins with another one; **sse_fast asgi** is `create_app`
under Granian alone, whose streams go by ASGI. Fan-out is bench_fanout.py's. Exits with 1 if any stream of any server
misses an event, or gets one twice, torn or out of order; or if a goal is missed, without --quick.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import (
    ASGI,
    EDGE,
    Running,
    Server,
    arguments_for,
    asgi_command,
    edge_command,
    in_turn,
    machine,
    parse,
    say,
)
from peers import PEERS, nchan, raw_floor
from peers.report import spread, table
from verdict import Verdict, available, conclude

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench import Plan, Storm, Target, modes
from sse_fast.bench.runner import Fleet

PARTS = ("open", "resume", "exact")
SIZES = {"open": 64, "resume": 64, "exact": 8192}  # bytes of a payload; large ones fill up who does not read
MISSED = 100  # events, by each stream that resumes
LAZY = 0.05  # of all streams stop reading, and as many read a byte at a time
TRICKLE = 0.005  # seconds between two bytes
SEND_TIMEOUT = 1.5
PATIENCE = 30.0
NEVER = 1e9

CLOCK = """\
CPU: user and system time of all processes of the server. Of a stream opened: from before the first connect to after the
last response head, at most 256 at a time. Of a resume: from before the first connect until every stream has every event
that it missed; so accepting is part of it, and being cut is not. Memory: the growth of the server's proportional set
size (PSS) from none to all streams open and idle; what the kernel keeps for sockets is the same for every server.
Figures are medians over the rounds, in brackets the least and the greatest; ratios are taken within a round."""


IMPATIENT = {"send_timeout": str(SEND_TIMEOUT), "log_size": "256MiB"}


def impatient_command(port: int, scratch: Path) -> list[str]:
    flags = [(f"--{name.replace('_', '-')}", value) for name, value in IMPATIENT.items()]
    return [*edge_command(port, scratch), *(word for flag in flags for word in flag)]


def impatient_asgi_command(port: int, scratch: Path) -> list[str]:
    variables = [f"SSE_FAST_{name.upper()}={value}" for name, value in IMPATIENT.items()]
    return ["env", *variables, *asgi_command(port, scratch)]


SERVERS: dict[str, tuple[Server, ...]] = {
    "open": (EDGE, nchan.PEER, raw_floor.PEER, ASGI),
    "resume": (EDGE, nchan.PEER, ASGI),
    "exact": (replace(EDGE, command=impatient_command), replace(ASGI, command=impatient_asgi_command)),
}
INSTALLED = {peer.name: peer for peer in PEERS}


@dataclass(frozen=True)
class Finding:
    """One turn of a server: what it cost, and what was wrong."""

    part: str
    server: str
    round: int
    streams: int
    figures: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """A figure of sse_fast: at most so much, or so many times another server's."""

    part: str
    figure: str
    at_most: float
    beside: str | None = None


GOALS = (
    Goal("open", "bytes per stream", 512),
    Goal("open", "CPU µs per stream", 1.0, nchan.PEER.name),
    Goal("resume", "CPU µs per event", 1 / 3, nchan.PEER.name),
)


# ---- the parts -------------------------------------------------------------------------------------------------------


@contextmanager
def fleet_for(server: Server, streams: int, size: int) -> Iterator[Fleet]:
    """The server, running, and a load client for so many streams, its events of `size` bytes."""
    with Running(server) as running:
        target = Target(
            f"http://127.0.0.1:{running.port}{server.subscribe}",
            f"http://127.0.0.1:{running.port}{server.publish}",
        )
        plan = Plan(Storm(streams), target, size=size, drain=PATIENCE, server_pid=running.process.pid)
        with Fleet(plan) as fleet:
            yield fleet


def measure_opening(fleet: Fleet, streams: int, seconds: float) -> dict[str, float]:
    modes.ramp(fleet, streams)
    publish(fleet, 1)  # everybody is there
    modes.settle(fleet)
    cpu, memory = (
        fleet.figures[f"{name}_per_connect{tail}"] for name, tail in (("server_cpu_us", ""), ("user_memory", "ion"))
    )
    return {"CPU µs per stream": cpu or 0.0, "bytes per stream": memory or 0.0}


def measure_resuming(fleet: Fleet, streams: int, seconds: float) -> dict[str, float]:
    modes.ramp(fleet, streams)
    publish(fleet, 4)  # everybody has an id to come back with
    fleet.order_all("cut")
    publish(fleet, MISSED)
    fleet.stay(2.0)  # until the server is done with those who left
    before = fleet.moment()
    come_back(fleet, streams)
    after = fleet.moment()
    modes.settle(fleet)
    delivered = after.counters["deliveries"] - before.counters["deliveries"]
    demand(delivered == streams * MISSED, f"{delivered} deliveries to those who resumed, not {streams * MISSED}")
    demand(after.counters["caught_up"] == streams, f"only {after.counters['caught_up']} streams were complete again")
    cpu = (after.server_cpu or 0.0) - (before.server_cpu or 0.0)
    return {
        "CPU µs per event": cpu / delivered * 1e6,
        "CPU s": cpu,
        "s until all were complete": after.at - before.at,
    }


def measure_exactness(fleet: Fleet, streams: int, seconds: float) -> dict[str, float]:
    lazy = round(streams * LAZY)
    readers = streams - 2 * lazy
    modes.ramp(fleet, readers)
    fleet.open(lazy, slow=True)
    fleet.open(lazy, stopped=True)
    modes.opened(fleet)
    fleet.order_all("slow_down", every=TRICKLE, most=1)
    fleet.order("closed_loop", in_flight=16, events=0)
    fleet.stay(seconds)
    fleet.wait(lambda: fleet.board.counters()["slow_cut"] / (2 * lazy), 2 * seconds)  # kernels buffer megabytes
    fleet.order("quiet")
    wait_until_quiet(fleet)
    fleet.order_all("cut")
    publish(fleet, MISSED)
    come_back(fleet, readers)
    flowed = fleet.moment()
    modes.settle(fleet)
    modes.wake_up(fleet)
    whole = fleet.figures["slow_complete"] or 0
    demand(flowed.counters["caught_up"] == readers, f"only {flowed.counters['caught_up']} of {readers} resumed wholly")
    demand(whole == 2 * lazy, f"only {whole} of {2 * lazy} slow and stopped streams became complete")
    return {
        "events": flowed.counters["answered"],
        "deliveries": flowed.counters["deliveries"],
        "slow or stopped": 2 * lazy,
        "of them ended": flowed.counters["slow_cut"],
        "complete once awake": whole,
    }


def publish(fleet: Fleet, events: int) -> None:
    """So many events, one after the other, until everybody has them."""
    settled = fleet.board.counters()["settled"] + events
    fleet.order("closed_loop", in_flight=1, events=events)
    fleet.wait(lambda: 1 - (settled - fleet.board.counters()["settled"]) / events, PATIENCE)


def wait_until_quiet(fleet: Fleet) -> None:
    fleet.wait(lambda: float(not fleet.order("busy")), PATIENCE)


def come_back(fleet: Fleet, streams: int) -> None:
    """All who were cut, at once, until each has what it missed."""
    fleet.board.aim()
    fleet.order_all("come_back")
    fleet.wait(lambda: fleet.board.counters()["caught_up"] / streams, PATIENCE)


class Wrong(Exception):
    """A stream did not get what it must."""


def demand(right: bool, words: str) -> None:
    if not right:
        raise Wrong(words)


MEASURE: dict[str, Callable[[Fleet, int, float], dict[str, float]]] = {
    "open": measure_opening,
    "resume": measure_resuming,
    "exact": measure_exactness,
}


def turn(part: str, server: Server, round_: int, streams: int, seconds: float) -> Finding:
    figures, problems = {}, []
    try:
        with fleet_for(server, streams, SIZES[part]) as fleet:
            try:
                figures = MEASURE[part](fleet, streams, seconds)
            except Wrong as wrong:
                problems.append(str(wrong))
            problems += [f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems]
    except (RuntimeError, OSError) as error:
        problems.append(str(error))
    return Finding(part, server.name, round_, streams, figures, tuple(problems))


# ---- what is said of them --------------------------------------------------------------------------------------------


def part_table(findings: list[Finding]) -> str:
    by_server: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_server[finding.server].append(finding)
    names = list(dict.fromkeys(name for finding in findings for name in finding.figures))
    rows = []
    for server, turns in by_server.items():
        cells = [spread((one.figures[name] for one in turns if name in one.figures), digits(name)) for name in names]
        rows.append([server, f"{turns[0].streams:,}", *cells])
    return table(["server", "streams", *names], rows)


def digits(figure: str) -> int:
    return 2 if figure.startswith(("CPU", "s ")) else 0


def judge(findings: list[Finding]) -> Verdict:
    """Of the goals those that this run can speak about."""
    verdict = Verdict()
    for goal in GOALS:
        found = {(one.server, one.round): one.figures[goal.figure] for one in findings if goal.figure in one.figures}
        ours = {round_: value for (server, round_), value in found.items() if server == EDGE.name}
        others = {round_: found.get((goal.beside or "", round_)) for round_ in ours}
        values = [value / (others[round_] or NEVER) if goal.beside else value for round_, value in ours.items()]
        if not values or (goal.beside and None in others.values()):
            continue
        of = f"of {goal.beside}'s {goal.figure}" if goal.beside else goal.figure
        verdict.add(goal.part, values, of, goal.at_most)
    return verdict


def parse_arguments() -> argparse.Namespace:
    quick = "a few streams, one round: is it all whole?"
    parser = arguments_for("What streams cost, and whether they are whole.", PARTS, seconds=5.0, quick=quick)
    parser.add_argument("--open", type=int, default=15_000, help="streams to open (default: %(default)s)")
    parser.add_argument("--resume", type=int, default=10_000, help="streams that resume (default: %(default)s)")
    parser.add_argument("--exact", type=int, default=1_000, help="streams of which some don't read (%(default)s)")
    parser.add_argument("--only", default="", help="these servers, comma-separated")
    return parse(parser, PARTS, open=300, resume=300, exact=300, seconds=SEND_TIMEOUT)


def servers_of(part: str, only: str, *, install: bool) -> list[Server]:
    wanted = [server for server in SERVERS[part] if not only or server.name in only.split(",")]
    here = {peer.name for peer in available([INSTALLED[server.name] for server in wanted], install=install)}
    return [server for server in wanted if server.name in here]


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}")
    for part in arguments.parts:
        servers = servers_of(part, arguments.only, install=not arguments.quick)
        streams: int = getattr(arguments, part)
        for round_ in range(arguments.rounds):
            for server in in_turn(servers, round_):
                finding = turn(part, server, round_, streams, arguments.seconds)
                findings.append(finding)
                words = [f"{name} {value:,.2f}" for name, value in finding.figures.items()] + list(finding.problems)
                say(f"{part}, {streams:,} streams, round {round_ + 1}, {server.name}: {'; '.join(words)}")
        print(f"\n## {part}\n\n{part_table([one for one in findings if one.part == part])}", flush=True)
    bad = [one for one in findings if one.problems]
    wrong = [f"{one.part}, {one.server}, round {one.round + 1}: {'; '.join(one.problems)}" for one in bad]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
