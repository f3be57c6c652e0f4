"""Clients that don't read pin little of the kernel's memory: each one, all of them together, and not for ever.

What the kernel holds is asked of the kernel: of our own accepted sockets where the port is in this process, by ss(8)
where it is in another one.
"""

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from conftest import EdgeProcess, Edges, program, until
from front_port import FrontPort, connect
from support import until as eventually

from sse_fast._native.base.tcp import look_at_connections
from sse_fast._native.log.ring import Log
from sse_fast.embed.hub import Hub
from sse_fast.errors import EndReason
from sse_fast.hub.memory import HeldElsewhere
from sse_fast.transports.kernel import Bounds

KIB, MIB = 1024, 1024 * 1024
DESCRIPTORS = 4096  # that are looked at
SMALL = 2 * KIB  # a client's receive buffer
BOUNDS = Bounds(send_buffer=256 * KIB, stuck_after=60.0)
PER_CLIENT = 3 * BOUNDS.unsent  # with the kernel's own structures, which are as large as small writes make them
EARLIEST = b"GET /sse/a?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /sse/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


def held(port: FrontPort) -> int:
    """Bytes that the kernel holds for the clients of this port."""
    return sum(look_at_connections(port.number, DESCRIPTORS, {}, 0)[:2])


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def not_reading(
    number: int, port: int, request: bytes, clients: ExitStack, tls: ssl.SSLContext | None = None
) -> list[socket.socket]:
    """So many clients that ask for something and do not read it."""
    made = []
    for _ in range(number):
        client = clients.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.connect(("127.0.0.1", port))
        made.append(clients.enter_context(tls.wrap_socket(client)) if tls is not None else client)
        made[-1].send(request)
    return made


# ---- the front, in this process ----


@asynccontextmanager
async def front_port(**settings: Any) -> AsyncIterator[FrontPort]:
    """One whose log has 8 MiB of events."""
    async with FrontPort.opened(log_size=8 * MIB, bounds=BOUNDS, **settings) as port:
        for first in range(0, 8 * KIB, KIB):
            await port.hub.append([(b"a", b"data: %1000d\n\n" % number) for number in range(first, first + KIB)])
        yield port


async def test_clients_that_ask_for_all_that_is_kept_and_do_not_read_it_pin_little_each(clients: ExitStack) -> None:
    async with front_port() as port:
        not_reading(50, port.number, EARLIEST, clients)
        await eventually(lambda: port.hub.fanout.blocked == 50)
        assert 50 * BOUNDS.unsent < held(port) < 50 * PER_CLIENT
        assert held(port) <= port.hub.fanout.held < 50 * PER_CLIENT


@pytest.mark.parametrize("at_once", [1, 100])
async def test_small_live_events_pin_no_more_than_large_ones(clients: ExitStack, at_once: int) -> None:
    async with front_port() as port:
        not_reading(10, port.number, LIVE, clients)
        await eventually(lambda: port.hub.fanout.connections == 10)
        while port.hub.fanout.blocked < 10:
            await port.hub.append([(b"a", b"data: x\n\n")] * at_once)
            await asyncio.sleep(0)
        assert held(port) < 10 * PER_CLIENT


async def test_past_the_nodes_memory_those_blocked_for_longest_are_ended_and_give_it_back(clients: ExitStack) -> None:
    budget = 10 * PER_CLIENT
    async with front_port(send_memory=budget) as port:
        first = not_reading(30, port.number, EARLIEST, clients)
        await eventually(lambda: port.hub.fanout.blocked + port.counts.ended[EndReason.SLOW] == 30)
        later = not_reading(10, port.number, EARLIEST, clients)
        await eventually(lambda: port.hub.fanout.blocked + port.counts.ended[EndReason.SLOW] == 40)
        await eventually(lambda: held(port) <= budget)
        assert port.hub.fanout.blocked > 10, "no more were ended than had to be"
        assert all(not is_reset(client) for client in later)
        assert sum(map(is_reset, first)) == port.counts.ended[EndReason.SLOW]


def is_reset(client: socket.socket) -> bool:
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


async def test_who_does_not_read_and_is_not_blocked_yet_counts_too(clients: ExitStack) -> None:
    async with front_port(send_memory=10 * KIB, keepalive=0.2) as port:
        not_reading(5, port.number, LIVE, clients)
        await eventually(lambda: port.hub.fanout.connections == 5)
        await port.hub.append([(b"a", b"data: %8000d\n\n" % 0)])
        await eventually(lambda: port.counts.ended[EndReason.SLOW])
        await eventually(lambda: held(port) <= 10 * KIB)
        assert port.hub.fanout.blocked == 0


async def test_under_skip_too_a_client_that_takes_nothing_gives_its_memory_back(clients: ExitStack) -> None:
    async with front_port(slow_policy="skip", send_timeout=0.1) as port:
        not_reading(10, port.number, EARLIEST, clients)
        await eventually(lambda: port.counts.ended[EndReason.SLOW] == 10)
        assert held(port) == 0


# ---- several workers ----


class Others:
    """The rest of the node, as one worker sees it."""

    others_busy = False

    def __init__(self, held: int) -> None:
        self.held_by_others = self.held_for_streams_by_others = held
        self.told = 0

    def arm(self) -> None: ...
    def disarm(self) -> None: ...
    def notify(self) -> None: ...
    def hold(self, held: int, for_streams: int) -> None:
        self.told = held


async def test_of_what_is_over_each_worker_gives_back_its_share() -> None:
    others = Others(held=300_000)
    hub = Hub(log=Log.private(MIB), peers=others, send_memory=200_000)
    stuck = asyncio.Event()
    ended: list[int] = []

    async def send(message: object) -> None:
        await stuck.wait()

    for number in range(10):
        stream = hub.subscribe(["a"], send, lambda *why, number=number: ended.append(number), charge=10_000)
        stream.start()
    hub.memory.elsewhere = lambda: asyncio.sleep(0, HeldElsewhere(10_000 * hub.fanout.blocked))
    await hub.publish("a", "x")
    await eventually(lambda: ended)
    await eventually(lambda: others.told == 50_000)
    # 400,000 bytes are held, half of that is over, and a quarter of it is here
    assert (ended, others.told) == ([0, 1, 2, 3, 4], 50_000)
    await hub.close()


async def test_streams_do_not_pay_for_answers_that_nobody_reads() -> None:
    """Not for those of this worker, nor for those of another."""
    others = Others(held=300_000)
    others.held_for_streams_by_others = 50_000
    hub = Hub(log=Log.private(MIB), peers=others, send_memory=200_000)
    reset: list[tuple[str, int | str]] = []
    stuck = asyncio.Event()

    async def send(message: object) -> None:
        await stuck.wait()

    for _ in range(10):
        hub.subscribe(["a"], send, lambda *why: None, charge=10_000).start()
    unread = [("192.0.2.1", number, 100_000) for number in range(20)]
    hub.memory.elsewhere = lambda: asyncio.sleep(0, HeldElsewhere(10_000 * hub.fanout.blocked, 2_000_000, unread))
    hub.memory.reset_elsewhere = reset.append
    await hub.publish("a", "x")
    await eventually(lambda: others.told)
    assert hub.fanout.connections == 10
    assert reset == [("192.0.2.1", number) for number in range(20)]
    assert others.told == 100_000
    await hub.close()


async def test_who_takes_bytes_is_spared_at_the_first_look() -> None:
    """One that has just been handed what is new is no client that takes nothing."""
    hub = Hub(log_size=MIB, send_memory=50_000)
    stuck = asyncio.Event()
    looks = 0

    async def send(message: object) -> None:
        await stuck.wait()

    def held_elsewhere() -> Any:
        nonlocal looks
        looks += 1
        return asyncio.sleep(0, HeldElsewhere(10_000 * hub.fanout.blocked))

    left_at_looks: list[int] = []
    for _ in range(10):
        hub.subscribe(["a"], send, lambda *why: left_at_looks.append(looks), charge=10_000).start()
    await hub.publish("a", "x")
    await eventually(lambda: hub.fanout.blocked == 10)
    hub.memory.elsewhere = held_elsewhere
    await eventually(lambda: looks and left_at_looks)
    assert left_at_looks == [2] * 5
    await hub.close()


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_fast.hub.hub.LOOK_AT_MEMORY", 0.01)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("fails", [False, True], ids=["without an answer", "that fails"])
async def test_heartbeats_and_the_end_of_the_slow_wait_for_no_look_at_memory(fails: bool) -> None:
    hub = Hub(log_size=MIB, keepalive=0.2, send_timeout=0.3)
    looks = beats = 0
    ended = asyncio.Event()
    stuck = asyncio.Event()

    async def sent(message: Any) -> None:
        nonlocal beats
        beats += message["body"] == b":\n"

    async def blocks(message: Any) -> None:
        await stuck.wait()

    async def look() -> HeldElsewhere:
        nonlocal looks
        looks += 1
        if fails:
            raise OSError("no thread")
        await stuck.wait()
        raise AssertionError

    hub.memory.elsewhere = look
    hub.subscribe(["a"], sent, lambda *why: None).start()
    await eventually(lambda: looks)
    hub.subscribe(["b"], blocks, lambda *why: ended.set()).start()
    await hub.publish("b", "x")
    async with asyncio.timeout(20):
        await ended.wait()
    seen = beats
    await eventually(lambda: beats > seen + 3)
    await hub.close()


@pytest.mark.usefixtures("quick_looks")
async def test_connections_are_looked_through_only_while_something_may_wait_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sse_fast.hub.memory.LOOK_ELSEWHERE", 3600.0)
    hub = Hub(log_size=MIB)
    transport = asyncio.Event()
    looks, waiting = 0, 1

    async def send(message: object) -> None:
        await transport.wait()

    async def look() -> HeldElsewhere:
        nonlocal looks
        looks += 1
        return HeldElsewhere(0, waiting)

    async def several_looks_at_memory() -> None:
        for _ in range(5):
            last = hub.memory.looked_at
            await eventually(lambda last=last: hub.memory.looked_at != last)

    hub.memory.elsewhere = look
    hub.subscribe(["a"], send, lambda *why: None).start()
    await eventually(lambda: looks > 2)  # what waits may go on waiting
    waiting = 0
    await several_looks_at_memory()
    seen = looks
    await several_looks_at_memory()
    assert looks == seen, "nobody is blocked and nothing waits"
    await hub.publish("a", "x")
    await eventually(lambda: looks > seen + 2)
    transport.set()
    await hub.close()


async def test_the_log_says_how_many_streams_were_ended_whoever_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sse_fast.hub.memory.SHED_AT_ONCE", 1)
    hub = Hub(log=Log.private(MIB), send_memory=50_000)
    stuck = asyncio.Event()

    async def send(message: object) -> None:
        await stuck.wait()

    def come(*why: object) -> None:
        for _ in range(3):
            hub.subscribe(["b"], send, lambda *why: None)

    for _ in range(10):
        hub.subscribe(["a"], send, come, charge=10_000).start()
    hub.memory.elsewhere = lambda: asyncio.sleep(0, HeldElsewhere(10_000 * hub.fanout.blocked))
    await hub.publish("a", "x")
    await eventually(lambda: hub.fanout.blocked == 5)
    await eventually(lambda: "streams are ended" in caplog.text)
    [told] = [record for record in caplog.records if record.name == "sse_fast.hub"]
    assert told.streams == 5  # type: ignore[attr-defined]
    await hub.close()


# ---- the node as it is served ----


class Kernel:
    """What the kernel says of the connections of a port, and nothing of the clients' own ends."""

    def __init__(self) -> None:
        self._ss = program("ss")

    def _of(self, port: int, field: str) -> list[int]:
        command = [self._ss, "-tmnH", f"( sport = :{port} )"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [int(value) for value in re.findall(rf"skmem:\([^)]*\b{field}(\d+)[,)]", found)]

    def held(self, port: int) -> list[int]:
        return self._of(port, "w")

    def send_buffers(self, port: int) -> list[int]:
        return self._of(port, "tb")


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def fill(server: EdgeProcess) -> None:
    """8 MiB for channel a."""
    for _ in range(8):
        server.publish_many("a", ["x" * 1000] * 1000)


def ended(server: EdgeProcess) -> int:
    return int(server.stats()["ended"]["slow"])


def test_a_servers_very_first_connection_is_under_the_bounds(
    edge_that_starts: Edges, kernel: Kernel, clients: ExitStack
) -> None:
    server = edge_that_starts("--send-buffer", "384KiB")

    def connected() -> bool:
        with suppress(ConnectionRefusedError):
            clients.enter_context(connect(server.port, b"G"))
            return True
        return False

    until(connected, "the first connection")
    assert kernel.send_buffers(server.port) == [384 * KIB]


def test_clients_that_do_not_read_pin_little_each(edge: Edges, kernel: Kernel, clients: ExitStack) -> None:
    server = edge()
    fill(server)
    not_reading(20, server.port, EARLIEST, clients)
    not_reading(20, server.port, LIVE, clients)
    server.wait_connections(40)
    fill(server)
    until(lambda: server.stats()["blocked"] == 40, "all are blocked")
    assert max(kernel.held(server.port)) < PER_CLIENT
    assert sum(kernel.held(server.port)) > 40 * BOUNDS.unsent


def test_under_skip_too_the_connection_of_a_client_that_takes_nothing_ends(
    edge: Edges, kernel: Kernel, clients: ExitStack
) -> None:
    server = edge("--slow-policy", "skip", "--send-timeout", "0.2")
    server.noise_expected = True  # it says that it ended them
    fill(server)
    not_reading(10, server.port, EARLIEST, clients)
    until(lambda: ended(server) == 10, "the streams' end")
    until(lambda: sum(kernel.held(server.port)) == 0, "the end of their connections")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_past_the_nodes_memory_streams_give_back_what_is_over(
    edge: Edges, kernel: Kernel, clients: ExitStack, workers: str
) -> None:
    server = edge("--send-memory", "1MiB", "--workers", workers)
    server.noise_expected = True
    fill(server)
    not_reading(40, server.port, EARLIEST, clients)
    until(lambda: ended(server) and sum(kernel.held(server.port)) <= MIB, "at most 1 MiB")
    assert server.stats()["connections"] >= MIB // PER_CLIENT // 2, "no more were ended than had to be"


@pytest.mark.parametrize("with_tls", [False, True], ids=["the front", "with a certificate"])
def test_answers_that_nobody_reads_are_given_back_and_the_streams_stay(
    edge: Edges, kernel: Kernel, clients: ExitStack, certificate: tuple[str, ...], with_tls: bool
) -> None:
    server = edge("--send-memory", "1MiB", "--send-timeout", "60", *(certificate if with_tls else ()))
    server.noise_expected = True
    tls = ssl._create_unverified_context() if with_tls else None
    not_reading(3, server.port, LIVE, clients, tls)
    server.wait_connections(3)
    fill(server)
    until(lambda: server.stats()["blocked"] == 3, "the streams are blocked")
    not_reading(200, server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 60, clients, tls)
    until(lambda: "answers nobody reads" in server.log(), "the end of the answers")
    until(lambda: sum(kernel.held(server.port)) <= MIB, "at most 1 MiB")
    assert server.stats()["connections"] == 3
    assert ended(server) == 0
