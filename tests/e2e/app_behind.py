"""The app of test_app.py: all that an app may have, told in the log. Where a file `broken` lies beside
it, it cannot be imported."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from starlette.middleware.gzip import GZipMiddleware

from sse_fast import EndReason, EventSourceResponse, Hub, StreamInfo

hub = Hub(retry=100)
logging.basicConfig(level=logging.INFO)
logging.getLogger("shop").info("the shop opens")


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, words))}\n".encode())  # `print` may write it in pieces, and others between them


if Path(__file__).with_name("broken").exists():
    raise OSError("the shop is closed")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
    async with hub:
        say("started", os.getpid())
        yield {"number": 7}
        await asyncio.sleep(0.01)
        say("shut down", os.getpid())


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=1)


@app.get("/who")
async def who(request: Request) -> dict[str, object]:
    assert request.client is not None
    return {"pid": os.getpid(), "state": request.state.number, "client": request.client.host}


def joined(info: StreamInfo) -> None:
    say("joined", info.id, info.client, info.resumed)


async def left(info: StreamInfo, reason: EndReason) -> None:
    await asyncio.sleep(0.01)
    say("left", info.id, reason)


@app.get("/events/{channel}")
async def events(channel: str, request: Request) -> Response:
    return hub.response(request, [channel], history=100, on_join=joined, on_leave=left)


@app.get("/filtered/{channel}")
async def filtered(channel: str, request: Request) -> Response:
    return hub.response(request, [channel], filter=lambda event: event.data != "no", on_leave=left)


@app.get("/own")
async def own() -> Response:
    async def ticks() -> AsyncIterator[Any]:
        try:
            yield {"event": "$connected", "data": "null"}  # as the client of the tests wants it
            yield "tick"
            await asyncio.Event().wait()
        finally:
            say("own stream closed")

    return EventSourceResponse(ticks())


@app.post("/publish/{channel}")
async def publish(channel: str, request: Request) -> str:
    return str(await hub.publish(channel, await request.body()))


@app.post("/thread/{channel}")
def from_a_thread(channel: str) -> str:
    return str(hub.publish_threadsafe(channel, "from a thread").result(30))


@app.post("/while-it-drains/{channel}")
async def while_it_drains(channel: str) -> str:
    say("asked")
    while not hub.draining:  # noqa: ASYNC110 - of which nothing tells
        await asyncio.sleep(0.01)
    await asyncio.to_thread(lambda: hub.publish_threadsafe(channel, "from a thread").result(30))
    return str(await hub.publish(channel, "from a request"))


@app.get("/watched/{channel}")
async def watched(channel: str, request: Request) -> Response:
    async def gone(info: StreamInfo, reason: EndReason) -> None:
        await hub.publish(channel, f"left: {reason}")

    return hub.response(request, ["watched"], on_leave=gone)


@app.get("/later/{seconds}")
async def later(seconds: float, tasks: BackgroundTasks) -> str:
    async def task() -> None:
        say("task begun")
        await asyncio.sleep(seconds)
        say("task done")

    tasks.add_task(task)
    return "soon"


@app.get("/slow/{seconds}")
async def slow(seconds: float) -> str:
    say("slow begun")
    await asyncio.sleep(seconds)
    return "answered"


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(f"{await websocket.receive_text()} from {os.getpid()}")
    say("websocket over")
