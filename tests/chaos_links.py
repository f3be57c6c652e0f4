"""Links between programs on loopback, each a port before a server, with what may happen to a way through a network: it
is cut, slow, stalled, refuses, is half open, or lets through what goes in one direction only."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

HOST = "127.0.0.1"
UP, DOWN = "up", "down"  # to the server, and from it


@dataclass
class Fault:
    """stalled: directions in which nothing goes on; it waits. delay: seconds that each piece is held back. refuses: new
    connections are reset."""

    stalled: frozenset[str] = frozenset()
    delay: float = 0.0
    refuses: bool = False


SOUND = Fault()


class Connection:
    """One of a link's. A replica's is known by what it says first."""

    def __init__(self, link: "Link", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.link, self.client, self.server = link, client, server
        self.of_replica = False
        self.half_open = False

    @property
    def fault(self) -> Fault:
        return self.link.of_replicas if self.of_replica else self.link.fault

    def reset(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()

    async def carry(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if direction == UP and b"REPLCONF" in data:
                    self.of_replica = True
                    if self.fault.refuses:
                        break
                await self.link.passes(self, direction)
                if self.half_open:
                    continue
                writer.write(self.link.rewrite(data) if direction == DOWN else data)
                await writer.drain()
        await self.link.passes(self, direction)
        if not self.half_open:
            self.reset()


class Link:
    """Made by `links`. `rewrite`: what is done to the server's answers. Replicas may have a fault of their own."""

    def __init__(self, to: int, rewrite: Callable[[bytes], bytes]) -> None:
        self.to, self.rewrite = to, rewrite
        self.port = 0
        self.fault = self.of_replicas = SOUND
        self.connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def has(self, fault: Fault) -> None:
        self.fault = fault
        self._tell()

    def replicas_have(self, fault: Fault) -> None:
        self.of_replicas = fault
        self._tell()

    def heal(self) -> None:
        """What was held goes on; what was half open is reset."""
        self.fault = self.of_replicas = SOUND
        for connection in [each for each in self.connections if each.half_open]:
            connection.reset()
        self._tell()

    def cut(self) -> None:
        """All connections are reset."""
        for connection in list(self.connections):
            connection.reset()

    def half_open(self) -> None:
        """The server sees its connections end, and whoever has the other ends hears no more of them."""
        for connection in self.connections:
            connection.half_open = True
            connection.server.transport.abort()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def passes(self, connection: Connection, direction: str) -> None:
        if connection.fault.delay:
            await asyncio.sleep(connection.fault.delay)
        while direction in connection.fault.stalled:
            await self._changed.wait()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault.refuses:
            writer.transport.abort()
            return
        try:
            inner_reader, inner = await asyncio.open_connection(HOST, self.to)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self, writer, inner)
        self.connections.add(connection)
        ways = [connection.carry(UP, reader, inner), connection.carry(DOWN, inner_reader, writer)]
        task = asyncio.ensure_future(self._carry(connection, ways))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: Connection, ways: list[object]) -> None:
        try:
            await asyncio.gather(*ways)  # type: ignore[call-overload]
        finally:
            self.connections.discard(connection)
            connection.reset()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Links:
    def __init__(self) -> None:
        self._links: list[tuple[Link, asyncio.Server]] = []

    async def to(self, port: int, rewrite: Callable[[bytes], bytes] = bytes) -> Link:
        link = Link(port, rewrite)
        server = await asyncio.start_server(link.take, HOST, 0)
        link.port = server.sockets[0].getsockname()[1]
        self._links.append((link, server))
        return link

    async def close(self) -> None:
        for link, server in self._links:
            server.close()
            await link.close()


@asynccontextmanager
async def links() -> AsyncIterator[Links]:
    made = Links()
    try:
        yield made
    finally:
        await made.close()
