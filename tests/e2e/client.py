"""A small SSE client over a bare socket: it sees what libraries hide, how a stream ended above all."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import urlencode

from whatwg import Event, Parser

RST_AT_CLOSE = struct.pack("ii", 1, 0)


class Chunks:
    """Takes the pieces of a chunked body (RFC 9112, section 7.1) apart; `finished` once the last chunk was there."""

    def __init__(self) -> None:
        self.finished = False
        self._buffer = bytearray()
        self._left = 0  # of the chunk that is being read, its CRLF included

    def feed(self, received: bytes) -> bytes:
        self._buffer += received
        body = bytearray()
        while self._buffer and not self.finished:
            if not self._left:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    break
                size = int(self._buffer[:end], 16)
                del self._buffer[: end + 2]
                self.finished = size == 0
                self._left = size + 2
                continue
            part = self._buffer[: self._left]
            body += part[: max(0, self._left - 2)]
            del self._buffer[: len(part)]
            self._left -= len(part)
        return bytes(body)


class Stream:
    """One connection. `status`, `headers` (lower case names) and then events, until it ends one way or another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._chunks = Chunks()
        self._parser = Parser()
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(cls, port: int, path: str, headers: Mapping[str, str] | None = None) -> "Stream":
        """Raises ConnectionError where nobody is, or who is there breaks it off."""
        stream = cls(*await asyncio.open_connection("127.0.0.1", port))
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in {"Accept": "text/event-stream", **(headers or {})}.items()]
        stream._writer.write("\r\n".join([*lines, "", ""]).encode())
        try:
            head = (await stream._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except BaseException as error:
            stream.cut()
            if isinstance(error, asyncio.IncompleteReadError | ConnectionError):
                raise ConnectionError("no answer") from error
            raise
        first, *fields = head.rstrip().split("\r\n")
        stream.status = int(first.split()[1])
        stream.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        return stream

    @classmethod
    async def subscribe(
        cls, port: int, channels: Iterable[str], last_event_id: str | None, query: str = "", edge_path: str = ""
    ) -> "Stream":
        path = f"{edge_path}/sse?" + urlencode([("channel", channel) for channel in channels]) + query
        stream = await cls.open(port, path, {} if last_event_id is None else {"Last-Event-ID": last_event_id})
        assert stream.status == 200
        assert stream.headers["transfer-encoding"] == "chunked"
        return stream

    @property
    def aborted(self) -> bool:
        """Whether the stream ended without its last chunk; known once `events` has ended."""
        return not self._chunks.finished

    @property
    def retry(self) -> int | None:
        """The reconnection time that the server has set, in milliseconds."""
        return self._parser.reconnection_time

    async def events(self) -> AsyncIterator[Event]:
        """Until the server, somebody between, or `cut` ends it."""
        with contextlib.suppress(ConnectionError):
            while received := await self._reader.read(65536):
                for event in self._parser.feed(self._chunks.feed(received)):
                    yield event
                if self._chunks.finished:
                    return

    def cut(self, *, reset: bool = True) -> None:
        """Go without a word: with RST, or as a process that dies does, with FIN."""
        reset_or_close(self._writer, reset)


def reset_or_close(writer: asyncio.StreamWriter, reset: bool) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if reset and sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
    writer.transport.abort()


def position(event_id: str) -> int:
    """The position in an event id."""
    found = re.fullmatch(r"[a-z0-9]{8}-(0|[1-9][0-9]*)", event_id)
    assert found, event_id
    return int(found[1])
