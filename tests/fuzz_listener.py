"""Strangers at the front: what they send, and how they come and go, is drawn from a seed.

They write random bytes, heads that were mutated, heads in single bytes and all at once; they flood open streams, read a
byte at a time or never, close one side, close, reset, and come in crowds; meanwhile events of all sizes are published.
After every step all counters agree; well-behaved clients of the same port get every event once, in order; what a slow
one got is whole frames in order; at the end nothing is left of anybody.

    python tests/fuzz_listener.py --seconds 60 [--seed N]
    scripts/sanitized tests/fuzz_listener.py --seconds 600
"""

import asyncio
import contextlib
import gc
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from e2e.client import Chunks, position
from front_port import FrontPort, connect
from fuzzing import MIB, fuzz_server
from whatwg import Event, Parser

from sse_fast._native.wire.publication import encode_publication
from sse_fast.errors import EndReason
from sse_fast.transports.kernel import Bounds

CHANNELS = ("a", "b", "room:1")
HEALTHY = 6
STRANGERS = 60
PATIENCE = 60.0
RST_AT_CLOSE = struct.pack("ii", 1, 0)
SIZES = (0, 0, 10, 10, 100, 100, 1000, 5000, 40_000, 60_000)

HEADS = [
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /sse?channel=a&channel=b&channel=room%3A1 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
    b"GET /sse/room/1?history=20 HTTP/1.1\r\nHost: x\r\nOrigin: http://page.example\r\n\r\n",
    b"GET /sse/b HTTP/1.1\r\nHost: x\r\nLast-Event-ID: earliest\r\n\r\n",
    b"GET /sse/b HTTP/1.1\r\nHost: x\r\nLast-Event-ID: abcdefgh-12\r\nCookie: " + b"c" * 3000 + b"\r\n\r\n",
]
OTHERS = [
    b"GET /sse/a HTTP/1.0\r\n\r\n",
    b"GET http://x/sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nnothing",
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\nGET /sse/b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: http://page.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /sse/a/b/c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"GET /sse/a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    b"GET /sse/" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n" * 40_000,
]


def mutated(head: bytes, rng: random.Random) -> bytes:
    """The head with a few bytes flipped, put in, cut out, or doubled."""
    made = bytearray(head)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at:at] = rng.randbytes(rng.choice((1, 1, 4, 300)))
            case 2:
                del made[at : at + rng.choice((1, 1, 4, 30))]
            case 3:
                made[at:at] = made[at : at + rng.randrange(60)] * rng.choice((1, 2, 50))
            case 4:
                made[at:at] = rng.choice((b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b" ", b":", b"\xff", b"%", b"?"))
            case _:
                made[at:] = rng.choice(HEADS + OTHERS)[at:]
    return bytes(made)


class Client:
    """Somebody who asked for a stream as one should; reads when it is told to."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.ended = False
        self.events: list[Event] = []
        self.at = 0  # the position up to which they were compared
        self._head: bytes | None = b""
        self._chunks = Chunks()
        self._parser = Parser()

    def read(self, most: int = 256 * 1024) -> int:
        """What is there, up to so much. Returns how many bytes."""
        try:
            got = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionError:
            got = b""
        if not got:
            self.ended = True
            return 0
        if self._head is not None:
            self._head += got
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return len(got)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
            assert b"\r\ntransfer-encoding: chunked" in head, head
            self._head, rest = None, body
        else:
            rest = got
        self.events += self._parser.feed(self._chunks.feed(rest))
        assert not self._chunks.finished, "a stream has no last chunk"
        return len(got)


class Stranger:
    """A connection that does not behave."""

    def __init__(self, opened: socket.socket, script: bytes, rng: random.Random) -> None:
        self.socket = opened
        self._script = script
        self._rng = rng
        self._piece = rng.choice((1, 1, 7, 100, 1 << 20))
        self._flood = rng.random() < 0.05
        self._reads = rng.choice((0, 0, 1, 10, 4000, 1 << 18))

    def act(self) -> bool:
        """One thing. False: it is gone."""
        rng = self._rng
        with contextlib.suppress(BlockingIOError):
            try:
                if self._script:
                    sent = self.socket.send(self._script[: self._piece])
                    self._script = self._script[sent:]
                elif self._flood:
                    self.socket.send(rng.randbytes(rng.choice((1, 100, 30_000))))
                if self._reads and not self.socket.recv(self._reads):
                    self._reads = 0  # the server's side is closed; this one stays as long as it likes
            except ConnectionError:
                self.socket.close()
                return False
        chance = rng.random()
        if chance < 0.02:
            with contextlib.suppress(OSError):
                self.socket.shutdown(rng.choice((socket.SHUT_WR, socket.SHUT_RDWR, socket.SHUT_RD)))
        elif chance < 0.05:
            leave(self.socket, rng)
            return False
        return True


def leave(opened: socket.socket, rng: random.Random) -> None:
    if rng.random() < 0.5:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
    opened.close()


class Fuzz:
    """One run."""

    def __init__(self, port: FrontPort, rng: random.Random) -> None:
        self.port = port
        self.rng = rng
        self.ledger: dict[int, tuple[str, str]] = {}
        self.healthy: list[tuple[Client, tuple[str, ...]]] = []
        self.slow: list[Client] = []
        self.strangers: list[Stranger] = []
        self.tally: Counter[str] = Counter()
        self._left = port.transport.left
        port.transport.left = self.left

    def left(self, address: str, reason: EndReason) -> None:
        """The transport is told of an end; here whoever is told may do what he likes."""
        self._left(address, reason)
        match self.rng.randrange(40):
            case 0:
                raise RuntimeError("whoever is told of an end may fail")
            case 1 | 2:
                self.port.hub.fanout.say(b"a", b"event: $said\ndata: x\n\n", asyncio.get_running_loop().time())
            case 3:
                gc.collect(0)

    async def begin(self) -> None:
        for number in range(HEALTHY):
            channels = CHANNELS if number == 0 else (CHANNELS[number % len(CHANNELS)],)
            query = "&".join(f"channel={channel}" for channel in channels)
            request = f"GET /sse?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            self.healthy.append((Client(connect(self.port.number, request)), channels))
        await self.wait(lambda: all(client.events for client, _ in self.healthy), "the first streams")

    async def step(self) -> None:
        rng = self.rng
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 if len(self.strangers) < STRANGERS:
                self.strangers.append(self.somebody())
            case 4 if len(self.slow) < 12:
                request = rng.choice(HEADS[:4])
                self.slow.append(Client(connect(self.port.number, request, buffer=rng.choice((1, 4096, 20_000)))))
                self.tally["slow readers"] += 1
            case 5 if rng.random() < 0.1:
                await self.crowd()
            case 6 | 7 | 8:
                await self.publish()
        for stranger in rng.sample(self.strangers, min(len(self.strangers), 20)):
            if not stranger.act():
                self.strangers.remove(stranger)
        for client in rng.sample(self.slow, min(len(self.slow), 4)):
            client.read(rng.choice((1, 1, 100, 3000, 100_000)))
            self.check_slow(client)
            if client.ended or rng.random() < 0.01:
                leave(client.socket, rng)
                self.slow.remove(client)
        await asyncio.sleep(0)
        self.port.check()
        for client, _ in self.healthy:
            client.read()
            assert not client.ended, "a client that behaves was cut off"
        self.tally["steps"] += 1
        if self.tally["steps"] % 500 == 0:
            self.forget()

    def somebody(self) -> Stranger:
        rng = self.rng
        head = rng.choice(HEADS + OTHERS)
        match rng.randrange(4):
            case 0:
                head = rng.randbytes(rng.choice((1, 10, 1000, 70_000)))
            case 1 | 2:
                head = mutated(head, rng)
        source = f"127.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        self.tally["strangers"] += 1
        opened = connect(self.port.number, buffer=rng.choice((0, 0, 1, 4096)), source=source)
        return Stranger(opened, head, rng)

    async def crowd(self) -> None:
        """Many at once, who all go again at once; some before anybody has looked at them."""
        rng = self.rng
        request = rng.choice((b"", *HEADS[:3]))
        opened = [connect(self.port.number, request) for _ in range(rng.choice((20, 100, 200)))]
        self.tally["crowds"] += 1
        if rng.random() < 0.7:
            for _ in range(rng.randrange(1, 5)):
                await asyncio.sleep(0)
        await self.publish()
        for client in opened:
            leave(client, rng)

    async def publish(self) -> None:
        rng = self.rng
        batch: list[tuple[str, str]] = []
        for _ in range(rng.choice((1, 1, 1, 3, 10, 60))):
            size = rng.choice(SIZES)
            batch.append((rng.choice(CHANNELS), f"{len(self.ledger) + len(batch)} " + "é" * (size // 2)))
        encoded = [encode_publication(channel, data, event=None, retry=None, limit=65536) for channel, data in batch]
        for id, entry in zip(await self.port.hub.append(encoded), batch, strict=True):
            self.ledger[id.position] = entry
        self.tally["events"] += len(batch)
        # Those that behave read at once: here they and the server have one thread between them.
        await self.wait(self.all_is_read, "events to reach those who read")

    def all_is_read(self) -> bool:
        for client, _ in self.healthy:
            client.read()
            assert not client.ended, "a client that behaves was cut off"
        return not self.port.hub.fanout.busy and not any(self.owed(*each) for each in self.healthy)

    def owed(self, client: Client, channels: tuple[str, ...]) -> bool:
        last = next((at for at in range(len(self.ledger), 0, -1) if self.ledger[at][0] in channels), 0)
        at = position(next(event.last_event_id for event in reversed(client.events)))
        return at < last

    async def wait(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            for client, _ in self.healthy:
                client.read()
            await asyncio.sleep(0)

    def check_healthy(self) -> None:
        for client, channels in self.healthy:
            got = [(position(e.last_event_id), e.data) for e in client.events if e.type == "message"]
            begin = got[0][0] if got else 0
            owed = [(at, data) for at, (channel, data) in self.ledger.items() if channel in channels and at >= begin]
            assert got == owed, f"{len(got)} events of {len(owed)}"
            self.tally["delivered"] += len(got)
            del client.events[:-1]

    def check_slow(self, client: Client) -> None:
        """Whole frames, in order, none between two that is not there; how far it came is its own affair."""
        for event in client.events:
            if event.type == "message":
                now = position(event.last_event_id)
                assert now > client.at, "positions rise"
                assert event.data == self.ledger[now][1], f"event {now} is not what was published"
                client.at = now
                self.tally["slow events"] += 1
        client.events.clear()

    def forget(self) -> None:
        """Compare, and start the books anew, so that a long run does not fill the memory with them."""
        self.check_healthy()
        kept = len(self.ledger)
        for at in range(1, kept - 5000):
            self.ledger[at] = (self.ledger[at][0], "")

    async def end(self) -> None:
        self.check_healthy()
        for client, _ in self.healthy:
            client.socket.close()
        self.healthy.clear()
        for slow in self.slow:
            self.check_slow(slow)
            leave(slow.socket, self.rng)
        for stranger in self.strangers:
            leave(stranger.socket, self.rng)
        await self.wait(lambda: self.port.listener.open == 0, "the last connection to go")
        self.port.check()
        assert self.port.admission.connections == 0
        self.tally |= Counter({f"ended {reason}": count for reason, count in self.port.counts.ended.items()})
        for name in ("accepted", "turned_away", "late"):
            self.tally[name] = getattr(self.port.listener, name)
        self.tally["bad heads"] = self.port.transport.bad_heads


@contextlib.asynccontextmanager
async def opened(rng: random.Random) -> AsyncIterator[Fuzz]:
    settings = {"log_size": 32 * MIB, "keepalive": 0.4, "send_timeout": 1.0, "head_seconds": 0.4, "most": 150}
    bounds = Bounds(256 * 1024, stuck_after=5.0)
    async with FrontPort.opened(**settings, max_connections=110, bounds=bounds) as port:
        yield Fuzz(port, rng)


if __name__ == "__main__":
    fuzz_server(__doc__, opened)
