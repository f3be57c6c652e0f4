"""The edge in this process, asked by both ways: at its front, behind which Granian serves it, and over ASGI."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import httpx
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from support import PATIENCE, until

from sse_fast import Settings
from sse_fast.edge.app import Edge
from sse_fast.transports.behind import BehindRelay
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.kernel import bound_socket

HOST = "localhost"


class Said(NamedTuple):
    """An answer: of a stream the beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BothWays:
    """`edge`, and how it is asked."""

    def __init__(self, edge: Edge, http: httpx.AsyncClient) -> None:
        self.edge, self._http = edge, http

    @property
    def port(self) -> int:
        assert self.edge.front is not None
        return self.edge.front.port

    async def ask(self, way: str, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Said:
        """`way`: "front" or "asgi"."""
        given = {"host": HOST, **headers}
        return await (self._front if way == "front" else self._asgi)(method, target, given, body)

    async def _front(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Said:
        raw = {"target": target.encode()}  # of any length
        request = self._http.build_request(method, "/", headers=headers, content=body or None, extensions=raw)
        answer = await self._http.send(request, stream=True)
        try:
            streams = "event-stream" in answer.headers.get("content-type", "") and method != "HEAD"
            read = await anext(answer.aiter_raw()) if streams else await answer.aread()
        finally:
            await answer.aclose()
        return Said(answer.status_code, answer.headers, read)

    async def _asgi(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Said:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "root_path": "",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 7),
            "server": (HOST, 80),
        }
        sent: list[Any] = []
        begun, gone = asyncio.Event(), asyncio.Event()
        bodies = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if bodies:
                return bodies.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                begun.set()

        asked = asyncio.ensure_future(self.edge(scope, receive, send))
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([asked, asyncio.ensure_future(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
            gone.set()
            await asked
        answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Said(sent[0]["status"], answered, b"".join(part["body"] for part in sent[1:]))

    @classmethod
    @asynccontextmanager
    async def opened(cls, now: Callable[[], float] = time.time, **settings: Any) -> AsyncIterator[Self]:
        """`now`: by which credentials end."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "app")
            edge = Edge(
                Settings(log_size=1 << 20, **settings), entrance=Entrance(bound_socket("127.0.0.1", 0, None), path)
            )
            edge.deciding.policy = replace(edge.policy, now=now)
            edge._start_up()
            served = Server(
                BehindRelay(edge, (HOST, 80)),
                uds=path,
                interface=Interfaces.ASGINL,
                http=HTTPModes.http1,
                log_enabled=False,
            )
            serving = asyncio.ensure_future(served.serve())
            try:
                await until(path.exists)
                assert edge.front is not None
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.front.port}", timeout=PATIENCE) as http:
                    yield cls(edge, http)
            finally:
                await edge.close()
                served.stop()
                await serving
