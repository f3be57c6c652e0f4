"""A node that starts over a long history fills its window page by page, and its loop stays free meanwhile (law 7)."""

import asyncio
from typing import Any

import pytest
import redis_servers

import sse_fast.hub.follower as follower
from sse_fast import Hub
from sse_fast.cluster.engine import Engine
from sse_fast.cluster.entries import Events
from sse_fast.cluster.reader import MOST, PAGE_BYTES

FRAME = b"data: " + b"x" * 992 + b"\n\n"


async def fill(url: str, count: int) -> None:
    engine = Engine.from_url(url)
    await engine.open()
    for at in range(0, count, 500):
        await engine.publish([(b"channel:%d" % (at % 1000), FRAME)] * min(500, count - at))
    await engine.close()


async def test_a_long_history_is_read_in_pages_and_appended_some_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    redis_servers.need()
    turn = 0
    appended: dict[int, int] = {}
    pages: list[tuple[int, int]] = []
    append_at = follower.append_at

    def counted(log: Any, events: Any) -> None:
        appended[turn] = appended.get(turn, 0) + len(events)
        append_at(log, events)

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    take = follower.Follower.take

    async def seen(self: follower.Follower, items: Any) -> None:
        events = [event for item in items if isinstance(item, Events) for event in item.events]
        pages.append((len(events), sum(len(frame) for _, _, frame, _ in events)))
        await take(self, items)

    monkeypatch.setattr(follower, "append_at", counted)
    monkeypatch.setattr(follower.Follower, "take", seen)
    with redis_servers.running() as redis:
        await fill(redis.url, 12_000)
        turning = asyncio.ensure_future(take_turns())
        async with Hub(backplane=redis.url, log_size=2**25) as hub:
            await hub.be_ready()
            assert hub.log.position >= 12_000
            assert sum(1 for _ in hub.log.records()) >= 12_000
        turning.cancel()
    assert sum(appended.values()) == 12_000
    assert max(appended.values()) <= follower.AT_ONCE
    assert len(pages) > 12_000 * len(FRAME) / (2 * PAGE_BYTES)
    assert max(count for count, _ in pages) <= MOST
    assert max(size for _, size in pages) <= 2 * PAGE_BYTES


async def test_of_a_history_longer_than_the_log_the_newest_part_is_read_and_not_the_rest() -> None:
    redis_servers.need()
    with redis_servers.running() as redis:
        await fill(redis.url, 12_000)
        async with Hub(backplane=redis.url, log_size=2**20) as hub:
            await hub.be_ready()
            assert hub.log.position >= 12_000
            counts = hub.backplane.counts
            assert counts is not None
            assert counts.entries_read * len(FRAME) <= 4 * 2**20
