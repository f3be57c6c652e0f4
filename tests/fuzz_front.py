"""Strangers at the one port, and an app behind it that lies: what both do is drawn from a seed.

Well-behaved clients ask on connections that are kept, several requests at a time, publish, and hold streams; strangers
send what two parsers could read differently, mutated, cut anywhere, in pieces, and read slowly or never; the app
answers as `lying_app` has it. Nobody is ever handed a byte of another's exchange; who behaves gets every answer, in
order, whole, or one that says or shows that it is none; streams get every event once, in order; every connection ends
within its bounds; the memory stays; and at the end all counters are nought.

    python tests/fuzz_front.py --seconds 60 [--seed N]
    python tests/fuzz_front.py --long                               # twenty minutes
    scripts/sanitized tests/fuzz_front.py --long
"""

import asyncio
import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import h11
from ambiguous_heads import CASES
from e2e.client import position
from front_port import FrontPort, connect
from fuzz_listener import Client, leave, mutated
from fuzzing import MIB, fuzz_server
from lying_app import HONEST, KEPT, LYING, LyingApp, Numbers, foreign, mark, marks

from sse_fast.transports.kernel import Bounds

PATIENCE = 60.0  # for anything that somebody who behaves waits for
GIVES_UP = 3.0  # who waits for the rest of an answer in the midst of which the app fell silent
SILENT = 5.0  # seconds that the app may be; all are in one process, which may itself stand still that long
ASKERS, STRANGERS, STREAMS = 24, 40, 3
NOT_NOW = (408, 503, 504)  # to whom behaves, too, where somebody is slow
SENT = [case.sent for case in CASES if len(case.sent) < 4000]


class Asker:
    """Somebody who behaves, and his connections, one after another."""

    def __init__(self, fuzz: "Fuzz") -> None:
        self._fuzz = fuzz
        self._rng = fuzz.rng

    async def live(self) -> None:
        rng = self._rng
        reader, writer = await asyncio.open_connection("127.0.0.1", self._fuzz.port.number)
        try:
            left = b""
            for _ in range(rng.choice((1, 3, 10))):
                asked = [self._request() for _ in range(rng.choice((1, 1, 2, 5)))]
                sending = self._fuzz.started(self._send(writer, b"".join(each[0] for each in asked)))
                for _, method, number, kind in asked:
                    try:
                        async with asyncio.timeout(GIVES_UP if kind in LYING else PATIENCE):
                            left, kept = await self._answer(reader, left, method, number, kind)
                    except TimeoutError:
                        if kind not in LYING:
                            told = f"no answer to {method} of kind {kind}, {number}"
                            raise AssertionError(f"{told}; {self._fuzz.port.relayed()}") from None
                        self._fuzz.tally["given up"] += 1
                        kept = False
                    if not kept:
                        sending.cancel()
                        return
                await sending
                assert not left, "bytes behind the last answer"
            if rng.random() < 0.2:
                await self._tunnel(reader, writer)
        finally:
            writer.transport.abort()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes back is what was sent, as far as it does; and then both ends are told."""
        number = self._fuzz.numbers.next(behaves=True)
        said = marks(number, self._rng.choice((1, 300, 200_000)))
        head = f"GET /app/{mark(number).decode()} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        sending = self._fuzz.started(self._send(writer, head.encode() + said))
        got = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while part := await reader.read(65536):
                    got += part
                    if got.endswith(said):
                        await sending
                        writer.write_eof()
        except ConnectionError:
            pass
        sending.cancel()
        self._look(got, number)
        head_, _, came = got.partition(b"\r\n\r\n")
        if head_.startswith(b"HTTP/1.1 101 "):
            assert said.startswith(came)
            self._fuzz.tally["tunnels"] += 1
        else:
            assert int(head_[9:12] or b"503") in NOT_NOW, got

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """In pieces of any size."""
        size = self._rng.choice((1, 13, 1000, 1 << 20)) if len(data) < 2000 else self._rng.choice((9000, 1 << 20))
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)

    def _request(self) -> tuple[bytes, str, int, str]:
        rng = self._rng
        number = self._fuzz.numbers.next(behaves=True)
        kind = rng.choice(rng.choice((("publish",), HONEST, HONEST, LYING)))
        self._fuzz.tally[f"asked {kind}"] += 1
        target = "/publish/a" if kind == "publish" else f"/app/{mark(number).decode()}?kind={kind}"
        body = marks(number, rng.choice((10, 500, 3000) if kind == "publish" else (0, 10, 3000, 300_000)))
        if kind == "publish":
            body = body.replace(b"~", b"^")  # what everybody may be handed
        method = rng.choice(("GET", "POST", "POST", "HEAD", "PUT")) if kind != "publish" else "POST"
        lines = [f"{method} {target} HTTP/1.1", "Host: x"]
        if method in ("GET", "HEAD"):
            body = b""
        elif rng.random() < 0.3:
            lines.append("Expect: 100-continue")
        if body and rng.random() < 0.5:
            lines.append("Transfer-Encoding: chunked")
            size = rng.choice((1, 100, 50_000)) if len(body) < 1000 else 50_000
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            framed = body
            if method not in ("GET", "HEAD"):
                lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + framed, method, number, kind

    async def _answer(
        self, reader: asyncio.StreamReader, left: bytes, method: str, number: int, kind: str
    ) -> tuple[bytes, bool]:
        """Read one. What came behind it, and whether there may be another."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 18)
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        http.send(h11.EndOfMessage())
        if left:
            http.receive_data(left)
        response, body = None, b""
        try:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.InformationalResponse):
                    self._look(b"".join(value for _, value in event.headers), number)
                else:
                    assert event.__class__ is h11.ConnectionClosed, event
                    raise ConnectionError
        except (ConnectionError, h11.RemoteProtocolError) as error:
            self._look(body, number)
            if kind not in LYING:
                raise AssertionError(f"of {kind}, no whole answer: {response}, {len(body)} bytes") from error
            self._fuzz.tally["broken off"] += 1
            return b"", False
        assert response is not None
        self._look(body + b"".join(value for _, value in response.headers), number)
        self._judge(response, body, method, number, kind)
        self._fuzz.tally[f"answered {response.status_code}"] += 1
        return http.trailing_data[0], http.their_state is h11.DONE

    def _judge(self, response: h11.Response, body: bytes, method: str, number: int, kind: str) -> None:
        status = response.status_code
        if kind in LYING:
            return
        if status in NOT_NOW:
            assert method == "HEAD" or json.loads(body)["status"] == status
        elif kind == "publish":
            assert status == 200, (status, body)
            self._fuzz.acknowledged[position(json.loads(body)["id"])] = number
        else:
            assert status == 200, (kind, method, status, body[:200])
            whole, odd = divmod(len(body), len(mark(number)))
            assert not odd
            assert body == mark(number) * whole

    def _look(self, data: bytes, number: int) -> None:
        assert (others := foreign(data, {number})) is None, f"{number} was handed something of {others}"


class Stranger:
    """A connection that does not behave: sends what is drawn, reads as it likes, and stays."""

    def __init__(self, fuzz: "Fuzz") -> None:
        rng = self._rng = fuzz.rng
        number = fuzz.numbers.next(behaves=False)
        self._own = {number}
        self._script = self._drawn(fuzz, number)
        self._piece = rng.choice((1, 1, 7, 100, 1 << 20))
        self._reads = rng.choice((0, 1, 100, 4000, 1 << 18, 1 << 18))
        self._seen = b""
        source = f"127.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        self.socket = connect(fuzz.port.number, buffer=rng.choice((0, 0, 0, 4096)), source=source)

    def _drawn(self, fuzz: "Fuzz", number: int) -> bytes:
        rng = self._rng
        kind = rng.choice((*HONEST, *LYING)).encode()
        sent = b"".join(rng.choice(SENT) for _ in range(rng.choice((1, 1, 2, 6))))
        own = b"/app/%b?kind=%b" % (mark(number), kind)
        sent = sent.replace(b"/app", own).replace(b"/publish/a", b"/publish/b").replace(b"hello", b"hallo")
        match rng.randrange(8):
            case 0:
                sent = rng.randbytes(rng.choice((1, 10, 1000, 70_000)))
            case 1 | 2 | 3 | 4:
                sent = mutated(sent, rng)
            case 5:
                sent = sent[: rng.randrange(len(sent))]
        # What is published has no mark: it may be handed to everybody.
        return sent.replace(b"~", b"^") if b"publish" in sent else sent

    def act(self) -> bool:
        """One thing. False: it is gone."""
        rng = self._rng
        try:
            with contextlib.suppress(BlockingIOError):
                if self._script:
                    self._script = self._script[self.socket.send(self._script[: self._piece]) :]
            with contextlib.suppress(BlockingIOError):
                if self._reads:
                    if got := self.socket.recv(self._reads):
                        self._look(got)
                    elif rng.random() < 0.5:
                        self.socket.close()
                        return False
        except OSError:
            self.socket.close()
            return False
        chance = rng.random()
        if chance < 0.01:
            with contextlib.suppress(OSError):
                self.socket.shutdown(rng.choice((socket.SHUT_WR, socket.SHUT_RDWR, socket.SHUT_RD)))
        elif chance < 0.02:
            leave(self.socket, rng)
            return False
        return True

    def _look(self, got: bytes) -> None:
        self._seen = self._seen[-KEPT:] + got
        assert (others := foreign(self._seen, self._own)) is None, f"{self._own} was handed something of {others}"


class Fuzz:
    """One run."""

    def __init__(self, port: FrontPort, app: LyingApp, rng: random.Random) -> None:
        self.port, self.app, self.rng = port, app, rng
        self.numbers = Numbers()
        self.tally: Counter[str] = Counter()
        self.acknowledged: dict[int, int] = {}  # of channel a: position -> number
        self.streams: list[Client] = []
        self.askers: set[asyncio.Task[None]] = set()
        self.strangers: list[Stranger] = []
        self._sending: set[asyncio.Task[None]] = set()

    def started(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def begin(self) -> None:
        for _ in range(STREAMS):
            self.streams.append(Client(connect(self.port.number, b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")))
        await self.wait(lambda: all(stream.events for stream in self.streams), "the first streams")

    async def step(self) -> None:
        rng = self.rng
        if len(self.askers) < ASKERS and rng.random() < 0.4:
            self.askers.add(asyncio.create_task(Asker(self).live()))
            self.tally["askers"] += 1
        if len(self.strangers) < STRANGERS and rng.random() < 0.4:
            self.strangers.append(Stranger(self))
            self.tally["strangers"] += 1
        for stranger in rng.sample(self.strangers, min(len(self.strangers), 10)):
            if not stranger.act():
                self.strangers.remove(stranger)
        await asyncio.sleep(0)
        self.look()
        self.tally["steps"] += 1
        if self.tally["steps"] % 3000 == 0:
            await self.settle()

    def look(self) -> None:
        self.port.check()
        assert self.app.faults == [], self.app.faults
        for task in [task for task in self.askers if task.done()]:
            self.askers.remove(task)
            task.result()
        for stream in self.streams:
            stream.read()
            assert not stream.ended, "a stream that behaves was cut off"

    def compare(self) -> None:
        """Streams have every event that was acknowledged, once, in order, whatever strangers published beside."""
        last = max(self.acknowledged, default=0)
        for stream in self.streams:
            got = [(position(e.last_event_id), e.data) for e in stream.events if e.type == "message"]
            assert [at for at, _ in got] == sorted({at for at, _ in got}), "positions rise"
            said = dict(got)
            owed = {at: number for at, number in self.acknowledged.items() if at > stream.at}
            for at, number in owed.items():
                assert f"^{number}^" in said[at], f"event {at} is not what was published"
            stream.at = last
            stream.events = stream.events[-1:]
            self.tally["delivered"] += len(owed)
        self.acknowledged.clear()

    def delivered(self) -> bool:
        last = max(self.acknowledged, default=0)
        at = [next((position(e.last_event_id) for e in reversed(s.events) if e.last_event_id), 0) for s in self.streams]
        return all(each >= last for each in at)

    async def settle(self) -> None:
        """Until everybody who behaves has what he asked for."""
        await self.wait(lambda: not self.askers, "answers")
        await self.wait(self.delivered, "events")
        self.compare()

    async def wait(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self.look()
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        await self.settle()
        # The app goes. Strangers stay, and do nothing more: all but those that have become streams end in time.
        self.app.leave()
        await self.wait(lambda: self.port.listener.open == self.port.listener.streams, "the bounds of those who stay")
        assert self.port.transport.busy == 0
        assert self.port.transport.held == 0
        for stranger in self.strangers:
            leave(stranger.socket, self.rng)
        for stream in self.streams:
            stream.socket.close()
        self.streams.clear()
        await self.wait(lambda: self.port.listener.open == 0, "the last connection to go")
        await self.wait(lambda: self.app.open == 0, "the last connection to the app to go")
        self.port.check()
        self.tally |= Counter({f"app {kind}": count for kind, count in self.app.tally.items()})
        for name in ("accepted", "turned_away", "late"):
            self.tally[name] = getattr(self.port.listener, name)
        self.tally["bad heads"] = self.port.transport.bad_heads


@contextlib.asynccontextmanager
async def opened(rng: random.Random) -> AsyncIterator[Fuzz]:
    app = LyingApp(rng)
    settings = {"log_size": 32 * MIB, "keepalive": 0.4, "send_timeout": 1.0, "head_seconds": 2.0, "body_seconds": 2.0}
    settings |= {"idle_seconds": 3.0, "stuck_seconds": 2.0}
    relay = {"most": 12, "waiting": 1000, "patience": PATIENCE, "timeout": SILENT, "body_seconds": 2.0}
    bounds = Bounds(256 * 1024, stuck_after=2.0)
    async with FrontPort.opened(app.serve, relay=relay, most=150, bounds=bounds, **settings) as port:
        yield Fuzz(port, app, rng)


if __name__ == "__main__":
    fuzz_server(__doc__, opened)
