"""A server that may open hardly any descriptors: what it has is divided, so that streams leave room for all else."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from client import Stream
from conftest import BOTH_PORTS, PATIENCE, Edges
from support import free_port
from test_node import customized, eventually, read

from sse_fast.base.descriptors import LEAST_DESCRIPTORS, reachable_connections

__all__ = ["customized"]

STREAMS = reachable_connections(LEAST_DESCRIPTORS)


@pytest.fixture
def few_descriptors(customized: Callable[[str], None]) -> None:
    """Servers start with the least that they may."""
    customized(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {(LEAST_DESCRIPTORS,) * 2})")


@BOTH_PORTS
@pytest.mark.usefixtures("few_descriptors")
async def test_publishers_and_health_checks_are_answered_while_all_streams_are_in_use(
    edge: Edges, with_stream_port: bool
) -> None:
    server = edge(with_stream_port=with_stream_port)
    streams = [await Stream.open(server.stream_port, "/sse/a") for _ in range(STREAMS)]
    await asyncio.to_thread(server.wait_connections, STREAMS)
    for _ in range(20):
        refused = await Stream.open(server.stream_port, "/sse/a")
        assert [event.data async for event in refused.events()][-1] == '{"reason":"overloaded"}'
    id = server.publish("a", "on")
    assert server.request("GET", "/healthz")[0] == 200
    for stream in streams:
        assert [event.last_event_id for event in await read(stream, 1)] == [id]
        stream.cut()


@pytest.mark.usefixtures("few_descriptors")
async def test_the_first_request_of_a_worker_is_answered_with_not_one_descriptor_left(edge_that_starts: Edges) -> None:
    server = edge_that_starts("--stream-port", str(port := free_port()))
    await eventually(lambda: "Started worker" in server.log(), "the worker")
    (worker,) = server.workers()
    held = []

    async def connect(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        held.append(await asyncio.open_connection("127.0.0.1", port))
        held[-1][1].write(request)
        return held[-1]

    async with asyncio.timeout(PATIENCE):
        while not held:
            with contextlib.suppress(ConnectionRefusedError):
                await connect(server.port, b"")
    reader, writer = held[0]
    for _ in range(LEAST_DESCRIPTORS // 2):
        await connect(server.port, b"G")
        await connect(port, b"G")
    await eventually(lambda: worker.num_fds() >= LEAST_DESCRIPTORS - 1, "the last descriptor to be in use")
    for request, answer in ((b"GET /readyz", b"ready"), (b"POST /publish/a", b"id")):
        writer.write(request + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 200"), head
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        assert answer in body
    for _, writer in held:
        writer.close()
