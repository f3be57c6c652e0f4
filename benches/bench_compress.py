"""Streams in gzip beside plain ones, of the same server: CPU and bytes per delivery, memory, and what one alone costs.

    python benches/bench_compress.py [html] [json] [--quick] [--rounds 3] [--streams 10000] [--json PATH]

- **html**: events of 2 KB, rows of a table, one published at a time;
- **json**: sixteen small ones of a feed, published in one request.

`plain` and `gzip` take turns, each with a server of its own, which has `--compress` in both. The load client opens the
streams of one channel and asks for the coding. Sixteen of them it decodes as they come, and holds every event against
what was published; each of the others has to get the very bytes that these got. The bench fails if not.

Then, per row, for one stream alone: a publish to it, and a replay of what the log has.
"""

import http.client
import json
import random
import select
import socket
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from harness import EDGE, Running, arguments_for, edge_command, in_turn, machine, parse, say
from peers.report import spread, table
from verdict import Verdict, conclude

from sse_fast.base.descriptors import raise_descriptor_limit

PARTS = ("html", "json")
CODINGS = {"plain": "identity", "gzip": "gzip"}
DECODED = 16
AT_ONCE = 500  # connections that are opened together
PATIENCE = 60.0
ALONE = 500  # events
CPU, BYTES, MEMORY = "CPU µs per delivery", "bytes per event", "memory per idle stream, B"
ALONE_CPU, REPLAY_CPU = "CPU µs of a publish to one stream", "CPU µs of a replayed KB"
FIGURES = (CPU, BYTES, MEMORY, ALONE_CPU, REPLAY_CPU)
GOALS = {"html": {CPU: 1.1, BYTES: 0.25, MEMORY: 1.1}, "json": {CPU: 1.1, BYTES: 0.35, MEMORY: 1.1}}

CLOCK = """\
CPU: user and system time of all processes of the server over the window, divided by deliveries (events x streams),
reading and answering the publish requests included. Bytes: those of the body as they come, the chunks' sizes included.
Memory: growth of the server's (PSS) by the open, idle streams. Each figure is the median over the rounds; a ratio is
taken within its round, in brackets the least and the greatest."""


def serving(port: int, scratch: Path) -> list[str]:
    return [*edge_command(port, scratch), "--compress", "--keepalive", "3600", "--log-size", "16MiB"]


SERVER = replace(EDGE, about="sse-fast serve --compress", command=serving)


def batches(part: str) -> Iterator[list[str]]:
    """What is published at once, over and over, and never the same."""
    rng = random.Random(14)
    while True:
        if part == "html":
            rows = (
                f'<tr id="row-{n}" class="price"><td>Stock {rng.randrange(1000)}</td><td>{rng.random():.4f}</td></tr>'
                for n in range(32)
            )
            yield ["".join(rows)[:2048]]
        else:
            yield [
                json.dumps({"id": rng.randrange(10**6), "symbol": f"S{rng.randrange(99)}", "price": rng.random() * 100})
                for _ in range(16)
            ]


class Wrong(Exception):
    pass


class Reading:
    """One stream that is decoded as it comes. `events`: their data; `raw`: the bytes since `mark`."""

    def __init__(self, coding: str) -> None:
        self._gzip = zlib.decompressobj(31) if coding == "gzip" else None
        self._chunks = self._text = b""
        self.events: list[str] = []
        self.raw = b""

    def feed(self, data: bytes) -> None:
        self.raw += data
        self._chunks += data
        while True:
            size, found, rest = self._chunks.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                break
            piece, self._chunks = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            self._text += self._gzip.decompress(piece) if self._gzip is not None else piece
        *frames, self._text = self._text.split(b"\n\n")
        for frame in frames:
            lines = frame.decode().split("\n")
            if not any(line.startswith("event: $") for line in lines):
                self.events.append("\n".join(line[6:] for line in lines if line.startswith("data: ")))

    def mark(self) -> None:
        self.raw = b""
        self.events.clear()


class Crowd:
    """Streams of one channel, of which the first are decoded."""

    def __init__(self, port: int, coding: str, streams: int, target: str = "/sse/bench") -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._readings: dict[int, Reading] = {}
        self._request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n".encode()
        self.received = 0
        for begin in range(0, streams, AT_ONCE):
            opened = [self._open(port, coding) for _ in range(min(AT_ONCE, streams - begin))]
            for each in opened:
                self._begin(each)
                self._poll.register(each, select.EPOLLIN)
                each.setblocking(False)

    def _open(self, port: int, coding: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        opened.sendall(self._request)
        self._sockets[opened.fileno()] = opened
        if len(self._readings) < DECODED:
            self._readings[opened.fileno()] = Reading(coding)
        return opened

    def _begin(self, opened: socket.socket) -> None:
        """Read the head, and what says that it is connected, which is stored as it stands in either coding."""
        data = b""
        while b"$connected" not in data or not data.endswith(b"\n\n\r\n"):
            if not (more := opened.recv(4096)):
                raise Wrong(f"no stream: {data[:200]!r}")
            data += more
        if (reading := self._readings.get(opened.fileno())) is not None:
            reading.feed(data.partition(b"\r\n\r\n")[2])
            reading.mark()

    def take(self, published: Sequence[str]) -> None:
        """Read until everybody has these events, and nothing else. Raises Wrong."""
        pending: dict[int, bytes] = {}
        waiting, shared, deadline = len(self._sockets), b"", time.monotonic() + PATIENCE
        while waiting:
            if time.monotonic() > deadline:
                raise Wrong(f"{waiting:,} streams wait in vain")
            for number, _ in self._poll.poll(1, 1024):
                data = self._sockets[number].recv(1 << 18)
                self.received += len(data)
                if not data:
                    raise Wrong("a stream has ended")
                if (reading := self._readings.get(number)) is None:
                    pending[number] = pending.get(number, b"") + data
                    waiting -= bool(shared) and pending[number] == shared
                    continue
                reading.feed(data)
                if len(reading.events) < len(published):
                    continue
                if reading.events != published:
                    raise Wrong(f"{reading.events[:1]} came in place of {published[:1]}")
                waiting -= 1
                if shared and reading.raw != shared:
                    raise Wrong("two streams have the same events in other bytes")
                if not shared:
                    shared = reading.raw
                    waiting -= sum(each == shared for each in pending.values())
                reading.mark()
            if shared and any(len(each) > len(shared) for each in pending.values()):
                raise Wrong("a stream got more than the others")

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._poll.close()


@dataclass
class Finding:
    part: str
    coding: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def publish(connection: http.client.HTTPConnection, events: Sequence[str]) -> None:
    body = json.dumps([{"channel": "bench", "data": data} for data in events])
    connection.request("POST", "/publish", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise Wrong(f"publishing was answered {answer.status}")


def turn(part: str, coding: str, round_: int, streams: int, seconds: float, alone: int) -> Finding:
    finding = Finding(part, coding, round_)
    try:
        with Running(SERVER) as running:
            measure(running, part, CODINGS[coding], streams, seconds, alone, finding.figures)
    except (Wrong, RuntimeError, OSError) as error:
        finding.problems.append(f"{type(error).__name__}: {error}")
    return finding


def measure(
    running: Running, part: str, coding: str, streams: int, seconds: float, alone: int, figures: dict[str, float]
) -> None:
    source, connection = batches(part), http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    one = Crowd(running.port, coding, 1)  # what the first stream of all needs is there
    publish(connection, events := next(source))
    one.take(events)
    before = running.cpu_seconds()
    for _ in range(alone):
        publish(connection, events := next(source))
        one.take(events)
    figures[ALONE_CPU] = (running.cpu_seconds() - before) / alone * 1e6
    one.close()

    memory = running.user_memory()
    crowd = Crowd(running.port, coding, streams)
    figures[MEMORY] = (running.user_memory() - memory) / streams
    for _ in range(3):
        publish(connection, events := next(source))
        crowd.take(events)
    crowd.received = deliveries = 0
    before, deadline = running.cpu_seconds(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        publish(connection, events := next(source))
        crowd.take(events)
        deliveries += streams * len(events)
    figures[CPU] = (running.cpu_seconds() - before) / deliveries * 1e6
    figures[BYTES] = crowd.received / deliveries
    crowd.close()
    replay(running, coding, figures)


def replay(running: Running, coding: str, figures: dict[str, float]) -> None:
    """Of all that the log has, to one who was not there."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    connection.request("GET", "/stats")
    newest = json.loads(connection.getresponse().read())["log"]
    end = f"id: {newest['epoch']}-{newest['position']}\n\n".encode()
    before, size = running.cpu_seconds(), 0
    connection.request("GET", "/sse/bench?last_event_id=earliest", headers={"accept-encoding": coding})
    answer, last = connection.getresponse(), b""
    reading = zlib.decompressobj(31) if coding == "gzip" else None
    while not last.endswith(end):
        data = answer.read1(1 << 16)
        if not data:
            raise Wrong("the replay has ended")
        data = reading.decompress(data) if reading is not None else data
        size += len(data)
        last = (last + data)[-200:]
    figures[REPLAY_CPU] = (running.cpu_seconds() - before) / size * 1e6 * 1024
    connection.close()


# ---- what is said of them --------------------------------------------------------------------------------------------


def ratios(findings: Sequence[Finding], part: str, figure: str) -> list[float]:
    """Of gzip to plain, round by round."""
    found = {(one.coding, one.round): one.figures[figure] for one in findings if one.part == part and one.figures}
    rounds = [round_ for coding, round_ in found if coding == "gzip" and found.get(("plain", round_))]
    return [found["gzip", round_] / found["plain", round_] for round_ in rounds]


def judge(findings: Sequence[Finding], parts: Sequence[str]) -> Verdict:
    verdict = Verdict()
    for part in parts:
        for figure in FIGURES:
            verdict.add(f"{part}: {figure}", ratios(findings, part, figure), "of plain", GOALS[part].get(figure))
    return verdict


def findings_table(findings: Sequence[Finding], parts: Sequence[str]) -> str:
    rows = []
    for part in parts:
        for coding in CODINGS:
            mine = [one.figures for one in findings if (one.part, one.coding) == (part, coding)]
            cells = [spread((each[name] for each in mine if name in each), 1 if name == CPU else 0) for name in FIGURES]
            rows.append([f"{part}, {coding}", *cells])
    return table(["", *FIGURES], rows)


def main() -> int:
    quick = "200 streams, for a moment: does everybody get everything?"
    parser = arguments_for("Streams in gzip beside plain ones.", PARTS, seconds=4.0, quick=quick)
    parser.add_argument("--streams", type=int, default=10_000, help="(default: %(default)s)")
    arguments = parse(parser, PARTS, streams=200, seconds=0.3)
    raise_descriptor_limit()
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}")
    for part in arguments.parts:
        measured = partial(turn, part, streams=arguments.streams, seconds=arguments.seconds)
        for round_ in range(arguments.rounds):
            for coding in in_turn([*CODINGS], round_):
                finding = measured(coding, round_, alone=20 if arguments.quick else ALONE)
                findings.append(finding)
                words = [f"{name} {value:,.2f}" for name, value in finding.figures.items()] + finding.problems
                say(f"round {round_ + 1}, {part}, {coding}: {'; '.join(words)}")
    print(f"\n{arguments.streams:,} streams\n\n{findings_table(findings, arguments.parts)}")
    wrong = [f"{one.part}, {one.coding}: {'; '.join(one.problems)}" for one in findings if one.problems]
    return conclude(judge(findings, arguments.parts), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
