"""SIGTERM with thousands of open streams, seen from bare sockets: everything is handed out, said, and broken off."""

import asyncio
import resource
import time
from collections.abc import Iterator

import pytest
from client import Stream
from conftest import Edges, missing, until
from whatwg import Event

STREAMS = 2000
DRAIN_TIMEOUT = 25.0


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Room for all the sockets here; the server takes its own."""
    needed = STREAMS + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        missing(f"a hard limit of {needed} descriptors (it is {hard})")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
async def test_a_drain_of_2000_streams_loses_nothing_says_closing_and_aborts_every_one(edge: Edges) -> None:
    server = edge("--drain-timeout", str(DRAIN_TIMEOUT))
    few = asyncio.Semaphore(100)

    async def subscribe() -> Stream:
        async with few:
            return await Stream.open(server.port, "/sse/a")

    streams = await asyncio.gather(*(subscribe() for _ in range(STREAMS)))
    server.wait_connections(STREAMS)
    acknowledged = server.publish_many("a", [f"event {number}" for number in range(10)])
    asked = time.monotonic()
    server.terminate()

    async def read(stream: Stream) -> list[Event]:
        return [event async for event in stream.events()]

    everything = await asyncio.gather(*(read(stream) for stream in streams))
    status = await asyncio.to_thread(server.wait)
    took = time.monotonic() - asked

    assert status == 0, server.log()
    assert took < DRAIN_TIMEOUT
    assert "Traceback" not in server.log()
    for events, stream in zip(everything, streams, strict=True):
        assert [event.type for event in events] == ["$connected", *["message"] * len(acknowledged), "$closing"]
        assert [event.last_event_id for event in events[1:-1]] == acknowledged
        assert stream.aborted, "a clean end is taken for the end by some clients"


async def test_a_drain_waits_no_longer_than_its_timeout_for_a_client_that_does_not_read(edge: Edges) -> None:
    server = edge("--drain-timeout", "1")
    stuck = await Stream.open(server.port, "/sse/a")
    quick = await Stream.open(server.port, "/sse/a")
    got: list[Event] = []

    async def read() -> None:
        async for event in quick.events():
            got.append(event)

    reading = asyncio.create_task(read())
    # More than the kernel's buffers take: the stuck stream blocks.
    ids: list[str] = []
    for _ in range(40):
        ids += await asyncio.to_thread(server.publish_many, "a", ["x" * 50_000] * 10)
    await asyncio.to_thread(until, lambda: server.stats()["blocked"] == 1, "one blocked stream")
    server.terminate()
    status = await asyncio.to_thread(server.wait)  # not for ever
    assert status == 0, server.log()
    await reading
    assert [event.last_event_id for event in got[1:-1]] == ids
    assert got[-1].type == "$closing"
    stuck.cut()
