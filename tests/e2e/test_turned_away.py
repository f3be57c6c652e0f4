"""A client over the limit, seen from bare sockets: told when to come back, in a form that makes every client do so."""

import asyncio

from client import Stream
from conftest import Edges


async def test_a_stream_too_many_is_told_when_to_come_back_and_is_aborted(edge: Edges) -> None:
    server = edge("--max-connections", "1", "--retry", "200")
    admitted = await Stream.open(server.port, "/sse/a")

    async def refused() -> None:
        stream = await Stream.open(server.port, "/sse/a")
        assert stream.status == 200
        assert [(event.type, event.data) async for event in stream.events()] == [
            ("$closing", '{"reason":"overloaded"}')
        ]
        assert stream.retry is not None
        assert 7_000 <= stream.retry <= 13_000
        assert stream.aborted, "fetch-event-source takes a clean end for the end, and never comes back"

    await asyncio.gather(*(refused() for _ in range(50)))
    assert server.stats()["refused"] == 50
    admitted.cut()
    await asyncio.to_thread(server.wait_connections, 0)
    again = await Stream.open(server.port, "/sse/a")
    async for event in again.events():
        assert event.type == "$connected"
        break
    again.cut()


async def test_a_caller_that_reads_json_gets_503_and_a_time_to_come_back(edge: Edges) -> None:
    server = edge("--max-connections", "1")
    admitted = await Stream.open(server.port, "/sse/a")
    refused = await Stream.open(server.port, "/sse/a", {"Accept": "application/json"})
    assert refused.status == 503
    assert 21 <= int(refused.headers["retry-after"]) <= 39
    refused.cut()
    admitted.cut()
