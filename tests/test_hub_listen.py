"""Listening to a hub from within: the laws of a stream, without a way to go."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from sse_fast import Hub
from sse_fast.client import Gap, PublishedEvent
from sse_fast.embed.listening import HubListening
from sse_fast.errors import EndReason, HubClosed, InvalidEvent


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


async def take(items: HubListening[Any], count: int) -> list[Any]:
    async with asyncio.timeout(30):
        return [await anext(items) for _ in range(count)]


async def test_what_is_published_is_handed_out_with_where_and_when_in_one_order(hub: Hub) -> None:
    async with hub.listen("news", patterns=["orders:*"]) as items:
        first = await hub.publish("orders:7", {"state": "paid"}, event="order")
        second = await hub.publish(["news", "orders:8", "elsewhere"], "a\nb")
        await hub.publish("elsewhere", "not asked for")
        third = await hub.publish("news", "end")
        taken = await take(items, 3)
        assert [(item.id, item.event, item.data, item.channels) for item in taken] == [
            (str(first), "order", '{"state":"paid"}', ("orders:7",)),
            (str(second), "message", "a\nb", ("news", "orders:8")),
            (str(third), "message", "end", ("news",)),
        ]
        assert taken[0].published <= taken[2].published
        assert items.last_event_id == str(third)
        assert hub.listeners("news") == 1
    assert hub.listeners("news") == 0
    assert [item async for item in items] == []


async def test_it_begins_where_it_is_told_to(hub: Hub) -> None:
    ids = [str(await hub.publish("a", number)) for number in range(5)]
    async with (
        hub.listen("a", last_event_id="earliest") as all_,
        hub.listen("a", last_event_id=ids[2]) as behind,
        hub.listen("a", history=2) as newest,
        hub.listen("a") as live,
    ):
        await hub.publish("a", 5)
        assert [
            [item.data for item in await take(items, count)]
            for items, count in ((all_, 6), (behind, 3), (newest, 3), (live, 1))
        ] == [list("012345"), list("345"), list("345"), ["5"]]


async def test_who_is_slow_is_a_cursor_into_the_log_and_is_told_what_the_log_has_let_go(hub: Hub) -> None:
    async with Hub(log_size=256 * 1024) as small:
        gaps: list[Gap] = []
        async with small.listen("a") as items, small.listen("a", on_gap=gaps.append) as others:
            first = await small.publish("a", "x" * 1000)
            assert [item.id for item in await take(items, 1) + await take(others, 1)] == [str(first)] * 2
            ids = []
            for number in range(2000):
                ids.append(str(await small.publish("a", f"{number}:" + "x" * 1000)))
                if number % 50 == 0:
                    await asyncio.sleep(0)
                assert len(items._items) < 100, "what waits is bounded"
            seen: list[str] = []
            missed: list[Gap] = []
            while not seen or seen[-1] != ids[-1]:
                (item,) = await take(items, 1)
                if isinstance(item, Gap):
                    missed.append(item)
                else:
                    seen.append(item.id)
            assert len(missed) == 1
            places = [ids.index(id) for id in seen]
            assert places == sorted(set(places))
            jumps = [(a, b) for a, b in pairwise(places) if b != a + 1]
            assert len(jumps) <= 1, "what is missing is missing in one place"
            while (await take(others, 1))[0].id != ids[-1]:
                pass
            assert len(gaps) == 1


async def test_who_gives_up_one_event_gets_the_next_ones_all_the_same(hub: Hub) -> None:
    async with hub.listen("a") as items:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(items), 0.01)
        await hub.publish("a", "first")
        await hub.publish("a", "second")
        assert [item.data for item in await take(items, 2)] == ["first", "second"]


@pytest.mark.parametrize("reason", [EndReason.SLOW, EndReason.AGE, EndReason.OPERATOR, EndReason.ERROR])
async def test_an_end_that_is_none_of_the_hub_goes_on_behind_the_last_one(hub: Hub, reason: EndReason) -> None:
    async with hub.listen("a") as items:
        await hub.publish("a", "first")
        assert (await take(items, 1))[0].data == "first"
        waiting = asyncio.create_task(take(items, 2))
        await asyncio.sleep(0)
        hub.fanout.end_all(reason)
        await hub.publish("a", "second")
        await hub.publish("a", "third")
        assert [item.data for item in await waiting] == ["second", "third"]


async def test_it_ends_with_the_hub_and_by_another_task(hub: Hub) -> None:
    async def all_of(items: HubListening[Any]) -> list[Any]:
        return [item async for item in items]

    async with hub.listen("a") as one, hub.listen("a") as other:
        tasks = [asyncio.create_task(all_of(items)) for items in (one, other)]
        await asyncio.sleep(0)
        await one.aclose()
        async with asyncio.timeout(30):
            assert await tasks[0] == []
            await hub.publish("a", "last")
            await hub.stop()
            (last,) = await tasks[1]
        assert isinstance(last, PublishedEvent)
        with pytest.raises(HubClosed):
            await anext(hub.listen("a"))


async def test_what_is_no_channel_is_refused_at_once(hub: Hub) -> None:
    for channels, options in [(["a b"], {}), (["a"], {"patterns": ["a**:b"]}), (["a:*"], {})]:
        with pytest.raises(InvalidEvent):
            hub.listen(*channels, **options)
    with pytest.raises(TypeError):
        hub.listen()
    with pytest.raises(ValueError, match="history"):
        hub.listen("a", history=-1)
