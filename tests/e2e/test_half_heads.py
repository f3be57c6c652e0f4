"""Strangers who connect and never say what they want: the others are served at once all the same.

SSE_FAST_HALF_HEADS=19760 pytest tests/e2e/test_half_heads.py     with all descriptors there are, not 512
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from conftest import PATIENCE, EdgeProcess, Edges
from test_node import customized

__all__ = ["customized"]

HALF_HEADS = int(os.environ.get("SSE_FAST_HALF_HEADS", "600"))
DESCRIPTORS = 512
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h
ATTACKER, OTHER = "127.0.0.1", "127.0.0.2"
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def descriptors(customized: Callable[[str], None]) -> None:
    if HALF_HEADS < 10_000:
        customized(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {(DESCRIPTORS,) * 2})")


@contextmanager
def half_heads(port: int, said: bytes) -> Iterator[None]:
    with ExitStack() as clients:
        for _ in range(HALF_HEADS):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # they leave nothing behind
            client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)  # or the ports run out, with many
            client.bind((ATTACKER, 0))
            client.connect(("127.0.0.1", port))
            with suppress(OSError):  # turned away before it could
                client.send(said)
        yield


async def asked(server: EdgeProcess, address: str, request: bytes, until: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
    writer.write(request + HEAD + b"Content-Length: 0\r\n" * request.startswith(b"POST") + b"\r\n")
    try:
        return await reader.readuntil(until)
    finally:
        writer.close()


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("limit", [(), ("--max-connections-per-ip", "10")], ids=["by default", "few by address"])
@pytest.mark.parametrize("said", [b"G", b"GET /sse/a" + HEAD, b"POST /publish/a" + HEAD + b"Content-Length: 9\r\n\r\n"])
async def test_whoever_comes_is_served_while_one_address_has_as_many_connections_as_it_can_get(
    edge: Edges, limit: tuple[str, ...], said: bytes
) -> None:
    server = edge(*limit)
    with half_heads(server.port, said):
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await asked(server, OTHER, b"GET /sse/a", b"event: $connected")
                assert b" 200 " in await asked(server, OTHER, b"POST /publish/a", b"\r\n\r\n")
                assert b" 200 " in await asked(server, OTHER, b"GET /healthz", b"\r\n\r\n")
