"""Fan-out, closed loop: server CPU per delivery, and the time from publish to the last receiver.

    python benches/bench_fanout.py [--quick] [--pin] [--subscribers 1000,10000] [--only sse_fast,nchan] [--json PATH]

Servers take turns on one machine, each started afresh for every round:

- **sse_fast**: the edge as `sse-fast serve` starts it;
- **sse_fast asgi**: the same app, `create_app`, under Granian alone: streams and publishing by ASGI;
- **raw C**: send(2) in a loop over all descriptors, the floor of any server that sends each event by itself
  (peers/raw_floor.py);
- **nchan**: Debian's nginx and libnginx-mod-nchan with one worker (peers/nchan.py);
- **coroutine**: a coroutine and an `asyncio.Queue` per subscriber, under Granian with the edge's settings
  (coroutine_app.py).

The load client (load.c) opens N streams of one channel; then each of W publisher connections publishes a 64-byte event,
waits until all N subscribers have it and its HTTP answer has come, and publishes the next. It checks that every
subscriber gets every event once, whole and in one order; the bench fails if not. Exits with 1 if a goal is missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from harness import ASGI, EDGE, HERE, Running, Server, granian_command, machine
from peers import nchan, raw_floor

from sse_fast.base.descriptors import raise_descriptor_limit

IN_FLIGHT = (1, 16)
LEAST_EVENTS = 64  # the p99 of fewer says nothing; a slow server's window gets longer instead
# (who, subscribers, in flight, beside whom, at most so many times their CPU per delivery)
GOALS = (
    (EDGE, 1_000, 1, "raw C", 1.2),
    (EDGE, 10_000, 1, "raw C", 1.2),
    (EDGE, 1_000, 16, "raw C", 0.25),
    (EDGE, 10_000, 16, "raw C", 0.25),
    (ASGI, 1_000, 1, "nchan", 1.25),
    (ASGI, 10_000, 1, "nchan", 1.1),
    (ASGI, 1_000, 16, "nchan", 0.3),
    (ASGI, 10_000, 16, "nchan", 0.3),
    (ASGI, 10_000, 1, "coroutine", 1 / 3),
    (ASGI, 10_000, 16, "coroutine", 1 / 3),
)

CLOCK = """\
CPU: user and system time of all processes of the server, over the measured window only (streams open, server warm),
divided by deliveries (events x subscribers); it includes reading and answering the publish requests, and the kernel's
work on the server's side of loopback. Latency: from just before the client writes the publish request to when the last
subscriber's bytes are read and checked; client and server share the machine, so the client's reading is part of it.
Reads per delivery tell how often the receiver found several events at once: such sends cost any server less, as the
kernel need not wake anybody. Nchan at 16 in flight swings between 1.00 and 0.30 by chance of scheduling.
Each figure is the median over the rounds; a ratio is taken within its round, in brackets the least and the greatest."""


def coroutine_command(port: int, scratch: Path) -> list[str]:
    return granian_command(port, "benches.coroutine_app:app")


SERVERS = (
    EDGE,
    ASGI,
    raw_floor.PEER,
    nchan.PEER,
    Server(
        "coroutine",
        "a coroutine and an asyncio.Queue per subscriber, under Granian",
        "/sse/bench",
        "/publish/bench",
        coroutine_command,
    ),
)


@dataclass(frozen=True)
class Window:
    """What one measured window showed."""

    server: str
    subscribers: int
    in_flight: int
    round: int
    cpu_us: float  # server CPU per delivery
    client_cpu_us: float
    reads: float  # of the client per delivery
    p50_ms: float
    p99_ms: float
    max_ms: float
    events: int
    seconds: float


@dataclass(frozen=True)
class Ramp:
    """What opening the streams cost."""

    server: str
    subscribers: int
    round: int
    cpu_us: float  # server CPU per stream: accept, request, response head
    memory_kb: float  # user memory (PSS) per open, idle stream


class Client:
    """The load client's process, and its one line back for each line in."""

    def __init__(self, program: Path, running: Running, subscribers: int, cores: set[int]) -> None:
        self.cores = cores
        server = running.server
        port = str(running.port)
        self.command = [str(program), "127.0.0.1", port, server.subscribe, port, server.publish, str(subscribers)]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        return self

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # the client never waits longer than its own patience
        if not line:
            raise RuntimeError(f"the load client gave up with {self.process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result

    def run(self, in_flight: int, events: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"run {in_flight} {events}\n")
        self.process.stdin.flush()
        return self.answer()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self.process.stdin is not None
        if error is not None:
            self.process.kill()
        self.process.stdin.close()
        status = self.process.wait()
        if error is None and status:
            raise RuntimeError("the server lost, repeated or reordered events (see above)")


def measure(
    program: Path, server: Server, subscribers: int, round_: int, seconds: float, pin: bool
) -> tuple[Ramp, list[Window]]:
    windows = []
    cores = os.sched_getaffinity(0)
    client_cores = {max(cores)} if pin and len(cores) > 1 else cores
    with Running(server, cores - client_cores or cores) as running:
        memory, cpu = running.user_memory(), running.cpu_seconds()
        with Client(program, running, subscribers, client_cores) as client:
            client.answer()
            ramp = Ramp(
                server.name,
                subscribers,
                round_,
                cpu_us=(running.cpu_seconds() - cpu) / subscribers * 1e6,
                memory_kb=(running.user_memory() - memory) / subscribers / 1024,
            )
            for in_flight in IN_FLIGHT:
                # The warm-up also tells how many events fill the window.
                warm = client.run(in_flight, 16)
                warm = client.run(in_flight, max(16, int(0.2 * seconds * warm["events"] / warm["seconds"])))
                events = max(LEAST_EVENTS, int(seconds * warm["events"] / warm["seconds"]))
                before = running.cpu_seconds()
                result = client.run(in_flight, events)
                spent = running.cpu_seconds() - before
                windows.append(
                    Window(
                        server.name,
                        subscribers,
                        in_flight,
                        round_,
                        cpu_us=spent / result["deliveries"] * 1e6,
                        client_cpu_us=result["client_cpu_seconds"] / result["deliveries"] * 1e6,
                        reads=result["reads"] / result["deliveries"],
                        p50_ms=result["p50_us"] / 1e3,
                        p99_ms=result["p99_us"] / 1e3,
                        max_ms=result["max_us"] / 1e3,
                        events=result["events"],
                        seconds=result["seconds"],
                    )
                )
    return ramp, windows


def spread(values: Iterable[float], digits: int) -> str:
    ordered = sorted(values)
    text = f"{median(ordered):.{digits}f}"
    return text if len(ordered) == 1 else f"{text} ({ordered[0]:.{digits}f}–{ordered[-1]:.{digits}f})"


def fan_out_table(windows: list[Window], servers: list[Server]) -> str:
    cells: defaultdict[tuple[int, int, str], list[Window]] = defaultdict(list)
    for window in windows:
        cells[window.subscribers, window.in_flight, window.server].append(window)
    lines = [
        "| | subscribers | in flight | CPU µs per delivery | to raw C | to Nchan | client reads per delivery "
        "| p50 ms | p99 ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for subscribers, in_flight in dict.fromkeys((n, w) for n, w, _ in cells):
        for server in servers:
            rounds = cells[subscribers, in_flight, server.name]
            columns = [
                server.name,
                f"{subscribers:,}",
                str(in_flight),
                f"{median(w.cpu_us for w in rounds):.2f}",
                *(
                    spread(found, 2)
                    if server.name != beside and (found := ratios(windows, subscribers, in_flight, server.name, beside))
                    else ""
                    for beside in (raw_floor.PEER.name, nchan.PEER.name)
                ),
                f"{median(w.reads for w in rounds):.2f}",
                f"{median(w.p50_ms for w in rounds):.1f}",
                f"{median(w.p99_ms for w in rounds):.1f}",
            ]
            lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def ratios(windows: list[Window], subscribers: int, in_flight: int, server: str, beside: str) -> list[float]:
    """CPU per delivery of one server in multiples of another's, round by round."""
    cpu = {(w.server, w.round): w.cpu_us for w in windows if (w.subscribers, w.in_flight) == (subscribers, in_flight)}
    rounds = [round_ for name, round_ in cpu if name == server and (beside, round_) in cpu]
    return [cpu[server, round_] / cpu[beside, round_] for round_ in rounds]


def judge(windows: list[Window]) -> tuple[str, bool]:
    """The goals that this run can speak about, a line each, and whether all of them are met."""
    lines, met = [], True
    for server, subscribers, in_flight, beside, at_most in GOALS:
        if measured := ratios(windows, subscribers, in_flight, server.name, beside):
            good = median(measured) <= at_most
            met = met and good
            lines.append(
                f"{'met   ' if good else 'MISSED'} {server.name}, {subscribers:,} subscribers, {in_flight} in flight: "
                f"{spread(measured, 2)} of {beside}'s CPU per delivery, goal {at_most:.2f}"
            )
    return "\n".join(lines), met


def ramp_table(ramps: list[Ramp], servers: list[Server]) -> str:
    cells: defaultdict[tuple[int, str], list[Ramp]] = defaultdict(list)
    for ramp in ramps:
        cells[ramp.subscribers, ramp.server].append(ramp)
    lines = [
        "| server | subscribers | CPU µs per accepted stream | user memory (PSS) KB per idle stream |",
        "|---|--:|--:|--:|",
    ]
    for subscribers in dict.fromkeys(n for n, _ in cells):
        for server in servers:
            rounds = cells[subscribers, server.name]
            cpu, memory = spread((r.cpu_us for r in rounds), 0), spread((r.memory_kb for r in rounds), 1)
            lines.append(f"| {server.name} | {subscribers:,} | {cpu} | {memory} |")
    return "\n".join(lines)


def missing_packages(servers: list[Server]) -> list[str]:
    packages = {"gcc": shutil.which("gcc")}
    if nchan.PEER in servers:
        packages |= {"nginx libnginx-mod-nchan": nchan.PEER.version()}
    return [name for name, found in packages.items() if not found]


def build_client() -> Path:
    program = HERE / "build" / "load"
    program.parent.mkdir(exist_ok=True)
    subprocess.run(["gcc", "-O2", "-std=gnu11", "-Wall", "-o", str(program), str(HERE / "load.c")], check=True)
    return program


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fan-out of sse_fast beside Nchan and a coroutine per subscriber.")
    parser.add_argument("--subscribers", default="1000,10000", help="comma-separated counts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns each server takes (default: %(default)s)")
    parser.add_argument("--only", default=",".join(s.name for s in SERVERS), help="servers (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a window (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of half a second at 1,000: is it working?")
    parser.add_argument(
        "--pin",
        action="store_true",
        help="the client gets the last core, the server the others; else the kernel may put both on one core, "
        "and how often it does is chance",
    )
    parser.add_argument("--json", type=Path, help="write every window there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.subscribers, arguments.rounds, arguments.seconds = "1000", 1, 0.5
    names = arguments.only.split(",")
    arguments.servers = [server for server in SERVERS if server.name in names]
    if unknown := set(names) - {server.name for server in SERVERS}:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if missing := missing_packages(arguments.servers):
        sys.exit(
            f"missing: {', '.join(missing)}. On Debian: apt-get install {' '.join(missing)}; or leave it out: --only"
        )
    raise_descriptor_limit()
    program = build_client()
    if raw_floor.PEER in arguments.servers and not raw_floor.PEER.version():
        raw_floor.PEER.install()
    ramps: list[Ramp] = []
    windows: list[Window] = []
    for subscribers in map(int, arguments.subscribers.split(",")):
        for round_ in range(arguments.rounds):
            # Nobody is always the first after a pause, or always the one behind the heaviest.
            turn = round_ % len(arguments.servers)
            for server in arguments.servers[turn:] + arguments.servers[:turn]:
                print(f"{subscribers:,} subscribers, round {round_ + 1}: {server.name}", file=sys.stderr, flush=True)
                ramp, measured = measure(program, server, subscribers, round_, arguments.seconds, arguments.pin)
                ramps.append(ramp)
                windows += measured

    where = machine() + (", client and server on cores of their own" if arguments.pin else "")
    print(f"{CLOCK}\n\n{where}\n\n{fan_out_table(windows, arguments.servers)}\n")
    print(ramp_table(ramps, arguments.servers))
    verdict, met = judge(windows)
    print(f"\n{verdict}")
    if arguments.json:
        record = {"machine": where, "windows": [*map(asdict, windows)], "ramps": [*map(asdict, ramps)]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if not met and not arguments.quick:  # half a second says nothing about goals
        sys.exit(1)


if __name__ == "__main__":
    main()
