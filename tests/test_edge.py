"""The whole edge in this process: what its parts owe each other, and to whoever mounts it in an app of his own."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import Any

import httpx
import pytest
from front_port import edge_of, entrance_at
from support import until

from sse_fast._native.log.ring import segment_size
from sse_fast.base import shutdown
from sse_fast.base.descriptors import Budget
from sse_fast.edge import app
from sse_fast.edge.app import Edge, end_streams_on_signals
from sse_fast.node import worker
from sse_fast.node.segment import create_shared
from sse_fast.node.workers import Node, WorkerSlot
from sse_fast.settings import Settings
from sse_fast.testing import EventClient
from sse_fast.transports import front

pytestmark = pytest.mark.usefixtures("nothing_set")


async def opened(edge: Edge, address: str = "127.0.0.1", header: str = "") -> asyncio.StreamWriter:
    """A native stream that has been told it is connected."""
    assert edge.front is not None
    reader, writer = await asyncio.open_connection(address, edge.front.port)
    writer.write(f"GET /sse/a HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
    await reader.readuntil(b"event: $connected")
    return writer


def own_route(edge: Edge) -> EventClient:
    """A route of somebody's own, whose answers are streams of the edge's hub."""
    return EventClient(
        lambda scope, receive, send: edge.hub.response(scope, ["a"])(scope, receive, send), lifespan=False
    )


async def test_a_server_on_all_ipv6_addresses_is_open_on_ipv4_too() -> None:
    async with edge_of(host="::", open=True) as edge:
        for address in ("127.0.0.1", "::1"):
            (await opened(edge, address)).close()


async def test_what_a_proxy_passes_on_that_is_no_address_is_nobody_s_name() -> None:
    async with edge_of(trusted_proxies=["*"], max_connections_per_ip=1) as edge:
        writer = await opened(edge, header=f"X-Forwarded-For: {'x' * 8000}\r\n")
        assert edge._admission._tally.by_address == {"127.0.0.1": 1}
        writer.close()
        await until(lambda: edge._admission._tally.by_address == {})


async def lifespan(edge: Edge) -> list[dict[str, Any]]:
    """What a server is told of a start."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if told:
            raise asyncio.CancelledError  # that is all
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with contextlib.suppress(asyncio.CancelledError):
        await edge({"type": "lifespan"}, receive, send)
    return told


def slot_with_a_past(events: int) -> WorkerSlot:
    """Of a worker that comes to a node whose log is full already."""
    node = Node.create(create_shared(segment_size(1 << 22)), workers=1)
    past = [(b"a", b"data: %d\n\n" % n) for n in range(events)]
    for at in range(0, events, 10_000):
        node.log.append_many(past[at : at + 10_000])
    slot = WorkerSlot.claim(node.environment())
    assert slot is not None
    return slot


async def test_a_worker_has_read_the_log_before_it_says_that_it_has_started() -> None:
    edge = Edge(Settings(), slot=slot_with_a_past(50_000))
    assert await lifespan(edge) == [{"type": "lifespan.startup.complete"}]
    assert edge.hub.ready
    assert edge.hub.fanout.index.kept == 50_000
    await edge.close()


async def test_an_edge_that_is_told_of_no_start_is_not_ready_until_it_has_read_the_log() -> None:
    edge = Edge(Settings(), slot=slot_with_a_past(50_000))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
        before = await client.get("/readyz")
        assert (before.status_code, before.json()["status"]) == (503, "starting")
        assert "bytes of the log" in before.json()["reason"]
        async with EventClient(edge, lifespan=False).stream("/sse/a?history=2") as stream:
            told = [event.data for event in await stream.take(3)]
        assert told == ['{"resume":"live"}', "49998", "49999"]
        assert (await client.get("/readyz")).json() == {"status": "ready"}
    await edge.close()


async def test_a_start_that_fails_is_told_to_the_server_and_says_why_and_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_descriptor(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(front, "Listener", no_descriptor)
    entrance = entrance_at("127.0.0.1")
    port = entrance.listening.getsockname()[1]
    edge = Edge(Settings(), entrance=entrance)
    (failed,) = await lifespan(edge)
    assert failed["type"] == "lifespan.startup.failed"
    assert os.strerror(errno.EMFILE) in failed["message"]
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody has it
    await edge.close()


async def test_a_limit_beyond_all_descriptors_is_none() -> None:
    async with edge_of(max_connections=3_000_000_000) as edge:
        (await opened(edge)).close()


async def test_a_worker_that_closes_counts_its_streams_out_before_others_may_bury_it() -> None:
    node = Node.create(create_shared(segment_size(1 << 20)), workers=2, addresses=64)
    slot, other = WorkerSlot.claim(node.environment()), WorkerSlot.claim(node.environment())
    assert slot is not None
    assert other is not None
    async with edge_of(slot=slot, max_connections_per_ip=5) as edge:
        writer = await opened(edge)
        assert other.enter() == 2
        end_the_streams = edge.hub.close

        async def after_the_others_looked() -> None:
            other.clear_the_dead()
            await end_the_streams()

        edge.hub.close = after_the_others_looked  # type: ignore[method-assign]
    assert other.enter() == 2, "nobody counts as less than nobody, or as more than all there can be"
    assert other.enter_from("127.0.0.1") == 1
    writer.close()
    other.close()


async def test_those_who_say_nothing_cannot_take_more_descriptors_than_one_worker_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`max_connections` is the node's."""
    monkeypatch.setattr(
        app, "budget", lambda descriptors, streams, **how: Budget(own=64, streams=4, others=2, relayed=1)
    )
    node = Node.create(create_shared(segment_size(1 << 20)), workers=2)
    async with edge_of(slot=WorkerSlot.claim(node.environment()), max_connections=8) as edge:
        assert edge.front is not None
        silent = []
        for _ in range(7):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
            writer.write(b"GET /sse/a HTTP/1.1\r\n")
            silent.append((reader, writer))
        listener = edge.front.listener
        assert listener is not None
        await until(lambda: listener.accepted == 7)
        assert listener.open == 7 - listener.evicted == (4 + 2) // 2, "which is the part of one address"
        for _, writer in silent:
            writer.close()


async def test_streams_of_one_s_own_routes_are_under_the_limits_and_in_the_counters_of_the_edge() -> None:
    async with edge_of(max_connections=1) as edge, own_route(edge) as client:
        async with client.stream("/") as stream:
            assert (await stream.next()).event == "$connected"
            stats = edge.metrics.snapshot()
            assert (stats["connections"], stats["accepted"]) == (1, 1)
            async with client.stream("/") as too_many:
                assert (await too_many.next()).event == "$closing"
        assert edge.metrics.snapshot()["ended"]["client"] == 1


async def test_at_a_signal_streams_of_the_edge_and_of_one_s_own_routes_are_told_once_that_it_closes() -> None:
    async with edge_of() as edge, own_route(edge) as client, client.stream("/") as stream:
        end_streams_on_signals(edge)
        assert (await stream.next()).event == "$connected"
        shutdown._tell(asyncio.get_running_loop())
        assert [event.event for event in await stream.rest()] == ["$closing"]


async def test_stats_go_on_after_a_snapshot_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "STATS_EVERY", 0.01)
    async with edge_of() as edge:
        snapshot, failed = edge.metrics.snapshot, asyncio.Event()

        def fails_once() -> dict[str, object]:
            if not failed.is_set():
                failed.set()
                raise OSError("no descriptor is left")
            return snapshot()

        monkeypatch.setattr(edge.metrics, "snapshot", fails_once)
        here = EventClient(edge, lifespan=False, base_url="http://localhost")
        async with here as client, client.stream("/sse/$stats") as stream:
            assert (await stream.next()).event == "$connected"
            assert (await stream.next()).event == "stats"
        assert failed.is_set()


async def test_what_a_worker_ends_by_exiting_is_in_the_counters_that_it_leaves_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node.create(create_shared(segment_size(1 << 20)), workers=2)
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    async with (
        edge_of(slot=WorkerSlot.claim(node.environment())) as edge,
        edge_of(slot=WorkerSlot.claim(node.environment())) as other,
    ):
        writers = [await opened(edge), await opened(edge)]
        await worker._drain_and_exit(edge)
        assert exits == [0]
        stats = other.metrics.snapshot()
        assert (stats["accepted"], stats["ended"]["shutdown"], stats["transports"]["native"]["connections"]) == (
            2,
            2,
            0,
        )
        for writer in writers:
            writer.close()
