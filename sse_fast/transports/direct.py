"""Answers what a front does not by an ASGI app in its own process, with no server in between: for a port of few
requests and small answers. Bodies of requests are not read."""

import asyncio
import contextlib
import logging
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp

from sse_fast._native.front.connection import Connection
from sse_fast.protocol.decision import Answer
from sse_fast.protocol.problem import FAILED, problem
from sse_fast.transports.behind import IS_LOCAL
from sse_fast.transports.exchange import Server
from sse_fast.transports.head import Head

logger = logging.getLogger("sse_fast.transports")


class Direct:
    """Direct(front, app): the relay of a front, as `exchange.Relay` has it."""

    def __init__(self, front: Server, app: ASGIApp) -> None:
        self.front, self.app = front, app
        self.answering: set[_Answering] = set()

    @property
    def busy(self) -> int:
        return len(self.answering)

    def begin(
        self,
        connection: Connection,
        head: Head,
        /,
        *,
        client: str,
        trusted: bool,
        keep: bool,
        length: int | None,
        own: bool = False,
        local: bool = False,
    ) -> "_Answering":
        return _Answering(self, connection, head, client, local)

    def tick(self, now: float, /) -> None: ...

    def leave(self) -> None: ...

    async def finish(self, seconds: float, /) -> None:
        if self.answering:
            await asyncio.wait([answering.task for answering in self.answering], timeout=seconds)

    def close(self) -> None:
        for answering in list(self.answering):
            answering.task.cancel()


class _Answering:
    """One exchange."""

    def __init__(self, direct: Direct, connection: Connection, head: Head, client: str, local: bool) -> None:
        self._direct, self._connection, self._head = direct, connection, head
        self._status, self._body = 0, b""
        self._headers: list[tuple[bytes, bytes]] = []
        path, _, query = head.target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.minor,
            "method": head.method,
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": (client, 0),
            "server": None,
            IS_LOCAL: local,
        }
        self.task = asyncio.get_running_loop().create_task(self._answer(scope))
        direct.answering.add(self)

    async def _answer(self, scope: MutableMapping[str, Any]) -> None:
        answer = problem(500, FAILED)
        try:
            await self._direct.app(scope, self._receive, self._send)
            # Whether the connection is kept the front says.
            headers = tuple(header for header in self._headers if header[0] != b"connection")
            answer = Answer(self._status, headers, self._body)
        except Exception:
            logger.exception("%s %s could not be answered", scope["method"], scope["path"])
        finally:
            self._direct.answering.discard(self)
        # A body that nobody reads would be taken for the next request.
        with contextlib.suppress(RuntimeError):
            self._direct.front.respond(self._connection, self._head, answer, last=self._head.has_body)

    async def _receive(self) -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message["headers"]
        else:
            self._body += message.get("body", b"")

    # ---- for the exchange at the front -------------------------------------------------------------------------------

    def body(self, piece: bytes, last: bool, /) -> None:
        """Nobody reads it."""

    def writable(self) -> None: ...

    def late(self) -> None: ...

    def gone(self) -> None:
        self.task.cancel()

    def broken(self) -> bool:
        self.task.cancel()
        return True

    def tunnelled(self, data: bytes, /) -> None: ...
