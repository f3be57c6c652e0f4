"""A front in this process that relays everything to a scripted app server, and its clients."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from support import PATIENCE, until

from sse_fast.access.limits import Admission
from sse_fast.hub.hub import Hub
from sse_fast.protocol.policy import Policy
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.relay import Relay
from sse_fast.transports.streams import Streams

GET = b"GET /it HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """One end of a connection. Reading is bounded in time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Wait until the kernel has it."""
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All until the other end says no more. Raises ConnectionError: it broke."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def head(self) -> bytes:
        """Of a request, or of a response."""
        return await self.until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """One with its body, which is counted."""
        head = await self.head()
        return head + await self.exactly(length_of(head) or 0)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one that is counted."""
        head = await self.head()
        size = length_of(head)
        return int(head[9:12]), await self.exactly(size) if size is not None else b""

    async def ask(self, request: bytes = GET) -> tuple[int, bytes]:
        self.say(request)
        return await self.answer()

    def close(self) -> None:
        self.writer.close()


def length_of(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return None


Script = Callable[[Peer], Awaitable[None]]


async def answering(app: Peer) -> None:
    """Answers whatever it is asked."""
    while True:
        await app.request()
        app.say(OK)


class RelayPort:
    """The front, and the app server behind it, which follows `script` for each connection."""

    def __init__(self, script: Script, path: str, policy: Policy, **settings: Any) -> None:
        self.script, self.path = script, path
        self.hub = Hub()
        self.clients = 0
        self.accepted = 0  # connections that the app server has had
        self.serving: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.bounds: Bounds | None = settings.pop("bounds", None)
        self.front = Front(
            Streams(self.hub, Admission(), retry=1000),
            policy,
            most=1000,
            relay=lambda front: Relay(front, path, **settings),
        )

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, script: Script = answering, *, policy: Policy | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        with tempfile.TemporaryDirectory() as directory:
            port = cls(script, str(Path(directory, "app")), policy or Policy(), **settings)
            server = await asyncio.start_unix_server(port._serve, port.path)
            port.front.open(bound_socket("127.0.0.1", 0, port.bounds))
            try:
                yield port
            finally:
                await port.hub.close()
                port.front.close()
                server.close()
                for task in port.serving:
                    task.cancel()
                await asyncio.gather(*port.serving, return_exceptions=True)
        assert not port.failures, port.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            await self.script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the relay has closed it
        except Exception as failure:
            self.failures.append(failure)
        finally:
            self.serving.discard(task)
            writer.close()

    @property
    def relay(self) -> Relay:
        assert isinstance(self.front.relay, Relay)
        return self.front.relay

    @asynccontextmanager
    async def client(self, *, buffer: int = 0, address: str = "") -> AsyncIterator[Peer]:
        """`buffer`: bytes for what it has not read. `address`: its own; without one each has another, since one may not
        have all of the connections to the app."""
        made = socket.socket()
        self.clients += 1
        made.bind((address or f"127.1.{self.clients // 250}.{self.clients % 250 + 1}", 0))
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.connect(("127.0.0.1", self.front.port))
        made.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=made, limit=buffer or 2**16)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, request: bytes = GET, *, address: str = "") -> tuple[int, bytes]:
        """By a connection of its own."""
        async with self.client(address=address) as client:
            return await client.ask(request)

    def waiting(self) -> tuple[int, int]:
        """Bytes that wait in the relay now: for clients, and for the app server."""
        upstreams = [exchange._upstream for exchange in self.relay._under_way]
        connections = [exchange.connection for exchange in self.relay._under_way]
        return sum(each.unsent for each in connections), sum(each.unsent for each in upstreams if each is not None)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        await until(lambda: not self.relay.busy and not self.relay.tunnels)
        assert self.relay.open == self.relay.idle
        assert not self.relay.queued
