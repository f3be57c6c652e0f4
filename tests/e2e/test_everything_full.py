"""One budget of descriptors: with streams, relayed exchanges and strangers as many as there can be, all are answered.

SSE_FAST_DESCRIPTORS=20000 pytest tests/e2e/test_everything_full.py     takes some minutes, and as many here
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from conftest import PATIENCE, Edges
from test_node import customized

from sse_fast.base.descriptors import budget
from sse_fast.transports.relay import reserved

__all__ = ["customized"]

LIMITS = [int(limit) for limit in os.environ.get("SSE_FAST_DESCRIPTORS", "256,512,1024").split(",")]
APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
"""
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.mark.parametrize("descriptors", LIMITS)
async def test_publishers_health_checks_and_streams_are_served_with_everything_full(
    edge: Edges, customized: Callable[[str], None], tmp_path: Path, descriptors: int
) -> None:
    (tmp_path / "slow.py").write_text(APP)
    customized(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {(descriptors,) * 2})")
    server = edge("--app", "slow:app", "--log-level", "error")
    has = budget(descriptors, app=True)
    clients: list[Client] = []

    async def come(said: bytes) -> Client:
        address = f"127.0.{len(clients) // 200 + 1}.{len(clients) % 200 + 1}"
        clients.append(await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0)))
        clients[-1][1].write(said)
        return clients[-1]

    async def ask(request: str, until: bytes) -> Client:
        reader, writer = await come(f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(until), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return reader, writer

    async with AsyncExitStack() as stack:
        stack.callback(lambda: [writer.close() for _, writer in clients])
        for _ in range(has.streams):
            await ask("GET /edge/sse/a", b"event: $connected")
        full = [await come(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(has.relayed + 4)]
        for reader, _ in full[: has.relayed - reserved(has.relayed)]:
            assert b"begun" in await asyncio.wait_for(reader.readuntil(b"begun"), PATIENCE)
        for _ in range(has.others):
            await come(b"GET /half")
        await ask("GET /edge/healthz", b"\r\n\r\n")
        await ask("GET /edge/readyz", b"\r\n\r\n")
        await ask("POST /edge/publish/a", b"\r\n\r\n")
        streaming = clients[0][0]
        await asyncio.wait_for(streaming.readuntil(b"id"), PATIENCE)
        clients[1][1].close()
        await asyncio.wait_for(clients[1][1].wait_closed(), PATIENCE)
        for _ in range(3):
            await ask("GET /edge/healthz", b"\r\n\r\n")
        refused, _ = await come(b"GET /edge/sse/a HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
        answer = await asyncio.wait_for(refused.readuntil(b"\r\n\r\n"), PATIENCE)
        assert answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 200")), answer
    assert server.running
