"""The one port in this process: hub, admission, streams, publishing, front and relay, put together as a worker does,
with somebody's app server on a Unix socket behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from stream_port import ADMISSION, HUB, ORIGIN

from sse_fast._native.front.listener import Listener
from sse_fast.access.limits import Admission
from sse_fast.access.origins import Origins
from sse_fast.edge.publish import Publishing
from sse_fast.edge.requests import Requests
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Answer, Publish
from sse_fast.protocol.policy import Policy
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Lives, Transport
from sse_fast.transports.relay import Relay
from sse_fast.transports.streams import Streams

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class OnePort:
    """published: the bodies of what was published in place, in order."""

    def __init__(self, app_path: Path, *, relay: dict[str, Any] | None = None, **settings: Any) -> None:
        self.hub = Hub(**{name: settings.pop(name) for name in HUB if name in settings})
        self.admission = Admission(**{name: settings.pop(name) for name in ADMISSION if name in settings})
        self.streams = Streams(self.hub, self.admission, retry=settings.pop("retry", 1000))
        self.publishing = Publishing(self.hub, Requests())
        self.published: list[bytes] = []
        self.bounds: Bounds | None = settings.pop("bounds", None)
        self.transport = Front(
            self.streams,
            Policy(max_channels=8, origins=Origins([ORIGIN])),
            publish=self._publish,
            relay=lambda front: Relay(front, str(app_path), **(relay or {})),
            **{"most": 10_000} | settings,
        )

    def _publish(self, wanted: Publish, body: bytes, client: str) -> Any:
        answer = self.publishing.publish(wanted, body, client)
        if not isinstance(answer, Answer):
            return self._later(answer, body)
        if answer.status == 200:
            self.published.append(body)
        return answer

    async def _later(self, answering: Awaitable[Answer], body: bytes) -> Answer:
        answer = await answering
        if answer.status == 200:
            self.published.append(body)
        return answer

    @classmethod
    @asynccontextmanager
    async def opened(cls, directory: Path, app: Serve, **settings: Any) -> AsyncIterator[Self]:
        path = directory / "app.sock"
        server = await asyncio.start_unix_server(app, str(path))
        port = cls(path, **settings)
        port.transport.open(bound_socket("127.0.0.1", 0, port.bounds))
        try:
            yield port
        finally:
            await port.hub.close()
            port.transport.close()
            server.close()

    @property
    def number(self) -> int:
        return self.transport.port

    @property
    def listener(self) -> Listener:
        assert self.transport.listener is not None
        return self.transport.listener

    @property
    def counts(self) -> Lives:
        return self.streams.transports[Transport.NATIVE]

    def check(self) -> None:
        """What holds at every moment: all who count streams have the same number."""
        numbers = (
            self.listener.streams,
            self.hub.fanout.connections,
            self.admission.connections,
            self.counts.connections,
            self.counts.accepted - self.counts.ended.total(),
        )
        assert len(set(numbers)) == 1, f"listener, fan-out, admission, transport, transport's sums: {numbers}"
        assert self.listener.open >= self.listener.streams
        assert 0 <= self.transport.busy <= self.listener.open
