"""Live counters and the newest activities for Datastar: `datastar-patch-signals` events, whose data is the word
`signals` and a JSON object that is merged into the page's signals, and `datastar-patch-elements`, whose data is the
word `elements` and HTML that takes the place of what has its ids.

Every event carries all counters, or all activities that are shown, so a page that comes needs no more than the newest
one: history=1. Before it comes the page shows what stands in its HTML.

    uvicorn --app-dir examples/datastar app:app
    granian --interface asgi --working-dir examples/datastar app:app
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sse_fast import Hub

PRICE = 12.5

hub = Hub()
started = time.monotonic()
orders = 0
activities: deque[str] = deque(maxlen=10)  # newest first


def counters() -> dict[str, Any]:
    return {
        "live": True,
        "watching": hub.listeners("counters"),
        "orders": orders,
        "revenue": f"{orders * PRICE:,.2f}",
        "seconds": round(time.monotonic() - started),
    }


async def tell(*_: object) -> None:
    await hub.publish("counters", f"signals {json.dumps(counters())}", event="datastar-patch-signals")


async def note(what: str) -> None:
    activities.appendleft(f'<li id="a{time.time_ns()}"><time>{time.strftime("%H:%M:%S")}</time> {escape(what)}</li>')
    html = f'<ul id="activities">{"".join(activities)}</ul>'
    await hub.publish("activities", f"elements {html}", event="datastar-patch-elements")


async def tick() -> None:
    while True:
        await asyncio.sleep(1)
        await tell()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub:
        ticking = asyncio.create_task(tick())
        yield
        ticking.cancel()


async def stream(request: Request) -> Response:
    return hub.response(request, ["counters"], history=1, on_join=tell, on_leave=tell)


async def activity(request: Request) -> Response:
    return hub.response(request, ["activities"], history=1)


async def order(request: Request) -> Response:
    global orders
    orders += 1
    await tell()
    await note(f"Coffee no. {orders} was ordered")
    return Response(status_code=204)


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/counters", stream),
        Route("/activities", activity),
        Route("/orders", order, methods=["POST"]),
    ],
)
