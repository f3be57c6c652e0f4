"""What everything here that speaks ASGI shares: the types, and the head of an event stream."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


def set_stream_headers(headers: MutableHeaders) -> None:
    """Add those of HEADERS that the app has not set itself."""
    for name, value in HEADERS:
        headers.setdefault(name.decode(), value.decode())


async def answer_head(send: Send, status: int, headers: Headers) -> None:
    """The answer to HEAD: the head that a stream would have, and no stream."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
