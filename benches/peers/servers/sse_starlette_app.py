"""sse-starlette as its guide shows it: a generator and a queue a subscriber; a POST fills all queues."""

import asyncio
import itertools
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

queues: set[asyncio.Queue[ServerSentEvent]] = set()
positions = itertools.count(1)


async def events(queue: asyncio.Queue[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    try:
        while True:
            yield await queue.get()
    finally:
        queues.discard(queue)


async def subscribe(request: Request) -> Response:
    queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
    queues.add(queue)
    return EventSourceResponse(events(queue), sep="\n")


async def publish(request: Request) -> Response:
    event = ServerSentEvent((await request.body()).decode(), id=str(next(positions)))
    for queue in queues:
        queue.put_nowait(event)
    return Response(status_code=204)


app = Starlette(routes=[Route("/sse/bench", subscribe), Route("/publish/bench", publish, methods=["POST"])])
