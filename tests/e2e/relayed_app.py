"""The app behind the front, for caller.py: answers that can be checked byte by byte, and a record of what was asked;
and streams of its own, under /held.

RELAYED_APP_SEEN names a file. Each request writes its token there, a line, before anything else of it happens; a line
is one write, so what a worker has written stays when the worker is killed.
"""

import asyncio
import json
import os
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from sse_fast import Hub

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PIECE = 20_000  # bytes


@cache
def hub() -> Hub:
    return Hub()


def content(token: str, size: int) -> bytes:
    """Of which any slip of a byte, and any other's, can be seen."""
    line = f"{token} ".encode()
    return (line * (size // len(line) + 1))[:size]


def record(token: str) -> None:
    descriptor = os.open(os.environ["RELAYED_APP_SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{token}\n".encode())
    finally:
        os.close(descriptor)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """/TOKEN?wait=SECONDS&size=BYTES&chunked=1: a body of that size, or what came of a body that was sent."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"].startswith("/held/"):
        await hub().response(scope, [scope["path"].removeprefix("/held/")])(scope, receive, send)
        return
    token, query = scope["path"].removeprefix("/"), dict(parse_qsl(scope["query_string"].decode()))
    record(token)
    await asyncio.sleep(float(query.get("wait", 0)))
    if scope["method"] == "POST":
        taken, checksum, more = 0, 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            taken += len(message.get("body", b""))
            checksum = zlib.crc32(message.get("body", b""), checksum)
            more = message.get("more_body", False)
        body = json.dumps({"token": token, "bytes": taken, "crc32": checksum}).encode()
    else:
        body = content(token, int(query["size"]))
    headers = [] if "chunked" in query else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), PIECE):
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})
