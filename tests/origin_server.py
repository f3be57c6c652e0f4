"""An HTTP server as somebody else runs it, which answers as it is told to: with anything, slowly, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, Self

import orjson


class Asked(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return orjson.loads(self.body)  # type: ignore[no-any-return]


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Whole, with its length; `_` in names is `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return b"HTTP/1.1 %d It\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines.encode(), len(body), body)


def json(value: object, status: int = 200, **headers: str) -> bytes:
    return answer(status, orjson.dumps(value), content_type="application/json", **headers)


class OriginServer:
    """asked: the requests, as they came. answer: makes the bytes for one; None: it says nothing until it is
    `released`, and is called again then."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], bytes | None] = lambda asked: answer(200)
        self.released = asyncio.Event()
        self.came = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        server = cls()
        await server.start()
        try:
            yield server
        finally:
            server.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/where"

    async def start(self) -> None:
        """Again: on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Nobody listens there any more."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.transport.abort()

    async def asked_times(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(30):
            while len(self.asked) < count:
                self.came.clear()
                await self.came.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
                method, target, _ = line.split(" ")
                headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(method, target, headers, body)
                self.asked.append(asked)
                self.came.set()
                if (said := self.answer(asked)) is None:
                    await self.released.wait()
                    said = self.answer(asked) or answer(500)
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()
