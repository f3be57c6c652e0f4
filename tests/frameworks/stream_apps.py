"""One and the same app in FastAPI, Starlette, Litestar and bare ASGI, for test_frameworks.py.

/count/N: N events and the end; /stay: one event, then silence; its content says in the log how it ended; /fail: the
content raises. /written/count/N and so on: the same through a WriterResponse. /writer: SSEWriter, mounted.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI
from litestar import Litestar, asgi, get
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast import EventSourceResponse, SSEWriter, WriterResponse


def say(line: str) -> None:
    """Into the log in one write: the server's own processes write there too, between the pieces of a print."""
    os.write(1, f"{line}\n".encode())


async def count(limit: int) -> AsyncIterator[Any]:
    for number in range(limit):
        if number % 10 == 0:
            await asyncio.sleep(0.001)
        yield {"data": {"number": number}, "event": "count", "id": str(number)}


async def stay() -> AsyncIterator[Any]:
    say("content starts")
    try:
        yield "open"
        await asyncio.Event().wait()
    finally:
        say("content closed")


async def fail() -> AsyncIterator[Any]:
    yield "good"
    raise ValueError("secret")


async def write(scope: Any, receive: Any, send: Any) -> None:
    async with SSEWriter(scope, receive, send) as sse:
        for number in range(3):
            await sse.send({"number": number}, event="count", id=str(number))


def written(name: str, limit: int = 0) -> WriterResponse:
    """What the handlers of all frameworks return: the body pushes what the content of that name yields."""
    content = {"count": lambda: count(limit), "stay": stay, "fail": fail}[name]

    async def body(sse: SSEWriter) -> None:
        async with aclosing(content()) as items:
            async for item in items:
                await sse.send(**(item if isinstance(item, dict) else {"data": item}))

    return WriterResponse(body, 203, {"x-written": name}, BackgroundTask(say, f"background {name}"))


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

    @app.get("/written/{name}/{limit}")
    async def writing(name: str, limit: int) -> WriterResponse:
        return written(name, limit)

    app.mount("/writer", write)
    return app


def starlette(middleware: Any = ()) -> Starlette:
    async def counting(request: Request) -> Response:
        return EventSourceResponse(count(request.path_params["limit"]), ping=1)

    async def staying(request: Request) -> Response:
        return EventSourceResponse(stay())

    async def failing(request: Request) -> Response:
        return EventSourceResponse(fail())

    async def writing(request: Request) -> Response:
        return written(**request.path_params)

    routes = [Route("/written/{name}/{limit:int}", writing)]
    routes += [Route("/count/{limit:int}", counting), Route("/stay", staying), Route("/fail", failing)]
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

    @get("/written/{name:str}/{limit:int}")
    async def writing(name: str, limit: int) -> WriterResponse:
        return written(name, limit)

    @asgi("/writer", is_mount=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await write(scope, receive, send)

    return Litestar([counting, staying, failing, writing, mounted])
