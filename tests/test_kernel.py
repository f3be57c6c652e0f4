"""A connection whose client takes nothing is closed by the kernel, and one whose client reads is not."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from sse_fast.kernel import close_stuck_connections


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


async def accepted(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection: ours, and the client's with a small buffer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(listening.getsockname())
    ours, _ = listening.accept()
    for end in (ours, client):
        end.setblocking(False)
    return ours, client


async def test_a_connection_whose_client_takes_nothing_is_closed(listening: socket.socket) -> None:
    assert close_stuck_connections(0.3) >= 1
    ours, client = await accepted(listening)
    with ours, client:
        loop = asyncio.get_running_loop()
        stuck = asyncio.ensure_future(loop.sock_sendall(ours, bytes(32 * 1024 * 1024)))
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError):  # ETIMEDOUT, from the kernel
                await stuck


async def test_a_connection_whose_client_reads_is_left_alone(listening: socket.socket) -> None:
    close_stuck_connections(0.3)
    ours, client = await accepted(listening)
    with ours, client:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(1024 * 1024)))
        left = 1024 * 1024
        async with asyncio.timeout(20):
            while left:
                left -= len(await loop.sock_recv(client, 65536))
            await sending


def test_other_descriptors_are_left_alone() -> None:
    with socket.socket() as not_listening, socket.socket(socket.AF_UNIX) as local:
        close_stuck_connections(0.3)
        assert not_listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert local.fileno() >= 0
