"""FastAPI's own SSE as its guide shows it: a generator and a queue a subscriber; a POST fills all queues."""

import asyncio
import itertools
from collections.abc import AsyncIterable

from fastapi import FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
queues: set[asyncio.Queue[ServerSentEvent]] = set()
positions = itertools.count(1)


@app.get("/sse/bench", response_class=EventSourceResponse)
async def subscribe() -> AsyncIterable[ServerSentEvent]:
    queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        queues.discard(queue)


@app.post("/publish/bench", status_code=204)
async def publish(request: Request) -> Response:
    event = ServerSentEvent(raw_data=(await request.body()).decode(), id=str(next(positions)))
    for queue in queues:
        queue.put_nowait(event)
    return Response(status_code=204)
