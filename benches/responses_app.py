"""The servers of bench_responses.py: the same endpoints answered by sse_fast, sse-starlette and FastAPI's own SSE."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fastapi.sse
import sse_starlette
from fastapi import FastAPI

import sse_fast

TEXT = "x" * 52


def texts(index: int) -> Any:
    return TEXT


def fields(index: int) -> Any:
    return {"data": TEXT[:40], "event": "tick", "id": str(index)}


def values(index: int) -> Any:
    return {"data": {"symbol": "ABCD", "price": 123.25, "volume": index, "side": "buy"}}


KINDS = {"str": texts, "dict": fields, "json": values}


async def events(kind: str, count: int, pause: bool) -> AsyncIterator[Any]:
    """`count` events, one right behind the other, or each after one turn of the loop."""
    make = KINDS[kind]
    for index in range(count):
        if pause:
            await asyncio.sleep(0)
        yield make(index)


async def idle() -> AsyncIterator[Any]:
    yield {"data": "open"}
    await asyncio.Event().wait()


def app(response_class: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/events/{kind}/{count}/{pause}")
    async def stream(kind: str, count: int, pause: int) -> Any:
        return response_class(events(kind, count, bool(pause)))

    @app.get("/idle")
    async def stay() -> Any:
        return response_class(idle())

    return app


def sse_fast_app() -> FastAPI:
    return app(sse_fast.EventSourceResponse)


def sse_starlette_app() -> FastAPI:
    return app(sse_starlette.EventSourceResponse)


def fastapi_app() -> FastAPI:
    app = FastAPI()

    def own(item: Any) -> fastapi.sse.ServerSentEvent:
        """FastAPI's own word for the same event. Data that is text goes as text."""
        if isinstance(item, str):
            return fastapi.sse.ServerSentEvent(raw_data=item)
        if isinstance(item["data"], str):
            return fastapi.sse.ServerSentEvent(raw_data=item["data"], event=item.get("event"), id=item.get("id"))
        return fastapi.sse.ServerSentEvent(**item)

    @app.get("/events/{kind}/{count}/{pause}", response_class=fastapi.sse.EventSourceResponse)
    async def stream(kind: str, count: int, pause: int) -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        async for item in events(kind, count, bool(pause)):
            yield own(item)

    @app.get("/idle", response_class=fastapi.sse.EventSourceResponse)
    async def stay() -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        async for item in idle():
            yield own(item)

    return app
