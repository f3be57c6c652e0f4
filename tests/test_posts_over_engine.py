"""POSTs whose header block is known, of a node over an engine: they are answered as those that are parsed and decided
about, when the engine has their events; and what a turn of requests brings goes to it together."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis_servers
from engines import MemoryEngine, Published, Server, away
from support import until

from sse_fast.edge.app import Edge
from sse_fast.errors import EngineUnavailable
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded
from sse_fast.hub.engine import Told
from sse_fast.settings import Settings
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import bound_socket


class Held(MemoryEngine):
    """An engine whose answers come when the test says so. `flights`: what went to it together."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.taken: list[tuple[Encoded, Told, Callable[[], None]]] = []
        self.flights: list[int] = []
        self.holds = False

    def publish_soon(self, event: Encoded, told: Told, counted: Callable[[], None]) -> bool:
        if self.server.away:
            return False
        self.taken.append((event, told, counted))
        return True

    def fly(self) -> None:
        if self.taken:
            self.flights.append(len(self.taken))
            if not self.holds:
                asyncio.get_running_loop().call_soon(self.answer)

    def answer(self, error: EngineUnavailable | None = None) -> None:
        taken, self.taken = self.taken, []
        for event, told, counted in taken:
            if error is not None:
                told.set_exception(error)
            else:
                counted()
                told.set_result(Published([self.publish_now(event)], 0))

    def publish_now(self, event: Encoded) -> EventId:
        from sse_fast.cluster.entries import Events

        return self.server.add(lambda id: Events(id.epoch, [(id.position, *event, 0)]))


class Port:
    """A front over it, which knows header blocks, or parses each request."""

    def __init__(self, *, remembers: bool = True, **more: Any) -> None:
        self.server = Server()
        self.edge = Edge(Settings(max_event_size=300, cors_origins=["https://page.example"], **more))
        self.edge.hub.__init__(engine=self._connect)  # type: ignore[misc]
        self.front = Front(self.edge._streams, self.edge.policy, most=100, publish=self.edge._publishing.publish)
        self.front.open(bound_socket("127.0.0.1", 0, None))
        assert self.front.listener is not None
        assert self.front.listener.posts is not None
        self.posts = self.front.listener.posts
        if not remembers:
            self.front.listener.posts = None

    def _connect(self) -> Held:
        self.engine = Held(self.server)
        return self.engine

    async def say(self, *requests: bytes) -> bytes:
        """What is answered to these, each sent when the one before is answered; a closed connection ends them."""
        loop, got = asyncio.get_running_loop(), b""
        with socket.create_connection(("127.0.0.1", self.front.port)) as client:
            client.setblocking(False)
            for request in requests:
                await loop.sock_sendall(client, request)
                many = request.count(b"POST ")
                heads = got.count(b"HTTP/1.1 ")
                async with asyncio.timeout(30):
                    while got.count(b"HTTP/1.1 ") < heads + many or not whole(got):
                        part = await loop.sock_recv(client, 65536)
                        assert part or whole(got), got
                        got += part
                        if not part:
                            return without_date(got)
        return without_date(got)


def without_date(said: bytes) -> bytes:
    return re.sub(rb"date: [^\r]+\r\n", b"date: NOW\r\n", said)


def whole(said: bytes) -> bool:
    head, _, body = said[said.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(body) == int(length[1])


@asynccontextmanager
async def opened(**more: Any) -> AsyncIterator[Port]:
    port = Port(**more)
    async with port.edge.hub:
        await until(lambda: port.edge.hub.ready)
        try:
            yield port
        finally:
            port.engine.answer()
            port.front.close()
            await port.edge.close()


def post(channel: str, body: bytes = b"hello", headers: bytes = b"") -> bytes:
    return b"POST /publish/%b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b" % (
        channel.encode(),
        headers,
        len(body),
        body,
    )


REQUESTS = [
    post("a"),
    post("b/c", b"some more"),
    post("a", b""),
    post("a", b"x" * 400),  # too large
    post("a", b"two\nlines") + post("b") + post("a", b"last"),  # in one breath
    post("~~%20") + post("a"),
    post("a", headers=b"Origin: https://page.example\r\n"),
    post("a", headers=b"Origin: https://page.example\r\n"),
]


async def test_a_known_request_is_answered_and_published_as_one_that_is_parsed() -> None:
    said: list[bytes] = []
    published: list[list[Any]] = []
    taken = []
    for remembers in (True, False):
        async with opened(remembers=remembers) as port:
            said.append(b"".join([await port.say(request) for request in REQUESTS]))
            published.append([item for _, item in port.server.kept])
            taken.append(port.posts.taken)
            assert port.edge.hub.published == 9
            assert port.edge.hub.backplane.published_bytes > 9 * len("data: \n\n")
    assert said[0] == said[1]
    assert [[each[1:3] for each in item.events] for item in published[0][1:]] == [
        [each[1:3] for each in item.events] for item in published[1][1:]
    ]
    assert taken == [7, 0]


async def test_what_a_turn_brings_goes_to_the_engine_together_and_all_are_answered() -> None:
    async with opened() as port:
        await port.say(post("a"))
        port.engine.holds = True
        clients = [socket.create_connection(("127.0.0.1", port.front.port)) for _ in range(20)]
        for client in clients:
            client.sendall(post("a"))
        await until(lambda: port.posts.waiting == 20)
        assert len(port.engine.flights) <= 3
        assert port.front.busy == 20
        port.engine.answer()
        assert port.posts.waiting == port.front.busy == 0
        ids = set()
        for client in clients:
            client.settimeout(30)
            ids.add(client.recv(65536).rpartition(b"\r\n\r\n")[2])
            client.close()
        assert len(ids) == 20


async def test_an_outage_is_answered_as_to_who_is_parsed_and_the_connection_stays() -> None:
    async with opened() as port:
        await port.say(post("a"))
        port.engine.holds = True
        saying = asyncio.ensure_future(port.say(post("a"), post("b")))
        for at in range(2):
            await until(lambda: port.posts.waiting == 1)
            port.engine.answer(away() if at == 0 else None)
        said = await saying
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in said
        assert said.count(b"HTTP/1.1 200 OK") == 1
        port.server.away = True
        known = await port.say(post("a"))
        assert known.startswith(b"HTTP/1.1 503 ")
        assert known.rpartition(b"\r\n\r\n")[2] == said[: said.rindex(b"HTTP/1.1")].rpartition(b"\r\n\r\n")[2]


async def test_who_goes_while_it_waits_is_published_and_hinders_nobody() -> None:
    async with opened() as port:
        await port.say(post("a"))
        port.engine.holds = True
        goes = socket.create_connection(("127.0.0.1", port.front.port))
        goes.sendall(post("a", b"gone"))
        stays = asyncio.ensure_future(port.say(post("a", b"stays")))
        await until(lambda: port.posts.waiting == 2)
        goes.close()
        assert port.front.listener is not None
        listener = port.front.listener
        await until(lambda: listener.open == 1)
        port.engine.answer()
        assert (await stays).startswith(b"HTTP/1.1 200 OK")
        assert [item.events[0][2] for _, item in port.server.kept[-2:]] == [b"data: gone\n\n", b"data: stays\n\n"]  # type: ignore[union-attr]
        assert port.posts.waiting == 0


async def test_a_front_that_is_left_answers_who_waits_and_closes() -> None:
    async with opened() as port:
        await port.say(post("a"))
        port.engine.holds = True
        saying = asyncio.ensure_future(port.say(post("a") + post("b")[:20]))
        await until(lambda: port.posts.waiting == 1)
        port.front.leave()
        finishing = asyncio.ensure_future(port.front.finish(30))
        await asyncio.sleep(0)
        assert not finishing.done()
        port.engine.answer()
        saying.cancel()
        await finishing


async def test_the_answer_to_who_waited_while_it_was_left_says_that_it_is_the_last() -> None:
    async with opened() as port:
        await port.say(post("a"))
        port.engine.holds = True
        saying = asyncio.ensure_future(port.say(post("a")))
        await until(lambda: port.posts.waiting == 1)
        port.front.leave()
        port.engine.answer()
        assert b"\r\nconnection: close\r\n" in await saying


async def test_what_was_not_published_is_not_counted_against_its_publisher() -> None:
    async with opened(rate_publish="3/h") as port:
        await port.say(post("a"))
        port.engine.holds = True
        for _ in range(10):
            saying = asyncio.ensure_future(port.say(post("a")))
            await until(lambda: port.posts.waiting == 1)
            port.engine.answer(away())
            assert (await saying).startswith(b"HTTP/1.1 503 ")


async def test_over_redis_many_publishers_share_few_calls_and_every_event_is_there_once() -> None:
    redis_servers.need()
    with redis_servers.running() as redis:
        edge = Edge(Settings(backplane=redis.url))
        front = Front(edge._streams, edge.policy, most=200, publish=edge._publishing.publish)
        front.open(bound_socket("127.0.0.1", 0, None))
        async with edge.hub:
            await until(lambda: edge.hub.ready)
            ids = await asyncio.gather(*(posts(front.port, 20, number) for number in range(32)))
            backplane: Any = edge.hub.backplane
            assert front.listener is not None
            assert front.listener.posts is not None
            assert front.listener.posts.taken >= 600
            assert backplane.engine.counts.events == backplane.published == 640
            assert backplane.engine.counts.calls < 320
            every = [id for each in ids for id in each]
            assert len(set(every)) == 640
            assert all(each == sorted(each) for each in ids), "each publisher's events are in its order"
        front.close()
        await edge.close()


async def posts(port: int, count: int, number: int) -> Sequence[int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    positions = []
    for at in range(count):
        writer.write(post(f"channel-{number}", b"%d" % at))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        said = await reader.readuntil(b"}")
        positions.append(int(said.rpartition(b"-")[2][:-2]))
    writer.close()
    return positions
