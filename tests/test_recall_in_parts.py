"""Who was away for so long that what the engine has is more than one stream is sent at once gets it in parts, each when
it has read the one before and comes back: every event, in order and once, and no gap (law 3)."""

import asyncio
import logging
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from engines import MemoryEngine, Server
from front_port import connect
from support import until

import sse_fast.hub.recall as recall
import sse_fast.transports.streams as streams
from sse_fast._native.wire.control import forgotten
from sse_fast._native.wire.event_parser import EventParser
from sse_fast.edge.app import Edge
from sse_fast.errors import EndReason
from sse_fast.hub.follower import newest_of
from sse_fast.settings import Settings
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Transport

Told = list[tuple[str, str, str]]


@asynccontextmanager
async def node(server: Server, send_timeout: float = 30.0, **settings: Any) -> AsyncIterator[tuple[Edge, int]]:
    """A node with a small window, and the port of its front."""
    edge = Edge(Settings(**settings))
    edge.hub.__init__(  # type: ignore[misc]
        engine=lambda: MemoryEngine(server), log_size=16384, max_event_size=2048, send_timeout=send_timeout
    )
    front = Front(edge._streams, edge.policy, most=100, publish=edge._publishing.publish)
    front.open(bound_socket("127.0.0.1", 0, Bounds(8192, 60.0)))
    async with edge.hub:
        await until(lambda: edge.hub.ready and newest_of(edge.hub.log) == server.last)
        yield edge, front.port
    front.close()
    await edge.close()


async def fill(server: Server, count: int, seed: int) -> list[tuple[str, str, str]]:
    """(channel, id, data) of each."""
    chance, engine, published = random.Random(seed), MemoryEngine(server), []
    for at in range(count):
        channel, data = chance.choice("abc"), f"{at} " + "x" * chance.randrange(40)
        ids = (await engine.publish([(channel.encode(), f"data: {data}\n\n".encode())])).ids
        published.append((channel, str(ids[0]), data))
    return published


async def read(port: int, channel: str, last: str, end: str) -> tuple[Told, bool]:
    """What a stream has until it ends, or has this id: (event, data, id) of each; and whether it ended."""
    loop, got = asyncio.get_running_loop(), b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        head = f"GET /sse/{channel} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n"
        await loop.sock_sendall(client, head.encode())
        async with asyncio.timeout(30):
            while True:
                part = await loop.sock_recv(client, 65536)
                got += part
                body = got.partition(b"\r\n\r\n")[2]
                told = [(event.event, event.data, event.id) for event in EventParser().feed(unchunked(body))]
                if not part or (told and told[-1][2] == end and told[-1][0] != "$closing"):
                    return told, not part


def unchunked(body: bytes) -> bytes:
    whole = b""
    while (found := re.match(rb"([0-9a-f]+)\r\n", body)) is not None:
        size = int(found[1], 16)
        whole += body[found.end() : found.end() + size]
        body = body[found.end() + size + 2 :]
    return whole


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_it_comes_in_parts_each_event_once_and_without_a_gap(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 3000)
    server = Server()
    published = await fill(server, 3000, seed)
    chance = random.Random(seed)
    async with node(server) as (_, port):
        for channel in "abc":
            start = chance.randrange(1000)
            expected = [(id, data) for name, id, data in published[start + 1 :] if name == channel]
            last, events, parts = published[start][1], list[tuple[str, str]](), 0
            while not events or events[-1] != expected[-1]:
                told, ended = await read(port, channel, last, expected[-1][0])
                assert told[0][:2] == ("$connected", '{"resume":"complete"}')
                assert ended == (told[-1][:2] == ("$closing", '{"reason":"more"}'))
                new = [(id, data) for event, data, id in told if not event.startswith("$")]
                assert sum(len(data) for _, data in new) < 3000 + 100 * 60 or not ended
                events += new
                last, parts = told[-1][2], parts + ended
                assert [event for event, _, _ in told if event.startswith("$")] in (
                    ["$connected"],
                    ["$connected", "$closing"],
                )
            assert events == expected
            assert parts >= 2


async def test_the_pages_of_all_its_parts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 1000)
    monkeypatch.setattr(recall, "KEPT_SECONDS", 600.0)
    server = Server()
    published = await fill(server, 3000, 4)
    end = [id for name, id, _ in published if name == "a"][-1]
    async with node(server) as (_, port):
        last = published[0][1]
        for parts in range(100):  # noqa: B007
            told, ended = await read(port, "a", last, end)
            last = told[-1][2]
            if not ended:
                break
        assert parts > 10
        assert server.pages <= 3000 / 36 + 2  # a page of 100 that begins up to 63 before what it is read for


async def test_what_is_forgotten_later_on_is_not_sent_by_a_part_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 1000)
    server = Server()
    published = await fill(server, 2000, 5)
    await MemoryEngine(server).forget(b"a", forgotten("a"))
    published += await fill(server, 1000, 6)
    at = published[10][1]
    async with node(server) as (edge, _):
        assert await edge.hub.recall(("a",), (), at, lambda name: False) is None
        assert await edge.hub.recall((), ("*",), at, lambda name: True) is None
        found = await edge.hub.recall(("b",), (), at, lambda name: False)
        assert found is not None
        assert found.more
        await edge.hub.forget("b")  # it comes into the log
        await until(lambda: edge.hub.fanout.index.forgot_after(0) == [b"b"])
        assert await edge.hub.recall(("b",), (), at, lambda name: False) is None
        assert await edge.hub.recall(("c",), (), at, lambda name: False) is not None


async def test_by_asgi_it_comes_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 1000)
    server = Server()
    published = await fill(server, 2000, 7)
    async with node(server) as (edge, _):
        body, done = b"", asyncio.Event()

        async def send(message: dict[str, object]) -> None:
            nonlocal body
            part = message.get("body", b"")
            assert isinstance(part, bytes)
            body += part
            if b'"more"' in body:
                done.set()

        async def receive() -> dict[str, object]:
            await done.wait()
            return {"type": "http.disconnect"}

        headers = [(b"host", b"localhost"), (b"last-event-id", published[10][1].encode())]
        scope = {"type": "http", "method": "GET", "path": "/sse/a", "raw_path": b"/sse/a", "query_string": b""}
        scope |= {"http_version": "1.1", "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        with suppress(ConnectionError):  # which is how a server is told to cut the connection
            async with asyncio.timeout(30):
                await edge(scope, receive, send)  # type: ignore[arg-type]
        told = [(event.event, event.data, event.id) for event in EventParser().feed(body)]
        expected = [(data, id) for name, id, data in published[11:] if name == "a"]
        events = [(data, id) for event, data, id in told if not event.startswith("$")]
        assert events
        assert events == expected[: len(events)]


def unread(port: int, last: str) -> socket.socket:
    """A client that asks for all that it has missed, and reads nothing of it."""
    head = f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n"
    return connect(port, head.encode(), buffer=4096)


async def long_behind(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, str]:
    """More than the kernel takes for who does not read it; and the first id."""
    monkeypatch.setattr(recall, "MOST_BYTES", 100_000)
    server = Server()
    engine = MemoryEngine(server)
    [first] = (await engine.publish([(b"a", b"data: first\n\n")])).ids
    for _ in range(400):
        await engine.publish([(b"a", b"data: %b\n\n" % (b"x" * 1000))])
    return server, str(first)


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
async def test_a_part_counts_as_a_stream_until_it_is_out(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server, first = await long_behind(monkeypatch)
    async with node(server, **{limit: 1}) as (edge, port):
        lives = edge._streams.transports[Transport.NATIVE]
        with unread(port, first):
            await until(lambda: edge._streams.parts)
            assert edge._admission.connections == edge.hub.fanout.connections == lives.connections == 1
            assert edge._streams.parts > 100_000
            told, _ = await read(port, "a", first, "")
            assert told == [("$closing", '{"reason":"overloaded"}', "")]
            assert edge._admission.refused == {limit: 1}
        await until(lambda: lives.connections == 0)
        assert lives.ended == {EndReason.CLIENT: 1}
        told, ended = await read(port, "a", first, "")
        assert (told[-1][:2], ended) == (("$closing", '{"reason":"more"}'), True)
        assert lives.ended == {EndReason.CLIENT: 1, EndReason.MORE: 1}
        assert edge._admission.connections == edge.hub.fanout.connections == edge._streams.parts == 0


async def test_who_does_not_read_a_part_is_ended_as_any_other_who_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, first = await long_behind(monkeypatch)
    async with node(server, send_timeout=0.3) as (edge, port):
        lives = edge._streams.transports[Transport.NATIVE]
        with unread(port, first):
            await until(lambda: lives.ended == {EndReason.SLOW: 1})
        assert edge._admission.connections == edge.hub.fanout.connections == edge._streams.parts == 0


async def test_the_parts_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    server, first = await long_behind(monkeypatch)
    monkeypatch.setattr(streams, "MOST_OF_PARTS", 150_000)
    async with node(server) as (edge, port):
        with unread(port, first):
            await until(lambda: edge._streams.parts > 0)
            told, _ = await read(port, "a", first, "")
            assert told == [("$closing", '{"reason":"overloaded"}', "")]
            last = str(server.last)
            told, _ = await read(port, "a", last, last)
            assert told[0][0] == "$connected", "others are let in"
        await until(lambda: edge._streams.parts == 0)
        told, _ = await read(port, "a", first, "")
        assert told[-1][:2] == ("$closing", '{"reason":"more"}')


async def test_a_part_has_its_lines_in_the_access_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sse_fast.access")
    server, first = await long_behind(monkeypatch)
    async with node(server, access_log=True) as (_, port):
        await read(port, "a", first, "")
        lines = [vars(line) for line in caplog.records if line.name == "sse_fast.access"]
    assert [(line["msg"], line["channel"], line.get("resumed"), line.get("reason")) for line in lines] == [
        ("stream opened", "a", "complete", None),
        ("stream ended", "a", None, "more"),
    ]


@pytest.mark.parametrize("setting", [{"max_connections_per_ip": 1}, {"rate_open": "1/h"}])
async def test_who_may_not_open_a_stream_has_nothing_read_for_it(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first = await long_behind(monkeypatch)
    async with node(server, **setting) as (edge, port):
        with connect(port, b"GET /sse/a HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            await until(lambda: edge._admission.connections == 1)
            told, _ = await read(port, "a", first, "")
            assert [event for event, _, _ in told] == ["$closing"]
            assert server.pages == 0


async def test_a_stream_counts_while_what_it_begins_with_is_read_and_until_its_client_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, first = await long_behind(monkeypatch)
    goes_on, page = asyncio.Event(), MemoryEngine.page

    async def slow(engine: MemoryEngine, *asked: Any) -> Any:
        await goes_on.wait()
        return await page(engine, *asked)

    monkeypatch.setattr(MemoryEngine, "page", slow)
    async with node(server, max_connections=1) as (edge, port):
        lives = edge._streams.transports[Transport.NATIVE]
        with unread(port, first):
            await until(lambda: edge._admission.connections == 1)
            told, _ = await read(port, "a", first, "")
            assert told == [("$closing", '{"reason":"overloaded"}', "")]
        goes_on.set()
        await until(lambda: edge._admission.connections == 0)
        assert lives.ended == {EndReason.CLIENT: 1}
        told, _ = await read(port, "a", first, "")
        assert told[-1][:2] == ("$closing", '{"reason":"more"}')
        assert edge._admission.connections == 0
