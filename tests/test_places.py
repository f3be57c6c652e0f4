"""Who may connect: an address has its part of the places, and who has not said what he wants makes room for others."""

import gc
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from front_port import connect
from hypothesis import given
from hypothesis import strategies as st
from test_listener import FULL, Port, at_end, received

from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast._native.front.places import place_of
from sse_fast.access.addresses import one_client

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BESIDE_STREAMS = 32
ATTACKER, OTHER, THIRD, NEWCOMER = (f"127.0.0.{number}" for number in (1, 2, 3, 4))


class Exchange:
    """Has a connection, and does nothing."""

    def __init__(self) -> None:
        self.closed = False

    def feed(self, connection: Connection, data: bytes) -> None: ...
    def writable(self, connection: Connection) -> None: ...
    def late(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None:
        self.closed = True


class Places(Port):
    """A listener whose clients come from several addresses, and begin requests, or are answered, or stream."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.at_feed = self.take
        self.clients: list[socket.socket] = []

    def take(self, connection: Connection, data: bytes) -> None:
        if data == b"GET":
            self.begin(connection)
        elif data == b"ask":
            connection.answer(ANSWER, last=False)
        elif data == b"last":
            connection.answer(ANSWER)
        elif data == b"wait":
            connection.context = Exchange()
            connection.wait()
        elif data == b"body":
            connection.context = Exchange()
        else:
            connection.context = Exchange()
            connection.head_begun()

    def come(self, said: bytes, address: str = ATTACKER) -> socket.socket:
        """Somebody from there who said this, taken in or turned away."""
        listener = self.listener
        seen, fed = listener.accepted + listener.turned_away, len(self.fed)
        client = connect(self.number, said, source=address)
        self.clients.append(client)
        self.until(lambda: listener.accepted + listener.turned_away > seen)
        if said and listener.accepted > seen - listener.turned_away:
            self.until(lambda: len(self.fed) > fed or listener.accepted + listener.turned_away > seen)
        return client

    def say(self, client: socket.socket, said: bytes) -> None:
        fed = len(self.fed)
        client.send(said)
        self.until(lambda: len(self.fed) > fed)

    def there(self, *clients: socket.socket) -> list[bool]:
        for client in clients:
            received(client)
        return [not at_end(client) for client in clients]

    def end(self) -> None:
        for client in self.clients:
            client.close()
        super().end()


@pytest.fixture
def places() -> Iterator[Callable[..., Places]]:
    made: list[Places] = []

    def make(**options: Any) -> Places:
        made.append(Places(**options))
        return made[-1]

    yield make
    for port in made:
        port.end()


# ---- when places are short ----


def test_the_oldest_half_heads_make_room_first(places: Callable[..., Places]) -> None:
    port = places(most=5)
    streaming = port.come(b"GET", THIRD)
    first, second = port.come(b"GE", ATTACKER), port.come(b"", ATTACKER)
    third, fourth = port.come(b"GE", OTHER), port.come(b"", OTHER)
    newcomers = [port.come(b"GET", THIRD)]
    assert port.there(first, second, third, fourth) == [False, True, True, True]
    newcomers += [port.come(b"GET", THIRD)]
    assert port.there(second, third, fourth) == [False, True, True]
    assert port.there(streaming, *newcomers) == [True, True, True]
    assert port.listener.evicted == 2
    assert port.listener.turned_away == 0


def test_then_the_longest_idle_make_room(places: Callable[..., Places]) -> None:
    port = places(most=4)
    idle, idle_for_long = port.come(b"ask", ATTACKER), port.come(b"ask", OTHER)
    half = port.come(b"GE", THIRD)
    port.say(idle, b"ask")
    port.come(b"GET", NEWCOMER)
    port.come(b"GET", NEWCOMER)
    assert port.there(half, idle_for_long, idle) == [False, True, True]
    port.come(b"GET", NEWCOMER)
    assert port.there(idle_for_long, idle) == [False, True]
    port.come(b"GET", NEWCOMER)
    assert port.there(idle) == [False]
    assert port.listener.evicted == 3


def test_who_has_begun_a_next_request_is_a_half_head_from_then_on(places: Callable[..., Places]) -> None:
    port = places(most=4)
    again, half, idle = port.come(b"ask", ATTACKER), port.come(b"GE", OTHER), port.come(b"ask", THIRD)
    port.say(again, b"GE")
    port.come(b"GET", NEWCOMER)
    port.come(b"GET", NEWCOMER)
    assert port.there(half, again, idle) == [False, True, True]
    port.come(b"GET", NEWCOMER)
    assert port.there(again, idle) == [False, True]


def test_who_has_asked_again_makes_no_room_though_nobody_has_read_it_yet(places: Callable[..., Places]) -> None:
    port = places(most=3)
    asks_again, idle = port.come(b"ask", ATTACKER), port.come(b"ask", OTHER)
    port.come(b"GET", THIRD)
    # Of what has happened in one turn the newcomer comes first.
    port.clients.append(connect(port.number, b"GET", source=NEWCOMER))
    asks_again.send(b"ask")
    port.until(lambda: port.listener.streams == 2)
    assert port.there(idle) == [False]
    port.until(lambda: port.fed.count(b"ask") == 3)
    assert received(asks_again) == 2 * ANSWER
    assert (port.listener.evicted, port.listener.turned_away) == (1, 0)


def test_of_those_who_have_asked_again_few_are_looked_at(places: Callable[..., Places]) -> None:
    port = places(most=20)
    clients = [port.come(b"ask", f"127.0.1.{number + 1}") for number in range(20)]
    port.clients.append(connect(port.number, b"GET", source=NEWCOMER))
    for client in clients[:16]:
        client.send(b"ask")
    port.until(lambda: port.listener.turned_away == 1)
    port.until(lambda: len(port.fed) == 36)
    assert port.there(*clients) == [True] * 20
    port.come(b"GET", NEWCOMER)
    assert port.listener.evicted == 1
    assert port.listener.streams == 1


def test_who_is_answered_and_does_not_close_makes_room(places: Callable[..., Places]) -> None:
    port = places(most=2)
    answered = port.come(b"last", ATTACKER)
    port.come(b"GET", OTHER)
    port.come(b"GET", OTHER)
    assert (port.listener.open, port.listener.streams, port.listener.turned_away) == (2, 2, 0)
    assert received(answered) == ANSWER


@pytest.mark.parametrize("under_way", [b"GET", b"wait", b"body"])
def test_streams_and_exchanges_under_way_never_make_room(places: Callable[..., Places], under_way: bytes) -> None:
    port = places(most=4)
    clients = [port.come(under_way, address) for address in (ATTACKER, ATTACKER, OTHER, OTHER)]
    refused = port.come(b"GET", THIRD)
    assert received(refused) == FULL
    assert at_end(refused)
    assert port.crowded == [None]
    assert port.there(*clients) == [True] * 4
    assert port.listener.evicted == 0


def test_a_head_that_is_whole_makes_room_no_more(places: Callable[..., Places]) -> None:
    port = places(most=1)
    asking = port.come(b"GE", ATTACKER)
    (connection,) = port.connections
    connection.head_whole()
    assert received(port.come(b"GET", OTHER)) == FULL
    assert port.there(asking) == [True]


def test_a_client_of_nobody_else_s_time_is_let_in_however_many_half_heads_there_are(
    places: Callable[..., Places],
) -> None:
    port = places(most=50)
    for _ in range(300):
        port.come(b"GE", ATTACKER)
    for number in range(20):
        client = port.come(b"GET", f"127.0.1.{number + 1}")
        assert received(client).startswith(b"HTTP/1.1 200")
    assert port.listener.streams == 20
    assert port.listener.turned_away == 0
    for _ in range(100):
        port.come(b"GE", ATTACKER)
    assert port.listener.streams == 20
    assert port.listener.open <= 50


# ---- by address ----


def test_an_address_has_at_most_half_of_the_places_that_are_no_streams(places: Callable[..., Places]) -> None:
    port = places(most=21)
    port.come(b"GET", OTHER)
    clients = [port.come(b"wait", ATTACKER) for _ in range(12)]
    assert [received(client) for client in clients] == [b""] * 10 + [FULL] * 2
    assert port.crowded == [ATTACKER] * 2
    for _ in range(10):
        port.come(b"wait", OTHER)
    assert port.listener.open == 21
    assert port.crowded == [ATTACKER] * 2


def test_an_address_has_few_connections_beside_the_streams_it_may_have(places: Callable[..., Places]) -> None:
    port = places(most=1000, streams_each=3)
    streams = [port.come(b"GET", ATTACKER) for _ in range(5)]  # how many of them it may have is not decided here
    clients = [port.come(b"wait", ATTACKER) for _ in range(3 + BESIDE_STREAMS)]
    assert not any(received(client) for client in clients)
    assert received(port.come(b"wait", ATTACKER)) == FULL
    assert port.crowded == [ATTACKER]
    assert received(port.come(b"wait", OTHER)) == b""
    assert port.there(*streams) == [True] * 5
    clients[0].close()
    port.until(lambda: port.listener.open == 5 + 3 + BESIDE_STREAMS)
    assert received(port.come(b"wait", ATTACKER)) == b""


def test_a_connection_that_becomes_a_stream_leaves_its_place_to_another(places: Callable[..., Places]) -> None:
    port = places(most=1000, streams_each=0)
    half = [port.come(b"GE", ATTACKER) for _ in range(BESIDE_STREAMS)]
    for connection in list(port.connections):
        port.begin(connection)
    assert port.listener.addresses == 0
    others = [port.come(b"wait", ATTACKER) for _ in range(BESIDE_STREAMS)]
    assert not any(received(client) for client in others)
    assert port.listener.turned_away == port.listener.evicted == 0
    assert port.there(*half) == [True] * BESIDE_STREAMS


def test_of_an_address_with_too_many_its_own_make_room_and_nobody_else_s(places: Callable[..., Places]) -> None:
    port = places(most=1000, streams_each=0)
    others = [port.come(b"GE", OTHER), port.come(b"ask", OTHER)]
    idle = port.come(b"ask", ATTACKER)
    clients = [port.come(b"GE", ATTACKER) for _ in range(BESIDE_STREAMS - 1)]
    clients += [port.come(b"wait", ATTACKER) for _ in range(BESIDE_STREAMS - 1)]
    assert port.there(*clients) == [False] * (BESIDE_STREAMS - 1) + [True] * (BESIDE_STREAMS - 1)
    assert port.there(idle) == [True]
    clients += [port.come(b"wait", ATTACKER)]
    assert port.there(idle) == [False]
    assert received(port.come(b"wait", ATTACKER)) == FULL
    assert port.there(*others) == [True, True]


def test_a_trusted_proxy_has_as_many_as_there_are(places: Callable[..., Places]) -> None:
    port = places(most=100, streams_each=1)
    port.trusted = {OTHER}
    clients = [port.come(b"wait", OTHER) for _ in range(100)]
    assert not any(received(client) for client in clients)
    assert port.listener.turned_away == 0
    assert received(port.come(b"wait", OTHER)) == FULL
    assert port.crowded == [None]


def test_of_addresses_without_connections_nothing_is_kept(places: Callable[..., Places]) -> None:
    port = places(most=8)
    for number in range(200):
        port.come((b"GE", b"ask", b"GET", b"last", b"wait")[number % 5], f"127.0.1.{number + 1}").close()
    port.until(port.gone)
    assert port.listener.addresses == 0


def test_a_listener_that_dies_with_clients_that_wait_leaves_nothing_that_points_to_it() -> None:
    port = Places(most=100)
    for said in (b"GE", b"ask", b""):
        port.come(said, ATTACKER)
    kept = list(port.connections)
    for client in port.clients:
        client.close()
    port.listening.close()
    del port
    gc.collect()
    for connection in kept:
        connection.abort()
    del connection, kept
    gc.collect()


def test_a_listener_that_cannot_be_made_is_none(places: Callable[..., Places]) -> None:
    port, nobody = places(), cast(Any, None)
    stdin = os.fstat(0)
    for made in (lambda: Listener(port.listening, nobody, port), lambda: Listener(port.listening, port.fanout, nobody)):
        with pytest.raises((TypeError, AttributeError)):
            made()
    gc.collect()
    assert os.path.samestat(os.fstat(0), stdin), "descriptor 0 is somebody else's"


packed = st.ip_addresses().map(lambda address: address.packed) | st.builds(
    lambda address: b"\0" * 10 + b"\xff\xff" + address.packed, st.ip_addresses(v=4)
)


@given(packed, packed | st.integers(0, 127))
def test_the_listener_and_the_admission_of_streams_take_the_same_hosts_for_one(one: bytes, other: bytes | int) -> None:
    if isinstance(other, int):  # differs in one bit
        bit = other % (8 * len(one))
        other = (int.from_bytes(one, "big") ^ 1 << bit).to_bytes(len(one), "big")
    same = place_of(one) == place_of(other)
    assert same == (one_client(str(ipaddress.ip_address(one))) == one_client(str(ipaddress.ip_address(other))))


def test_ipv4_within_ipv6_counts_as_ipv4(places: Callable[..., Places], monkeypatch: pytest.MonkeyPatch) -> None:
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: both)
    port = places(most=1000, streams_each=0)
    clients = [port.come(b"wait", address) for address in (ATTACKER, OTHER) for _ in range(BESIDE_STREAMS)]
    assert not any(received(client) for client in clients)
    assert received(port.come(b"wait", OTHER)) == FULL
    assert port.crowded == [OTHER]


# ---- against a model ----


class Model:
    """Who is there, by kind, the longest waiting first."""

    def __init__(self, most: int, each: int) -> None:
        self.most, self.each = most, each + BESIDE_STREAMS
        self.kinds: dict[int, str] = {}  # "unsaid", "idle", "busy", "stream"
        self.addresses: dict[int, str] = {}
        self.queues: dict[str, list[int]] = {"unsaid": [], "idle": []}

    def become(self, client: int, kind: str) -> None:
        self.leave(client)
        self.kinds[client] = kind
        if kind in self.queues:
            self.queues[kind].append(client)

    def leave(self, client: int) -> None:
        self.kinds.pop(client, None)
        for queue in self.queues.values():
            if client in queue:
                queue.remove(client)

    def make_room(self, address: str | None = None) -> bool:
        for queue in self.queues.values():
            for client in queue:
                if address in (None, self.addresses[client]):
                    self.leave(client)
                    return True
        return False

    def come(self, client: int, address: str, kind: str) -> bool:
        """Whether it is taken."""
        streams = [*self.kinds.values()].count("stream")
        others = [one for one, kind in self.kinds.items() if kind != "stream" and self.addresses[one] == address]
        bound = min(self.each, max((self.most - streams) // 2, 1))
        if len(others) >= bound and not self.make_room(address):
            return False
        if len(self.kinds) >= self.most and not self.make_room():
            return False
        self.addresses[client] = address
        self.become(client, kind)
        return True


KINDS = {b"": "unsaid", b"GE": "unsaid", b"ask": "idle", b"wait": "busy", b"body": "busy", b"GET": "stream"}
NEXT = {b"ask": "idle", b"GE": "unsaid", b"wait": "busy", b"GET": "stream"}
steps = st.lists(
    st.tuples(st.just("come"), st.sampled_from(sorted(KINDS)), st.sampled_from([ATTACKER, OTHER, THIRD]))
    | st.tuples(st.just("say"), st.sampled_from(sorted(NEXT)), st.integers(0, 99))
    | st.tuples(st.just("go"), st.none(), st.integers(0, 99)),
    max_size=40,
)


@given(steps, st.integers(1, 12), st.sampled_from([0, 1000]))
def test_it_keeps_whom_an_obvious_model_keeps(steps: list[tuple[str, Any, Any]], most: int, each: int) -> None:
    port, model = Places(most=most, streams_each=each), Model(most, each)
    clients: dict[int, socket.socket] = {}
    try:
        for number, (what, said, who) in enumerate(steps):
            idle = model.queues["idle"]
            if what == "come":
                clients[number] = port.come(said, who)
                model.come(number, who, KINDS[said])
            elif what == "say" and idle:
                client = idle[who % len(idle)]
                port.say(clients[client], said)
                model.become(client, NEXT[said])
            elif what == "go" and model.kinds:
                client = sorted(model.kinds)[who % len(model.kinds)]
                clients.pop(client).close()
                model.leave(client)
                port.until(lambda: port.listener.open == len(model.kinds))
            there = port.there(*clients.values())
            assert {client for client, is_there in zip(clients, there, strict=True) if is_there} == model.kinds.keys()
            assert port.listener.open == len(model.kinds)
    finally:
        port.end()
