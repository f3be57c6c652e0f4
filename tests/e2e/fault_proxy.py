"""A TCP proxy that does to connections what networks do: cuts, stalls, narrow pipes, bytes that come one by one.

All faults can be switched while connections are open.

    async with FaultProxy(edge.port) as proxy:
        ...                             # connect to proxy.port
        proxy.stalled = True            # nothing moves, and nobody is told
        proxy.cut()                     # RST to both sides of every connection
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from client import reset_or_close

PIECE = 16 * 1024


class FaultProxy:
    """Forwards connections to `target` on this machine.

    stalled: nothing is read from either side, so buffers fill up as with a peer that is gone.
    refusing: new connections are reset at once.
    bytes_per_second: of each connection towards the client; None is no limit.
    single_bytes: what goes towards the client is written byte by byte.
    lifetime: called for each connection with the first bytes of its request; so many bytes towards the client, and then
    it is cut. None: it may live.
    politely: such a cut is an end of what is sent, as when a process dies, and no reset.
    spared: a regular expression; a connection is not cut right after bytes that it matches, but a byte later.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.requests: list[bytes] = []  # the first bytes of each connection, as far as they came in one piece
        self.refusing = False
        self.bytes_per_second: float | None = None
        self.single_bytes = False
        self.lifetime: Callable[[bytes], int | None] = lambda request: None
        self.politely = False
        self.spared: bytes | None = None
        self.cuts = 0
        self._target = target
        self._going = asyncio.Event()
        self._going.set()
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=PIECE, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def stalled(self) -> bool:
        return not self._going.is_set()

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        (self._going.clear if stalled else self._going.set)()

    def cut(self) -> None:
        """End every connection now, both sides with RST; what was on its way is lost."""
        for writers in self._open.values():
            self._reset(writers)

    def _reset(self, writers: tuple[asyncio.StreamWriter, ...]) -> None:
        self.cuts += 1
        for writer in writers:
            reset_or_close(writer, reset=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = (writer,)
        try:
            if self.refusing:
                return reset_or_close(writer, reset=True)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=PIECE)
            self._open[task] = writers = (writer, server_writer)
            asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            await asyncio.gather(
                self._up(reader, server_writer, asked), self._down(server_reader, writer, writers, asked)
            )
        except (OSError, asyncio.CancelledError):  # asyncio logs a connection whose task was cancelled as an error
            return None
        finally:
            for each in self._open.pop(task):
                each.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Future[bytes]
    ) -> None:
        while received := await reader.read(PIECE):
            if not asked.done():
                self.requests.append(received)
                asked.set_result(received)
            await self._going.wait()
            writer.write(received)
            await writer.drain()
        # Whoever stops reading an event stream closes both ways, so this passes it on whole.
        writer.transport.abort()
        asked.cancel()

    async def _down(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        writers: tuple[asyncio.StreamWriter, ...],
        asked: asyncio.Future[bytes],
    ) -> None:
        left, sent = self.lifetime(await asked), b""
        if self.single_bytes:
            nodelay(writer)
        while True:
            await self._going.wait()
            size = 1024 if self.bytes_per_second is not None else PIECE
            received = await reader.read(size if left is None else min(size, left))
            if not received:
                break
            await self._going.wait()
            if self.single_bytes:
                for at in range(len(received)):
                    if writer.is_closing():
                        return None
                    writer.write(received[at : at + 1])
                    await asyncio.sleep(0)
            else:
                writer.write(received)
            await writer.drain()
            if self.bytes_per_second is not None:
                await asyncio.sleep(len(received) / self.bytes_per_second)
            if left is not None:
                left -= len(received)
                sent = (sent + received)[-256:]
                if left == 0 and self.spared is not None and re.search(self.spared + rb"\Z", sent):
                    left = 1
                if left == 0 and self.politely:
                    self.cuts += 1
                    return writer.close()
                if left == 0:
                    return self._reset(writers)
        with contextlib.suppress(OSError):
            writer.write_eof()
        return None


def nodelay(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
