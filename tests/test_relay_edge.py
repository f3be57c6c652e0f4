"""A relay to an edge over HTTP: once, whatever became of a request, and whoever else relays the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from edge_client import EdgeClient
from scripted_source import ScriptedSource, said, scripted_source
from support import until

from sse_fast import EventParser
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.relay import Relay
from sse_fast.client.relay_edge import EdgeTarget
from sse_fast.client.relay_mark import Mark, Superseded
from sse_fast.client.relay_source import Source
from sse_fast.transports.life import Transport

GAP = '{"after":null,"until":null}'


@pytest.fixture
async def source() -> AsyncIterator[ScriptedSource]:
    async with scripted_source() as source:
        yield source


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEFAULT_RETRY", "SHORTEST_PAUSE", "LONGEST_BACKOFF"):
        monkeypatch.setattr(f"sse_fast.client.relay_source.{name}", 0.001)
    monkeypatch.setattr("sse_fast.client.attempts.LONGEST_PAUSE", 0.001)


@asynccontextmanager
async def edge_here(**settings: Any) -> AsyncIterator[str]:
    """Its address."""
    async with EdgeClient.opened(Transport.NATIVE, **settings) as client:
        assert client.edge.front is not None
        yield f"http://127.0.0.1:{client.edge.front.port}"


def to(url: str, kind: type[EdgeTarget] = EdgeTarget, name: str = "a", key: str = "") -> EdgeTarget:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return kind(httpx.AsyncClient(base_url=url, timeout=30, headers=headers), "news", name)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def kept(url: str, last: str) -> list[tuple[str, str]]:
    """(type, data) of all that the edge has of the channel, up to that."""
    found: list[tuple[str, str]] = []
    parser = EventParser()
    async with (
        httpx.AsyncClient(base_url=url, timeout=30) as client,
        client.stream("GET", "/sse/news?last_event_id=earliest") as response,
    ):
        async for piece in response.aiter_bytes():
            for event in parser.feed(piece):
                if event.event != "$connected":
                    found.append((event.event, event.data))
                if event.data == last:
                    return found
    raise AssertionError(found)


def messages(*data: str) -> list[tuple[str, str]]:
    return [("message", each) for each in data]


# ---- once ------------------------------------------------------------------------------------------------------------


class Unanswered(EdgeTarget):
    """Each second request is published, and its answer does not come."""

    requests = 0

    async def publish(self, prepared: Sequence[object], mark: Mark, key: str) -> Sequence[str]:
        self.requests += 1
        ids = await super().publish(prepared, mark, key)
        if self.requests % 2 == 0:
            raise Unavailable("the connection broke")
        return ids


async def test_what_was_published_without_an_answer_is_not_published_again(source: ScriptedSource) -> None:
    async with edge_here() as url, running(Relay(Source(source.url), to(url, Unanswered), "a")) as relay:
        connection = await source.streamed(said("0", "0"))
        for number in range(1, 10):
            await until(lambda number=number: relay.stats.id == str(number - 1))
            await connection.say(said(str(number), str(number)))
        assert await kept(url, "9") == messages(*map(str, range(10)))
        assert relay.stats.failures >= 5


class Dies(Exception):
    """The process ends here."""


class Dying(EdgeTarget):
    async def publish(self, prepared: Sequence[object], mark: Mark, key: str) -> Sequence[str]:
        ids = await super().publish(prepared, mark, key)
        if prepared:
            raise Dies
        return ids


async def test_a_relay_that_died_behind_its_publish_is_followed_by_one_that_goes_on_there(
    source: ScriptedSource,
) -> None:
    async with edge_here() as url:
        dying = asyncio.create_task(Relay(Source(source.url), to(url, Dying), "a").run())
        await source.streamed(said("1", "a"), said("2", "b"))
        with pytest.raises(Dies):
            await dying
        async with running(Relay(Source(source.url), to(url), "a")):
            again = await source.connection()
            await again.stream(*[said(each, each) for each in ("b'", "c")][again.last_event_id == "b" :])
            found = await kept(url, "c")
            assert again.last_event_id in ("a", "b")
            assert found == (messages("1", "2", "c") if again.last_event_id == "b" else messages("1", "b'", "c"))


async def test_a_batch_that_comes_late_is_refused_whole(source: ScriptedSource) -> None:
    async with edge_here() as url:
        target = to(url)
        assert await target.newest_mark() is None
        await target.publish([target.prepare("1", None)], Mark("a", "first"), "behind nothing")
        await target.publish([target.prepare("2", None)], Mark("b", "second"), "behind first")
        with pytest.raises(Superseded):
            await target.publish([target.prepare("late", None)], Mark("b", "late"), "behind first")
        assert await target.newest_mark() == Mark("b", "second")
        await target.publish([target.prepare("3", "price")], Mark("c", "third"), "behind second")
        assert await kept(url, "3") == [*messages("1", "2"), ("price", "3")]
        await target.close()


async def test_of_two_relays_the_one_that_came_last_relays_and_the_other_stands_by(source: ScriptedSource) -> None:
    async with edge_here() as url, running(Relay(Source(source.url), to(url), "a")) as first:
        one = await source.streamed(said("1", "a"))
        await until(lambda: first.stats.id == "a")
        async with running(Relay(Source(source.url), to(url), "a")) as second:
            other = await source.connection()
            assert other.last_event_id == "a"
            await one.say(said("2", "b"))
            await until(lambda: not first.stats.leading)
            await other.stream(said("2", "b"))
            assert await kept(url, "2") == messages("1", "2")
            assert second.stats.leading


async def test_where_no_mark_of_another_one_comes_any_more_it_takes_over(source: ScriptedSource) -> None:
    async with edge_here() as url, running(Relay(Source(source.url), to(url), "a", lease=0.01)) as relay:
        connection = await source.streamed(said("1", "a"))
        await until(lambda: relay.stats.id == "a")
        another = to(url)
        mark = await another.newest_mark()
        assert mark is not None
        await another.publish([another.prepare("2", None)], Mark("b", "another's"), f"relay:a:{mark.batch}")
        await connection.say(said("2", "b"))
        assert (await source.streamed(said("3", "c"))).last_event_id == "b"
        assert await kept(url, "3") == messages("1", "2", "3")
        await another.close()


async def test_a_new_log_of_an_edge_is_gone_on_with_from_memory(source: ScriptedSource) -> None:
    targets: list[str] = []

    class Moves(EdgeTarget):
        """To an edge that comes in the place of another one."""

        async def publish(self, prepared: Sequence[object], mark: Mark, key: str) -> Sequence[str]:
            if str(self._client.base_url).rstrip("/") != targets[-1]:
                self._client.base_url = targets[-1]  # type: ignore[assignment]
                raise Unavailable("the connection broke")
            return await super().publish(prepared, mark, key)

    async with edge_here() as one, edge_here() as other:
        targets.append(one)
        async with running(Relay(Source(source.url), to(one, Moves), "a")) as relay:
            connection = await source.streamed(said("1", "a"))
            await until(lambda: relay.stats.id == "a")
            targets.append(other)
            await connection.say(said("2", "b"), said("3", "c"))
            assert await kept(other, "3") == messages("2", "3")
        async with running(Relay(Source(source.url), to(other), "a")):
            assert (await source.connection()).last_event_id == "c"


# ---- what can't be ---------------------------------------------------------------------------------------------------


async def test_of_many_the_event_that_the_edge_will_never_take_is_a_gap_and_the_others_come(
    source: ScriptedSource,
) -> None:
    async with edge_here() as url, running(Relay(Source(source.url), to(url), "a")) as relay:
        large = {7: "x" * 70_000, 30: "y" * 70_000}
        await source.streamed(*[said(large.get(number, str(number)), str(number)) for number in range(40)])
        expected = [("$gap", GAP) if number in large else ("message", str(number)) for number in range(40)]
        assert await kept(url, "39") == expected
        assert (relay.stats.published, relay.stats.failed, relay.stats.gaps) == (38, 2, 2)


async def test_what_goes_round_is_refused() -> None:
    async with edge_here() as url:
        relay = asyncio.create_task(
            Relay(
                Source(
                    f"{url}/sse/news",
                ),
                to(url),
                "a",
                since="earliest",
            ).run()
        )
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/publish/news", content="1")
        with pytest.raises(Refused, match="it would go round for ever"):
            await relay
        assert await kept(url, "1") == messages("1")
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/publish/news", content="the end")
        assert await kept(url, "the end") == messages("1", "1", "the end")


async def test_a_credential_that_may_not_write_marks_is_told_what_is_missing(source: ScriptedSource) -> None:
    key = "0123456789abcdef"
    async with edge_here(publish_key=key) as url:
        with pytest.raises(Refused, match="401 Unauthorized"):
            await Relay(Source(source.url), to(url), "a").run()
        async with running(Relay(Source(source.url), to(url, key=key), "a")):
            await source.streamed(said("1", "a"))
            assert await kept(url, "1") == messages("1")
    async with edge_here(grant_publish=["news"]) as url:
        with pytest.raises(Refused, match=r"its own channel relay:a as well"):
            await Relay(Source(source.url), to(url), "a").run()


# ---- `$gap`, published -----------------------------------------------------------------------------------------------


async def test_a_publisher_may_say_that_events_are_missing() -> None:
    async with edge_here() as url, httpx.AsyncClient(base_url=url) as client:
        for data in ({"after": None, "until": None}, {}, '{"after":"k-1"}', {"after": "k-1", "until": "k-3"}):
            answer = await client.post("/publish", json={"channel": "news", "event": "$gap", "data": data})
            assert answer.status_code == 200, answer.text
        await client.post("/publish/news", content="the end")
        told = [("$gap", GAP), ("$gap", GAP), ("$gap", '{"after":"k-1","until":null}')]
        positions = '{"after":"k-1","until":"k-3","positions":2}'
        assert await kept(url, "the end") == [*told, ("$gap", positions), ("message", "the end")]


@pytest.mark.parametrize("data", ["x", "[]", [], None, {"after": 7}, {"who": "me"}, {"after": "x" * 600}])
async def test_what_a_gap_cannot_say_is_refused_and_every_other_name_of_the_servers(data: Any) -> None:
    async with edge_here() as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/publish", json={"channel": "news", "event": "$gap", "data": data})
        assert answer.status_code == 400
        assert "the data of a '$gap' is" in answer.json()["detail"]
        answer = await client.post("/publish", json={"channel": "news", "event": "$closing", "data": {}})
        assert "belong to the server" in answer.json()["detail"]


async def test_a_gap_that_is_kept_has_no_envelope_but_says_its_channel_and_time_itself() -> None:
    async with edge_here() as url, httpx.AsyncClient(base_url=url) as client:
        await client.post("/publish", json={"channel": "news", "event": "$gap", "data": {}})
        async with client.stream("GET", "/sse/news?history=1&envelope=json") as response:
            parser = EventParser()
            async for piece in response.aiter_bytes():
                for event in parser.feed(piece):
                    if event.event == "$gap":
                        told = json.loads(event.data)
                        assert datetime.fromisoformat(told.pop("time")) <= datetime.now(UTC)
                        assert told == json.loads(GAP) | {"channel": "news"}
                        return
