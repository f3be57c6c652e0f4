"""A feed of sensor readings, once for HTMX (htmx-ext-sse) and once for Alpine: states of the connection are shown, how
long it stands and how much came, and 50 rows at most; the one for Alpine can be stopped, opened again and cleared.

Readings are published as JSON. HTMX wants rows of HTML, so its streams have a `transform` that makes them; with many
readers publish the HTML on a channel of its own instead, so that it is made and encoded once.

    uvicorn --app-dir examples/sensors app:app
    granian --interface asgi --working-dir examples/sensors app:app
"""

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sse_fast import Event, Hub, encode

PAUSE = 0.25  # seconds between two readings
SENSORS = {"boiler": 64.0, "cellar": 11.5, "attic": 24.0, "garden": 17.0}

hub = Hub(retry=1000)


async def measure() -> None:
    while True:
        for name, middle in SENSORS.items():
            await asyncio.sleep(PAUSE)
            celsius = middle + 3 * math.sin(time.time() / 20) + random.uniform(-0.4, 0.4)
            await publish(name, round(celsius, 1), time.strftime("%H:%M:%S"))


async def publish(sensor: str, celsius: float, at: str) -> None:
    await hub.publish("sensors", {"sensor": sensor, "celsius": celsius, "at": at}, event="reading")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub:
        measuring = asyncio.create_task(measure())
        yield
        measuring.cancel()


def as_row(event: Event) -> Event:
    if event.event != "reading":
        return event
    reading = json.loads(event.data)
    cells = "".join(f"<td>{escape(str(reading[name]))}</td>" for name in ("at", "sensor", "celsius"))
    return Event(f"<tr>{cells}</tr>", "reading")


async def feed(request: Request) -> Response:
    return hub.response(request, ["sensors"], history=10)


async def rows(request: Request) -> Response:
    return hub.response(request, ["sensors"], history=10, transform=as_row)


async def take(request: Request) -> Response:
    """A reading from a sensor that sends its own."""
    given = await request.json()
    await publish(str(given["sensor"])[:40], float(given["celsius"]), str(given["at"])[:20])
    return Response(status_code=204)


async def close(request: Request) -> Response:
    """Tell whoever listens now that the feed is over; it is not kept, so it is not told to those who come later."""
    hub.say("sensors", encode("", event="closed"))
    return Response(status_code=204)


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/feed", feed),
        Route("/rows", rows),
        Route("/readings", take, methods=["POST"]),
        Route("/close", close, methods=["POST"]),
    ],
)
