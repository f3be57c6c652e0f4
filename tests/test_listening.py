"""A server stops listening: whoever has connected is served, and nobody new comes."""

import asyncio
import os
import socket

import pytest
from support import free_port, until

from sse_fast.base.listening import _waiting, listening_sockets, stop_listening


def test_the_listening_sockets_of_a_port_are_found_among_all_descriptors() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as wanted,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(wanted.getsockname()),
        socket.socketpair()[0],
    ):
        port, other_port = wanted.getsockname()[1], other.getsockname()[1]
        assert listening_sockets([port]) == [wanted.fileno()]
        assert sorted(listening_sockets([port, other_port])) == sorted([wanted.fileno(), other.fileno()])
        assert listening_sockets([]) == []
        assert wanted.getsockname()[1] == port, "they are their owners' still"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_who_waits_is_accepted_and_answered_before_a_server_stops_listening(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = free_port()
    leaving, staying = (socket.create_server((address, port), family=family, reuse_port=True) for _ in range(2))
    clients = [socket.create_connection((address, port)) for _ in range(40)]
    for client in clients:
        client.sendall(b"?")
    waiting = _waiting(leaving.fileno())
    assert waiting + _waiting(staying.fileno()) == len(clients)
    stopping = asyncio.create_task(stop_listening([leaving.fileno()], 0.0))
    leaving.setblocking(False)
    await asyncio.sleep(0)
    assert not stopping.done()
    for _ in range(waiting):
        leaving.accept()[0].sendall(b"answered")
    await stopping
    staying.setblocking(False)
    late = [socket.create_connection((address, port)) for _ in range(40)]
    assert _waiting(staying.fileno()) == len(clients) - waiting + len(late), "all that come later meet who stays"
    for _ in range(len(clients) - waiting + len(late)):
        staying.accept()[0].sendall(b"answered")
    for client in clients + late:
        assert client.recv(8) == b"answered"
        client.close()
    with pytest.raises(BlockingIOError):
        leaving.accept()  # as if nobody came; it does not fail
    leaving.close()
    staying.close()


async def test_while_it_stops_new_clients_get_no_connection_that_would_be_reset() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    waits = socket.create_connection(address)
    stopping = asyncio.create_task(stop_listening([listening.fileno()], 0.0))
    await asyncio.sleep(0)
    late = socket.socket()
    late.setblocking(False)
    assert late.connect_ex(address)
    assert _waiting(listening.fileno()) == 1
    accepted, _ = listening.accept()
    await stopping
    # It tries again by itself, and finds that nobody is there: nothing that it sent is lost.
    await until(lambda: late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    for one in (late, waits, accepted, listening):
        one.close()


async def test_sockets_that_are_stopped_are_no_longer_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        await stop_listening(listening_sockets([port]), 0.0)
        assert listening_sockets([port]) == []
        assert os.fstat(listening.fileno())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
