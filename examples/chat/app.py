"""A chat room: the last 50 messages first, then live; who comes and who goes is told by presence.

uvicorn --app-dir examples/chat app:app
granian --interface asgi --working-dir examples/chat app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sse_fast import EndReason, Hub, StreamInfo

RECENT = 50

hub = Hub()
here: dict[int, str] = {}  # stream -> name


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub:
        yield


def text(value: object, most: int) -> str:
    return value.strip()[:most] if isinstance(value, str) else ""


async def events(request: Request) -> Response:
    name = text(request.query_params.get("name"), 30)
    if not name:
        return JSONResponse({"error": "say who you are: ?name="}, 400)

    async def joined(info: StreamInfo) -> None:
        here[info.id] = name
        await hub.publish("chat", {"name": name, "here": people()}, event="joined")

    async def left(info: StreamInfo, reason: EndReason) -> None:
        del here[info.id]
        await hub.publish("chat", {"name": name, "here": people()}, event="left")

    return hub.response(request, ["chat"], history=RECENT, on_join=joined, on_leave=left)


def people() -> list[str]:
    return sorted(set(here.values()))


async def say(request: Request) -> Response:
    said = await request.json()
    message = {"name": text(said.get("name"), 30), "text": text(said.get("text"), 500)}
    if not all(message.values()):
        return JSONResponse({"error": "a message has a name and a text"}, 400)
    return JSONResponse({"id": str(await hub.publish("chat", message))})


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/", page), Route("/events", events), Route("/messages", say, methods=["POST"])],
)
