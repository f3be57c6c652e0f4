"""Streams over three nodes and one Redis, all cut at once: all come back, at other nodes, and have everything, once.

    python benches/bench_storm.py [--streams 30000] [--nodes 3] [--workers 2] [--channels 100] [--events 50]
                                  [--log-size 64MiB] [--json PATH]

Each stream listens to one of the channels. When all have the first events all of them are cut, by their clients, within
one turn of each client's loop; events go on being published, and every client comes back to the next node with its
`Last-Event-ID`. It is over when each has all events of its channel.

Said: how long that took, from the cut on; what each stream has missed, had twice or in another order, gaps it was told
of; the CPU of the nodes and of Redis; and what reached Redis meanwhile, by its own count of commands. Clients are
processes of at most 10,000 streams each. Exits with 1 if anything is missing, doubled, out of order or told to be lost.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from harness import free_port, machine, process_cpu_seconds, say

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from redis_servers import Redis, servers

from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.client import Client

EACH = 10_000  # streams of a client process, which may hold 20,000 descriptors
AT_ONCE = 500  # that a client process opens
PATIENCE = 300.0  # seconds
WAIT = 30.0
FOUND = ("whole", "events", "wrong", "gaps")
EVENT = re.compile(rb"data: (\d+)\nid: (\S+)\n\n")
GAP = b"event: $gap\n"


class Stream(asyncio.Protocol):
    """One client. `got`: the next number of its channel that it waits for; `wrong`: what came instead."""

    def __init__(self, number: int, channel: str) -> None:
        self.number, self.channel = number, channel
        self.got, self.wrong, self.gaps = 0, 0, 0
        self.id = b""
        self.transport: asyncio.Transport | None = None
        self._rest = b""

    async def come(self, port: int) -> None:
        """Open it, until somebody takes it."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                self._rest = b""
                transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", port)
                last = b"Last-Event-ID: %b\r\n" % self.id if self.id else b""
                head = f"GET /sse/{self.channel} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
                transport.write(head.encode() + last + b"\r\n")
                return
            await asyncio.sleep(0.1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = 0
        self.gaps += data.count(GAP) - self._rest.count(GAP)
        for event in EVENT.finditer(data):
            end = event.end()
            if int(event[1]) == self.got:
                self.got += 1
            else:
                self.wrong += 1
            self.id = event[2]
        self._rest = data[end:][-4096:]

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


async def be_client(told: Connection, ports: list[int], numbers: range, channels: int) -> None:
    """Does what it is told: open, cut, come, wait for so many events, report."""
    streams = [Stream(number, f"storm:{number % channels}") for number in numbers]
    turn = asyncio.Semaphore(AT_ONCE)

    async def come(stream: Stream, shift: int) -> None:
        async with turn:
            await stream.come(ports[(stream.number + shift) % len(ports)])

    shift = 0
    while (what := await asyncio.to_thread(told.recv))[0] != "end":
        match what:
            case ("come",):
                await asyncio.gather(*(come(stream, shift) for stream in streams))
            case ("cut",):
                for stream in streams:
                    stream.cut()
                shift += 1
            case ("wait", count):
                deadline = time.monotonic() + PATIENCE
                while any(stream.got + stream.wrong < count for stream in streams) and time.monotonic() < deadline:
                    for stream in streams:
                        if stream.transport is None:  # cut by the server, or refused
                            await come(stream, shift)
                    await asyncio.sleep(0.05)
        report = {
            "whole": sum(not stream.wrong and not stream.gaps for stream in streams),
            "events": sum(stream.got for stream in streams),
            "wrong": sum(stream.wrong for stream in streams),
            "gaps": sum(stream.gaps for stream in streams),
        }
        told.send((time.monotonic(), report))


def client(told: Connection, ports: list[int], numbers: range, channels: int) -> None:
    raise_descriptor_limit()
    asyncio.run(be_client(told, ports, numbers, channels))


class Clients:
    """All of them, in processes."""

    def __init__(self, stack: ExitStack, ports: list[int], count: int, channels: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._told: list[Connection] = []
        for first in range(0, count, EACH):
            ours, theirs = context.Pipe()
            numbers = range(first, min(first + EACH, count))
            process = context.Process(target=client, args=(theirs, ports, numbers, channels), daemon=True)
            process.start()
            stack.callback(process.kill)
            self._told.append(ours)

    def do(self, *what: Any) -> tuple[float, dict[str, int]]:
        """Have all of them do it. When the last one was done, by the monotonic clock; and what all have."""
        for told in self._told:
            told.send(what)
        answers = []
        for told in self._told:
            if not told.poll(PATIENCE + WAIT):
                raise TimeoutError(f"the clients do not answer within {PATIENCE + WAIT:g} s")
            answers.append(told.recv())
        return max(at for at, _ in answers), {name: sum(found[name] for _, found in answers) for name in FOUND}


def start_nodes(stack: ExitStack, directory: Path, url: str, asked: argparse.Namespace) -> list[tuple[int, int]]:
    """(port, process) of each."""
    nodes = []
    for number in range(asked.nodes):
        port = free_port()
        flags = ["--workers", str(asked.workers), "--backplane", url, "--log-size", asked.log_size]
        command = [sys.executable, "-m", "sse_fast", "serve", "--port", str(port), *flags]
        with (directory / f"node{number}").open("wb") as log:
            node = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(node.wait)
        stack.callback(node.kill)
        stack.callback(end_children, node.pid)
        nodes.append((port, node.pid))
    for number, (port, _) in enumerate(nodes):
        deadline = time.monotonic() + WAIT
        while not is_ready(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a node is not ready: {(directory / f'node{number}').read_text()}")
            time.sleep(0.05)
    return nodes


def is_ready(port: int) -> bool:
    import httpx

    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    return False


def end_children(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            child.kill()


def commands(redis: Redis) -> Counter[str]:
    """How often each has been called since the start."""
    told = redis.info("commandstats")
    return Counter(
        {name.removeprefix("cmdstat_"): int(said.split(",")[0].removeprefix("calls=")) for name, said in told.items()}
    )


def cpu(processes: list[psutil.Process]) -> float:
    return sum(process_cpu_seconds(process) for process in processes)


def publish(port: int, channels: int, numbers: range) -> None:
    """One event to each channel, for each number."""
    with Client(f"http://127.0.0.1:{port}") as publisher:
        for number in numbers:
            publisher.publish_many([{"channel": f"storm:{each}", "data": str(number)} for each in range(channels)])


def storm(asked: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sse_fast_storm")))
        redis = stack.enter_context(servers()).redis()
        nodes = start_nodes(stack, directory, redis.url, asked)
        ports = [port for port, _ in nodes]
        assert redis.process is not None
        at_redis = [psutil.Process(redis.process.pid)]
        at_nodes = [each for _, pid in nodes for each in psutil.Process(pid).children()]
        clients = Clients(stack, ports, asked.streams, asked.channels)
        begun = time.monotonic()
        opened, _ = clients.do("come")
        publish(ports[0], asked.channels, range(asked.events))
        _, before = clients.do("wait", asked.events)
        say(f"{asked.streams} streams have {asked.events} events each; to open them took {opened - begun:.1f} s")
        counted, spent, spent_at_redis = commands(redis), cpu(at_nodes), cpu(at_redis)
        cut, _ = clients.do("cut")
        publish(ports[1 % len(ports)], asked.channels, range(asked.events, 2 * asked.events))
        back, _ = clients.do("come")
        publish(ports[2 % len(ports)], asked.channels, range(2 * asked.events, 3 * asked.events))
        done, found = clients.do("wait", 3 * asked.events)
        reached = commands(redis) - counted
        return {
            "machine": machine(),
            "streams": asked.streams,
            "first": before["events"],
            "expected": 3 * asked.events * asked.streams,
            **found,
            "back_seconds": round(back - cut, 2),
            "complete_seconds": round(done - cut, 2),
            "cpu_nodes": round(cpu(at_nodes) - spent, 2),
            "cpu_redis": round(cpu(at_redis) - spent_at_redis, 2),
            "published": 2 * asked.events * asked.channels,
            "commands": {name: reached[name] for name in sorted(reached) if name not in ("info", "client|list")},
            "reads": reached["xrange"],
        }


def main() -> int:
    about, *_ = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--streams", type=int, default=30_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--events", type=int, default=50, help="of each channel: before, while all are away, and after")
    parser.add_argument("--log-size", default="64MiB")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    asked = parser.parse_args()
    found = storm(asked)
    for name, value in found.items():
        say(f"{name}: {value}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(found))
    whole = found["whole"] == asked.streams and found["events"] == found["expected"]
    say("all back and complete, each event once" if whole and not found["wrong"] else "something is missing or wrong")
    return 0 if whole and not found["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
