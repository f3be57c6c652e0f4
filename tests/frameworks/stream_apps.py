"""One and the same app in FastAPI, Starlette, Litestar and bare ASGI, for test_frameworks.py.

/count/N: N events and the end; /stay: one event, then silence; its content says in the log how it ended; /writer: the
same through SSEWriter; /fail: the content raises.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from litestar import Litestar, asgi, get
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast import EventSourceResponse, SSEWriter


async def count(limit: int) -> AsyncIterator[Any]:
    for number in range(limit):
        if number % 10 == 0:
            await asyncio.sleep(0.001)
        yield {"data": {"number": number}, "event": "count", "id": str(number)}


async def stay() -> AsyncIterator[Any]:
    print("content starts", flush=True)
    try:
        yield "open"
        await asyncio.Event().wait()
    finally:
        print("content closed", flush=True)


async def fail() -> AsyncIterator[Any]:
    yield "good"
    raise ValueError("secret")


async def write(scope: Any, receive: Any, send: Any) -> None:
    async with SSEWriter(scope, receive, send) as sse:
        for number in range(3):
            await sse.send({"number": number}, event="count", id=str(number))


def fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/count/{limit}")
    async def counting(limit: int) -> EventSourceResponse:
        return EventSourceResponse(count(limit), ping=1)

    @app.get("/yielded/{limit}", response_class=EventSourceResponse)
    async def yielded(limit: int) -> AsyncIterator[Any]:
        async for item in count(limit):
            yield item

    @app.get("/stay")
    async def staying() -> EventSourceResponse:
        return EventSourceResponse(stay())

    @app.get("/fail")
    async def failing() -> EventSourceResponse:
        return EventSourceResponse(fail())

    app.mount("/writer", write)
    return app


def starlette(middleware: Any = ()) -> Starlette:
    async def counting(request: Request) -> Response:
        return EventSourceResponse(count(request.path_params["limit"]), ping=1)

    async def staying(request: Request) -> Response:
        return EventSourceResponse(stay())

    async def failing(request: Request) -> Response:
        return EventSourceResponse(fail())

    routes = [Route("/count/{limit:int}", counting), Route("/stay", staying), Route("/fail", failing)]
    app = Starlette(routes=routes, middleware=middleware)
    app.mount("/writer", write)
    return app


def wrapped() -> Starlette:
    """Behind Starlette's BaseHTTPMiddleware, which runs the app in a task group and passes its messages on."""

    async def dispatch(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-wrapped"] = "1"
        return response

    return starlette([Middleware(BaseHTTPMiddleware, dispatch=dispatch)])


def litestar() -> Litestar:
    @get("/count/{limit:int}")
    async def counting(limit: int) -> EventSourceResponse:
        return EventSourceResponse(count(limit), ping=1)

    @get("/stay")
    async def staying() -> EventSourceResponse:
        return EventSourceResponse(stay())

    @get("/fail")
    async def failing() -> EventSourceResponse:
        return EventSourceResponse(fail())

    @asgi("/writer", is_mount=True)
    async def writing(scope: Any, receive: Any, send: Any) -> None:
        await write(scope, receive, send)

    return Litestar([counting, staying, failing, writing])
