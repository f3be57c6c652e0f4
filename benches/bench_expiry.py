"""Thousands of streams whose tokens end at the same moment, while events come.

    python benches/bench_expiry.py [--quick] [--streams 10000] [--life 60] [--rate 1] [--json PATH]

One edge, `sse-fast serve --token-secret`. Each stream has a token of its own (HS256, its own `sub`), and all of them
end in the same second, `--life` seconds after the last was opened. A stream that is told `$closing` comes back after
the time that it was told, with its last id and a token of an hour. `--rate` events a second go to all of them
throughout, and until all are back. Who publishes them is a process of its own, and so is one more stream, whose token
does not end: it says what all that costs others, as the time from a publish request to its delivery there, in quiet
seconds and in those in which streams end. The load client's own work is on the same cores.

What must hold, or it exits with 1: every stream is told `$expiring`, ends with `$closing {"reason":"expired"}` before
its token does, is back, and has every event once, in order. CPU: user and system time of all the server's processes.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import jwt
import uvloop
from harness import EDGE, Running, machine
from peers.report import table

from sse_fast.base.descriptors import raise_descriptor_limit

SECRET = "a secret of this bench, which is long enough"
AT_ONCE = 100  # connections that are opened together
PATIENCE = 60.0  # seconds for all to be back
HOUR = 3600.0
FRAME = re.compile(rb"data: (\d+)\nid: ([A-Za-z0-9._-]+)\n\n")
RETRY = re.compile(rb"retry: (\d+)\n")
SAID = re.compile(rb"event: \$(connected|expiring|closing)\n(?:retry: \d+\n)?data: ([^\n]*)\n(?:id: (\S+)\n)?\n")


def token(user: str, until: float) -> str:
    claims = {"sub": user, "exp": until, "sse": {"subscribe": ["bench"]}}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@dataclass
class Findings:
    streams: int
    life: float
    told: int = 0
    expired: int = 0
    late: int = 0
    back: int = 0
    refused: int = 0
    missed: int = 0
    ahead: list[float] = field(default_factory=list)  # seconds before its token's end that each was closed
    away: list[float] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)  # by second
    cpu: float = 0.0
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)


class Listening(asyncio.Protocol):
    """One stream, over its connections."""

    def __init__(self, port: int, name: str, until: float, findings: Findings) -> None:
        self.port, self.name, self.until, self.findings = port, name, until, findings
        self.opened = asyncio.get_running_loop().create_future()
        self.last_id = b""
        self.next: int | None = None
        self.retry = 3.0
        self.closed_at = 0.0
        self.complete = True
        self.returned = False
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self.heard: list[tuple[int, float]] | None = None

    async def open(self) -> None:
        self._buffer = b""
        self._said: Counter[bytes] = Counter()
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)
        lines = [b"GET /sse/bench HTTP/1.1", b"Host: 127.0.0.1", b"Accept: text/event-stream"]
        lines.append(b"Authorization: Bearer %b" % token(self.name, self.until).encode())
        if self.last_id:
            lines.append(b"Last-Event-ID: %b" % self.last_id)
        transport.write(b"\r\n".join((*lines, b"", b"")))
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._buffer += data
        for said in SAID.finditer(self._buffer):
            if not self._said[said[1]]:
                self._said[said[1]] += 1
                self._hear(said, now)
        if retries := RETRY.findall(self._buffer):
            self.retry = int(retries[-1]) / 1000
        behind = 0
        for found in FRAME.finditer(self._buffer):
            number = int(found[1])
            self.complete = self.complete and self.next in (None, number)
            self.next, self.last_id, behind = number + 1, found[2], found.end()
            if self.heard is not None:
                self.heard.append((number, now))
        if self._said[b"connected"]:
            self._buffer = self._buffer[max(behind, len(self._buffer) - 512) :]

    def _hear(self, said: re.Match[bytes], now: float) -> None:
        findings = self.findings
        if said[1] == b"connected":
            self.last_id = self.last_id or said[3]
            if self.closed_at:
                self.returned = True
                findings.back += 1
                findings.away.append(now - self.closed_at)
            if not self.opened.done():
                self.opened.set_result(None)
        elif said[1] == b"expiring":
            findings.told += 1
        elif said[2] == b'{"reason":"expired"}':
            self.closed_at = now
            findings.expired += 1
            findings.late += now > self.until
            findings.ahead.append(self.until - now)
            findings.ends[int(now)] += 1

    def connection_lost(self, error: Exception | None) -> None:
        if not self._said[b"connected"]:
            self.findings.refused += 1
        if self.closed_at and not self.returned:
            task = asyncio.get_running_loop().create_task(self._come_back())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _come_back(self) -> None:
        await asyncio.sleep(self.retry)
        self.until = time.time() + HOUR
        await self.open()


async def run(streams: int, life: float, rate: float) -> Findings:
    findings = Findings(streams, life)

    def command(port: int, scratch: Path) -> list[str]:
        return [*EDGE.command(port, scratch), "--token-secret", SECRET, "--grant-publish", "bench"]

    with Running(replace(EDGE, command=command)) as running:
        end = float(int(time.time() + life + streams / 1500 + 2))
        everybody = [Listening(running.port, f"user-{number}", end, findings) for number in range(streams)]
        for at in range(0, len(everybody), AT_ONCE):
            batch = everybody[at : at + AT_ONCE]
            await asyncio.gather(*(one.open() for one in batch))
            await asyncio.wait_for(asyncio.gather(*(one.opened for one in batch)), PATIENCE)
        before = running.cpu_seconds()
        processes = multiprocessing.get_context("spawn")
        stop = processes.Event()
        with ProcessPoolExecutor(1, processes, initializer=give, initargs=(stop,)) as pool:
            witness = asyncio.wrap_future(pool.submit(witness_and_publish, running.port, rate, end + HOUR))
            deadline = end + PATIENCE
            while (findings.back < streams or time.time() < end) and time.time() < deadline:  # noqa: ASYNC110 - of others
                await asyncio.sleep(0.1)
            stop.set()
            sent, heard = await witness
        findings.cpu = running.cpu_seconds() - before
        deadline = time.time() + PATIENCE
        while any(one.next != len(sent) for one in everybody) and time.time() < deadline:  # noqa: ASYNC110 - at the end
            await asyncio.sleep(0.1)
        findings.missed = sum(not one.complete or one.next != len(sent) for one in everybody) + (
            len(heard) != len(sent)
        )
        for number, at in heard:
            took = 1000 * (at - sent[number])
            (findings.busy if findings.ends[int(at)] else findings.quiet).append(took)
        for one in everybody:
            one.transport.abort()
    return findings


stopping: Any = None  # in the process of the witness


def give(stop: Any) -> None:
    global stopping
    stopping = stop


def witness_and_publish(port: int, rate: float, until: float) -> tuple[list[float], list[tuple[int, float]]]:
    """Publish 0, 1, … until told to stop, and listen; when each was sent, and when each was heard."""
    return uvloop.run(_witness(port, rate, until))


async def _witness(port: int, rate: float, until: float) -> tuple[list[float], list[tuple[int, float]]]:
    listening = Listening(port, "witness", until, Findings(1, 0))
    listening.heard = []
    await listening.open()
    await listening.opened
    sent: list[float] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        last = False
        while not last:
            last = stopping.is_set()
            sent.append(time.time())
            (await client.post("/publish/bench", content=b"%d" % (len(sent) - 1))).raise_for_status()
            await asyncio.sleep(max(0.0, sent[-1] + 1 / rate - time.time()))
    await asyncio.sleep(1)
    listening.transport.abort()
    return sent, listening.heard


def rows(found: Findings) -> list[list[str]]:
    def spread(values: list[float], unit: str) -> str:
        if not values:
            return "-"
        ordered = sorted(values)
        last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        return f"{median(ordered):.3g} (99 %: {last:.3g}, most {ordered[-1]:.3g}) {unit}"

    ahead = sorted(found.ahead) or [0.0]
    return [
        ["told by `$expiring`", f"{found.told:,} of {found.streams:,}"],
        ["ended by `$closing`, expired", f"{found.expired:,}, {found.late:,} of them behind the end of the token"],
        ["ahead of the token's end", f"{ahead[0]:.2f} to {ahead[-1]:.2f} s"],
        ["ended in one second", f"{max(found.ends.values(), default=0):,} at most, over {len(found.ends)} s"],
        ["back", f"{found.back:,}; away for {spread(found.away, 's')}"],
        ["without every event once and in order", f"{found.missed:,}"],
        ["the server's CPU", f"{found.cpu:.1f} s in all: the events, the ends and the returns"],
        ["publish to delivery, another stream, quiet seconds", spread(found.quiet, "ms")],
        ["the same, seconds in which streams ended", spread(found.busy, "ms")],
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Streams whose tokens end together.")
    parser.add_argument("--streams", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--life", type=float, default=60.0, help="seconds of the tokens (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="events a second (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="300 streams of 5 seconds: does it all work?")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.streams, arguments.life, arguments.rate = 300, 5.0, 10.0
    raise_descriptor_limit()
    found = uvloop.run(run(arguments.streams, arguments.life, arguments.rate))
    print(f"{machine()}\n\n{arguments.streams:,} streams, tokens of {arguments.life:g} s\n")
    print(table(["", ""], rows(found)))
    if arguments.json:
        record = {"machine": machine(), "found": asdict(found)}
        arguments.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    whole = found.told == found.expired == found.back == found.streams and not (found.missed or found.refused)
    on_time = not found.late or arguments.quick
    if not (whole and on_time):
        print("NOT WHOLE, or not on time", file=sys.stderr)
    return 0 if whole and on_time else 1


if __name__ == "__main__":
    sys.exit(main())
