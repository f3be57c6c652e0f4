"""A front in this process: hub, admission, streams, publishing and the front, put together as the edge does; and an
app behind it, or none."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from sse_fast._native.front.listener import Listener
from sse_fast.access.access import Access
from sse_fast.access.limits import Admission
from sse_fast.access.origins import Origins
from sse_fast.edge.app import Edge
from sse_fast.edge.publish import Publishing
from sse_fast.edge.requests import Requests
from sse_fast.hub.hub import Hub
from sse_fast.node.workers import WorkerSlot
from sse_fast.protocol.decision import Answer, Publish
from sse_fast.protocol.policy import Policy
from sse_fast.settings import Settings
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Lives, Transport
from sse_fast.transports.relay import Relay
from sse_fast.transports.streams import Streams

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ORIGIN = "http://page.example"
HUB = ("max_stream_age", "log_size", "keepalive", "send_timeout", "slow_policy", "max_event_size", "send_memory")
ADMISSION = ("max_connections", "max_connections_per_ip")


class FrontPort:
    """FrontPort(**settings of the hub, of admission, of the transport). On 127.0.0.1, on the running loop.

    `app`: the path of the Unix socket of whoever answers what is relayed, by a relay with the settings `relay`; then it
    publishes, too. published: the bodies of what was published in place by the general path, in order.
    """

    def __init__(self, app: Path | None = None, *, relay: dict[str, Any] | None = None, **settings: Any) -> None:
        self.hub = Hub(**{name: settings.pop(name) for name in HUB if name in settings})
        self.admission = Admission(**{name: settings.pop(name) for name in ADMISSION if name in settings})
        self.streams = Streams(self.hub, self.admission, retry=settings.pop("retry", 1000))
        self.publishing = Publishing(self.hub, Requests())
        self.published: list[bytes] = []
        self.bounds: Bounds | None = settings.pop("bounds", None)
        policy = Policy(max_channels=8, origins=Origins([ORIGIN]), access=settings.pop("access", Access()))
        if app is None:
            settings = {"head_seconds": 0.5} | settings
        else:
            settings |= {"publish": self._publish, "relay": lambda front: Relay(front, str(app), **(relay or {}))}
        self.transport = Front(self.streams, policy, **{"most": 10_000} | settings)

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
    async def opened(cls, app: Serve | None = None, **settings: Any) -> AsyncIterator[Self]:
        """`app`: answers each connection of the relay's."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "app") if app is not None else None
            server = await asyncio.start_unix_server(app, path) if app is not None else None
            port = cls(path, **settings)
            port.open()
            try:
                yield port
            finally:
                await port.hub.close()
                port.transport.close()
                if server is not None:
                    server.close()

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
        assert 0 <= self.transport.busy <= self.listener.open

    def relayed(self) -> str:
        """What the relay is at, for who has waited in vain."""
        relay = self.transport.relay
        assert isinstance(relay, Relay)
        numbers = {name: getattr(relay, name) for name in ("open", "idle", "queued", "uploads", "tunnels", "held")}
        under_way = [
            (each.connection.state, each.head.target[:40], each.whole, each._upstream is not None)
            for each in relay._under_way
        ]
        return f"{numbers}, blocked {len(relay.blocked)}, under way {under_way}"

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
