"""What everything here that speaks ASGI shares: the types, how a stream's answer begins and ends. Its headers stand in
`protocol.decision`."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders

from sse_fast.protocol.decision import STREAM_HEADERS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

CUT_AFTER = 1.0  # seconds that a client gets to take what was sent before


def set_stream_headers(headers: MutableHeaders) -> None:
    """Add those of STREAM_HEADERS that the app has not set itself."""
    for name, value in STREAM_HEADERS:
        headers.setdefault(name.decode(), value.decode())


async def answer_head(send: Send, status: int, headers: Headers) -> None:
    """The answer to HEAD: the head that a stream would have, and no stream."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def break_off(receive: Receive) -> None:
    """Behind this a response may be left without its end, which brings clients back, where some take a clean
    end for final.

    uvicorn calls that an error, one line a stream, while the client is there. So its connection, which is HTTP/1.1 and
    has no other stream, is closed first, as uvicorn would do next; other servers abort the response without a word.
    """
    cycle: Any = getattr(receive, "__self__", None)
    if not type(cycle).__module__.startswith("uvicorn.protocols.http."):
        return
    cycle.transport.close()  # behind what is still to be written
    cutting = asyncio.get_running_loop().call_later(CUT_AFTER, cycle.transport.abort)
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        cutting.cancel()
