"""A front in this process: hub, admission, the streams and the front, put together as the edge does."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from sse_fast._native.front.listener import Listener
from sse_fast.access.limits import Admission
from sse_fast.access.origins import Origins
from sse_fast.edge.app import Edge
from sse_fast.hub.hub import Hub
from sse_fast.node.workers import WorkerSlot
from sse_fast.protocol.policy import Policy
from sse_fast.settings import Settings
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Lives, Transport
from sse_fast.transports.streams import Streams

ORIGIN = "http://page.example"
HUB = ("log_size", "keepalive", "send_timeout", "slow_policy", "max_event_size", "send_memory")
ADMISSION = ("max_connections", "max_connections_per_ip")


class StreamPort:
    """StreamPort(**settings of the hub, of admission, of the transport). On 127.0.0.1, on the running loop."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub(**{name: settings.pop(name) for name in HUB if name in settings})
        self.admission = Admission(**{name: settings.pop(name) for name in ADMISSION if name in settings})
        self.streams = Streams(self.hub, self.admission, retry=settings.pop("retry", 1000))
        policy = Policy(max_channels=8, origins=Origins([ORIGIN]))
        self.bounds: Bounds | None = settings.pop("bounds", None)
        self.transport = Front(self.streams, policy, **{"head_seconds": 0.5, "most": 10_000} | settings)

    @classmethod
    @asynccontextmanager
    async def opened(cls, **settings: Any) -> AsyncIterator[Self]:
        port = cls(**settings)
        port.open()
        try:
            yield port
        finally:
            await port.hub.close()
            port.transport.close()

    def open(self) -> None:
        self.transport.open(bound_socket("127.0.0.1", 0, self.bounds))

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
        assert self.hub.fanout.blocked <= self.hub.fanout.connections

    def connect(self, request: bytes = b"", *, buffer: int = 0, source: str = "") -> socket.socket:
        """A client's socket, not blocking; `buffer` bytes for what it has not read, or as many as the kernel likes."""
        return connect(self.number, request, buffer=buffer, source=source)


def connect(port: int, request: bytes = b"", *, buffer: int = 0, source: str = "") -> socket.socket:
    client = socket.socket()
    try:
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            # The kernel counts the server's send buffer in segments; of the loopback's 64 KiB it takes megabytes.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        if source:
            client.bind((source, 0))
        client.connect(("127.0.0.1", port))  # the kernel accepts at once: a listening socket is enough
        client.setblocking(False)
        if request:
            client.send(request)
    except BaseException:
        client.close()
        raise
    return client


def entrance_at(host: str = "127.0.0.1") -> Entrance:
    """Of a front behind which nobody is."""
    return Entrance(bound_socket(host, 0, None), Path("/nowhere"))


@asynccontextmanager
async def edge_of(*, slot: WorkerSlot | None = None, **settings: Any) -> AsyncIterator[Edge]:
    """The edge in this process, with its front open and no ASGI server behind it: see `by_asgi`."""
    edge = Edge(Settings(**settings), slot=slot, entrance=entrance_at(settings.get("host", "127.0.0.1")))
    edge._start_up()
    try:
        yield edge
    finally:
        await edge.close()


def by_asgi(edge: Edge) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost")  # type: ignore[arg-type]
