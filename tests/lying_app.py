"""An app server that does to its answers whatever a broken one could do, by what each request's target says.

Every request has a number, written `~7~`; all bodies, of requests as of answers, are made of it. So bytes of one
exchange in another's are found out wherever they turn up, and the app looks at what it is sent itself. A number has a
check sum: what came about by mutation is none. It tells, too, whether who has it behaves.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fuzz_listener import mutated
from recorder import HEAD

MARK = re.compile(rb"~(\d+)~")
HEAD_LIMIT = 1 << 17
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.I)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.I)
UPGRADE = b"\r\nconnection: upgrade\r\nupgrade: echo\r\n"  # as the relay writes it
KEPT = 64  # bytes of what came before, in which a mark may have begun
AROUND = 120  # bytes that are shown of what stands before and behind a mark
BIG = 400_000  # bytes: more than fits into the buffers of all the sockets on its way


def check(count: int) -> int:
    return count * 2654435761 >> 8 & 0xFFFFF


class Numbers:
    """The numbers of requests, each once."""

    def __init__(self) -> None:
        self._count = 0

    def next(self, *, behaves: bool) -> int:
        self._count += 2
        count = self._count | behaves
        return count << 20 | check(count)


def behaves(number: int) -> bool:
    return bool(number >> 20 & 1)


def mark(number: int) -> bytes:
    return b"~%d~" % number


def marks(number: int, size: int) -> bytes:
    """A body of at least so many bytes."""
    return mark(number) * (size // len(mark(number)) + 1)


def numbers_in(data: bytes) -> set[int]:
    found = {int(digits) for digits in MARK.findall(data) if len(digits) < 19}
    return {number for number in found if number >> 20 and number & 0xFFFFF == check(number >> 20)}


def foreign(data: bytes, own: set[int]) -> str | None:
    """What it has of others, and where; None: nothing."""
    for number in numbers_in(data) - own:
        at = data.index(mark(number))
        return f"{number} in {len(data)} bytes at {at}: {data[max(at - AROUND, 0) : at + AROUND]!r}"
    return None


class Whose:
    """Whose(head): whose a request is. All marks in it are of one. A head without one is a stranger's, and so are marks
    behind it."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._own: set[int] = set()
        self.look(head)

    @property
    def number(self) -> int:
        return min(self._own, default=0)

    def look(self, data: bytes) -> None:
        """Raises ValueError."""
        found = numbers_in(data)
        if not self._own and (data is self._head or not any(map(behaves, found))):
            self._own = {min(found)} if found else set()
        if (others := foreign(data, self._own)) is not None:
            raise ValueError(f"a request of {self._own or 'a stranger'} has something of {others}; {self._head!r}")


def counted(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def chunked(body: bytes, rng: random.Random) -> bytes:
    parts = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    while body:
        piece, body = body[: (size := rng.choice((1, 7, 300, 20_000)))], body[size:]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join((*parts, b"0\r\n\r\n"))


class LyingApp:
    """faults: what no app may be sent. Its kinds of answers return whether another request may come on this connection;
    None: none may."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.faults: list[str] = []
        self.tally: Counter[str] = Counter()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def open(self) -> int:
        """Connections."""
        return len(self._writers)

    def leave(self) -> None:
        """As when its process ends."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        except Exception as error:
            if isinstance(error, RuntimeError) and writer.transport.is_closing():
                return  # uvloop's way to say that the front has gone
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False: the connection has had its time."""
        rng = self._rng
        head = await reader.readuntil(b"\r\n\r\n")
        if HEAD.fullmatch(head) is None or (LENGTH.search(head) and CHUNKED.search(head)):
            raise ValueError(f"a head that two parsers could read differently: {head!r}")
        whose = Whose(head)
        number = whose.number
        method, target = head.split(b" ", 2)[:2]
        kind = target.partition(b"?kind=")[2].decode("latin-1")
        if kind not in KINDS:
            kind = "honest"
        self.tally[kind] += 1
        if UPGRADE in head:
            return await self._tunnel(reader, writer, whose)
        has_body = LENGTH.search(head) or CHUNKED.search(head)
        # Who closes behind a whole answer, and does not say so, is no liar: the next request just has bad luck.
        if (method == b"HEAD" and kind in ("cut", "short", "until_close")) or (kind == "early" and not has_body):
            kind = "honest"
        if kind == "early" or kind == "deaf":
            said = counted(marks(number, rng.choice((1, 1000))))
            if kind == "early":
                writer.write(said.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                return False
            writer.write(said)
        whose.look(await self._body(reader, head))
        goes_on = await KINDS[kind](self, writer, method, number)
        if goes_on is None and (more := await reader.read(1000)):
            raise ValueError(f"behind an answer of kind {kind} to {head!r} its connection was used again: {more!r}")
        return goes_on is True

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> bytes:
        if found := LENGTH.search(head):
            return await reader.readexactly(int(found[1]))
        parts: list[bytes] = []
        if CHUNKED.search(head):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                parts.append((await reader.readexactly(size + 2))[:-2])
            await reader.readexactly(2)
        return b"".join(parts)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, whose: Whose) -> bool:
        """Whatever comes goes back, until no more comes, or until the app has enough of it."""
        self.tally["tunnel"] += 1
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        left = self._rng.choice((0, 1, 5000, 1 << 30))
        seen = b""
        while left > 0 and (data := await reader.read(65536)):
            seen = seen[-KEPT:] + data
            whose.look(seen)
            writer.write(data)
            await writer.drain()
            left -= len(data)
        return False

    # ---- honest ------------------------------------------------------------------------------------------------------

    async def _honest(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        rng = self._rng
        body = marks(number, rng.choice((0, 10, 1000, 70_000)))
        said = counted(body) if rng.random() < 0.6 else chunked(body, rng)
        if method == b"HEAD":
            said = said[: said.index(b"\r\n\r\n") + 4]
        writer.write(said)
        await writer.drain()
        return True

    async def _big(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        writer.write(counted(b"") if method == b"HEAD" else counted(marks(number, BIG)))
        await writer.drain()
        return True

    async def _drip(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        """Byte by byte."""
        said = counted(b"" if method == b"HEAD" else marks(number, 30))
        for at in range(len(said)):
            writer.write(said[at : at + 1])
            await asyncio.sleep(0)
        return True

    async def _until_close(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        writer.write(b"HTTP/1.%d 200 OK\r\n\r\n" % self._rng.randrange(2))
        if method != b"HEAD":
            writer.write(marks(number, 1000))
        await writer.drain()
        return False

    # ---- not honest --------------------------------------------------------------------------------------------------

    async def _deaf(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        """It has answered before it read the body."""
        return True

    async def _short(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        writer.write(counted(marks(number, 3000))[: -self._rng.randrange(1, 3000)])
        if self._rng.random() < 0.3:
            writer.transport.abort()
        return False

    async def _long(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> None:
        other = counted(marks(number, 50))
        more = (marks(number, 500), other, other * 20, b"\r\n", b"\0" * 70_000)
        writer.write(counted(marks(number, 300)) + self._rng.choice(more))

    async def _garbage(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        rng = self._rng
        writer.write(rng.choice((b"", b"HTTP/1.1 ", b"\r\n")) + rng.randbytes(rng.choice((1, 30, 9000))))
        return True

    async def _mutated(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        body = marks(number, self._rng.choice((0, 10, 1000)))
        said = counted(body) if self._rng.random() < 0.5 else chunked(body, self._rng)
        writer.write(mutated(said, self._rng))
        return True

    async def _cut(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        said = counted(marks(number, 100)) if self._rng.random() < 0.5 else chunked(marks(number, 100), self._rng)
        writer.write(said[: self._rng.randrange(len(said))])
        return False

    async def _storm(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        """Of interim answers."""
        for _ in range(self._rng.choice((1, 10, 300))):
            writer.write(b"HTTP/1.1 %d Wait\r\nX: %b\r\n\r\n" % (self._rng.choice((100, 102, 103, 199)), mark(number)))
            await asyncio.sleep(0)
        return await self._honest(writer, method, number)

    async def _endless(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> bool:
        """A head."""
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(300):
            writer.write(b"X: %b\r\n" % marks(number, 1000))
            await writer.drain()
        return False

    async def _silent(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> None:
        """For good; sometimes in the midst of what it says. The head of an answer to HEAD is not the midst, but all."""
        said = counted(marks(number, 100))
        cuts = set(range(len(said))) - ({said.index(b"\r\n\r\n") + 4} if method == b"HEAD" else set())
        writer.write(self._rng.choice((b"", b"", said[: self._rng.choice(sorted(cuts))])))

    async def _switch(self, writer: asyncio.StreamWriter, method: bytes, number: int) -> None:
        """To another protocol, of which nobody spoke."""
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: unasked\r\n\r\n"
        writer.write(switch + marks(number, 99))


KINDS_OF_ANSWERS = (
    *("honest", "big", "drip", "until_close"),
    *("deaf", "short", "long", "garbage", "mutated", "cut", "storm", "endless", "silent", "switch"),
)
KINDS: dict[str, Callable[[LyingApp, asyncio.StreamWriter, bytes, int], Awaitable[bool | None]]] = {
    name: getattr(LyingApp, f"_{name}") for name in KINDS_OF_ANSWERS
} | {"early": LyingApp._honest}
HONEST = ("honest", "honest", "honest", "big", "drip", "until_close")
LYING = tuple(kind for kind in KINDS if kind not in HONEST)
