"""An edge in this process, and a client of it, by either transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import httpx
from front_port import entrance_at
from support import until

from sse_fast.edge.app import Edge
from sse_fast.settings import Settings
from sse_fast.testing import EventClient
from sse_fast.transports.life import Transport


class EdgeClient(EventClient):
    """edge: what it asks."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        super().__init__(edge if edge.front is None else through(edge.front.port), lifespan=False)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, transport: Transport, *, prepare: Callable[[Edge], None] = lambda edge: None, **settings: Any
    ) -> AsyncIterator[Self]:
        """prepare: is given the edge before it starts."""
        edge = Edge(Settings(**settings), entrance=entrance_at() if transport is Transport.NATIVE else None)
        prepare(edge)
        edge._start_up()
        try:
            async with cls(edge) as client:
                yield client
            await until(lambda: edge.front is None or edge.front.busy == 0)
        finally:
            await edge.close()


def through(port: int) -> Any:
    """An ASGI app that passes everything on to a port, and what is answered back."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        target = f"{scope['path']}?{scope['query_string'].decode()}"

        async def pass_on() -> None:
            async with (
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
                client.stream(scope["method"], target, headers=scope["headers"], content=body) as answer,
            ):
                await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.headers.raw})
                with suppress(httpx.RemoteProtocolError):  # broken off
                    async for part in answer.aiter_raw():
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        passing = asyncio.create_task(pass_on())
        leaving = asyncio.create_task(receive())
        await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        passing.cancel()
        with suppress(asyncio.CancelledError):
            await passing

    return app
