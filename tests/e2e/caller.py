"""Clients of an app behind the front, that check every answer; and the book of what they asked.

The law: an answer is the whole and right one to its request, and there is exactly one; the app is asked at most once
for each POST, and exactly once for one that was answered. While nobody dies (a drain, a rolling restart) none is lost:
what got no answer, or 503, the app has never seen. Where a worker is killed, its connections break.
"""

import asyncio
import json
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path

import pytest
from client import Chunks, reset_or_close
from conftest import PATIENCE
from relayed_app import content

MOST = 200_000  # bytes of a body
REFUSALS = (502, 503, 504)


class Outcome(Enum):
    ANSWERED = "answered"
    REFUSED = "refused"  # in words: 502, 503, 504
    LEFT = "left"  # behind an answer that was said to be the connection's last
    BROKEN = "broken"  # no answer, or not all of it


@dataclass(frozen=True)
class Call:
    """A request and the answer that is owed to it."""

    token: str
    request: bytes
    owed: bytes
    last: bool  # on its connection: it says so

    @property
    def is_post(self) -> bool:
        return self.request.startswith(b"POST")


@dataclass
class CallBook:
    """Every call of every caller, and how it ended."""

    calls: dict[str, Call] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    refusals: Counter[int] = field(default_factory=Counter)

    def close(self, call: Call, outcome: Outcome) -> None:
        assert call.token not in self.outcomes, f"{call.token} was answered twice"
        self.calls[call.token], self.outcomes[call.token] = call, outcome

    def tally(self) -> Counter[str]:
        found = Counter(f"calls {outcome.value}" for outcome in self.outcomes.values())
        return found + Counter({f"calls refused with {status}": many for status, many in self.refusals.items()})

    def compare(self, seen_file: Path, *, deaths: bool) -> None:
        """Hold it to the law, against what the app saw; `deaths`: workers were killed."""
        seen = Counter(seen_file.read_text().split())
        assert not seen.keys() - self.calls.keys(), "the app was asked what nobody asked"
        for token, outcome in self.outcomes.items():
            call = self.calls[token]
            if call.is_post:
                assert seen[token] <= 1, f"POST {token} reached the app {seen[token]} times"
            if outcome is Outcome.ANSWERED:
                assert seen[token], f"{token} was answered, and the app never saw it"
            elif not deaths:
                assert not seen[token], f"{token} reached the app, and was {outcome.value}"


async def call_on(port: int, book: CallBook, name: str, over: asyncio.Event, rng: random.Random, within: float) -> None:
    """One caller: connection after connection, on each some requests, now and then several at once."""
    numbers = count()
    while not over.is_set():
        waits = lambda: rng.choice((0, 0, 0, 0.05, 0.5))  # noqa: E731
        many = rng.choice((1, 2, 5, 10))
        calls = [make_call(f"{name}-{next(numbers)}", rng, waits, last=number == many - 1) for number in range(many)]
        await connection(port, book, calls, rng, within)
        await asyncio.sleep(rng.choice((0, 0.05, 0.3)))


def make_call(token: str, rng: random.Random, waits: Callable[[], float], *, last: bool) -> Call:
    """Any of what may be relayed, its answer known beforehand."""
    size = rng.choice((0, rng.randint(1, 2000), rng.randint(1, MOST)))
    query = f"?wait={waits()}" + "&chunked=1" * rng.randint(0, 1)
    fields = "Host: app\r\n" + "Connection: close\r\n" * last
    if rng.random() < 0.5:
        return Call(
            token, f"GET /{token}{query}&size={size} HTTP/1.1\r\n{fields}\r\n".encode(), content(token, size), last
        )
    body = content(token[::-1], size)
    owed = json.dumps({"token": token, "bytes": size, "crc32": zlib.crc32(body)}).encode()
    if rng.random() < 0.5:
        fields += f"Content-Length: {size}\r\n"
    else:
        fields += "Transfer-Encoding: chunked\r\n"
        body = chunked(body, rng)
    return Call(token, f"POST /{token}{query} HTTP/1.1\r\n{fields}\r\n".encode() + body, owed, last)


def chunked(body: bytes, rng: random.Random) -> bytes:
    pieces = []
    while body:
        size = rng.randint(1, 30_000)
        piece, body = body[:size], body[size:]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join([*pieces, b"0\r\n\r\n"])


async def connection(port: int, book: CallBook, calls: list[Call], rng: random.Random, within: float) -> None:
    """These calls over one connection, in turn or several at once; those that it ends before are not sent again, as
    nobody knows whether they were carried out. What was not sent is forgotten."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return
    sent: list[Call] = []
    unanswered = Outcome.BROKEN
    try:
        left = list(calls)
        while left:
            together, left = left[: (size := rng.choice((1, 1, 3)))], left[size:]
            sent += together
            writing = asyncio.create_task(write(writer, b"".join(call.request for call in together)))
            try:
                while sent:
                    async with asyncio.timeout(within):
                        outcome, closes = await answer_to(sent[0], reader, book)
                    book.close(sent.pop(0), outcome)
                    if closes:
                        unanswered = Outcome.LEFT
                        async with asyncio.timeout(within):
                            assert not await reader.read(1), "there is more than the answers"
                        return
            finally:
                writing.cancel()
    except (OSError, EOFError, TimeoutError):
        pass
    finally:
        for call in sent:
            book.close(call, unanswered)
        reset_or_close(writer, reset=True)


async def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Beside the reading: a server that answers early need not take the rest."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        pass  # who reads is told too


async def answer_to(call: Call, reader: asyncio.StreamReader, book: CallBook) -> tuple[Outcome, bool]:
    """How it was answered, and whether the connection ends with that. Raises EOFError where it breaks."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    version, status, *_ = first.split(" ")
    assert version == "HTTP/1.1", head
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(fields) == len(lines), f"a field comes twice: {head}"
    if fields.get("transfer-encoding") == "chunked":
        body, chunks = b"", Chunks()
        while not chunks.finished:
            # By lines and sizes, so that nothing of the next answer is read.
            line = await reader.readuntil(b"\r\n")
            rest = await reader.readexactly(int(line, 16) + 2)
            body += chunks.feed(line + rest)
    else:
        body = await reader.readexactly(int(fields["content-length"]))
    closes = fields.get("connection") == "close"
    if int(status) in REFUSALS:
        assert fields["content-type"] == "application/problem+json", head
        book.refusals[int(status)] += 1
        return Outcome.REFUSED, closes
    assert status == "200", f"{call.request[:200]!r} was answered with {head} {body[:500]!r}"
    assert body == call.owed, f"{call.token}: {len(body)} bytes that are not the {len(call.owed)} it is owed"
    assert closes or not call.last, f"the connection stays, after {call.request[:200]!r}"
    return Outcome.ANSWERED, closes


@dataclass
class Callers:
    """So many callers of the app of a server that was started with `flags`."""

    book: CallBook
    seen: Path
    flags: tuple[str, ...]

    @classmethod
    def of_an_app_in(cls, directory: Path, monkeypatch: pytest.MonkeyPatch) -> "Callers":
        """The app is put into the directory, which is to be the server's own."""
        shutil.copy(Path(__file__).parent / "relayed_app.py", directory)
        seen = directory / "seen"
        seen.touch()
        monkeypatch.setenv("RELAYED_APP_SEEN", str(seen))
        return cls(CallBook(), seen, ("--app", "relayed_app:app"))

    async def call(
        self, port: int, count: int, over: asyncio.Event, rng: random.Random, *, within: float = PATIENCE
    ) -> None:
        """Until it is over. `within`: seconds that each takes for one that never comes."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                own = random.Random(rng.random())
                group.create_task(call_on(port, self.book, f"c{number}", over, own, within))

    def compare(self, *, deaths: bool) -> Counter[str]:
        """Hold them to the law; how their calls ended, in numbers."""
        self.book.compare(self.seen, deaths=deaths)
        return self.book.tally()
