"""An event stream whose every byte a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Connection:
    """One request. headers: its own, by their names in lower case."""

    def __init__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode().split("\r\n")[:-2]
        self.target = first.split()[1]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.writer = writer

    @property
    def last_event_id(self) -> str | None:
        return self.headers.get("last-event-id")

    async def stream(self, *events: str) -> None:
        """Answer with a stream that begins so."""
        self.writer.write(STREAM + b"\r\n")
        await self.say(*events)

    async def say(self, *events: str) -> None:
        self.writer.write("".join(events).encode())
        await self.writer.drain()

    async def answer(self, status: str, *headers: str, body: bytes = b"") -> None:
        lines = "".join(f"{line}\r\n" for line in headers)
        self.writer.write(f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self.writer.drain()

    def end(self) -> None:
        self.writer.close()


class ScriptedSource:
    def __init__(self) -> None:
        self.asked: asyncio.Queue[Connection] = asyncio.Queue()
        self.connections: list[Connection] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream"

    async def connection(self) -> Connection:
        """The next one that somebody asks for."""
        async with asyncio.timeout(30):
            return await self.asked.get()

    async def streamed(self, *events: str) -> Connection:
        """The next one, answered with these events."""
        connection = await self.connection()
        await connection.stream(*events)
        return connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                connection = Connection(await reader.readuntil(b"\r\n\r\n"), writer)
                self.connections.append(connection)
                self.asked.put_nowait(connection)


@asynccontextmanager
async def scripted_source() -> AsyncIterator[ScriptedSource]:
    source = ScriptedSource()
    server = await asyncio.start_server(source._serve, "127.0.0.1", 0)
    source.port = server.sockets[0].getsockname()[1]
    try:
        yield source
    finally:
        server.close()
        for connection in source.connections:
            connection.end()


def said(data: str, id: str | None = None, event: str | None = None) -> str:
    """One event."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return (f"event: {event}\n" if event else "") + lines + (f"id: {id}\n" if id is not None else "") + "\n"
