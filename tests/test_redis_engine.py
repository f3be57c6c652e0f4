"""An engine over a real Redis: what is published is there once, in one order, and is read again without holes."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from cut_proxy import between
from redis_engines import PATIENCE, engine_at, event, following, frames_of, ids_of, prefixes, read
from redis_servers import Redis, Servers, servers

from sse_fast.cluster import reader
from sse_fast.cluster.engine import Limits
from sse_fast.cluster.entries import Events, Forgotten, Item, Mark, Missed, Sequence, pack, unpack
from sse_fast.errors import BatchTooLarge, InvalidEvent, KeyReused
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded, Keyed


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with servers() as made:
        yield made.redis()


@pytest.mark.parametrize(
    "given",
    [
        (b"c", b"data: x\n\n"),
        (b"x" * 256, b""),
        ((b"one", b"two", b"x" * 256), b"data: \0\n\n"),
        (tuple(b"%d" % number for number in range(32)), b"data: x\n\n"),
        (Keyed.of(b"c", b"k"), b"data: x\n\n"),
        (Keyed.of((b"c", b"d"), b"k" * 255), b"data: x\n\n"),
    ],
)
def test_an_event_is_the_same_after_it_was_packed(given: Encoded) -> None:
    channels, frame = unpack(pack(given))
    assert (channels, frame) == given
    if isinstance(given[0], Keyed):
        assert isinstance(channels, Keyed)
        assert channels.key == given[0].key


async def test_what_many_publish_has_one_order_and_no_holes_and_is_read_as_it_was_given(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        opened = await engine.open()
        assert opened.last == EventId(opened.epoch, 0)
        batches = [[event(f"{batch}.{number}") for number in range(batch % 5 + 1)] for batch in range(200)]
        answers = await asyncio.gather(*(engine.publish(batch) for batch in batches))
        flat = sorted(
            itertools.chain.from_iterable(zip(a.ids, b, strict=True) for a, b in zip(answers, batches, strict=True))
        )
        assert [id.position for id, _ in flat] == list(range(1, len(flat) + 1))
        assert all(answer.ids[-1].position - answer.ids[0].position == len(answer.ids) - 1 for answer in answers)
        assert engine.counts.calls < len(batches) / 5, "what comes meanwhile goes together"
        forgotten = await engine.forget(b"c", b"event: $forgotten\n\n")
        items = await read(engine, None, forgotten)
        assert isinstance(items[0], Mark)
        assert items[0].prev is None
        assert frames_of(items) == [body for _, (_, body) in flat]
        assert items[-1] == Forgotten(
            opened.epoch,
            forgotten.position,
            b"c",
            b"event: $forgotten\n\n",
            items[-1].milliseconds,  # type: ignore[union-attr]
        )


async def test_batches_of_one_publisher_keep_the_order_in_which_it_handed_them_in(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        given = [engine.publish([event("x")], f"k{n}" if n % 3 == 0 else None) for n in range(100)]
        ids = [(await each).ids[0] for each in [asyncio.ensure_future(one) for one in given]]
        assert ids == sorted(ids)


async def test_a_batch_of_any_size_is_in_as_a_whole_or_not_at_all(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes), Limits(max_bytes=64 * 1024 * 1024)) as engine:
        small = [asyncio.ensure_future(engine.publish([event("small")])) for _ in range(10)]
        large = await engine.publish([event("x" * 1000)] * 5000)
        assert [id.position - large.ids[0].position for id in large.ids] == list(range(5000))
        await asyncio.gather(*small)
        before = await engine.look()
        with pytest.raises(BatchTooLarge):
            await engine.publish([event("x" * 10_000)] * 1000)
        assert (await engine.look()).last == before.last


async def test_what_is_given_again_under_a_key_is_there_once_and_has_the_first_ids(redis: Redis) -> None:
    prefix = next(prefixes)
    async with engine_at(redis.url, prefix) as engine, engine_at(redis.url, prefix) as other:
        first = await engine.publish([event("a"), event("b")], "key")
        await engine.publish([event("between")])
        again = await other.publish([event("a"), event("b")], "key")
        assert (list(again.ids), again.repeated) == (list(first.ids), 2)
        with pytest.raises(KeyReused) as reused:
            await other.publish([event("a"), event("c")], "key")
        assert reused.value.place is None
        mixed = await other.publish([event("1"), event("2"), event("1"), event("4")], {0: "one", 2: "one", 3: "four"})
        assert mixed.ids[0] == mixed.ids[2]
        assert mixed.repeated == 1
        assert mixed.ids[3].position - mixed.ids[0].position == 2
        with pytest.raises(KeyReused) as reused:
            await engine.publish([event("new"), event("1"), event("other")], {1: "one", 2: "four"})
        assert reused.value.place == 2
        with pytest.raises(KeyReused) as reused:
            await engine.publish([event("x"), event("y")], {0: "same", 1: "same"})
        assert (reused.value.place, reused.value.first) == (1, 0)
        with pytest.raises(InvalidEvent):
            await engine.publish([event("x")], "no\nkey")
        last = (await engine.publish([event("end")])).ids[0]
        assert frames_of(await read(other, None, last)) == [
            b"data: %s\n\n" % text for text in (b"a", b"b", b"between", b"1", b"2", b"4", b"end")
        ]


async def test_in_one_turn_the_same_key_counts_once_too(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        await engine.open()
        answers = await asyncio.gather(*(engine.publish([event("x")], "key") for _ in range(20)))
        assert len({answer.ids[0] for answer in answers}) == 1
        assert sum(answer.repeated for answer in answers) == 19


async def test_keys_are_remembered_for_their_window_and_are_bounded(redis: Redis) -> None:
    prefix = next(prefixes)
    async with engine_at(redis.url, prefix, Limits(idempotency_keys=50, idempotency_window=0.2)) as engine:
        first = (await engine.publish([event("x")], "key")).ids[0]
        await asyncio.sleep(0.25)
        assert (await engine.publish([event("x")], "key")).ids[0] > first
    async with engine_at(redis.url, prefix, Limits(idempotency_keys=50)) as engine:
        for number in range(220):
            await engine.publish([event("x")], f"key {number}")
        lengths = [redis.do("HLEN", f"{{{prefix}}}:keys:{one}") for one in (0, 1)]
        assert max(lengths) <= 50  # type: ignore[type-var]
        assert (await engine.publish([event("x")], "key 170")).repeated == 1, "the newest fifty at least"
        assert (await engine.publish([event("x")], "key 100")).repeated == 0
    async with engine_at(redis.url, prefix, Limits(idempotency_window=0)) as engine:
        with pytest.raises(InvalidEvent, match="window is 0"):
            await engine.publish([event("x")], "key")


async def test_it_is_trimmed_by_bytes_and_who_reads_from_before_is_told(redis: Redis) -> None:
    limits = Limits(max_bytes=256 * 1024)
    async with engine_at(redis.url, next(prefixes), limits) as engine:
        ids = [id for _ in range(40) for id in (await engine.publish([event("x" * 950)] * 20)).ids]
        look = await engine.look()
        assert 200 * 1024 < look.bytes <= limits.max_bytes
        items = await read(engine, ids[9], ids[-1])
        assert isinstance(items[0], Missed)
        assert items[0].after == ids[9]
        assert items[0].at == ids_of(items)[0]
        page = await engine.page(ids[9])
        assert page.items[0] == items[0]
        kept = await engine.page(items[0].at)
        assert not any(isinstance(item, Missed) for item in kept.items)


async def test_it_is_trimmed_by_age_though_nobody_publishes(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes), Limits(max_age=1)) as engine:
        await engine.publish([event("x")] * 20)
        entries = 21
        async with asyncio.timeout(PATIENCE):
            while entries:
                await asyncio.sleep(0.05)
                entries = (await engine.look()).entries


async def test_pages_and_windows_have_all_there_is(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        answers = await asyncio.gather(*(engine.publish([event("x" * 1000)] * 50) for _ in range(80)))
        ids = sorted(id for answer in answers for id in answer.ids)
        found, after, pages = [], ids[99], 0
        while True:
            page = await engine.page(after, ids[-100])
            found += ids_of(page.items)
            after, pages = page.after, pages + 1
            if page.done:
                break
        assert found == ids[100:-99]
        assert pages > 4, "bounded"
        start = await engine.window(1_500_000)
        assert start is not None
        newest = await read(engine, start, ids[-1])
        assert 1_400 <= len(frames_of(newest)) <= 3_000
        assert ids_of(newest)[0].position == start.position + 1
        assert await engine.window(2**40) is None


async def test_who_leaves_before_it_was_sent_publishes_nothing(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        before = await engine.open()
        task = asyncio.ensure_future(engine.publish([event("x")]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await engine.look()).last == before.last


async def test_a_follower_is_given_what_comes_and_each_entry_once(redis: Redis) -> None:
    prefix = next(prefixes)
    async with engine_at(redis.url, prefix) as engine, engine_at(redis.url, prefix) as other:
        start = (await engine.open()).last
        ids = []
        reading = asyncio.ensure_future(read(other, start, EventId(start.epoch, 300)))
        while len(ids) < 300:
            ids += (await engine.publish([event("x")] * 3)).ids
        assert ids_of(await reading) == ids


def test_what_is_missing_between_two_entries_is_seen() -> None:
    def entry(id: str, kind: bytes = b"e", value: bytes = b"\x01\x00cx") -> tuple[bytes, list[bytes]]:
        return id.encode(), [b"t", b"1", kind, value]

    def items(after: EventId | None, *entries: tuple[bytes, list[bytes]]) -> list[Item]:
        return Sequence(after).read(entries)

    placed = (b"c", b"x", 1)
    a3 = EventId("10", 3)
    assert items(a3, entry("10-4"), entry("10-5")) == [Events("10", [(4, *placed), (5, *placed)])]
    assert items(a3, entry("10-6")) == [Missed(a3, EventId("10", 6)), Events("10", [(6, *placed)])]
    mark = Mark("11", a3, 1)
    assert items(a3, entry("11-0", b"m", b"10-3"), entry("11-1")) == [mark, Events("11", [(1, *placed)])]
    assert items(EventId("10", 9), entry("11-0", b"m", b"10-3")) == [mark], "behind the fork: the mark says so"
    assert items(EventId("10", 1), entry("11-0", b"m", b"10-3")) == [Missed(EventId("10", 1), EventId("11", 0)), mark]
    assert items(a3, entry("11-0", b"m", b"")) == [Mark("11", None, 1)]
    assert items(a3, entry("11-4")) == [Missed(a3, EventId("11", 4)), Events("11", [(4, *placed)])]
    assert items(None, entry("11-4")) == [Events("11", [(4, *placed)])]
    assert items(a3, entry("5-0", b"m", b""), entry("5-1")) == [Mark("5", None, 1), Events("5", [(1, *placed)])]


async def test_its_functions_are_loaded_again_where_they_are_gone(redis: Redis) -> None:
    async with engine_at(redis.url, next(prefixes)) as engine:
        await engine.open()
        redis.do("FUNCTION", "FLUSH")
        answers = await asyncio.gather(*(engine.publish([event("x")]) for _ in range(5)))
        assert len({answer.ids[0] for answer in answers}) == 5


async def test_nodes_of_two_versions_call_each_its_own_functions(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = next(prefixes)
    async with engine_at(redis.url, prefix) as engine:
        first = (await engine.publish([event("x")])).ids[0]
        monkeypatch.setattr("sse_fast.cluster.functions._version", ["anotherone"])
        async with engine_at(redis.url, prefix) as other:
            second = (await other.publish([event("x")])).ids[0]
        monkeypatch.undo()
        third = (await engine.publish([event("x")])).ids[0]
        assert [id.position for id in (first, second, third)] == [1, 2, 3]
        assert first.epoch == third.epoch


async def test_nodes_know_of_each_other_for_as_long_as_they_say_so(redis: Redis) -> None:
    prefix = next(prefixes)
    async with engine_at(redis.url, prefix) as engine, engine_at(redis.url, prefix) as other:
        assert await engine.nodes() == {}
        assert await engine.here("one", b"some words", 60)
        assert await other.here("two", b"{\0}", 60)
        assert await other.here("gone", b"", 0.001)
        await asyncio.sleep(0.002)
        assert await engine.nodes() == {"one": b"some words", "two": b"{\0}"}
        assert redis.do("HLEN", f"{{{prefix}}}:nodes") == 2
        await asyncio.gather(*(engine.here(f"{number}", b"", 60) for number in range(998)))
        assert not await engine.here("one too many", b"", 60)
        assert await engine.here("one", b"other words", 60)
        assert (await other.nodes())["one"] == b"other words"


def test_servers_of_the_tests_end_with_them() -> None:
    with servers() as made:
        process = made.redis().process
        assert process is not None
        assert isinstance(made, Servers)
    assert process.poll() is not None


async def test_who_reads_asks_for_less_where_so_much_does_not_come_in_time(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK", 100)
    monkeypatch.setattr(reader, "GRACE", 0.2)
    async with between(redis.port) as proxy:
        prefix = next(prefixes)
        async with (
            engine_at(redis.url, prefix) as publishes,
            engine_at(proxy.url, prefix) as reads,
            following(reads) as reading,
        ):
            small = await publishes.publish([event("small")] * 500)
            for _ in range(20):  # so many small ones come that many are asked for
                await reading.reach(small.ids[-1])
                small = await publishes.publish([event("small")] * 50)
            proxy.refuse()
            proxy.cut()
            for _ in range(10):
                large = await publishes.publish([event("x" * 60_000)] * 20)
            proxy.delay = 0.005  # for each 64 KiB at most: all at once would take half a second at least
            proxy.refuse(False)
            items = await reading.reach(large.ids[-1])
            assert len(frames_of(items)) == 500 + 20 * 50 + 10 * 20
