"""Another server's stream, shortened, in a channel of this one: its clients resume here, however often that one is cut.

    pip install '.[client]' uvicorn     # at the sources
    SOURCE=https://stream.wikimedia.org/v2/stream/recentchange uvicorn --app-dir examples/relay main:app

    curl -N localhost:8000/changes

With SOURCE=http://127.0.0.1:8001/sse/changes it is an edge in front of another one.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast import Event, Hub, ReceivedEvent

hub = Hub()


def shorter(event: ReceivedEvent) -> Event | None:
    """Edits, with what a list of them shows; nothing of the rest."""
    change = event.json()
    if change.get("type") != "edit":
        return None
    return Event({"title": change.get("title"), "user": change.get("user")}, event="edit")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    source = os.environ.get("SOURCE", "http://127.0.0.1:8001/sse/changes")
    async with hub, hub.relay(source, "changes", transform=shorter):
        yield


async def changes(request: Request) -> Response:
    return hub.response(request, ["changes"], history=10)


app = Starlette(routes=[Route("/changes", changes)], lifespan=lifespan)
