"""Between a client and a server on loopback: what goes through can be held, slowed down or cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class CutProxy:
    """Made by `between`. `hold`: nothing goes through, either way, and new connections are taken and not answered, as
    behind a cable that was pulled; `release` lets go on what was held. `deafen`: so it is with the connections that
    there are, for ever. `cut`: all connections are reset. `refuse`: no new ones are taken. `delay`: seconds that each
    piece is held back."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.delay = 0.0
        self.port = 0
        self.connections = 0  # taken so far
        self._through = asyncio.Event()
        self._through.set()
        self._refuses = False
        self._deaf = 0  # those taken so far that are
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def hold(self) -> None:
        self._through.clear()

    def release(self) -> None:
        self._through.set()

    def deafen(self) -> None:
        self._deaf = self.connections

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self, refuses: bool = True) -> None:
        self._refuses = refuses

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        if self._refuses:
            writer.transport.abort()
            return
        try:
            inner_reader, inner = await asyncio.open_connection(HOST, self.to)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(inner)
        for each in (self._pass(number, reader, inner), self._pass(number, inner_reader, writer)):
            task = asyncio.ensure_future(each)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._through.wait()
                if number <= self._deaf:
                    continue
                writer.write(data)
                await writer.drain()
        await self._through.wait()
        writer.transport.abort()
        self._writers.discard(writer)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()


@asynccontextmanager
async def between(port: int) -> AsyncIterator[CutProxy]:
    """A proxy before the server at a port."""
    proxy = CutProxy(port)
    server = await asyncio.start_server(proxy.take, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
