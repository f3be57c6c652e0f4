"""What a node's log no longer has is read from the engine: all of it, in order and once, or the stream begins with a
gap; and thousands who come back at once are few reads."""

import asyncio
from collections.abc import Iterator

import pytest
from engines import MemoryEngine, Page, Server
from support import until
from test_over_engine import Stream, hub_over

import sse_fast.hub.recall as recall
from sse_fast import Hub
from sse_fast._native.wire.control import forgotten
from sse_fast.access.patterns import Patterns
from sse_fast.event import EventId
from sse_fast.hub.follower import newest_of
from sse_fast.hub.recall import Recalled

SMALL = {"log_size": 16384, "max_event_size": 2048}


@pytest.fixture
def server() -> Iterator[Server]:
    return Server()


async def filled(server: Server, count: int, channels: tuple[str, ...] = ("news",)) -> list[str]:
    engine, ids = MemoryEngine(server), []
    for at in range(count):
        published = await engine.publish([(channels[at % len(channels)].encode(), f"data: {at}\n\n".encode())])
        ids += map(str, published.ids)
    return ids


async def recalled(hub: Hub, channel: str, id: str, *patterns: str) -> Recalled | None:
    names = (channel,) if channel else ()
    assert hub.recalls(names, patterns, id)
    listens = Patterns.of(patterns)
    return await hub.recall(names, patterns, id, lambda name: listens.matches(name.decode()))


class Resumed(Stream):
    def __init__(self, hub: Hub, channel: str, id: str, found: Recalled | None) -> None:
        super().__init__(hub, channel, id, recalled=found)


async def test_who_was_away_for_longer_than_the_window_gets_everything(server: Server) -> None:
    ids = await filled(server, 1000)
    async with hub_over(server, **SMALL) as hub:
        for at in (0, 1, 317, 511, 512, 513, 600):
            stream = Resumed(hub, "news", ids[at], await recalled(hub, "news", ids[at]))
            assert stream.told == ["$connected"]
            assert stream.read()[0] == ("$connected", '{"resume":"complete"}', ids[at])
            await until_last(stream, "999")
            assert stream.data == [f"{number}" for number in range(at + 1, 1000)]
            assert stream.ids == ids[at + 1 :]


async def until_last(stream: Stream, data: str) -> None:
    async with asyncio.timeout(30):
        while not stream.data or stream.data[-1] != data:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_only_the_channels_of_the_stream_come(server: Server) -> None:
    ids = await filled(server, 1000, ("a:1", "b:1", "a:2"))
    async with hub_over(server, **SMALL) as hub:
        stream = Resumed(hub, "b:1", ids[100], await recalled(hub, "b:1", ids[100]))
        await until_last(stream, "997")
        assert stream.data == [f"{number}" for number in range(103, 1000, 3)]
        found = await recalled(hub, "", ids[100], "a:*")
        assert found is not None
        assert [event.frame.split(b"\n")[0] for event in found.events][:3] == [b"data: 101", b"data: 102", b"data: 104"]


async def test_a_storm_of_thousands_is_a_handful_of_reads(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "SECONDS", 60.0)  # however busy the machine is
    ids = await filled(server, 1500)
    async with hub_over(server, **SMALL) as hub:
        found = await asyncio.gather(*(recalled(hub, "news", ids[at % 900]) for at in range(1000)))
        for at, each in enumerate(found):
            assert each is not None
            assert len(each.events) == each.until.position - 1 - at % 900
        assert server.pages <= 2 + 1500 // 100 * 2


async def test_what_the_engine_has_let_go_is_told(server: Server) -> None:
    ids = await filled(server, 1000)
    server.trim(200)
    async with hub_over(server, **SMALL) as hub:
        assert await recalled(hub, "news", ids[100]) is None
        stream = Resumed(hub, "news", ids[100], None)
        assert stream.told == ["$connected", "$gap"]
        assert await recalled(hub, "news", ids[300]) is not None


async def test_over_a_mark_and_of_an_epoch_that_nobody_knows_it_is_told(server: Server) -> None:
    ids = await filled(server, 300)
    server.lose(20)
    await filled(server, 700)
    async with hub_over(server, **SMALL) as hub:
        assert await recalled(hub, "news", ids[100]) is None
        assert await recalled(hub, "news", "1600000000000-17") is None
        assert not hub.recalls(("news",), (), "no id of ours")
        assert not hub.recalls(("news",), (), "earliest")


async def test_where_there_are_namespaces_what_they_show_all_of_is_read(server: Server) -> None:
    """Of a channel whose namespace shows but the newest, or not all, the log says what there is: nothing is read."""
    ids = await filled(server, 1200, ("news", "ticks:1", "free:1"))
    rules = [
        (b"free:**", 0, 0, False),
        (b"hidden:*", 0, 1000, False),
        (b"ticks:*", 10, 0, False),
        (b"now:*", 0, 0, True),
    ]
    async with hub_over(server, rules=rules, **SMALL) as hub:
        for channel, offset in (("news", 0), ("free:1", 2)):
            stream = Resumed(hub, channel, ids[30], await recalled(hub, channel, ids[30]))
            await until_last(stream, str(1197 + offset))
            assert stream.data == [str(at) for at in range(31, 1200) if at % 3 == offset]
            assert stream.told == ["$connected"]
        found = await recalled(hub, "", ids[30], "free:*")
        assert found is not None
        assert [event.frame.partition(b"\n")[0] for event in found.events][:2] == [b"data: 32", b"data: 35"]
        for names, patterns in (
            (("ticks:1",), ()),
            (("news", "ticks:1"), ()),
            (("hidden:1",), ()),
            (("now:1",), ()),
            ((), ("**",)),
            ((), ("ticks:**",)),
            (("news",), ("*:1",)),
        ):
            assert not hub.recalls(names, patterns, ids[30])
        assert Resumed(hub, "ticks:1", ids[30], None).told == ["$connected", "$gap"]


async def test_what_one_stream_may_be_sent_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_BYTES", 1000)
    ids = await filled(server, 1000)
    async with hub_over(server, **SMALL) as hub:
        found = await recalled(hub, "news", ids[0])
        assert found is not None
        assert found.more
        assert found.size < 1000 + 100 * 40  # and the page that it is in
    monkeypatch.setattr(recall, "MOST_PAGES", 2)
    monkeypatch.setattr(recall, "MOST_BYTES", 10**6)
    async with hub_over(server, **SMALL) as hub:
        assert await recalled(hub, "news", ids[0]) is None


async def test_while_the_engine_is_away_who_comes_back_is_told_and_not_kept_waiting(server: Server) -> None:
    ids = await filled(server, 1000)
    async with hub_over(server, **SMALL) as hub:
        server.away = True
        assert await recalled(hub, "news", ids[0]) is None
        server.away = False
        assert await recalled(hub, "news", ids[0]) is not None


async def test_an_envelope_says_of_what_was_read_what_it_says_of_all(server: Server) -> None:
    ids = await filled(server, 1000)
    async with hub_over(server, **SMALL) as hub:
        found = await recalled(hub, "news", ids[7])
        assert found is not None
        assert b'"channel":"news"' in found.frames(enveloped=True)
        assert found.frames(enveloped=True).count(b"\nid: ") == len(found.events)


async def test_what_a_channel_has_forgotten_is_not_read_again(server: Server) -> None:
    """Neither by name nor by pattern, whether the log still had some of it or not."""
    ids = await filled(server, 1000, ("user:1",))
    await filled(server, 1000, ("other",))
    async with hub_over(server, **SMALL) as hub:
        at = ids[-300]
        for channel, pattern in (("user:1", ()), ("", ("user:*",))):
            assert await recalled(hub, channel, at, *pattern) is not None
        found = await recalled(hub, "user:1", at)
        said = await hub.forget("user:1")
        await until(lambda: hub.fanout.index.forgot_after(0) == [b"user:1"])
        stale = Resumed(hub, "user:1", at, found)
        again = Resumed(hub, "user:1", at, await recalled(hub, "user:1", at))
        for stream in (stale, again):
            await until(lambda stream=stream: "$forgotten" in stream.told or "$gap" in stream.told)
            assert stream.read()[0][1] != '{"resume":"complete"}'
            assert stream.data == []
        await filled(server, 1000, ("other",))  # the forgetting itself has left the log
        await until(lambda: newest_of(hub.log) == server.last)
        assert await recalled(hub, "user:1", at) is None
        assert await recalled(hub, "", at, "user:*") is None
        assert await recalled(hub, "other", str(said)) is not None


async def test_what_another_channel_has_forgotten_ends_no_reading(server: Server) -> None:
    ids = await filled(server, 500)
    await MemoryEngine(server).forget(b"other", forgotten("other"))
    ids += await filled(server, 500)
    async with hub_over(server, **SMALL) as hub:
        found = await recalled(hub, "news", ids[400])
        assert found is not None
        stream = Resumed(hub, "news", ids[400], found)
        await until_last(stream, "499")
        assert stream.ids == ids[401:]
        assert await recalled(hub, "other", ids[400]) is None


async def test_a_page_that_nobody_waits_for_any_more_is_not_read(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = asyncio.Event(), 0
    page = MemoryEngine.page

    async def held(self: MemoryEngine, after: EventId, until: EventId | None = None) -> Page:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return await page(self, after, until)

    monkeypatch.setattr(MemoryEngine, "page", held)
    ids = await filled(server, 2000)
    async with hub_over(server, **SMALL) as hub:
        waiting = [asyncio.create_task(recalled(hub, "news", ids[at])) for at in range(0, 1280, 64)]
        await until(lambda: begun == recall.AT_ONCE)
        stays = asyncio.create_task(recalled(hub, "news", ids[640]))
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        go_on.set()
        found = await stays
        assert found is not None
        assert found.events[0].position == 642
        pages = -(-(found.until.position - 640) // 64)
        assert begun <= recall.AT_ONCE + pages  # and not the twenty that were asked for


async def test_the_pages_that_are_to_be_read_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_READS", 4)
    ids = await filled(server, 2000)
    async with hub_over(server, **SMALL) as hub:
        # Each at a page of its own, all in one turn.
        found = await asyncio.gather(*(recalled(hub, "news", ids[at]) for at in range(0, 640, 64)))
        assert sum(each is None for each in found) == 6
        assert await recalled(hub, "news", ids[0]) is not None


async def test_what_a_pattern_has_of_a_page_is_decided_once_for_all_who_have_it(server: Server) -> None:
    names = tuple(f"room:{number}" for number in range(50))
    ids = await filled(server, 1000, names)
    asked: list[bytes] = []

    def wants(name: bytes) -> bool:
        asked.append(name)
        return Patterns.of(("room:*",)).matches(name.decode())

    async with hub_over(server, **SMALL) as hub:
        looks = [hub.recall((), ("room:*",), ids[0], wants) for _ in range(100)]
        found = await asyncio.gather(*looks)
        assert all(each is not None and [*each.events] == [*found[0].events] for each in found)  # type: ignore[union-attr]
        assert len(asked) <= 50 * server.pages
        other = await recalled(hub, "", ids[0], "room:7")
        assert other is not None
        assert {event.channels for event in other.events} == {(b"room:7",)}, "another pattern has others"


async def test_the_time_that_is_spent_here_is_none_of_the_engine_s(server: Server) -> None:
    ids = await filled(server, 1000)
    loop, late = asyncio.get_running_loop(), 0.0
    clock = loop.time

    def wants(name: bytes) -> bool:
        nonlocal late
        late += 2 * recall.SECONDS
        return True

    async with hub_over(server, **SMALL) as hub:
        loop.time = lambda: clock() + late  # type: ignore[method-assign]
        try:
            found = await hub.recall((), ("*",), ids[0], wants)
        finally:
            loop.time = clock  # type: ignore[method-assign]
        assert late > 2 * recall.SECONDS, "of several pages"
        assert found is not None
        assert len(found.events) > 100
