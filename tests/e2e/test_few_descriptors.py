"""A server that may open hardly any descriptors: what it has is divided, so that streams leave room for all else."""

import asyncio
from collections.abc import Callable

import pytest
from client import Stream
from conftest import PATIENCE, Edges
from test_node import customized, read

from sse_fast.base.descriptors import LEAST_DESCRIPTORS, budget

__all__ = ["customized"]

STREAMS, PLACES = budget(LEAST_DESCRIPTORS).streams, budget(LEAST_DESCRIPTORS).connections


@pytest.fixture
def few_descriptors(customized: Callable[[str], None]) -> None:
    """Servers start with the least that they may."""
    customized(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {(LEAST_DESCRIPTORS,) * 2})")


@pytest.mark.usefixtures("few_descriptors")
async def test_publishers_and_health_checks_are_answered_while_all_streams_are_in_use(edge: Edges) -> None:
    server = edge()
    streams = [await Stream.open(server.port, "/sse/a") for _ in range(STREAMS)]
    await asyncio.to_thread(server.wait_connections, STREAMS)
    for _ in range(20):
        refused = await Stream.open(server.port, "/sse/a")
        assert [event.data async for event in refused.events()][-1] == '{"reason":"overloaded"}'
    id = server.publish("a", "on")
    assert server.request("GET", "/healthz")[0] == 200
    for stream in streams:
        assert [event.last_event_id for event in await read(stream, 1)] == [id]
        stream.cut()


@pytest.mark.usefixtures("few_descriptors")
async def test_a_request_is_relayed_and_another_published_while_all_places_for_clients_are_taken(edge: Edges) -> None:
    server = edge()
    addresses = [(f"127.0.1.{number % 200 + 1}", 0) for number in range(PLACES)]  # one alone may not have them all
    places = [await asyncio.open_connection("127.0.0.1", server.port, local_addr=address) for address in addresses]
    for _, writer in places[1:]:
        writer.write(b"GET /half")
    reader, writer = places[0]
    for request, answer in ((b"GET /readyz", b"ready"), (b"POST /publish/a", b"id")):
        writer.write(request + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 200"), head
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        assert answer in body
    for _, writer in places:
        writer.close()
