"""One stream in a FastAPI app: server CPU per event, and memory per idle stream.

    python benches/bench_responses.py [--quick] [--events 100000] [--rounds 5] [--idle 1000] [--loop NAME] [--json PATH]

Three responses take turns under uvicorn, each started afresh for every round, with the same endpoints around them
(responses_app.py): **sse_fast**'s EventSourceResponse, **sse-starlette**'s, and **FastAPI**'s own SSE. Two ways of
streaming:

- **yielded**: an async generator yields its events one right behind the other, as it does with what a queue or a cursor
  has ready. sse_fast gathers what is ready, the others send each event by itself;
- **waited for**: before each event the generator gives one turn to the loop, so every event is sent by itself.

The client counts the events, and the bench fails if any is missing. Exits with 1 if a goal is missed.
"""

import argparse
import json
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench_fanout import spread
from harness import Running, Server, machine

from sse_fast.base.descriptors import raise_descriptor_limit

KINDS = {"str": "a text of 52 bytes", "dict": "data, event and id, 64 bytes in all", "json": "a dict as JSON data"}
WAYS = ("yielded", "waited for")
PATIENCE = 120.0  # seconds for any one answer
SETTLE = 0.5  # seconds between the last idle stream's head and the look at the memory
PEERS = ("sse-starlette", "FastAPI")
CPU_GOAL = 0.5  # of the better peer's CPU per event, for yielded events
MEMORY_GOAL = 1.0  # of the better peer's memory per idle stream

CLOCK = """\
CPU: user and system time of uvicorn's process from the request to the last byte, divided by the events. It includes
the request, uvicorn's own sends and the kernel's work on the server's side of loopback. Memory: growth of the process's
own pages (PSS) by idle streams that have sent one event and wait, divided by their number; FastAPI's and uvicorn's
share of a request is in it for all three. Each figure is the median over the rounds, in brackets the least and the
greatest; a ratio is taken within its round."""


def uvicorn(factory: str, loop: str) -> Callable[[int, Path], list[str]]:
    def command(port: int, scratch: Path) -> list[str]:
        options = ["--factory", "--port", str(port), "--loop", loop, "--log-level", "warning", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", f"benches.responses_app:{factory}", *options]

    return command


def servers(loop: str) -> list[Server]:
    factories = {"sse_fast": "sse_fast_app", "sse-starlette": "sse_starlette_app", "FastAPI": "fastapi_app"}
    return [Server(name, name, "", "", uvicorn(factory, loop)) for name, factory in factories.items()]


@dataclass(frozen=True)
class Stream:
    server: str
    way: str
    kind: str
    round: int
    cpu_us: float  # per event


@dataclass(frozen=True)
class Idle:
    server: str
    round: int
    memory_kb: float  # per stream


def request(port: int, target: str) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    opened.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return opened


def read_events(port: int, way: str, kind: str, count: int) -> None:
    """Raises RuntimeError unless all of them arrive."""
    seen, last = 0, b""
    with request(port, f"/events/{kind}/{count}/{WAYS.index(way)}") as opened:
        while not last.endswith(b"0\r\n\r\n"):
            received = opened.recv(1 << 18)
            if not received:
                break
            # A piece may end inside of what is counted; "data: " is 6 bytes, and 5 of them may have come before.
            seen += (last[-5:] + received).count(b"data: ")
            last = (last + received)[-16:]
    if seen != count:
        raise RuntimeError(f"{seen} of {count} events arrived")


def measure(server: Server, round_: int, events: int, idle: int) -> tuple[list[Stream], Idle]:
    streams = []
    with Running(server) as running:
        for way in WAYS:
            for kind in KINDS:
                count = events if way == "yielded" else max(1, events // 5)
                read_events(running.port, way, kind, max(1, count // 20))  # warm
                before = running.cpu_seconds()
                read_events(running.port, way, kind, count)
                spent = running.cpu_seconds() - before
                streams.append(Stream(server.name, way, kind, round_, spent / count * 1e6))
    with Running(server) as running:
        read_events(running.port, "yielded", "str", 100)
        before = running.user_memory()
        opened = [request(running.port, "/idle") for _ in range(idle)]
        for one in opened:
            head = b""
            while b"open" not in head.partition(b"\r\n\r\n")[2]:
                head += one.recv(4096)
        time.sleep(SETTLE)
        memory = (running.user_memory() - before) / idle / 1024
        for one in opened:
            one.close()
    return streams, Idle(server.name, round_, memory)


def cpu_ratios(streams: list[Stream], way: str, kind: str) -> list[float]:
    """Of the better peer's CPU, round by round."""
    cpu = {(s.server, s.round): s.cpu_us for s in streams if (s.way, s.kind) == (way, kind)}
    rounds = sorted({round_ for _, round_ in cpu})
    return [cpu["sse_fast", round_] / min(cpu[peer, round_] for peer in PEERS) for round_ in rounds]


def memory_ratios(idle: list[Idle]) -> list[float]:
    kb = {(i.server, i.round): i.memory_kb for i in idle}
    rounds = sorted({round_ for _, round_ in kb})
    return [kb["sse_fast", round_] / min(kb[peer, round_] for peer in PEERS) for round_ in rounds]


def tables(streams: list[Stream], idle: list[Idle]) -> str:
    cells: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for stream in streams:
        cells[stream.way, stream.kind, stream.server].append(stream.cpu_us)
    names = ("sse_fast", *PEERS)
    lines = [
        f"| CPU µs per event | {' | '.join(names)} | sse_fast to the better one |",
        "|---|" + "--:|" * (len(names) + 1),
    ]
    for way in WAYS:
        for kind, about in KINDS.items():
            figures = [spread(cells[way, kind, name], 2) for name in names]
            lines.append(f"| {way}: {about} | {' | '.join(figures)} | {spread(cpu_ratios(streams, way, kind), 2)} |")
    figures = [spread((i.memory_kb for i in idle if i.server == name), 1) for name in names]
    lines += [
        "",
        f"| | {' | '.join(names)} | sse_fast to the better one |",
        "|---|" + "--:|" * (len(names) + 1),
        f"| memory (PSS) KB per idle stream | {' | '.join(figures)} | {spread(memory_ratios(idle), 2)} |",
    ]
    return "\n".join(lines)


def judge(streams: list[Stream], idle: list[Idle]) -> tuple[str, bool]:
    """The goals, a line each, and whether all of them are met."""
    goals = [
        (f"CPU per event, yielded: {KINDS[kind]}", cpu_ratios(streams, "yielded", kind), CPU_GOAL) for kind in KINDS
    ]
    goals.append(("memory per idle stream", memory_ratios(idle), MEMORY_GOAL))
    lines, met = [], True
    for what, ratios, at_most in goals:
        good = median(ratios) <= at_most
        met = met and good
        lines.append(
            f"{'met   ' if good else 'MISSED'} {what}: {spread(ratios, 2)} of the better peer's, goal {at_most:.2f}"
        )
    return "\n".join(lines), met


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="EventSourceResponse beside sse-starlette and FastAPI's own SSE.")
    parser.add_argument("--events", type=int, default=100_000, help="of one stream (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns each server takes (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=1_000, help="idle streams (default: %(default)s)")
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="uvicorn's (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of 2,000 events: is it working?")
    parser.add_argument("--json", type=Path, help="write every measurement there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.events, arguments.rounds, arguments.idle = 2_000, 1, 50
    return arguments


def main() -> None:
    arguments = parse_arguments()
    raise_descriptor_limit()
    streams: list[Stream] = []
    idle: list[Idle] = []
    for round_ in range(arguments.rounds):
        peers = servers(arguments.loop)
        turn = round_ % len(peers)  # nobody is always the first after a pause
        for server in peers[turn:] + peers[:turn]:
            print(f"round {round_ + 1}: {server.name}", file=sys.stderr, flush=True)
            measured, memory = measure(server, round_, arguments.events, arguments.idle)
            streams += measured
            idle.append(memory)
    where = f"{machine()}, uvicorn on {arguments.loop}"
    verdict, met = judge(streams, idle)
    print(f"{CLOCK}\n\n{where}\n\n{tables(streams, idle)}\n\n{verdict}")
    if arguments.json:
        record = {"machine": where, "streams": [*map(asdict, streams)], "idle": [*map(asdict, idle)]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if not met and not arguments.quick:  # 2,000 events say nothing about goals
        sys.exit(1)


if __name__ == "__main__":
    main()
