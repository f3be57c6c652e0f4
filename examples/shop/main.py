"""Orders of a shop: an app and the edge on one port, in the same workers.

    cd examples/shop
    sse-fast serve --workers 2 --app main:app

    curl -N -H 'Authorization: Bearer ada' localhost:8000/orders/7/events
    curl -X POST localhost:8000/orders/7/paid
    curl -X POST localhost:8000/orders/7/packed
    curl -d 'we are closed tomorrow' localhost:8000/edge/publish/shop

Under any ASGI server the same file runs in one process, without the edge and so without the last line's path:
uvicorn --app-dir examples/shop main:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from sse_fast import EndReason, Hub, StreamInfo

hub = Hub()  # of `sse-fast serve` its own: all workers share it
OWNERS = {7: "ada", 8: "grace"}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)


def user(authorization: Annotated[str, Header()] = "") -> str:
    """A real shop would look at more than a name."""
    scheme, _, name = authorization.partition(" ")
    if scheme != "Bearer" or name not in OWNERS.values():
        raise HTTPException(401, "log in first")
    return name


async def watched(info: StreamInfo) -> None:
    await hub.publish("staff", f"{info.client} watches {info.channels[0]}", event="join")


async def unwatched(info: StreamInfo, reason: EndReason) -> None:
    await hub.publish("staff", f"{info.client} is gone: {reason}", event="leave")


@app.get("/orders/{number}/events")
async def events(number: int, user: Annotated[str, Depends(user)], request: Request) -> Response:
    if OWNERS.get(number) != user:
        raise HTTPException(403, "this is somebody else's order")
    # The handler is done here: the server holds the connection, and no task of the app's waits for it.
    return hub.response(request, [f"order:{number}", "shop"], history=10, on_join=watched, on_leave=unwatched)


@app.post("/orders/{number}/paid")
async def paid(number: int) -> str:
    return str(await hub.publish(f"order:{number}", {"state": "paid"}, event="state"))


@app.post("/orders/{number}/packed")
def packed(number: int) -> str:  # in a thread
    return str(hub.publish_threadsafe(f"order:{number}", {"state": "packed"}, event="state").result())
