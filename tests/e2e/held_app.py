"""An app that holds the loop of the worker that it is asked for, until there is a file GO in the working directory."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

HELD, GO = Path("held"), Path("go")
MOST = 60.0  # seconds


def hold() -> None:
    HELD.touch()
    deadline = time.monotonic() + MOST
    while not GO.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    asked = parse_qs(scope["query_string"].decode())
    if held := asked["pid"][0] == str(os.getpid()):
        asyncio.get_running_loop().call_later(0.05, hold)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(held).encode()})
