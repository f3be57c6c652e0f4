"""What fan-out costs with a coroutine and an `asyncio.Queue` per subscriber: the app that most people write.

Fair to that shape: plain ASGI without a framework, the event encoded once, the same bytes in every queue, no lock.
It does for a stream what the edge does: an id, a heartbeat after 15 s of silence (a timer round the wait, as in
FastAPI's own SSE), and it notices when the client goes. It keeps no history and bounds no queue; both would only cost
it more.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

try:
    from sse_fast._native.wire.frame import encode
except ImportError:  # not built: the comparison needs no more than the format

    def encode(data: bytes, *, id: str) -> bytes:
        return b"id: %b\ndata: %b\n\n" % (id.encode(), data)


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

channels: defaultdict[str, set[asyncio.Queue[bytes | None]]] = defaultdict(set)
positions = itertools.count(1)

KEEPALIVE = 15  # seconds
HEARTBEAT = b":\n"
STREAM_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ],
}


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    _, verb, channel = scope["path"].split("/", 2)
    if scope["method"] == "GET" and verb == "sse":
        await subscribe(channel, receive, send)
    elif scope["method"] == "POST" and verb == "publish":
        await publish(channel, receive, send)
    else:
        await answer(send, 404, b"no such thing\n")


async def subscribe(channel: str, receive: Receive, send: Send) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def wait_for_the_end() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        queue.put_nowait(None)

    watcher = asyncio.create_task(wait_for_the_end())
    channels[channel].add(queue)
    try:
        await send(STREAM_HEAD)
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    frame = await queue.get()
            except TimeoutError:
                frame = HEARTBEAT
            if frame is None:
                return
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    finally:
        channels[channel].discard(queue)
        watcher.cancel()


async def publish(channel: str, receive: Receive, send: Send) -> None:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    position = f"bench000-{next(positions)}"  # as long as the ids it is compared with
    frame = encode(bytes(body), id=position)
    for queue in channels[channel]:
        queue.put_nowait(frame)
    await answer(send, 200, b'{"id":"%b"}' % position.encode())


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
