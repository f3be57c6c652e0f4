"""The FastAPI app of bench_relay.py and bench_hold.py: small and large answers, uploads, and streams of a hub."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from sse_fast import Hub

PIECE = bytes(64 * 1024)

hub = Hub()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/upload")
async def upload(request: Request, pause: float = 0) -> dict[str, int]:
    """How much came. The app takes a pause of so many seconds behind the first piece."""
    taken = 0
    async for piece in request.stream():
        taken += len(piece)
        if pause:
            await asyncio.sleep(pause)
            pause = 0
    return {"bytes": taken}


@app.get("/download/{size}")
async def download(size: int) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for sent in range(0, size, len(PIECE)):
            yield PIECE[: size - sent]

    return StreamingResponse(pieces(), headers={"content-length": str(size)})


@app.get("/stream/{channel}")
async def stream(request: Request, channel: str) -> Any:
    return hub.response(request, [channel])


@app.post("/publish/{channel}")
async def publish(request: Request, channel: str) -> dict[str, str]:
    return {"id": str(await hub.publish(channel, (await request.body()).decode()))}
