"""One and the same app with a hub in FastAPI, Starlette and Litestar, for test_hub_frameworks.py.

GET /events/CHANNEL: a stream; POST /publish/CHANNEL: the body is the data; POST /work/CHANNEL: the same from a thread.
The log says who joined and who left.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from litestar import Litestar, get, post
from litestar import Request as LitestarRequest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sse_fast import EndReason, Hub, HubResponse, StreamInfo

hub = Hub(retry=100)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    async with hub:
        yield
    say("lifespan ended")


def say(line: str) -> None:
    """All of it at once: `print` may write piece by piece, and a thread that logs between them."""
    os.write(1, f"{line}\n".encode())


def joined(info: StreamInfo) -> None:
    say(f"joined {info.id} {info.resumed}")


async def left(info: StreamInfo, reason: EndReason) -> None:
    say(f"left {info.id} {reason}")


def stream(request: Any, channel: str) -> HubResponse:
    return hub.response(request, [channel], on_join=joined, on_leave=left, headers={"X-Own": "1"})


def work(channel: str, data: bytes) -> str:
    return str(hub.publish_threadsafe(channel, data).result(30))


def make_fastapi() -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/events/{channel}")
    async def events(channel: str, request: FastAPIRequest) -> Response:
        return stream(request, channel)

    @app.post("/publish/{channel}")
    async def publish(channel: str, request: FastAPIRequest) -> str:
        return str(await hub.publish(channel, await request.body()))

    @app.post("/work/{channel}")
    def publish_from_thread(channel: str) -> str:
        return work(channel, b"worked")

    return app


def make_starlette() -> Starlette:
    async def events(request: Request) -> Response:
        return stream(request, request.path_params["channel"])

    async def publish(request: Request) -> Response:
        return PlainTextResponse(str(await hub.publish(request.path_params["channel"], await request.body())))

    async def publish_from_thread(request: Request) -> Response:
        return PlainTextResponse(await run_in_threadpool(work, request.path_params["channel"], b"worked"))

    routes = [
        Route("/events/{channel}", events),
        Route("/publish/{channel}", publish, methods=["POST"]),
        Route("/work/{channel}", publish_from_thread, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def make_litestar() -> Litestar:
    @get("/events/{channel:str}")
    async def events(channel: str, request: LitestarRequest[Any, Any, Any]) -> HubResponse:
        return stream(request, channel)

    @post("/publish/{channel:str}")
    async def publish(channel: str, request: LitestarRequest[Any, Any, Any]) -> str:
        return str(await hub.publish(channel, await request.body()))

    @post("/work/{channel:str}", sync_to_thread=True)
    def publish_from_thread(channel: str) -> str:
        return work(channel, b"worked")

    return Litestar([events, publish, publish_from_thread], lifespan=[lifespan])


fastapi, starlette, litestar = make_fastapi(), make_starlette(), make_litestar()
