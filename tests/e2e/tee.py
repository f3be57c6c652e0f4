"""A TCP proxy that changes nothing and writes down every byte, both ways, connection by connection."""

import asyncio
import contextlib
from typing import Self

READ_AT_ONCE = 65536


class Heard:
    """One connection. up: what the client sent; down: what it was answered."""

    def __init__(self) -> None:
        self.up = self.down = b""


class Tee:
    """To `target` on this machine; listens on a port of its own while it is entered."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.heard: list[Heard] = []
        self._target = target
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        heard = Heard()
        self.heard.append(heard)
        onward = None
        try:
            from_server, onward = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                self._copy(reader, onward, heard, "up"), self._copy(from_server, writer, heard, "down")
            )
        except (OSError, asyncio.CancelledError):  # asyncio logs a connection whose task was cancelled as an error
            pass
        finally:
            self._open.discard(task)
            for each in (writer, onward):
                if each is not None:
                    each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard, way: str) -> None:
        while part := await reader.read(READ_AT_ONCE):
            setattr(heard, way, getattr(heard, way) + part)
            writer.write(part)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
