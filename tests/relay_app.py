"""An ASGI app for Granian behind a relay; tests ask it what it has seen."""

import asyncio
import json
from typing import Any

from sse_fast.asgi import Receive, Scope, Send
from sse_fast.transports.behind import BehindRelay

SERVER = ("front.example", 8000)
left: list[str] = []


async def respond(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who its client is, then echoes."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["client"][0]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/up":
        size = 0
        while (message := await receive()).get("more_body"):
            size += len(message["body"])
        await respond(send, b"%d" % (size + len(message["body"])))
    elif path == "/down":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(24):
            await send({"type": "http.response.body", "body": bytes([number]) * 2**20, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/broken":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.05)
    elif path == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.append("left")
    elif path == "/left":
        await respond(send, b"%d" % len(left))
    else:
        told: dict[str, Any] = {name: scope.get(name) for name in ("method", "path", "client", "server", "scheme")}
        told["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        await respond(send, json.dumps(told).encode(), (b"X-Own", b"1"))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    await (websocket if scope["type"] == "websocket" else http)(scope, receive, send)


behind = BehindRelay(app, SERVER)
