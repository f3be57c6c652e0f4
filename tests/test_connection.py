"""A connection of the front, exchange by exchange: real sockets and no event loop, the test says whose turn it is."""

import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from front_port import connect
from test_listener import SMALL, Port, at_end, received, reset

from sse_fast._native.front.connection import Connection
from sse_fast.errors import EndReason

LARGE = 16 << 20
LEAST = 64  # times for which there is room


class Context:
    """Has a connection while an exchange is under way, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.data = b""
        self.at_feed: Callable[[Connection], None] = lambda connection: None

    def feed(self, connection: Connection, data: bytes) -> None:
        self.data += data
        self.told.append("feed")
        self.at_feed(connection)

    def writable(self, connection: Connection) -> None:
        self.told.append("writable")

    def late(self, connection: Connection) -> None:
        self.told.append("late")

    def gone(self, connection: Connection) -> None:
        assert connection.state == "gone"
        self.told.append("gone")


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.end()


def by_lines(connection: Connection, data: bytes) -> None:
    """A request is a line, and is answered with itself; `last` ends it."""
    line, _, rest = data.partition(b"\n")
    connection.keep(rest)
    connection.answer(line + b";", line == b"last")


def taken(port: Port, context: Context) -> Callable[[Connection, bytes], None]:
    def take(connection: Connection, data: bytes) -> None:
        connection.context = context

    return take


def test_requests_follow_each_other_on_a_connection_until_the_last_answer(port: Port) -> None:
    port.at_feed = by_lines
    with port.client(b"one\n") as client:
        assert received(client) == b"one;"
        client.send(b"two\n")
        port.until(lambda: len(port.fed) == 2)
        assert received(client) == b"two;"
        client.send(b"last\n")
        port.until(lambda: len(port.fed) == 3)
        assert received(client) == b"last;"
        assert at_end(client)
    port.until(port.gone)
    assert len(set(map(id, port.connections))) == 1


def test_pipelined_requests_are_answered_in_order_and_so_many_in_one_turn_that_others_have_theirs(port: Port) -> None:
    port.at_feed = by_lines
    with connect(port.number, b"a\n" * 1000) as many, connect(port.number, b"b\n") as one:
        port.until(lambda: port.listener.accepted == 2)
        port.until(lambda: len(port.fed) >= 1001)
        assert received(many) == b"a;" * 1000
        assert received(one) == b"b;"
    first_of_the_other = port.fed.index(b"b\n")
    assert first_of_the_other < 200


def test_while_an_exchange_waits_nothing_is_read_and_nothing_spins(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.wait()

    port.at_feed = wait
    with port.client(b"one\n") as client:
        client.send(b"two\n" * 1000)
        assert port.turn() < 3
        assert (context.told, port.connections[0].state) == ([], "waiting")
        port.at_feed = by_lines
        port.connections[0].answer(b"one;", False)
        port.until(lambda: len(port.fed) >= 1001)
        assert received(client) == b"one;" + b"two;" * 1000


def test_what_comes_while_an_answer_is_not_taken_yet_is_the_next_request(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.wait()

    port.at_feed = wait
    with port.client(b"one\n") as client, port.client(b"") as other:
        (connection,) = port.connections
        port.at_feed = lambda _, data: connection.answer(bytes(LARGE), False)
        other.send(b"now\n")  # and in the same turn, behind it, the client has sent something
        client.send(b"two\n")
        port.until(lambda: len(port.fed) == 2)
        assert port.turn() < 3
        assert connection.state == "finishing"
        port.at_feed = by_lines
        taken = 0
        while taken < LARGE:
            port.turn()
            taken += len(client.recv(LARGE))
        port.until(lambda: port.fed[-1] == b"two\n")


def test_a_tunnel_that_waits_reads_nothing_and_does_not_spin(port: Port) -> None:
    context = Context()

    def tunnel(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.tunnel()
        connection.wait()

    port.at_feed = tunnel
    with port.client(b"upgrade\n") as client:
        (connection,) = port.connections
        client.send(b"more")
        assert port.turn() < 3
        client.shutdown(socket.SHUT_WR)
        assert port.turn() < 3
        assert context.told == []
        connection.read()
        port.until(lambda: len(context.told) == 2)
        assert context.data == b"more"
        connection.finish(True)
    port.until(port.gone)


def test_each_is_told_of_its_own_time_and_in_time(port: Port) -> None:
    port.at_feed = taken(port, Context())
    count, chance = 150, random.Random(12)
    clients = [port.client(b"one\n") for _ in range(count)]
    due: dict[int, float] = {}
    contexts = [Context() for _ in range(count)]
    for which, connection in enumerate(port.connections):
        connection.context = contexts[which]
        connection.wait()
        for _ in range(3):  # the last word counts, whether it is more time or less
            due[which] = chance.randrange(1, 100) / 2
            connection.give(due[which])
    for leaves in chance.sample(range(count), 30):
        del due[leaves]
        port.connections[leaves].abort()
    told = [context.told.copy() for context in contexts]
    for turn in range(1, 101):
        port.turn(0.5)
        for which, when in due.items():
            told[which] += ["late"] * (when == turn / 2)
        assert [context.told for context in contexts] == told, f"after {turn / 2} s"
    for client in clients:
        client.close()


def test_a_stream_that_an_exchange_becomes_keeps_no_object_of_it(port: Port) -> None:
    def objects(becomes: Callable[[Connection], None], count: int = 200) -> float:
        """For each stream, with its client."""
        port.at_feed = lambda connection, data: becomes(connection)
        before = sys.getallocatedblocks()
        clients = [connect(port.number, b"one\n") for _ in range(count)]
        port.until(lambda: port.listener.streams == count)
        port.fed.clear()
        port.connections.clear()
        grown = sys.getallocatedblocks() - before
        for client in clients:
            client.close()
        port.until(port.gone)
        port.ends.clear()
        return grown / count

    def at_the_end_of_its_exchange(connection: Connection) -> None:
        connection.context = Context()
        connection.wait()
        connection.give(60.0)
        port.begin(connection)

    objects(port.begin)  # what is there from then on
    at_once = objects(port.begin)
    assert objects(at_the_end_of_its_exchange) == pytest.approx(at_once, abs=0.5)


def test_what_is_kept_is_fed_before_anything_else_is_read_and_never_from_within(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.keep(b"two\n")
        connection.context = context
        connection.wait()

    port.at_feed = wait
    with port.client(b"one\n") as client:
        client.send(b"three\n")
        port.turn()
        port.at_feed = by_lines
        (connection,) = port.connections
        connection.answer(b"one;", False)
        assert (port.fed, connection.state) == ([b"one\n"], "reading")
        port.until(lambda: len(port.fed) == 3)
        assert port.fed == [b"one\n", b"two\n", b"three\n"]
        assert received(client) == b"one;two;three;"


def test_a_body_is_read_when_its_exchange_wants_it(port: Port) -> None:
    context = Context()
    context.at_feed = lambda connection: connection.wait()
    port.at_feed = taken(port, context)
    with port.client(b"head") as client:
        for number in range(1, 4):
            client.send(b"part")
            port.until(lambda number=number: context.data == b"part" * number)
            client.send(b"")
            assert port.turn() < 3
            port.connections[0].read()
        assert context.told == ["feed"] * 3


def test_an_answer_in_pieces_waits_for_who_reads_it(port: Port) -> None:
    context = Context()
    port.at_feed = taken(port, context)
    with port.client(b"one\n", buffer=SMALL) as client:
        (connection,) = port.connections
        connection.wait()
        piece = os.urandom(LARGE)
        assert not connection.send(piece)
        got = bytearray()
        while "writable" not in context.told:
            got += received(client)
            port.turn()
        assert connection.send(b"end")
        port.at_feed = by_lines
        connection.finish(False)
        client.send(b"two\n")
        while not got.endswith(b"two;"):
            got += received(client)
            port.turn()
        assert bytes(got) == piece + b"endtwo;"
        assert context.told == ["writable"]


def test_who_does_not_read_an_answer_gets_no_second_one(port: Port) -> None:
    port.at_feed = lambda connection, data: connection.answer(bytes(LARGE), False)
    with port.client(b"one\n", buffer=SMALL) as client:
        client.send(b"two\n")
        assert port.turn() < 10
        assert (len(port.fed), port.connections[0].state) == (1, "finishing")
        port.turn(29.9)
        assert port.listener.open == 1
        port.turn(30.1)  # what it took at once counts
        port.turn(30.1)
        assert port.listener.open == 0


def test_who_takes_an_answer_slowly_is_not_taken_for_one_who_takes_nothing(port: Port) -> None:
    context = Context()
    port.at_feed = taken(port, context)
    with port.client(b"one\n", buffer=SMALL) as client:
        port.connections[0].send(bytes(LARGE))
        for _ in range(5):
            while len(received(client, 30_000)) == 0:
                port.turn()
            port.turn(30.1)
            assert port.listener.open == 1
        port.turn(30.1)  # it may have taken something since
        port.turn(30.1)
        assert (port.listener.open, context.told) == (0, ["gone"])


@pytest.mark.parametrize("go", [socket.socket.close, reset, lambda client: client.shutdown(socket.SHUT_WR)])
def test_a_client_that_goes_while_its_exchange_waits_is_told_of_once(port: Port, go: Callable[..., None]) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.wait()

    port.at_feed = wait
    client = port.client(b"one\n")
    go(client)
    port.until(port.gone)
    assert context.told == ["gone"]
    client.close()


def test_what_a_client_asks_for_ahead_can_be_told_from_an_empty_line_and_stays_unread(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.keep(data[4:])
        connection.context = context
        connection.wait()

    port.at_feed = wait
    for first, then, is_one in [
        (b"one\n", b"", False),
        (b"one\n", b"\r\n", False),
        (b"one\n\r", b"\n", False),
        (b"one\n\r\n", b"t", True),
        (b"one\n", b"two\n", True),
        (b"one\ntwo\n", b"", True),
    ]:
        with port.client(first) as client:
            connection = port.connections[-1]
            client.send(then)
            assert connection.pipelined is is_one, (first, then)
            port.at_feed = by_lines
            connection.finish(False)
            client.send(b"\n")
            port.until(lambda client=client, end=then[-1:]: received(client).endswith(b";"))
            port.at_feed = wait
        port.until(port.gone)
        assert not connection.pipelined


def test_whoever_is_told_of_an_end_may_fail(port: Port) -> None:
    class Failing(Context):
        def gone(self, connection: Connection) -> None:
            raise RuntimeError("not now")

    port.at_feed = taken(port, Failing())
    port.client(b"one\n").close()
    port.until(port.gone)


def test_an_answer_that_is_finished_owes_nobody_its_end(port: Port) -> None:
    context = Context()
    port.at_feed = taken(port, context)
    with port.client(b"one\n"):
        port.connections[0].answer(b"!", False)
        assert port.connections[0].context is None
    port.until(port.gone)
    assert context.told == []


def test_a_client_that_closes_its_side_behind_its_last_request_is_answered(port: Port) -> None:
    port.at_feed = by_lines
    with connect(port.number, b"a\n" * 300 + b"last\n") as client:
        client.shutdown(socket.SHUT_WR)
        port.until(lambda: port.listener.accepted == 1 and port.gone())
        assert received(client) == b"a;" * 300 + b"last;"


def test_between_exchanges_a_connection_may_be_idle_for_so_long_and_is_closed_without_a_reset() -> None:
    port = Port(idle_seconds=20.0)
    port.at_feed = by_lines
    with port.client(b"one\n") as client:
        assert received(client) == b"one;"
        port.turn(19.9)
        assert port.listener.open == 1
        client.send(b"two\n")
        port.until(lambda: len(port.fed) == 2)
        port.turn(19.9)
        assert port.listener.open == 1, "the time begins again with each exchange"
        port.turn(0.2)
        assert (port.listener.open, port.listener.late) == (0, 0)
        assert received(client) == b"two;"
        assert at_end(client)
    port.end()


def test_time_that_is_given_is_the_exchange_s_own_and_ends_with_it(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.wait()
        connection.give(3.0)

    port.at_feed = wait
    with port.client(b"one\n") as client:
        (connection,) = port.connections
        port.turn(2.9)
        assert context.told == []
        port.turn(0.2)
        assert context.told == ["late"]
        port.turn(100.0)
        assert context.told == ["late"], "it is told once"
        connection.give(5.0)
        connection.give(1.0)
        port.turn(1.1)
        assert context.told == ["late"] * 2, "the shorter time holds, though it was given later"
        connection.give(1.0)
        connection.give(None)
        port.turn(100.0)
        connection.give(3.0)
        connection.answer(b"!", False)
        port.turn(3.1)
        assert context.told == ["late"] * 2
        assert (received(client), connection.state) == (b"!", "reading")


def test_times_that_are_nobodys_any_more_are_dropped_before_more_are_kept(port: Port) -> None:
    context = Context()

    def hold(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.wait()
        connection.give(60.0)  # for an app to answer, whose answer is that it becomes a stream
        port.begin(connection)

    with port.client(b"") as silent, ExitStack() as clients:
        port.at_feed = taken(port, context)
        waiting = clients.enter_context(port.client(b"one\n"))
        port.connections[0].give(50.0)
        port.at_feed = hold
        for _ in range(300):
            clients.enter_context(port.client(b"GET"))
        assert port.listener.streams == 300
        assert port.listener.awaited <= LEAST
        port.turn(10.1)
        assert received(silent) == b"late"
        port.turn(40.0)
        assert context.told == ["late"]
        assert received(waiting) == b""
        port.turn(100.0)
        assert (port.listener.streams, port.listener.awaited) == (300, 0)


def test_every_time_is_kept_however_many_wait(port: Port) -> None:
    told: list[Connection] = []
    context = Context()
    context.late = told.append  # type: ignore[method-assign]
    port.at_feed = taken(port, context)
    rng = random.Random(7)
    with ExitStack() as clients:
        for _ in range(200):
            clients.enter_context(port.client(b"one\n"))
        due = {connection: rng.uniform(1.0, 9.0) for connection in port.connections}
        for _ in range(5):  # each but the last is soon nobody's
            for connection, seconds in due.items():
                connection.give(rng.uniform(seconds, 20.0))
        for connection, seconds in due.items():
            connection.give(seconds)
        assert len(due) <= port.listener.awaited <= 4 * len(due)
        for _ in range(100):
            port.turn(0.1)
            assert set(told) == {connection for connection, seconds in due.items() if seconds <= port.now - 1000.0}
        assert told == sorted(due, key=due.__getitem__)


def test_what_comes_behind_the_last_answer_is_dropped_up_to_a_bound(port: Port) -> None:
    port.at_feed = lambda connection, data: connection.answer(b"refused")
    with port.client(b"head") as client:
        for _ in range(48):
            client.send(bytes(64 << 10))
            port.turn()
        assert received(client) == b"refused"
        assert port.connections[0].state == "lingering"
        for _ in range(48):
            try:
                client.send(bytes(64 << 10))
            except (BrokenPipeError, ConnectionResetError):
                break
            port.turn()
        port.until(port.gone)


def test_a_connection_takes_224_bytes_with_the_garbage_collectors_own(port: Port) -> None:
    """There are as many as streams; the allocator gives 16 at a time."""
    port.at_feed = by_lines
    with port.client(b"one\n"):
        assert sys.getsizeof(port.connections[0]) <= 224


def test_a_kept_connection_becomes_a_stream(port: Port) -> None:
    port.at_feed = by_lines
    with port.client(b"one\n") as client:
        port.at_feed = port.begin
        client.send(b"stream\nfar too early")
        port.until(lambda: port.listener.streams == 1)
        port.publish(b"data:1\n\n")
        assert b"data:1\n" in received(client)
    port.until(port.gone)
    assert port.reasons == [EndReason.CLIENT]


def test_a_connection_that_waits_becomes_a_stream_and_what_came_ahead_is_dropped(port: Port) -> None:
    context = Context()

    def wait(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.keep(b"ahead")
        connection.wait()

    port.at_feed = wait
    with port.client(b"one\n") as client:
        port.begin(port.connections[0])
        client.send(b"more")
        port.serve()
        port.publish(b"data:1\n\n")
        assert b"data:1\n" in received(client)
        assert port.fed == [b"one\n"]
        port.turn(1000.0)
        assert port.listener.streams == 1
    port.until(port.gone)
    assert context.told == []


def test_of_a_tunnel_each_side_ends_for_itself(port: Port) -> None:
    context = Context()

    def tunnel(connection: Connection, data: bytes) -> None:
        connection.context = context
        connection.keep(b"first ")
        connection.wait()
        connection.send(b"switching ")
        connection.tunnel()
        connection.read()

    port.at_feed = tunnel
    with port.client(b"upgrade\n") as client:
        client.send(b"second")
        port.until(lambda: context.data == b"first second")
        client.shutdown(socket.SHUT_WR)
        port.until(lambda: context.told == ["feed"] * 3)
        assert context.data == b"first second"
        assert port.turn() < 3
        (connection,) = port.connections
        assert connection.send(b"and on")
        connection.shut()
        port.turn()
        assert received(client) == b"switching and on"
        assert at_end(client)
        assert (port.turn() < 3, connection.state) == (True, "reading")
        connection.finish(True)
        port.until(port.gone)
    assert context.told == ["feed"] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.wait(),
        lambda connection: connection.read(),
        lambda connection: connection.send(b""),
        lambda connection: connection.finish(True),
        lambda connection: connection.answer(b""),
        lambda connection: connection.give(1.0),
        lambda connection: connection.tunnel(),
        lambda connection: connection.shut(),
    ],
)
@pytest.mark.parametrize("state", ["gone", "lingering", "streaming"])
def test_what_makes_no_sense_is_refused_by_name(port: Port, state: str, call: Callable[[Connection], None]) -> None:
    port.at_feed = {
        "gone": lambda connection, data: connection.abort(),
        "lingering": lambda connection, data: connection.answer(b"!"),
        "streaming": port.begin,
    }[state]
    with port.client(b"one\n"), pytest.raises(RuntimeError, match=f"a {state} connection cannot"):
        call(port.connections[0])
