"""What the kernel holds for a client that does not read is bounded, and in time its connection is closed."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from support import no_descriptor_left, until

from sse_fast._native.base.tcp import look_at_connections, peer_key, reset_connections
from sse_fast.base.memory import tcp_memory
from sse_fast.hub.hub import end_after
from sse_fast.node.serve import granted_bounds
from sse_fast.settings import Settings
from sse_fast.transports import kernel
from sse_fast.transports.kernel import Bounds, ServerConnections, bound_socket, bounds_of

SO_MEMINFO, WMEM_QUEUED = 55, 5  # asm-generic/socket.h, linux/sock_diag.h
KIB = 1024
DESCRIPTORS = 4096  # that are looked at
BOUNDS = Bounds(send_buffer=256 * KIB, stuck_after=0.3)


def held(ours: socket.socket) -> int:
    """Bytes of kernel memory that wait for the client, the kernel's structures included."""
    return int(struct.unpack_from("9I", ours.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[WMEM_QUEUED])


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    try:
        made = bound_socket(request.param, 0, BOUNDS)
    except OSError as error:
        if request.param != "::1":
            raise
        pytest.skip(f"there is no IPv6 here: {error}")
    with made:
        made.listen()
        yield made


def memory_of_connections(port: int) -> int:
    return sum(look_at_connections(port, DESCRIPTORS, {}, 0)[:2])


def reset(peers: list[tuple[str, int]], port: int) -> int:
    """How many were."""
    with open("/dev/null") as idle, open("/dev/null") as spare:
        return reset_connections(peers, port, DESCRIPTORS, spare.fileno(), idle.fileno())


def accepted(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection: ours, and the client's with a small buffer."""
    client = socket.socket(listening.family)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * KIB)
    client.connect(listening.getsockname()[:2])
    ours, _ = listening.accept()
    for end in (ours, client):
        end.setblocking(False)
    return ours, client


def fill(ours: socket.socket, size: int) -> int:
    """Send pieces of `size` bytes until the kernel takes no more; the bytes it took."""
    taken = 0
    while True:
        try:
            taken += ours.send(bytes(size))
        except BlockingIOError:
            return taken


def read_to_the_end(client: socket.socket) -> None:
    while client.recv(65536):
        pass


def test_a_connection_is_under_the_bounds_before_anybody_has_looked_at_it(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    with ours, client:
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == BOUNDS.send_buffer
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == BOUNDS.unsent
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 300
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("size", [10, 1000, 32 * KIB])
def test_the_kernel_holds_little_for_a_client_that_does_not_read_however_small_the_writes(
    listening: socket.socket, size: int
) -> None:
    ours, client = accepted(listening)
    with ours, client:
        taken = fill(ours, size)
        assert 0 < taken < BOUNDS.send_buffer
        assert BOUNDS.unsent <= held(ours) < 3 * BOUNDS.unsent


async def test_a_connection_whose_client_takes_nothing_is_closed(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    with ours, client:
        stuck = asyncio.get_running_loop().sock_sendall(ours, bytes(1024 * KIB))
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError):  # ETIMEDOUT, from the kernel
                await asyncio.ensure_future(stuck)


async def test_a_connection_whose_client_reads_is_left_alone(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    with ours, client:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(1024 * KIB)))
        left = 1024 * KIB
        async with asyncio.timeout(20):
            while left:
                left -= len(await loop.sock_recv(client, 65536))
            await sending


def test_an_address_that_cannot_be_had_is_named(listening: socket.socket) -> None:
    host = listening.getsockname()[0]
    with socket.socket(listening.family) as alone:  # without SO_REUSEPORT
        alone.bind((host, 0))
        with pytest.raises(OSError, match=f"{host} port {alone.getsockname()[1]}"):
            bound_socket(host, alone.getsockname()[1], None)


def test_the_kernel_gives_the_hub_the_time_to_end_a_stream_first() -> None:
    for policy in ("disconnect", "skip"):
        settings = Settings.load({"slow_policy": policy, "send_timeout": 5.0})
        assert bounds_of(settings).stuck_after > end_after(5.0, settings.slow_policy)
    assert end_after(5.0, "skip") > end_after(5.0, "disconnect")


def test_what_the_kernel_does_not_grant_is_said_and_nothing_counts_on_it(caplog: pytest.LogCaptureFixture) -> None:
    most = Settings.load({}).model_copy(update={"send_buffer": 1 << 30})  # more than any kernel grants
    bounds = granted_bounds(most)
    assert bounds.send_buffer < most.send_buffer
    assert f"the kernel grants {bounds.send_buffer} for each connection" in caplog.text
    assert f"net.core.wmem_max={most.send_buffer // 2}" in caplog.text
    with bound_socket("127.0.0.1", 0, bounds) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == bounds.send_buffer
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == bounds.send_buffer // 8
    caplog.clear()
    assert granted_bounds(Settings.load({})).send_buffer == 256 * KIB
    assert not caplog.records


def test_what_the_machine_has_for_tcp_is_known() -> None:
    assert tcp_memory() > 1024 * KIB


async def test_what_waits_for_the_clients_of_a_port_is_the_sum_over_its_connections(
    listening: socket.socket,
) -> None:
    port = listening.getsockname()[1]
    pairs = [accepted(listening) for _ in range(3)]
    assert memory_of_connections(port) == 0
    for ours, _ in pairs:
        fill(ours, 1000)
    # The clients' kernels may still take a little.
    await until(lambda: memory_of_connections(port) == sum(held(ours) for ours, _ in pairs))
    assert memory_of_connections(port) >= 3 * BOUNDS.unsent
    assert memory_of_connections(port + 1) == 0
    for ours, client in pairs:
        ours.close()
        client.close()


async def test_of_what_waits_that_for_streams_is_told_apart_and_who_reads_nothing_else_is_named(
    listening: socket.socket,
) -> None:
    port = listening.getsockname()[1]
    pairs = [accepted(listening) for _ in range(3)]
    for ours, _ in pairs:
        fill(ours, 1000)
    stream = pairs[0][1].getsockname()[:2]
    streams = {peer_key(*stream): 1}

    def unread(milliseconds: int) -> list[tuple[str, int]]:
        return sorted(
            (host, number) for host, number, _ in look_at_connections(port, DESCRIPTORS, streams, milliseconds)[2]
        )

    await until(lambda: len(unread(50)) == 2)
    assert unread(10**9) == []
    for_streams, for_answers, found = look_at_connections(port, DESCRIPTORS, streams, 0)
    assert for_streams == held(pairs[0][0])
    assert for_answers == sum(held(ours) for ours, _ in pairs[1:]) == sum(size for _, _, size in found)
    assert reset([(host, number) for host, number, _ in found], port) == 2
    for ours, client in pairs:
        ours.close()
        client.close()


async def test_the_connections_of_certain_clients_are_reset_and_the_others_are_not(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    pairs = [accepted(listening) for _ in range(5)]
    for ours, _ in pairs:
        fill(ours, 1000)
    connections = ServerConnections(port, BOUNDS)
    for _, client in pairs[:2]:
        connections.reset(client.getsockname()[:2])
    await until(lambda: not held(pairs[0][0]) and not held(pairs[1][0]))
    assert all(held(ours) >= BOUNDS.unsent for ours, _ in pairs[2:])
    assert (await connections.held()).for_answers >= 3 * BOUNDS.unsent
    for _, client in pairs[:2]:
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)
    connections.close()
    for ours, client in pairs:
        ours.close()
        client.close()


async def test_a_connection_is_reset_with_not_one_descriptor_left(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    connections = ServerConnections(listening.getsockname()[1], BOUNDS)
    with ours, client, no_descriptor_left():
        fill(ours, 1000)
        connections.reset(client.getsockname()[:2])
        await until(lambda: not held(ours))
    connections.close()


def test_who_is_no_client_of_that_port_is_not_reset(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    with ours, client:
        peer = client.getsockname()[:2]
        port = listening.getsockname()[1]
        before = os.listdir("/proc/self/fd")
        assert reset([peer], port + 1) == 0
        assert reset([(peer[0], peer[1] + 1)], port) == 0
        assert reset([ours.getsockname()[:2]], peer[1]) == 1  # the client's own end
        assert os.listdir("/proc/self/fd") == before


async def test_what_is_no_address_keeps_nobody_elses_connection_from_being_reset(listening: socket.socket) -> None:
    ours, client = accepted(listening)
    with ours, client:
        fill(ours, 1000)
        connections = ServerConnections(listening.getsockname()[1], BOUNDS)
        for peer in (("localhost", 1), client.getsockname()[:2], ("192.0.2.1", 1 << 20)):
            connections.reset(peer)
        await until(lambda: not held(ours))
        connections.close()


async def test_a_reset_that_fails_is_logged(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel, "reset_connections", lambda *given: 1 // 0)
    connections = ServerConnections(listening.getsockname()[1], BOUNDS)
    connections.reset(("192.0.2.1", 1))
    await until(lambda: "could not be reset" in caplog.text)
    connections.close()
