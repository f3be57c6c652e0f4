"""The life of a stream as a table: both transports walk it, and neither gives a stream what it has not got."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from front_port import FrontPort, by_asgi, edge_of
from support import until

from sse_fast import Hub as OwnHub
from sse_fast.access.limits import Admission
from sse_fast.edge import deciding
from sse_fast.errors import EndReason, Unsupported
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Need, Subscribe
from sse_fast.testing import EventClient
from sse_fast.transports import front
from sse_fast.transports.life import LIVES, OFFERS, Life, Lives, Transport
from sse_fast.transports.streams import Streams

GET = b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n"


def test_every_state_is_reachable_and_ends_are_ends() -> None:
    reached, edge = {Life.ARRIVED}, [Life.ARRIVED]
    while edge:
        new = set(LIVES[edge.pop()].values()) - reached
        reached |= new
        edge += new
    assert reached == set(Life)
    assert {state for state, moves in LIVES.items() if not moves} == {Life.REFUSED, Life.ENDED}


@pytest.mark.parametrize("life", Life)
def test_what_cannot_happen_to_a_stream_moves_and_counts_nothing(life: Life) -> None:
    lives = Lives()
    for happening in {"refuse", "admit", "open", "end", "fly"} - LIVES[life].keys():
        with pytest.raises(KeyError):
            lives.move(life, happening)
    assert not any(lives.reached.values())


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Life, Life]]:
    """Every step that anybody's life takes."""
    steps: list[tuple[Life, Life]] = []
    move = Lives.move

    def watched(self: Lives, life: Life, happening: str) -> Life:
        then = move(self, life, happening)
        steps.append((life, then))
        return then

    monkeypatch.setattr(Lives, "move", watched)
    return steps


OPENED = [(Life.ARRIVED, Life.OPENING), (Life.OPENING, Life.STREAMING), (Life.STREAMING, Life.ENDED)]
REFUSED = [(Life.ARRIVED, Life.REFUSED)]


@pytest.mark.usefixtures("nothing_set")
async def test_a_stream_walks_the_same_way_by_both_transports(walked: list[tuple[Life, Life]]) -> None:
    async with edge_of(max_connections=1) as edge, by_asgi(edge) as client:
        assert edge.front is not None

        async def native(request: bytes, enough: bytes) -> asyncio.StreamWriter:
            assert edge.front is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
            writer.write(request)
            await reader.readuntil(enough)
            return writer

        (await native(GET, b"$connected")).close()
        await until(lambda: edge.hub.fanout.connections == 0)
        by_native = walked.copy()
        walked.clear()
        async with EventClient(edge, lifespan=False).stream("/sse/a") as stream:
            await stream.next()
        await until(lambda: edge.hub.fanout.connections == 0)
        assert by_native == walked == OPENED
        walked.clear()
        writer = await native(GET, b"$connected")
        walked.clear()
        for request, target, status in ((GET, "/sse/a", 503), (b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n", "/sse", 400)):
            (await native(request, b"\r\n\r\n")).close()
            assert (await client.get(target, headers={"accept": "application/json"})).status_code == status
            assert walked == REFUSED * 2
            walked.clear()
        writer.close()
        await until(lambda: edge.hub.fanout.connections == 0)
        for lives in edge._streams.transports.values():
            assert (lives.connections, lives.accepted) == (0, lives.ended.total())


async def test_a_stream_that_ends_in_the_moment_of_its_beginning_has_begun(walked: list[tuple[Life, Life]]) -> None:
    async with FrontPort.opened() as port:
        port.transport.resume = lambda subscriber: 1 / 0  # type: ignore[method-assign, assignment]
        listener = port.listener
        port.transport.close()
        port.open()
        with port.connect(GET):
            await until(lambda: port.counts.ended == {EndReason.ERROR: 1})
        assert walked == OPENED
        assert listener.open == 0
        port.check()


# ---- what a stream needs and a transport has ----


@pytest.mark.parametrize("needs", [{Need.FILTER}, {Need.PRESENCE}, set(Need)])
async def test_what_a_transport_has_not_got_is_an_error_and_no_stream(needs: set[Need]) -> None:
    hub = Hub(log_size=64 * 1024)
    admission = Admission()
    streams = Streams(hub, admission, retry=1000)
    wanted = Subscribe(("a",), needs=frozenset(needs))
    for transport in Transport:
        if needs <= OFFERS[transport]:
            assert streams.enter("10.0.0.1", transport, wanted) is Life.OPENING
        else:
            with pytest.raises(
                Unsupported, match=f"by the {transport} transport has no {min(needs - OFFERS[transport])}"
            ):
                streams.enter("10.0.0.1", transport, wanted)
            assert streams.transports[transport].accepted == 0
    assert admission.connections == sum(needs <= offered for offered in OFFERS.values()) >= 1
    await hub.close()


@pytest.mark.usefixtures("nothing_set")
async def test_who_wants_what_its_transport_has_not_got_is_told_so_for_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, walked: list[tuple[Life, Life]]
) -> None:
    """By 501, which ends an EventSource; without a byte it would come back for ever."""
    readable = ((b"access-control-allow-origin", b"*"),)
    wanted = Subscribe(("a",), needs=frozenset((Need.FILTER,)), readable=readable)
    for module in (front, deciding):
        monkeypatch.setattr(module, "decide", lambda request, policy, found: wanted)
    monkeypatch.setitem(OFFERS, Transport.ASGI, frozenset())
    async with edge_of() as edge, by_asgi(edge) as main, httpx.AsyncClient() as native:
        assert edge.front is not None
        port = f"http://127.0.0.1:{edge.front.port}"
        for client, target, transport in ((main, "/sse/a", "asgi"), (native, f"{port}/sse/a", "native")):
            answer = await client.get(target)
            assert answer.status_code == 501
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["access-control-allow-origin"] == "*"
            assert f"by the {transport} transport has no filter" in answer.json()["detail"]
            assert edge._streams.transports[Transport(transport)].accepted == 0
        assert walked == REFUSED * 2
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def needed(hub: OwnHub, **callbacks: Any) -> frozenset[Need]:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    return hub.response(scope, ["a"], **callbacks).wanted.needs


def test_a_response_says_what_its_callbacks_need() -> None:
    plain, told = OwnHub(), OwnHub(on_leave=lambda info, reason: None)
    assert needed(plain) == frozenset()
    assert needed(plain, filter=lambda event: True) == {Need.FILTER}
    assert needed(plain, transform=lambda event: event) == {Need.FILTER}
    assert needed(plain, on_join=lambda info: None) == {Need.PRESENCE}
    assert needed(told, filter=lambda event: True) == set(Need)
