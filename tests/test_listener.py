"""The native part of the front, with real sockets and no event loop: the test says whose turn it is."""

import gc
import os
import select
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from e2e.client import Chunks
from front_port import connect
from support import no_descriptor_left

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.front import table
from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast._native.log.ring import Log
from sse_fast.errors import EndReason

RST_AT_CLOSE = struct.pack("ii", 1, 0)
SMALL = 4096
PATIENCE = 30.0  # seconds for anything at all
FULL = b"HTTP/1.1 200 OK\r\n\r\nfull"
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Port:
    """A listener whose transport does what the test says. Everybody asks for channel `a`."""

    def __init__(self, *, skip: bool = False, log_size: int = 8 << 20, **options: Any) -> None:
        self.now = 1000.0
        self.fed: list[bytes] = []
        self.connections: list[Connection] = []
        self.ends: list[tuple[str, EndReason]] = []
        self.turned_away: list[bytes] = []
        self.crowded: list[str | None] = []
        self.trusted: set[str] = set()
        self.at_feed: Callable[[Connection, bytes], Any] = self.begin
        self.at_end: Callable[[], Any] = lambda: None
        self.log = Log.private(log_size)
        self.fanout = FanOut(self.log, skip=skip)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listening.setblocking(False)
        self.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the front's own has it
        self.number = self.listening.getsockname()[1]
        self.listener = Listener(self.listening, self.fanout, self, **options)
        self.listener.tick(self.now)

    # ---- as the listener's transport ----

    def feed(self, connection: Connection, data: bytes) -> None:
        self.fed.append(data)
        self.connections.append(connection)
        self.at_feed(connection, data)

    def late(self, connection: Connection) -> None:
        connection.answer(b"late")

    def turn_away(self, data: bytes, crowded: str | None) -> bytes:
        self.turned_away.append(data)
        self.crowded.append(crowded)
        return FULL if data else b""

    def trusts(self, address: str) -> bool:
        return address in self.trusted

    def resume(self, subscriber: Subscriber) -> None:
        self.fanout.unblock(subscriber, self.now)

    def left(self, address: str, reason: EndReason) -> None:
        self.ends.append((address, reason))
        self.at_end()

    def begin(self, connection: Connection, data: bytes = b"", *, chunked: bool = True) -> None:
        connection.stream(HEAD, self.fanout.subscribe([b"a"], connection), connection.address, chunked)

    # ---- for tests ----

    def turn(self, seconds: float = 0.0) -> int:
        """Its turn until nothing is left to do; how many turns that took."""
        self.now += seconds
        if seconds:
            self.listener.tick(self.now)
        turns = 0
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.turn()
            turns += 1
            assert turns < 1000, "it spins"
        return turns

    def until(self, holds: Callable[[], Any]) -> None:
        """Give it its turns until something holds; the kernel is mostly done at once, but not on a busy machine."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            select.select([self.listener], [], [], 0.01)
            self.serve()

    def client(self, request: bytes = b"GET", **options: Any) -> socket.socket:
        """A client that was accepted, and whose request was handed to the transport."""
        seen, fed = self.listener.accepted + self.listener.turned_away, len(self.fed) + bool(request)
        client = connect(self.number, request, **options)
        self.until(lambda: self.listener.accepted + self.listener.turned_away > seen and len(self.fed) >= fed)
        return client

    def gone(self) -> bool:
        return not (self.listener.open or self.listener.streams or self.fanout.connections or self.fanout.blocked)

    def publish(self, *frames: bytes) -> None:
        for frame in frames:
            self.log.append(b"a", frame)
        self.drain()

    def drain(self) -> None:
        while self.fanout.drain(self.now):
            pass

    def serve(self) -> None:
        """A turn for everybody."""
        self.turn()
        self.drain()

    @property
    def reasons(self) -> list[EndReason]:
        return [reason for _, reason in self.ends]

    def end(self) -> None:
        self.listener.close()
        self.listening.close()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.end()


def received(client: socket.socket, most: int = 1 << 20) -> bytes:
    """All that is there."""
    got = b""
    with suppress(BlockingIOError):
        while part := client.recv(min(most - len(got), 1 << 20) or 1):
            got += part
            if len(got) >= most:
                break
    return got


def at_end(client: socket.socket) -> bool:
    """Whether the server's side is closed, and all was read."""
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
    client.close()


def frame(size: int, letter: str = "x") -> bytes:
    return f"data:{letter * size}\n\n".encode()


# ---- answers ----


def test_an_answer_is_sent_and_ended_and_the_connection_stays_until_the_client_closes_it(port: Port) -> None:
    port.at_feed = lambda connection, data: connection.answer(b"answer")
    client = port.client(b"question")
    assert port.fed == [b"question"]
    assert received(client) == b"answer"
    assert at_end(client)
    assert port.connections[0].state == "lingering"
    client.close()
    port.until(port.gone)
    assert (port.connections[0].state, port.ends) == ("gone", [])


def test_an_answer_larger_than_the_socket_takes_reaches_a_client_that_has_closed_its_own_side(port: Port) -> None:
    answer = os.urandom(16 << 20)
    port.at_feed = lambda connection, data: connection.answer(answer)
    client = port.client(buffer=SMALL)
    assert port.connections[0].state == "answering"
    client.shutdown(socket.SHUT_WR)
    assert port.turn() < 10
    got = bytearray()
    while not at_end(client):
        got += received(client)
        port.turn()
    assert bytes(got) == answer
    client.close()
    port.until(port.gone)


@pytest.mark.parametrize(
    ("answer", "seconds"), [(b"short", 2.0), (bytes(16 << 20), 30.0)], ids=["lingering", "answering"]
)
def test_who_neither_reads_its_answer_nor_closes_is_closed_in_time(port: Port, answer: bytes, seconds: float) -> None:
    port.at_feed = lambda connection, data: connection.answer(answer)
    client = port.client(buffer=SMALL)
    port.turn(seconds - 0.1)
    assert port.listener.open == 1
    port.turn(seconds)  # what it took at once counts
    port.turn(seconds)
    assert port.listener.open == 0
    client.close()


@pytest.mark.parametrize("state", ["answered", "stream", "gone"])
def test_a_connection_is_answered_once(port: Port, state: str) -> None:
    port.at_feed = {
        "answered": lambda connection, data: connection.answer(b"answer"),
        "stream": port.begin,
        "gone": lambda connection, data: connection.abort(),
    }[state]
    with port.client():
        (connection,) = port.connections
        with pytest.raises(RuntimeError, match="cannot be answered"):
            connection.answer(b"another")
        subscriber = port.fanout.subscribe([b"a"], connection)
        with pytest.raises(RuntimeError, match="cannot become a stream"):
            connection.stream(b"", subscriber, "somebody", True)
        port.fanout.unsubscribe(subscriber)
        assert port.listener.streams == (state == "stream")


# ---- heads ----


def test_a_head_comes_in_any_pieces_and_its_bytes_are_handed_on_as_they_come(port: Port) -> None:
    port.at_feed = lambda connection, data: connection.answer(b"!") if data == b"." else None
    with port.client(b"") as client:
        for count, byte in enumerate(b"GET.", 1):
            client.send(bytes([byte]))
            port.until(lambda count=count: len(port.fed) == count)
        assert port.fed == [b"G", b"E", b"T", b"."]
        assert received(client) == b"!"


def test_a_head_has_one_deadline_however_busily_it_comes(port: Port) -> None:
    port.at_feed = lambda connection, data: None
    with port.client(b"a") as client, port.client(b"") as silent:
        for _ in range(9):
            port.turn(1.0)
            client.send(b"a")
        assert port.listener.late == 0
        port.turn(1.1)
        assert port.listener.late == 2
        assert received(client) == received(silent) == b"late"
        assert port.turn(20.0) < 5
        assert port.listener.open == 0


def test_a_connection_whose_transport_fails_is_closed_and_the_others_go_on(port: Port) -> None:
    def fail(connection: Connection, data: bytes) -> None:
        port.at_feed = port.begin
        raise RuntimeError("no such transport")

    port.at_feed = fail
    first, second = connect(port.number, b"GET"), connect(port.number, b"GET")
    port.until(lambda: len(port.fed) == 2)
    with pytest.raises(ConnectionResetError):
        first.recv(1)
    assert received(second) == HEAD
    assert (port.listener.open, port.listener.streams) == (1, 1)
    second.close()


@pytest.mark.parametrize(
    ("family", "host", "source", "address"),
    [
        (socket.AF_INET, "127.0.0.1", "127.1.2.3", "127.1.2.3"),
        (socket.AF_INET6, "::1", "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "::ffff:127.9.8.7", "127.9.8.7"),
    ],
)
def test_a_client_s_address_is_the_one_it_has(family: int, host: str, source: str, address: str) -> None:
    with suppress_missing_ipv6():
        listening = socket.create_server(
            ("::" if family == socket.AF_INET6 else "", 0), family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    listening.setblocking(False)
    seen: list[str] = []
    port = Port()
    port.at_feed = lambda connection, data: seen.append(connection.address)
    listener = Listener(listening, port.fanout, port)
    with socket.socket(family) as client:
        client.bind((source, 0))
        client.connect((host, listening.getsockname()[1]))
        client.send(b"GET")
        while not seen:
            assert select.select([listener], [], [], PATIENCE)[0], "waited in vain"
            listener.turn()
    assert seen == [address]
    listener.close()
    listening.close()
    port.end()


@contextmanager
def suppress_missing_ipv6() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        pytest.skip(f"IPv6 is missing: {error}")


# ---- streams ----


def chunks(raw: bytes) -> list[bytes]:
    """The chunks of a body, each with the length that it says."""
    found = []
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        assert size == b"%x" % int(size, 16)
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        found.append(rest[:length])
        raw = rest[length + 2 :]
    return found


def without_ids(chunk: bytes) -> list[bytes]:
    return [line for line in chunk.split(b"\n") if line.startswith(b"data:")]


def test_a_batch_is_one_chunk(port: Port) -> None:
    with port.client() as client:
        assert received(client) == HEAD
        port.publish(b"data:1\n\n")
        port.publish(b"data:2\n\n", b"data:3\n\n")
        port.publish(frame(20_000))
        got = chunks(received(client))
    assert [without_ids(chunk) for chunk in got] == [[b"data:1"], [b"data:2", b"data:3"], [b"data:" + b"x" * 20_000]]
    assert all(chunk.endswith(b"\n\n") for chunk in got)


def test_http_1_0_gets_no_chunks(port: Port) -> None:
    port.at_feed = lambda connection, data: port.begin(connection, chunked=data != b"old")
    with port.client(b"old") as old, port.client(b"new") as new:
        port.publish(b"data:1\n\n")
        port.publish(b"data:2\n\n")
        port.fanout.beat(port.now + 100, 1, 10)
        assert received(old)[len(HEAD) :] == b"".join(chunks(received(new)[len(HEAD) :]))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_however_many_listen_each_gets_the_same(port: Port, count: int) -> None:
    clients = [port.client() for _ in range(count)]
    port.publish(b"data:1\n\n")
    port.publish(b"data:2\n\n")
    bodies = {received(client) for client in clients}
    assert len(bodies) == 1
    assert [without_ids(chunk) for chunk in chunks(bodies.pop()[len(HEAD) :])] == [[b"data:1"], [b"data:2"]]
    assert port.fanout.writes == port.fanout.deliveries == 2 * count
    for client in clients:
        client.close()
    port.until(port.gone)
    assert port.reasons == [EndReason.CLIENT] * count


def test_heartbeats_are_chunks_too(port: Port) -> None:
    with port.client() as client:
        received(client)
        port.fanout.beat(port.now + 100, 1, 10)
        assert received(client) == b"2\r\n:\n\r\n"


def shut(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("go", [socket.socket.close, reset, shut])
@pytest.mark.parametrize("blocked", [False, True])
def test_a_client_that_goes_is_noticed_however_it_goes(port: Port, go: Callable[[Any], None], blocked: bool) -> None:
    client = port.client(buffer=SMALL, source="127.0.3.4")
    if blocked:
        publish_until_blocked(port)
    go(client)
    port.until(port.gone)
    assert port.ends == [("127.0.3.4", EndReason.CLIENT)]
    client.close()


def test_a_client_whose_end_is_first_seen_by_a_write_is_counted_once(port: Port) -> None:
    client = port.client()
    reset(client)
    while not port.ends:
        port.publish(b"data:1\n\n")
    assert port.reasons == [EndReason.CLIENT]
    assert port.gone()
    port.turn()
    assert port.reasons == [EndReason.CLIENT]


def test_a_client_that_sends_its_request_and_goes_before_it_is_seen_is_counted_in_and_out(port: Port) -> None:
    for go in (socket.socket.close, reset, shut):
        client = connect(port.number, b"GET")
        go(client)
        port.until(lambda: port.listener.accepted)
        port.until(port.gone)
        client.close()
    assert set(port.reasons) <= {EndReason.CLIENT}


def test_what_a_client_sends_on_an_open_stream_is_dropped_up_to_a_bound(port: Port) -> None:
    with port.client() as client:
        for _ in range(64):
            client.send(bytes(1024))
            port.turn()
        assert port.listener.streams == 1
        assert len(port.fed) == 1
        port.publish(b"data:1\n\n")
        assert b"data:1" in received(client)
        client.send(b"x")
        port.until(port.gone)
        assert port.reasons == [EndReason.CLIENT]


# ---- those who take their time ----


def publish_until_blocked(port: Port, size: int = 30_000, most: int = 1000) -> int:
    """Fill the buffers between; how many events that took."""
    for number in range(1, most):
        port.publish(frame(size))
        port.serve()
        if port.fanout.blocked == port.fanout.connections:
            return number
    raise AssertionError("nobody is blocked")


def test_a_slow_reader_gets_every_byte_and_the_others_are_not_delayed() -> None:
    port = Port(log_size=64 << 20)
    with port.client(buffer=SMALL) as slow, port.client() as fast:
        at_fast, at_slow = bytearray(), bytearray()
        for number in range(500):
            port.publish(frame(number * 13 % 40_000, chr(97 + number % 26)))
            at_fast += received(fast)
            assert at_fast.count(b"\nid: ") == number + 1, "the fast one waits for the slow one"
            at_slow += received(slow, 1 + number % 3000)
            port.serve()
        assert port.fanout.blocked == 1
        # In the end both have the same; only where the chunks begin differs, as the slow one's batches are larger.
        bodies = [Chunks().feed(bytes(raw[len(HEAD) :])) for raw in (at_fast, at_slow)]
        while len(bodies[1]) < len(bodies[0]):
            port.serve()
            at_slow += received(slow)
            bodies[1] = Chunks().feed(bytes(at_slow[len(HEAD) :]))
        assert zlib.crc32(bodies[0]) == zlib.crc32(bodies[1])
        assert bodies[0] == bodies[1]
    port.turn()
    port.end()


def test_unread_answers_are_looked_for_some_descriptors_at_a_time_and_reset_by_connection() -> None:
    port = Port()
    port.at_feed = lambda connection, data: connection.answer(bytes(16 << 20))
    with ExitStack() as stack:
        clients = [stack.enter_context(port.client(buffer=SMALL))]
        between = [os.dup(port.listener.fileno()) for _ in range(1100)]
        clients.append(stack.enter_context(port.client(buffer=SMALL)))
        held, (first,), at = port.listener.unread(0)
        assert 0 < at < max(between)
        more, (second,), end = port.listener.unread(0, at)
        assert (held, more, end) == (first[2], second[2], 0)
        for _, number, _ in (first, second):
            port.listener.reset(number)
        assert port.listener.open == 0
        for _ in range(2):
            stack.enter_context(port.client(b"GET"))  # at the same descriptors
        for _, number, _ in (first, second):
            port.listener.reset(number)
        assert port.listener.open == 2
        for descriptor in between:
            os.close(descriptor)
    port.end()


def test_what_blocked_clients_still_have_to_get_is_one_object_for_all() -> None:
    port = Port(log_size=64 << 20)
    clients = [port.client(buffer=SMALL) for _ in range(50)]
    publish_until_blocked(port)
    for client in clients:
        received(client)
    while port.fanout.blocked or port.fanout.busy:
        port.serve()
        for client in clients:
            received(client)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    port.publish(frame(12 << 20))
    port.serve()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert port.fanout.blocked == len(clients)
    assert 12 << 20 <= held < 30 << 20
    for client in clients:
        client.close()
    port.turn()
    port.end()


def test_who_takes_nothing_for_the_timeout_is_reset_as_slow(port: Port) -> None:
    with port.client(buffer=SMALL) as client:
        publish_until_blocked(port)
        port.fanout.expire(port.now + 29, 30)
        assert port.listener.streams == 1
        port.fanout.expire(port.now + 31, 30)
        assert port.reasons == [EndReason.SLOW]
        assert (port.listener.open, port.fanout.slow) == (0, 1)
        with pytest.raises(ConnectionResetError):
            received(client)


def test_with_the_skip_policy_it_is_told_of_the_gap_behind_what_it_was_being_sent() -> None:
    port = Port(skip=True)
    with port.client(buffer=SMALL) as client:
        publish_until_blocked(port)
        port.publish(*[frame(100)] * 20)
        port.fanout.expire(port.now + 31, 30)
        port.publish(b"data:last\n\n")
        raw = b""
        while b"data:last" not in raw:
            raw += received(client)
            port.serve()
        body = Chunks().feed(raw[len(HEAD) :])
        assert body.count(b"event: $gap\n") == 1
        assert body.endswith(b"\n\n")
        assert port.ends == []
    port.turn()
    port.end()


def test_who_takes_bytes_is_not_taken_for_slow_though_its_socket_is_not_writable_for_long() -> None:
    port = Port(log_size=64 << 20)
    with port.client(buffer=SMALL) as client:
        port.publish(frame(12 << 20))
        assert port.fanout.blocked == 1
        for _ in range(10):
            got = 0
            while got < 30_000:  # more than is under way, so some of it was taken from the server meanwhile
                assert select.select([client], [], [], PATIENCE)[0]
                got += len(client.recv(1000))
            port.turn(20.0)
            port.fanout.expire(port.now, 30)
            assert port.ends == []
        port.fanout.expire(port.now + 31, 30)  # it may have taken something since
        port.fanout.expire(port.now + 62, 30)
        assert port.reasons == [EndReason.SLOW]
    port.end()


# ---- whoever is told of an end may do what he likes ----


def test_a_volley_tears_no_frame_though_one_who_is_told_of_an_end_writes_to_the_others() -> None:
    port = Port(log_size=64 << 20)
    gone, slow = port.client(), port.client(buffer=SMALL)
    raw = bytearray()

    def write_to_the_others() -> None:
        while len(raw) < 20_000:  # so that there is room in its socket again
            select.select([slow], [], [], PATIENCE)
            raw.extend(received(slow, 20_000))
        port.fanout.say(b"a", b"event: $said\ndata: x\n\n", port.now)

    port.at_end = write_to_the_others
    reset(gone)
    port.publish(frame(12 << 20))  # one volley to both: the one has gone, the other takes a part of it
    assert port.reasons == [EndReason.CLIENT]
    while b"\nid: " not in raw[-100:]:
        raw += received(slow)
        port.serve()
    body = Chunks().feed(bytes(raw[len(HEAD) :]))
    assert body.startswith(frame(12 << 20)[:-1] + b"id: ")
    slow.close()
    port.end()


def test_one_who_is_told_of_an_end_may_let_the_others_go_too(port: Port) -> None:
    clients = [port.client() for _ in range(10)]
    port.at_end = lambda: [connection.abort() for connection in port.connections]
    reset(clients[3])
    port.publish(b"data:1\n\n")
    assert (port.listener.open, port.listener.streams, port.fanout.connections) == (0, 0, 0)
    assert sorted(port.reasons) == [EndReason.CLIENT] + [EndReason.ERROR] * 9
    for client in clients:
        client.close()


def test_one_who_fails_to_be_told_of_an_end_fails_alone(port: Port) -> None:
    def fail() -> None:
        raise RuntimeError("not now")

    port.at_end = fail
    clients = [port.client() for _ in range(5)]
    reset(clients[0])
    reset(clients[1])
    port.publish(b"data:1\n\n")
    assert all(b"data:1" in received(client) for client in clients[2:])
    assert port.reasons == [EndReason.CLIENT] * 2
    for client in clients:
        client.close()
    port.until(port.gone)


def test_what_epoll_said_of_a_connection_is_not_done_to_the_next_one_with_its_descriptor(port: Port) -> None:
    port.at_feed = lambda connection, data: None
    first, second = port.client(b"first"), port.client(b"second")
    doomed = port.connections[1]
    third = socket.socket()
    newest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = [os.dup(0)]
    while fillers[-1] < newest:
        fillers.append(os.dup(0))
    port.at_feed = lambda connection, data: doomed.abort()
    first.send(b"again")  # epoll tells of them in this order
    third.connect(("127.0.0.1", port.number))
    second.shutdown(socket.SHUT_WR)
    before = set(os.listdir("/proc/self/fd"))
    port.listener.turn()
    assert set(os.listdir("/proc/self/fd")) == before, "the third has the descriptor of the second"
    assert (doomed.state, port.listener.open, port.listener.accepted) == ("gone", 2, 3)
    port.at_feed = lambda connection, data: None
    third.send(b"third")
    port.until(lambda: len(port.fed) == 4)
    assert port.fed == [b"first", b"second", b"again", b"third"]
    assert port.connections[-1].state == "reading"
    for descriptor in fillers:
        os.close(descriptor)
    for client in (first, second, third):
        client.close()


# ---- the end ----


def test_closing_ends_streams_as_a_shutdown_and_twice_is_as_once(port: Port) -> None:
    with port.client() as client, port.client() as other:
        received(client), received(other)
        port.listener.close()
        assert port.reasons == [EndReason.SHUTDOWN] * 2
        assert at_end(client), "no last chunk: it is to come back"
        assert (port.listener.open, port.listener.streams, port.fanout.connections) == (0, 0, 0)
        port.listener.close()
        port.listener.turn()
        port.listener.tick(port.now)


def test_it_may_be_closed_in_the_middle_of_a_turn(port: Port) -> None:
    port.at_feed = lambda connection, data: port.listener.close()
    clients = [connect(port.number, b"GET") for _ in range(5)]
    port.listener.turn()
    port.listener.turn()
    assert port.listener.open == 0
    assert len(port.fed) == 1
    assert all(ended(client) for client in clients)


def ended(client: socket.socket) -> bool:
    with client:
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True
        except BlockingIOError:
            return True  # nobody has accepted it


def test_who_stops_accepting_keeps_those_who_are_there(port: Port) -> None:
    with port.client() as client:
        port.listener.stop_accepting()
        with connect(port.number, b"GET"):
            assert port.turn() < 5
            assert port.listener.accepted == 1
        port.publish(b"data:1\n\n")
        assert b"data:1" in received(client)


def test_a_listener_that_is_dropped_leaves_no_descriptor_open() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    port = Port()
    clients = [port.client() for _ in range(5)] + [port.client(b"")]
    port.listening.close()
    del port
    gc.collect()
    assert all(client.recv(1000) in (HEAD, b"") and at_end(client) for client in clients)
    for client in clients:
        client.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_streams_that_have_ended_leave_nothing_behind(port: Port) -> None:
    def round_() -> None:
        clients = [connect(port.number, b"GET") for _ in range(200)]
        port.until(lambda: port.listener.streams == len(clients))
        port.publish(b"data:1\n\n")
        for client in clients:
            client.close()
        port.until(port.gone)
        port.turn(11.0)
        for remembered in (port.connections, port.fed, port.ends):
            remembered.clear()

    round_()
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        round_()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            round_()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 5000, "the log's index grows by a few events, and nothing by a thousand streams"


# ---- too many ----


def test_whoever_cannot_be_turned_away_with_words_or_logged_for_want_of_memory_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_memory(*args: Any) -> Any:
        raise MemoryError

    port = Port(most=1)
    monkeypatch.setattr(port, "turn_away", without_memory)
    monkeypatch.setattr(table.logger, "exception", without_memory)
    clients = [port.client(), *(connect(port.number, b"GET") for _ in range(3))]
    port.until(lambda: port.listener.turned_away == 3)  # by turns that raised nothing
    assert port.listener.open == 1
    for client in clients:
        client.close()
    port.end()


def test_whoever_comes_over_the_most_is_told_so_if_he_has_said_something_and_closed() -> None:
    port = Port(most=3)
    clients = [port.client() for _ in range(3)] + [connect(port.number, said) for said in (b"GET /", b"GE", b"")]
    port.until(lambda: port.listener.turned_away == 3)
    assert port.listener.open == 3
    assert port.turned_away == [b"GET /", b"GE", b""]
    assert port.crowded == [None] * 3
    assert [received(client) for client in clients] == [HEAD, HEAD, HEAD, FULL, FULL, b""]
    assert all(at_end(client) for client in clients[3:])
    clients[0].close()
    port.until(lambda: port.listener.open == 2)
    with port.client():
        assert port.listener.open == 3
    for client in clients:
        client.close()
    port.turn()
    port.end()


def test_without_descriptors_whoever_comes_is_told_and_nothing_spins_and_those_who_are_there_go_on(port: Port) -> None:
    with port.client() as there:
        waiting = [socket.socket() for _ in range(6)]
        with no_descriptor_left() as taken:
            for client in waiting[:4]:
                client.connect(("127.0.0.1", port.number))
                client.send(b"GET")
            turns = 0
            for _ in range(20):
                port.listener.tick(port.now)
                for _ in range(5):
                    ready = select.select([port.listener], [], [], 0)[0]
                    turns += len(ready)
                    port.listener.turn()
            assert turns <= 20, "a listening socket that nobody can accept from is left alone until the next tick"
            assert port.listener.turned_away == 4
            port.publish(b"data:1\n\n")
            assert b"data:1" in received(there)
            for client in waiting[:4]:
                client.setblocking(False)
                assert received(client) == FULL
                assert at_end(client)
            os.close(taken.pop())
            os.close(taken.pop())
            waiting[4].connect(("127.0.0.1", port.number))
            waiting[4].send(b"GET")
            port.turn(0.25)
            port.until(lambda: port.listener.streams == 2)  # there is a descriptor again
        for client in waiting:
            client.close()
    port.until(port.gone)
