"""An app that writes down every request that it is handed, by another parser than the front's, and a stricter one.

The raw head has to be of the grammar of RFC 9112, with nothing that anybody tolerates; h11 then reads it and the body.
Each answer says which request it is for, so that an answer to another one is found out.
"""

import asyncio
import hashlib
import re
from contextlib import suppress
from typing import NamedTuple

import h11

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
HEAD = re.compile(
    rb"%b (?:/[!\"$-~]*|\*) HTTP/1\.1\r\n(?:%b:[ \t]*[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n" % (TOKEN, TOKEN)
)
HOP_BY_HOP = frozenset((b"keep-alive", b"proxy-connection", b"te", b"trailer"))
READ_AT_ONCE = 65536


class Recorded(NamedTuple):
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each == name]


def tag(method: str, target: bytes, body: bytes = b"") -> bytes:
    """The body of the answer to this request."""
    return b"%b %b %d %b" % (method.encode(), target, len(body), hashlib.sha256(body).hexdigest().encode())


class Recorder:
    """requests: those that came whole, in order. begun: those of which a head came. faults: what no app may be sent."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.begun = 0
        self.faults: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while await self._exchange(reader, writer):
                    pass
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. False: no other comes. Raises ValueError or h11's for what may not come."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            if not (part := await reader.read(READ_AT_ONCE)):
                if raw:
                    raise ValueError(f"half a head: {raw!r}")
                return False
            raw += part
        head = raw[: raw.index(b"\r\n\r\n") + 4]
        if HEAD.fullmatch(head) is None:
            raise ValueError(f"not the grammar of a head: {head!r}")
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
        http.receive_data(raw)
        request = http.next_event()
        if not isinstance(request, h11.Request):
            raise ValueError(f"not a request: {request!r}")
        self.begun += 1
        if http.they_are_waiting_for_100_continue:
            writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                if not (part := await reader.read(READ_AT_ONCE)):
                    return False  # it breaks off, and is no request
                http.receive_data(part)
            else:
                raise ValueError(f"within a body: {event!r}")
        if http.trailing_data[0] or event.headers:
            raise ValueError(f"behind a request: {http.trailing_data[0]!r}, as trailers: {list(event.headers)}")
        recorded = Recorded(request.method.decode(), request.target, tuple(request.headers), body)
        self._judge(recorded)
        self.requests.append(recorded)
        answer = tag(*recorded[:2], body)
        parts: list[h11.Event] = [h11.Response(status_code=200, headers=[("content-length", str(len(answer)))])]
        if recorded.method != "HEAD":
            parts.append(h11.Data(answer))
        writer.write(b"".join(http.send(part) or b"" for part in (*parts, h11.EndOfMessage())))
        await writer.drain()
        return b"close" not in recorded.values(b"connection")

    def _judge(self, request: Recorded) -> None:
        names = [name for name, _ in request.headers]
        if found := HOP_BY_HOP.intersection(names):
            raise ValueError(f"of the client's connection: {found}")
        for name in (b"host", b"content-length", b"transfer-encoding", b"x-forwarded-for"):
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} times {name!r}")
