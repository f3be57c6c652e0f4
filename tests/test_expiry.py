"""Streams that end in time, through the whole house: by the front, held by it for an app, and by ASGI."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from front_port import FrontPort
from hold_port import HoldPort
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from support import Listener, turns_of_others, until
from taking import Taking

from sse_fast import EndReason, Hub, InvalidEvent
from sse_fast._native.fanout.groups import Subscriber
from sse_fast.access.access import Access
from sse_fast.access.grants import Grants
from sse_fast.access.patterns import EVERYTHING
from sse_fast.ends import ENDS
from sse_fast.hub import hub as node
from sse_fast.hub.open_streams import ENDED_AT_ONCE
from sse_fast.transports.kernel import Bounds

Kind = Literal["the front's own", "held", "by ASGI"]
KINDS: tuple[Kind, ...] = ("the front's own", "held", "by ASGI")
HOUR = 3600.0


class Clock:
    """What the hub takes for the time of day: it stands until it is told to go on from a time."""

    def __init__(self) -> None:
        self.begun = self.now = time.time()
        self._running = 0.0

    def time(self) -> float:
        return self.now + (time.monotonic() - self._running if self._running else 0.0)

    def go_on(self, now: float) -> None:
        self.now, self._running = now, time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(node, "time", SimpleNamespace(time=clock.time))
    return clock


@asynccontextmanager
async def serving(
    kind: Kind, end: float | None = None, user: str | None = "ann", **settings: Any
) -> AsyncIterator[tuple[node.Hub, int, str]]:
    """A hub, and where its streams are, of a user whose credential ends then."""
    if kind == "the front's own":
        access = Access(everybody=Grants(EVERYTHING, until=end, user=user))
        async with FrontPort.opened(access=access, **settings) as port:
            yield port.hub, port.number, "/sse/a"
            port.check()
        return

    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            passes = (lambda event: True) if kind == "by ASGI" else None
            return hub.response(request, ["a"], until=end, user=user, filter=passes)

        return Starlette(routes=[Route("/events", events)])

    async with HoldPort.opened(make, **settings) as held:
        yield held.hub, held.port, "/events"


async def only(hub: node.Hub) -> Subscriber:
    [stream], before = await hub.open_streams.page()
    assert before == 0
    return stream


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_is_told_ends_ahead_of_its_credential_and_resumes_exactly(kind: Kind, clock: Clock) -> None:
    end = clock.begun + HOUR
    async with serving(kind, end) as (hub, port, target):
        async with await Listener.open(port, target) as client:
            stream = await only(hub)
            assert stream.user == "ann"
            assert stream.until is not None
            assert stream.until < end
            assert stream.native == (kind != "by ASGI")
            await hub.publish("a", "1")
            clock.now = stream.until - 10
            await client.read_until(lambda: bool(client.told("$expiring")))
            assert client.told("$expiring") == [{"seconds": 10}]
            await hub.publish("a", "2")
            await client.read_count(2)
            clock.go_on(stream.until)
            await client.read_to_the_end()
            await hub.publish("a", "3")
        assert [event.type for event in client.events] == [
            *("$connected", "message", "$expiring", "message", "$closing")
        ]
        assert client.told("$closing") == [{"reason": "expired"}]
        assert client.retry == ENDS[EndReason.EXPIRED].retry
        assert client.end == "aborted", "some clients take a clean end for the last word"
        clock.go_on(clock.begun)
        async with await Listener.open(port, target, last_event_id=client.last_event_id) as again:
            await again.read_count(1)
            assert again.data == ["3"]
            assert again.told("$connected")[0]["resume"] == "complete"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_gets_as_old_as_the_setting_says_and_its_client_resumes(kind: Kind, clock: Clock) -> None:
    async with serving(kind, max_stream_age=1000) as (hub, port, target):
        async with await Listener.open(port, target) as client:
            stream = await only(hub)
            assert stream.until is not None
            assert clock.begun + 800 <= stream.until <= clock.begun + 1000
            clock.go_on(stream.until)
            await client.read_to_the_end()
        assert [event.type for event in client.events] == ["$connected", "$closing"]
        assert client.told("$closing") == [{"reason": "age"}]
        assert client.end == "aborted"
        async with await Listener.open(port, target, last_event_id=client.last_event_id) as again:
            assert again.told("$connected")[0]["resume"] == "complete"


@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_runs_the_server_ends_the_streams_of_a_user_and_of_nobody_else(kind: Kind) -> None:
    async with serving(kind) as (hub, port, target), await Listener.open(port, target) as client:
        other = Taking()
        hub.attach(["a"], other, user="bob")
        assert await hub.open_streams.end(EndReason.OPERATOR, user="nobody") == 0
        assert await hub.open_streams.end(EndReason.OPERATOR, user="ann", channel="another") == 0
        assert await hub.open_streams.end(EndReason.OPERATOR, user="ann") == 1
        await client.read_to_the_end()
        assert client.told("$closing") == [{"reason": "operator"}]
        assert client.end == "clean"
        assert (await only(hub)).user == "bob"
        await hub.open_streams.end(EndReason.OPERATOR, number=(await only(hub)).number)
        assert hub.fanout.connections == 0


@pytest.mark.parametrize("kind", ["the front's own"])
async def test_who_does_not_read_at_its_end_is_closed_without_a_word(kind: Kind, clock: Clock) -> None:
    async with serving(kind, clock.begun + HOUR, bounds=Bounds(1 << 18, 60.0)) as (hub, port, target):
        async with await Listener.open(port, target, small_buffers=True) as client:
            stream = await only(hub)
            assert stream.until is not None
            for _ in range(200):  # more than the kernel takes
                await hub.publish("a", "x" * 50_000)
            await until(lambda: hub.fanout.blocked)
            clock.go_on(stream.until)
            await until(lambda: hub.fanout.connections == 0)
            await client.read_to_the_end()
        assert client.told("$closing") == []
        assert client.end == "aborted"
        async with await Listener.open(port, target, last_event_id=client.last_event_id) as again:
            await again.read_count(1)
            assert again.told("$gap") == []


async def test_a_stream_that_was_told_of_the_shutdown_is_told_of_no_other_end(clock: Clock) -> None:
    async with serving("the front's own", clock.begun + HOUR) as (hub, port, target):
        async with await Listener.open(port, target) as client:
            stream = await only(hub)
            await hub.drain(1.0)
            hub.fanout.end(stream, EndReason.EXPIRED)
            await client.read_to_the_end()
        assert client.told("$closing") == [{"reason": "shutdown"}]
        assert client.end == "aborted"


async def test_thousands_that_end_at_once_leave_the_loop_to_others(clock: Clock) -> None:
    hub = node.Hub(log_size=1 << 20, max_stream_age=100)
    for _ in range(5000):
        hub.attach(["a"], Taking()).start()
    async with turns_of_others() as turns:
        await asyncio.sleep(0)
        before = turns.count
        clock.go_on(clock.begun + 100)
        await until(lambda: hub.fanout.connections == 0)
        assert turns.count - before >= 2 * 5000 / ENDED_AT_ONCE
    await hub.close()


async def test_ending_by_user_and_listing_look_at_so_many_in_a_turn() -> None:
    hub = node.Hub(log_size=1 << 20)
    for number in range(40_000):
        hub.attach(["a"], Taking(), user=f"user-{number % 100}")
    async with turns_of_others() as turns:
        await asyncio.sleep(0)
        before = turns.count
        found, behind = await hub.open_streams.page(user="user-7", limit=500)
        assert (len(found), behind) == (400, 0)
        assert turns.count - before >= 2
        before = turns.count
        assert await hub.open_streams.end(EndReason.OPERATOR, user="user-7") == 400
        assert turns.count - before >= 3
    assert hub.fanout.connections == 39_600
    with pytest.raises(ValueError, match="nothing says which"):
        await hub.open_streams.end(EndReason.OPERATOR)
    await hub.close()


async def test_an_end_that_is_none_is_the_app_s_mistake_and_says_so() -> None:
    async with Hub() as hub:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        with pytest.raises(TypeError, match="seconds since 1970"):
            hub.response(scope, ["a"], until="tomorrow")  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent, match="seconds since 1970, not nan"):
            hub.response(scope, ["a"], until=float("nan"))
        with pytest.raises(TypeError, match="user is text"):
            hub.response(scope, ["a"], user=7)  # type: ignore[arg-type]
