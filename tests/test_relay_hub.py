"""`hub.relay`: what a source says is published once, in order, and resumed behind its ids; what is missing is told."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from engines import MemoryEngine, Server
from scripted_source import ScriptedSource, said, scripted_source
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from support import until

from sse_fast import Event, EventParser, Hub, InvalidEvent, ReceivedEvent
from sse_fast.client.errors import Forbidden
from sse_fast.client.failures import Unavailable
from sse_fast.client.relay import RENEW, TransformFailed
from sse_fast.client.relay_mark import Mark
from sse_fast.client.relay_source import WAITING_BYTES, Item, Waiting
from sse_fast.embed.relay import HubRelay, HubTarget
from sse_fast.errors import RateLimited
from sse_fast.outbox.hub import HubTarget as OutboxTarget

GAP = '{"after":null,"until":null}'


@pytest.fixture
async def source() -> AsyncIterator[ScriptedSource]:
    async with scripted_source() as source:
        yield source


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back without delay."""
    for name in ("DEFAULT_RETRY", "SHORTEST_PAUSE", "LONGEST_BACKOFF"):
        monkeypatch.setattr(f"sse_fast.client.relay_source.{name}", 0.001)
    monkeypatch.setattr("sse_fast.client.attempts.LONGEST_PAUSE", 0.001)


class Heard:
    """What a channel of a hub has: (type, data) of each event."""

    def __init__(self, hub: Hub, channel: str = "news") -> None:
        self.events: list[tuple[str, str]] = []
        self._parser = EventParser()
        self._subscription = hub.subscribe([channel], self._take, lambda *_: None, last_event_id="earliest")
        self._subscription.start()

    async def _take(self, message: Any) -> None:
        self.events += [(event.event, event.data) for event in self._parser.feed(message["body"])]

    async def all(self, *events: str | tuple[str, str]) -> None:
        """These are all there are, in this order; of messages the data alone."""
        expected = [("message", event) if isinstance(event, str) else event for event in events]
        await until(lambda: len(self.events) >= len(expected))
        assert self.events == expected


@asynccontextmanager
async def relayed(source: ScriptedSource, **options: Any) -> AsyncIterator[tuple[Hub, HubRelay, Heard]]:
    async with Hub() as hub, hub.relay(source.url, "news", **options) as relay:
        yield hub, relay, Heard(hub)


# ---- resuming --------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_with_their_types_and_the_source_is_resumed_behind_the_last(
    source: ScriptedSource,
) -> None:
    async with relayed(source) as (_, relay, heard):
        first = await source.streamed(said("1", "a"), said("two\nlines", "b", "price"))
        assert (first.last_event_id, first.headers["accept"]) == (None, "text/event-stream")
        await heard.all("1", ("price", "two\nlines"))
        first.end()
        second = await source.streamed(said("3", "c"))
        assert second.last_event_id == "b"
        await heard.all("1", ("price", "two\nlines"), "3")
        assert (relay.stats.published, relay.stats.gaps, relay.stats.id) == (3, 0, "c")


async def test_a_relay_that_begins_again_goes_on_where_the_log_says(source: ScriptedSource) -> None:
    async with Hub() as hub:
        heard = Heard(hub)
        async with hub.relay(source.url, "news"):
            await source.streamed(said("1", "a"), said("2", "b"))
            await heard.all("1", "2")
        async with hub.relay(source.url, "news"):
            again = await source.streamed(said("3", "c"))
            assert again.last_event_id == "b"
            await heard.all("1", "2", "3")
        async with hub.relay(source.url, "news", name="another"):
            assert (await source.connection()).last_event_id is None


async def test_what_was_dropped_before_the_end_of_the_source_is_not_asked_for_again(source: ScriptedSource) -> None:
    async with Hub() as hub:
        async with hub.relay(source.url, "news", events=["price"]) as relay:
            (await source.streamed(said("1", "a"), said("2", "b"))).end()
            await (await source.connection()).answer("204 No Content")
            await relay.wait()
            assert (relay.stats.received, relay.stats.dropped, relay.stats.published) == (2, 2, 0)
        async with hub.relay(source.url, "news", events=["price"]):
            assert (await source.connection()).last_event_id == "b"


async def test_the_id_that_a_source_begins_with_is_kept_before_any_event_comes(source: ScriptedSource) -> None:
    async with Hub() as hub:
        async with hub.relay(source.url, "news") as relay:
            await source.streamed('event: $connected\ndata: {"resume":"live"}\nid: k3-7\n\n')
            async with asyncio.timeout(RENEW / 2):  # by then it would be kept anyway
                await until(lambda: relay.stats.id == "k3-7")
        async with hub.relay(source.url, "news"):
            assert (await source.connection()).last_event_id == "k3-7"


async def test_a_state_file_knows_what_a_new_log_does_not(source: ScriptedSource, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with relayed(source, state=state, since="x") as (_, _, heard):
        assert (await source.streamed(said("1", "a"))).last_event_id == "x"
        await heard.all("1")
    async with relayed(source, state=state, since="x") as (_, _, heard):
        assert (await source.streamed(said("2", "b"))).last_event_id == "a"
        await heard.all("2")
    assert state.read_bytes().startswith(b'{"relay":')
    assert os.listdir(tmp_path) == ["state"]


async def test_the_state_of_another_relay_is_not_taken(
    source: ScriptedSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    state.write_text('{"relay":"another","id":"a"}')
    async with relayed(source, state=state, name="this") as (_, relay, _):
        await until(lambda: relay.stats.failures)
    assert f"{state} is the state of the relay 'another', and this is 'this'" in caplog.text
    assert not source.connections


# ---- what is missing -------------------------------------------------------------------------------------------------


async def test_what_the_source_says_is_gone_is_told_in_its_place(source: ScriptedSource) -> None:
    gap = 'event: $gap\ndata: {"after":"k-1","until":"k-9","positions":8}\nid: k-9\n\n'
    async with relayed(source) as (_, relay, heard):
        await source.streamed(said("1", "k-1"), gap, said("2", "k-10"), "event: $closing\ndata: {}\n\n")
        await heard.all("1", ("$gap", GAP), "2")
        assert (relay.stats.published, relay.stats.gaps, relay.stats.id) == (2, 1, "k-10")


async def test_of_a_source_without_ids_what_is_missed_between_two_connections_is_told(source: ScriptedSource) -> None:
    async with Hub() as hub:
        heard = Heard(hub)
        async with hub.relay(source.url, "news"):
            (await source.streamed(said("1"))).end()
            await source.streamed(said("2"))
            await heard.all("1", ("$gap", GAP), "2")
        async with hub.relay(source.url, "news"):
            await source.streamed(said("3"))
            await heard.all("1", ("$gap", GAP), "2", ("$gap", GAP), "3")


async def test_what_the_hub_will_never_take_is_a_gap(source: ScriptedSource, caplog: pytest.LogCaptureFixture) -> None:
    async with relayed(source) as (_, relay, heard):
        await source.streamed(said("1", "a"), said("x" * 70_000, "b"), said("2", "c"), said("3", "d", "$mine"))
        await heard.all("1", ("$gap", GAP), "2")
        assert (relay.stats.failed, relay.stats.gaps) == (1, 1)
    assert "the event message b of http://127.0.0.1" in caplog.text
    assert "at most 65536 are allowed" in caplog.text


# ---- transforms ------------------------------------------------------------------------------------------------------


async def test_a_transform_says_what_is_published_in_the_place_of_an_event(source: ScriptedSource) -> None:
    def transform(event: ReceivedEvent) -> Any:
        match event.data:
            case "drop":
                return None
            case "several":
                return ["1", b"2", {"n": 3}, Event("4", "named"), event]
            case "renamed":
                return Event({"id": event.id}, event="named")
        return event.data.upper()

    async def later(event: ReceivedEvent) -> Any:
        await asyncio.sleep(0)
        return transform(event)

    events = [said("drop", "1"), said("several", "2", "sort"), said("renamed", "3"), said("text", "4", "sort")]
    expected = [
        ("sort", "1"), ("sort", "2"), ("sort", '{"n":3}'), ("named", "4"), ("sort", "several"), ("named", '{"id":"3"}'),
        ("sort", "TEXT"),
    ]  # fmt: skip
    for each in (transform, later):
        async with relayed(source, transform=each) as (_, relay, heard):
            await source.streamed(*events)
            await heard.all(*expected)
            assert (relay.stats.received, relay.stats.published, relay.stats.dropped) == (4, 7, 1)


def fails_at_two(event: ReceivedEvent) -> str:
    if event.data == "2":
        raise KeyError("nobody has thought of this")
    return event.data


async def test_an_event_that_a_transform_fails_at_is_a_gap_and_the_others_go_on(
    source: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    async with relayed(source, transform=fails_at_two) as (_, relay, heard):
        await source.streamed(said("1", "a"), said("2", "b"), said("3", "c"))
        await heard.all("1", ("$gap", GAP), "3")
        assert relay.stats.failed == 1
    assert "KeyError: 'nobody has thought of this'" in caplog.text


async def test_or_the_relay_stops_in_front_of_it_and_goes_on_there(source: ScriptedSource) -> None:
    async with Hub() as hub:
        heard = Heard(hub)
        async with hub.relay(source.url, "news", transform=fails_at_two, on_error="stop") as relay:
            await source.streamed(said("1", "a"), said("2", "b"), said("3", "c"))
            with pytest.raises(TransformFailed, match="the event message b of http"):
                await relay.wait()
            await heard.all("1")
        async with hub.relay(source.url, "news", on_error="stop"):
            again = await source.streamed(said("2", "b"), said("3", "c"))
            assert again.last_event_id == "a"
            await heard.all("1", "2", "3")


# ---- bounds ----------------------------------------------------------------------------------------------------------


async def test_a_source_has_to_wait_where_the_relay_does(source: ScriptedSource) -> None:
    go_on = asyncio.Event()

    async def waits(event: ReceivedEvent) -> str:
        await go_on.wait()
        return event.data[:4]

    async with relayed(source, transform=waits, max_event_size=2**20) as (_, relay, heard):
        connection = await source.connection()
        connection.writer.transport.set_write_buffer_limits(high=0)
        await connection.stream()
        events = [said(f"{number:04}" + "x" * 500_000, str(number)) for number in range(60)]  # 30 MB
        saying = asyncio.create_task(connection.say(*events))
        await until(lambda: relay.stats.received)
        done, _ = await asyncio.wait((saying,), timeout=0.2)
        assert not done
        go_on.set()
        await saying
        await heard.all(*[f"{number:04}" for number in range(60)])


async def test_what_waits_is_bounded_by_count_and_by_size_and_one_event_always_fits() -> None:
    waiting = Waiting(events=3, size=50)
    item = Item("1", ReceivedEvent("x" * 8, "y" * 8, "1" * 4))  # its type and its id count as its data does

    async def put(count: int, item: Item = item) -> int:
        for done in range(count):
            try:
                async with asyncio.timeout(0.01):
                    await waiting.put(item)
            except TimeoutError:
                return done
        return count

    assert await put(9) == 2
    assert await put(9, Item("")) == 1
    assert len(await waiting.take(9, 100, 1) or ()) == 3
    assert await put(9, Item("", ReceivedEvent("x" * 400))) == 1
    assert await put(1) == 0
    await waiting.end(ValueError("the end"))
    assert len(await waiting.take(9, 100, 1) or ()) == 1
    with pytest.raises(ValueError, match="the end"):
        await waiting.take(9, 100, 1)
    assert WAITING_BYTES >= 2**20


async def test_two_relays_of_one_name_in_one_worker_are_one(source: ScriptedSource) -> None:
    async with Hub() as hub:
        heard = Heard(hub)
        options: dict[str, Any] = {"name": "one"}
        async with hub.relay(source.url, "news", **options) as one, hub.relay(source.url, "news", **options) as other:
            await source.streamed(said("1", "a"))
            await heard.all("1")
            assert (one.stats.leading, other.stats.leading) == (True, False)
            assert not hub.lead("relay:one")
        assert source.asked.empty()


async def test_what_is_no_source_no_channel_and_no_name_is_said_at_once() -> None:
    async with Hub() as hub:
        for url, options, words in (
            ("ftp://x/stream", {}, "begins with http:// or https://"),
            ("stream", {}, "begins with http:// or https://"),
            ("http://x", {"name": "a b"}, "the name of a relay is 1 to 128 characters"),
            ("http://x", {"on_error": "skip"}, '"gap" or "stop"'),
        ):
            with pytest.raises(ValueError, match=words):
                hub.relay(url, "news", **options)  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent, match="belong to the server"):
            hub.relay("http://x", "$stats")


# ---- somebody else's server ------------------------------------------------------------------------------------------


async def test_a_stream_of_sse_starlette_is_resumed_through_its_restart() -> None:
    async def stream(request: Request) -> EventSourceResponse:
        begin = int(request.headers.get("last-event-id", "-1")) + 1

        async def events() -> AsyncIterator[dict[str, str]]:
            for number in range(begin, begin + 3):
                yield {"id": str(number), "event": "count", "data": f"number {number}"}

        return EventSourceResponse(events())  # and then it breaks off

    config = uvicorn.Config(Starlette(routes=[Route("/", stream)]), port=0, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with Hub() as hub, hub.relay(f"http://127.0.0.1:{port}/", "news", since="-1"):
            heard = Heard(hub)
            await until(lambda: len(heard.events) >= 30)
            assert heard.events == [("count", f"number {n}") for n in range(len(heard.events))]
    finally:
        server.should_exit = True
        await serving


async def test_of_two_hubs_over_one_engine_the_relay_that_came_last_relays(source: ScriptedSource) -> None:
    server = Server()
    async with Hub(engine=lambda: MemoryEngine(server)) as one, Hub(engine=lambda: MemoryEngine(server)) as other:
        heard = Heard(other)
        async with one.relay(source.url, "news") as first:
            connection = await source.streamed(said("1", "a"))
            await heard.all("1")
            async with other.relay(source.url, "news") as second:
                assert (await source.connection()).last_event_id == "a"
                await connection.say(said("2", "b"))
                await until(lambda: not first.stats.leading)
                await source.connections[-1].stream(said("2", "b"))
                await heard.all("1", "2")
                assert second.stats.leading


async def test_a_limit_of_the_edge_behind_the_hub_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def limited(*_: object) -> None:
        raise RateLimited("once an hour", 3600)

    async with Hub() as hub:
        monkeypatch.setattr(hub, "append", limited)
        monkeypatch.setattr(hub, "append_once", limited)
        relayed, outbox = HubTarget(hub, "news", "a"), OutboxTarget(hub, "outbox:a")
        with pytest.raises(Unavailable, match="once an hour"):
            await relayed.publish([relayed.prepare("x", None)], Mark("1", ""), "key")
        with pytest.raises(Unavailable, match="once an hour"):
            await outbox.publish([], None)


async def test_a_source_that_forbids_it_ends_the_relay_with_a_clear_error(
    source: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    async with relayed(source) as (_, relay, _):
        connection = await source.connection()
        await connection.answer("403 Forbidden", body=b"not for you")
        async with asyncio.timeout(30):
            with pytest.raises(Forbidden, match="403"):
                await relay.wait()
    assert "the relay has stopped" in caplog.text
