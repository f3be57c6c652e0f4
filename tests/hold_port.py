"""An app behind a front, all in this process: the front on a port, Granian on a Unix socket, the hub of both."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from support import PATIENCE, Listener, until

from sse_fast import Hub, Settings
from sse_fast.edge.app import Edge
from sse_fast.embed.hub import every_hub_is
from sse_fast.node.app import Beside
from sse_fast.transports.behind import BehindRelay
from sse_fast.transports.front import Front
from sse_fast.transports.hold import Holds
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Transport
from sse_fast.transports.relay import Relay


class HoldPort:
    """`hub`: what the app makes its streams by. `http`: a client of the port."""

    def __init__(self, edge: Edge, front: Front, holds: Holds, beside: Beside, http: httpx.AsyncClient) -> None:
        self.edge, self.front, self.holds, self.beside, self.http = edge, front, holds, beside, http
        self.hub = edge.hub

    @property
    def port(self) -> int:
        return self.front.port

    @property
    def native(self) -> int:
        """Streams that are native ones now."""
        return self.edge._streams.transports[Transport.NATIVE].connections

    @property
    def by_asgi(self) -> int:
        return self.edge._streams.transports[Transport.ASGI].connections

    async def open(self, target: str = "/events", **options: Any) -> Listener:
        return await Listener.open(self.port, target, **options)

    async def settled(self) -> None:
        """Wait until nothing is under way; then nothing of any exchange is left."""
        relay = self.front.relay
        assert relay is not None
        await until(lambda: not relay.busy)
        assert len(self.holds) == 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, make: Any, **settings: Any) -> AsyncIterator[Self]:
        """`make()` makes the app, and its hubs."""
        edge = Edge(Settings(log_size=1 << 20, **settings))
        every_hub_is(edge.hub)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "app")
            try:
                beside = Beside(edge, make(), "/edge")
            finally:
                every_hub_is(None)
            front = Front(
                edge._streams,
                replace(edge.policy, path="/edge"),
                most=1000,
                publish=edge._publishing.publish,
                relay=lambda front: Relay(front, str(path)),
            )
            front.open(bound_socket("127.0.0.1", 0, Bounds(1 << 18, 60.0)))
            assert isinstance(front.relay, Relay)
            edge.holds = front.relay.hold = Holds(front, lambda: edge.hub.log.position)
            served = Server(
                BehindRelay(beside, ("front.example", 80)),
                uds=path,
                interface=Interfaces.ASGINL,
                http=HTTPModes.http1,
                websockets=True,
                log_enabled=False,
            )
            serving = asyncio.ensure_future(served.serve())
            try:
                await until(path.exists)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", timeout=PATIENCE) as http:
                    yield cls(edge, front, edge.holds, beside, http)
            finally:
                front.close()
                await edge.close()
                served.stop()
                await serving


__all__ = ["HoldPort", "Hub"]
