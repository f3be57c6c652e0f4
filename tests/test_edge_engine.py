"""An edge in front, over an inner one that a test speaks for: what of its words counts, and for how much."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from scripted_source import Connection, ScriptedSource, said, scripted_source
from support import until

from sse_fast.cluster import edge as engines
from sse_fast.cluster.edge import EdgeEngine
from sse_fast.cluster.entries import Events, Item, Missed
from sse_fast.errors import EngineRefused, EngineTrouble, EngineUnavailable, Forbidden, RateLimited
from sse_fast.event import EventId
from sse_fast.protocol.problem import problem_of

CONNECTED = said('{"resume":"live","envelope":"json"}', None, "$connected")
EVENT = (b"news", b"data: x\n\n")
Answer = Callable[[Connection], Awaitable[object]]


def told(number: int, **fields: Any) -> str:
    event = {"channel": "news", "time": "2026-01-01T00:00:00.000Z", "data": str(number)} | fields
    return said(json.dumps(event), f"e-{number}")


@asynccontextmanager
async def inner(answer: Answer) -> AsyncIterator[tuple[EdgeEngine, ScriptedSource]]:
    """An engine over an edge that answers so."""
    async with scripted_source() as source:

        async def one(connection: Connection) -> None:
            with suppress(ConnectionError):
                await answer(connection)

        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(one(await source.asked.get()))

        serving = asyncio.create_task(serve())
        engine = EdgeEngine(f"http://127.0.0.1:{source.port}")
        try:
            yield engine, source
        finally:
            await engine.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def saying(status: str, *headers: str, body: bytes = b"") -> Answer:
    return lambda connection: connection.answer(status, *headers, body=body)


async def read(engine: EdgeEngine, last: int, after: EventId | None = None) -> list[Item]:
    """Up to the event with that number."""
    items: list[Item] = []
    async with asyncio.timeout(30):
        async for some in engine.follow(after):
            items += some
            if numbers_of(items)[-1:] == [last]:
                return items
    raise AssertionError


def numbers_of(items: list[Item]) -> list[int]:
    return [each[0] for item in items if isinstance(item, Events) for each in item.events]


# ---- what it has -----------------------------------------------------------------------------------------------------


async def test_an_edge_that_does_not_answer_is_away_and_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ANSWER_SECONDS", 0.05)

    async def nothing(connection: Connection) -> None:
        await connection.stream(":\n")

    async with inner(nothing) as (engine, _):
        with pytest.raises(EngineUnavailable, match="not answered"):
            await engine.open()
        assert engine.trouble is not None


@pytest.mark.parametrize("last", [said('{"reason":"shutdown"}', None, "$closing"), ""])
async def test_an_edge_that_ends_its_stream_is_away_and_not_empty(last: str) -> None:
    async def closing(connection: Connection) -> None:
        await connection.stream(CONNECTED, last)
        connection.end()

    async with inner(closing) as (engine, _):
        with pytest.raises(EngineUnavailable):
            await engine.open()


async def test_its_newest_is_waited_for_and_nothing_is_what_it_has_where_it_says_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "NEWEST_SECONDS", 0.05)
    events = [told(5)]
    answering = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await answering.wait()
        await connection.stream(CONNECTED, *events)

    async with inner(slow) as (engine, source):
        looking = asyncio.create_task(engine.open())
        await until(lambda: source.connections)
        answering.set()
        assert (await looking).last == EventId("e", 5)
        events.clear()
        assert (await engine.open()).last is None
        assert engine.trouble is None


# ---- what is published -----------------------------------------------------------------------------------------------


async def test_an_answer_about_one_request_is_no_trouble_of_the_edge() -> None:
    detail = json.dumps({"detail": "once a second"}).encode()
    async with inner(saying("429 Too Many Requests", "Retry-After: 7", body=detail)) as (engine, _):
        with pytest.raises(RateLimited, match="once a second") as limited:
            await engine.publish([EVENT])
        assert limited.value.seconds == 7
        assert engine.trouble is None
    async with inner(saying("403 Forbidden")) as (engine, _):
        with pytest.raises(Forbidden):
            await engine.publish([EVENT])
        assert engine.trouble is None


@pytest.mark.parametrize(
    ("status", "maybe"), [("500 X", True), ("502 X", True), ("504 X", True), ("503 X", False), ("401 X", False)]
)
async def test_what_somebody_between_may_have_passed_on_may_be_published(status: str, maybe: bool) -> None:
    async with inner(saying(status)) as (engine, _):
        with pytest.raises(EngineUnavailable) as error:
            await engine.publish([EVENT])
        assert error.value.maybe is maybe


async def test_what_an_edge_says_may_be_published_may_be() -> None:
    for said_of_it in (True, False):
        answer = problem_of(EngineUnavailable("away", EngineTrouble.UNREACHABLE, maybe=said_of_it))
        async with inner(saying("503 X", body=answer.body)) as (engine, _):
            with pytest.raises(EngineUnavailable) as error:
                await engine.publish([EVENT])
            assert error.value.maybe is said_of_it


async def test_an_edge_that_is_well_again_is_found_so_where_nobody_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LONGEST_PAUSE", 0.1)
    answers = ["502 Bad Gateway", "401 Unauthorized", "200 OK"]

    async def one_after_another(connection: Connection) -> None:
        assert connection.target == "/publish"
        await connection.answer(answers[0] if len(answers) == 1 else answers.pop(0), body=b'{"ids":[]}')

    async with inner(one_after_another) as (engine, source):
        with pytest.raises(EngineUnavailable):
            await engine.publish([EVENT])
        assert engine.trouble is not None
        await until(lambda: isinstance(engine.trouble, EngineRefused))
        assert engine.trouble.reason == EngineTrouble.CREDENTIALS
        await until(lambda: engine.trouble is None)
        assert [each.headers.get("content-length") for each in source.connections[1:]] == ["0", "0"]


# ---- what is read ----------------------------------------------------------------------------------------------------

LIES = {
    "no object": said("[1]", "e-5"),
    "no channel": told(5, channels=[]),
    "channels that are none": told(5, channels="abc"),
    "one twice": told(5, channels=["a", "a"]),
    "too many": told(5, channels=[f"c{number}" for number in range(33)]),
    "a long name": told(5, channel="c" * 100_000),
    "a name of its own": told(5, channel="$own"),
    "the first position": said(json.dumps({"channel": "a", "time": "2026-01-01T00:00:00Z", "data": ""}), "e-0"),
    "a position that no log gets to": told(2**62),
    "a gap to there": said("{}", f"e-{2**62}", "$gap"),
    "no id": said(json.dumps({"channel": "a", "time": "2026-01-01T00:00:00Z", "data": ""}), "no id"),
    "before 1970": told(5, time="0001-01-01T00:00:00+00:00"),
    "no time": told(5, time="0001-01-01T00:00:00"),
    "what is forgotten": said('{"channel":5}', "e-5", "$forgotten"),
    "a long name to be forgotten": said(json.dumps({"channel": "c" * 3000}), "e-5", "$forgotten"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_what_no_edge_says_is_refused_and_what_stood_before_it_is_not_lost(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SHORTEST_PAUSE", 0.01)
    cursors: list[str | None] = []
    troubles: list[EngineUnavailable | None] = []

    async def first_wrong(connection: Connection) -> None:
        cursors.append(connection.last_event_id)
        troubles.append(engine.trouble)
        await connection.stream(CONNECTED)
        await connection.say(told(7) if len(cursors) == 3 else (told(4) if len(cursors) == 1 else "") + lie)

    async with inner(first_wrong) as (engine, _):
        items = await read(engine, 7)
        assert numbers_of(items) == [4, 7]
        assert cursors == ["earliest", "e-4", "e-4"]
        assert all(isinstance(trouble, EngineRefused) for trouble in troubles[1:])
        assert engine.trouble is None or engine.trouble is troubles[-1]


async def test_an_event_that_comes_again_is_none_and_one_from_before_neither() -> None:
    async def again(connection: Connection) -> None:
        await connection.stream(CONNECTED, told(5), told(4), told(5), told(6))

    async with inner(again) as (engine, _):
        assert numbers_of(await read(engine, 6, EventId("e", 4))) == [5, 6]


async def test_a_gap_in_a_channel_is_its_event_and_one_of_the_stream_is_its_own() -> None:
    own = said('{"after":"e-1","until":"e-3"}', "e-3", "$gap")
    fields = {"after": "e-1", "until": None, "channel": "news", "time": "2026-01-01T00:00:00.000Z"}
    published = said(json.dumps(fields), "e-4", "$gap")

    async def both(connection: Connection) -> None:
        await connection.stream(CONNECTED, own, published, told(5))

    async with inner(both) as (engine, _):
        missed, *events = await read(engine, 5, EventId("e", 1))
        assert missed == Missed(EventId("e", 1), EventId("e", 3))
        assert isinstance(events[0], Events)
        [(position, channel, frame, _time)] = events[0].events
        assert (position, channel, frame) == (4, b"news", b'event: $gap\ndata: {"after":"e-1","until":null}\n\n')
