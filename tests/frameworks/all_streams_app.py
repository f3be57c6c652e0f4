"""Every kind of stream in one app, for test_stop_under_uvicorn.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response

from sse_fast import EventSourceResponse, Hub, Settings, SSEWriter, WriterResponse, create_app

hub = Hub(retry=100)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/edge", create_app(Settings(max_connections=5)))


@app.get("/hub")
async def of_the_hub(request: Request) -> Response:
    return hub.response(request, ["news"])


async def opened_for_ever() -> AsyncIterator[str]:
    yield "open"
    await asyncio.Event().wait()


@app.get("/yielded")
async def yielded() -> EventSourceResponse:
    return EventSourceResponse(opened_for_ever())


@app.get("/flood")
async def flood() -> EventSourceResponse:
    """For a client that reads nothing."""
    return EventSourceResponse(iter(lambda: "x" * 100_000, None), send_timeout=0.5)


async def write(sse: SSEWriter) -> None:
    async for data in opened_for_ever():
        await sse.send(data)


@app.get("/written")
async def written() -> WriterResponse:
    return WriterResponse(write)


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    async with SSEWriter(scope, receive, send) as sse:
        await write(sse)


app.mount("/mounted", mounted)
