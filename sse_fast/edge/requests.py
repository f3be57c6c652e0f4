"""The requests beside the streams: counted until they are answered, so that a server can end after the last one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sse_fast.asgi import Scope, Send
from sse_fast.protocol.decision import Headers, in_order


class Requests:
    """`closing`: nothing more is taken to be published, and every answer closes its connection: a client that kept it
    would come back here again and again."""

    def __init__(self) -> None:
        self.closing = False
        self.under_way = 0
        self.at_the_front: Callable[[], int] = lambda: 0
        """How many more are under way that this app has not been told of."""

    async def answered(self, answering: Awaitable[None]) -> None:
        self.under_way += 1
        try:
            await answering
        finally:
            self.under_way -= 1

    def headed(self, send: Send, scope: Scope, headers: Headers = ()) -> Send:
        """`send` with these headers beside the answer's own, and with the word that it is the connection's last (RFC
        9112, section 9.6); in HTTP/2 nothing in an answer says so."""
        if self.closing and scope["http_version"] in ("1.0", "1.1"):
            headers = (*headers, (b"connection", b"close"))
        if not headers:
            return send

        async def send_headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(in_order(*message.get("headers", ()), *headers))
            await send(message)

        return send_headed

    async def finish(self, seconds: float) -> None:
        """Wait until the requests under way have been answered, at most so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (self.under_way or self.at_the_front()) and loop.time() < deadline:  # noqa: ASYNC110 - only at the end
            await asyncio.sleep(0.005)
