"""The engine's events in a node's log: all, once, in its order and under its ids; and what is not there is told.

The engine is one in memory, whose faults are at hand.
"""

import asyncio
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from engines import MemoryEngine, Server
from support import until
from taking import Taking

from sse_fast._native.fanout.drain import EARLIEST, UNKNOWN, FanOut
from sse_fast._native.log.outside import append_at, end_of, forget_at, mark, skip_to
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast._native.wire.control import forgotten
from sse_fast.cluster.entries import Events
from sse_fast.event import EventId
from sse_fast.hub.follower import Follower, newest_of


def body(text: object) -> bytes:
    return f"data: {text}\n\n".encode()


def shared_log(size: int = 65536) -> Log:
    return Log(mmap.mmap(-1, segment_size(size)))


@asynccontextmanager
async def following(log: Log, server: Server) -> AsyncIterator[None]:
    task = asyncio.create_task(Follower(log, MemoryEngine(server), lambda: None).follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def publish(server: Server, *texts: object, channel: bytes = b"news") -> list[EventId]:
    return list((await MemoryEngine(server).publish([(channel, body(text)) for text in texts])).ids)


async def followed(log: Log, server: Server) -> None:
    await until(lambda: newest_of(log) == server.last)


def kept(log: Log) -> list[bytes]:
    return [record.frame for record in log.records() if record.channel is not None]


def frames(texts: range | list[object], ids: list[EventId]) -> list[bytes]:
    return [
        b"data: %b\nid: %b\n\n" % (str(text).encode(), str(id).encode()) for text, id in zip(texts, ids, strict=True)
    ]


def resumed(log: Log, id: EventId | None, channel: bytes = b"news") -> tuple[bool, bytes]:
    """Whether one who was at this id (None: who wants all) is told at once of a gap, and what it gets."""
    fanout, sink = FanOut(log), Taking()
    while fanout.index.take_in():
        pass
    own = EARLIEST if id is None else log.cursor(*id)
    subscriber = fanout.subscribe([channel], sink, after=UNKNOWN if own is None else own)
    fanout.unblock(subscriber, 0.0)
    while fanout.drain(0.0):
        pass
    return subscriber.lost, sink.stream


async def test_what_the_engine_took_is_in_the_log_of_each_node_under_its_ids() -> None:
    server, logs = Server(), [shared_log(), shared_log()]
    before = await publish(server, *range(250))
    async with following(logs[0], server), following(logs[1], server):
        after = await publish(server, *range(250, 500))
        for log in logs:
            await followed(log, server)
            verify(log)
            assert kept(log) == frames(range(500), before + after)


async def test_who_goes_on_where_another_reader_died_brings_nothing_twice_and_misses_nothing() -> None:
    server, log = Server(), shared_log(2**20)
    ids: list[EventId] = []
    for reader in range(30):
        async with following(log, server):
            ids += await publish(server, *range(50 * reader, 50 * reader + 50))
            for _ in range(reader % 7):
                await asyncio.sleep(0)  # it dies somewhere on its way
    async with following(log, server):
        await followed(log, server)
    assert kept(log) == frames(range(1500), ids)


async def test_a_node_that_starts_has_the_newest_and_tells_who_was_before_it() -> None:
    server, log = Server(), shared_log(16384)
    ids = await publish(server, *range(2000))
    async with following(log, server):
        await followed(log, server)
    assert 16384 * 3 // 4 < log.used <= log.capacity
    first = next(record for record in log.records() if record.channel is not None)
    number = int(first.frame.split(b"\n")[0][6:])
    assert kept(log) == frames(range(number, 2000), ids[number:])
    assert resumed(log, ids[number]) == (False, b"".join(kept(log)[1:]))
    assert resumed(log, ids[3])[0] is True
    assert resumed(log, None) == (False, b"".join(kept(log)))


async def test_the_first_events_ever_are_no_gap_to_who_waits_for_them() -> None:
    server, log = Server(), shared_log()
    fanout, sink = FanOut(log), Taking()
    fanout.unblock(fanout.subscribe([b"news"], sink), 0.0)
    async with following(log, server):
        ids = await publish(server, "first")
        await followed(log, server)
    while fanout.drain(0.0):
        pass
    assert b"$gap" not in sink.stream
    assert sink.stream.endswith(frames(["first"], ids)[0])


async def test_what_the_engine_lost_in_a_failover_is_told_to_whom_it_concerns() -> None:
    server, log = Server(), shared_log()
    async with following(log, server):
        ids = await publish(server, *range(10))
        await followed(log, server)
        server.lose(3)
        later = await publish(server, *range(10, 13))
        await followed(log, server)
    gap = f'event: $gap\ndata: {{"after":"{ids[6]}","until":"{later[0].epoch}-0"}}\nid: {later[0].epoch}-0\n\n'.encode()
    behind = b"".join(frames(range(10, 13), later))
    assert resumed(log, ids[4]) == (False, b"".join(frames(range(5, 7), ids[5:7])) + gap + behind)
    assert resumed(log, ids[8]) == (True, behind)  # it has seen what nobody else ever will
    assert resumed(log, later[0]) == (False, b"".join(frames(range(11, 13), later[1:])))


async def test_after_a_flush_everybody_from_before_is_told() -> None:
    server, log = Server(), shared_log()
    async with following(log, server):
        ids = await publish(server, *range(5))
        await followed(log, server)
        server.flush()
        later = await publish(server, "new")
        await followed(log, server)
    assert resumed(log, ids[-1])[0] is True
    assert resumed(log, ids[-1])[1].endswith(frames(["new"], later)[0])


@pytest.mark.parametrize("epochs", [0, 1], ids=["within an epoch", "with the mark of a new one"])
async def test_what_was_trimmed_before_it_was_read_is_told_live_and_on_resume(epochs: int) -> None:
    server, log = Server(), shared_log()
    live, sink = FanOut(log), Taking()
    live.unblock(live.subscribe([b"news"], sink), 0.0)
    async with following(log, server):
        ids = await publish(server, *range(5))
        await followed(log, server)
    if epochs:
        server.begin(server.last)
    unread = await publish(server, *range(5, 15))
    server.trim(len(server.kept) - 4)
    async with following(log, server):
        later = await publish(server, *range(15, 18))
        await followed(log, server)
    there = b"".join(frames(range(11, 18), [*unread[6:], *later]))
    gap = b"event: $gap\n"
    lost, stream = resumed(log, ids[2])
    if epochs:  # whether what the log has is the new one's past nobody knows
        assert (lost, stream) == (True, there)
    else:
        assert not lost
        assert stream.startswith(b"".join(frames(range(3, 5), ids[3:])) + gap)
        assert stream.endswith(there)
    assert resumed(log, unread[2]) == (True, there)  # another node had it
    assert resumed(log, unread[7]) == (False, there[there.index(b"data: 13") :])
    while live.drain(0.0):
        pass
    assert sink.stream.count(gap) == 1
    assert sink.stream.endswith(there)
    verify(log)


async def test_what_a_channel_forgot_is_forgotten_on_every_node() -> None:
    server, log = Server(), shared_log()
    async with following(log, server):
        await publish(server, 1, 2)
        id = await MemoryEngine(server).forget(b"news", forgotten("news"))
        ids = await publish(server, 3)
        await followed(log, server)
    lost, stream = resumed(log, None)
    assert not lost
    assert b"data: 2\n" not in stream
    assert f"id: {id}\n".encode() in stream
    assert stream.endswith(frames([3], ids)[0])


async def test_an_event_too_large_for_this_log_is_told_to_be_lost_and_the_next_ones_come() -> None:
    server, log = Server(), shared_log(4096)
    async with following(log, server):
        ids = await publish(server, "small", "x" * 2000, "again")
        await followed(log, server)
    lost, stream = resumed(log, EventId(ids[0].epoch, 0))
    assert not lost
    assert stream.startswith(frames(["small"], ids[:1])[0] + b"event: $gap\n")
    assert stream.endswith(frames(["again"], ids[2:])[0])


async def test_what_comes_again_is_not_appended_again() -> None:
    """A reader that was not the only one for a moment."""
    log = shared_log()
    follower = Follower(log, MemoryEngine(Server()), lambda: None)
    items = [Events("1700000000000", [(n, b"news", body(n), 0) for n in range(1, 6)])]
    await follower.take(items)
    await follower.take([Events("1700000000000", [(n, b"news", body(n), 0) for n in range(3, 9)])])
    assert kept(log) == frames(range(1, 9), [EventId("1700000000000", n) for n in range(1, 9)])


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_a_log_knows_where_it_is_in_what_comes_from_outside() -> None:
    log = shared_log()
    log.append(b"news", body("own"))
    assert end_of(log) is None
    mark(log, "e1", position=41)
    assert end_of(log) == ("e1", 41)
    append_at(log, [(42, b"news", body(1), 0), (50, b"news", body(2), 0)])
    assert end_of(log) == ("e1", 50)
    assert skip_to(log, 60) == log.position
    assert end_of(log) == ("e1", 60)
    forget_at(log, 61, b"news", forgotten("news"), 0)
    assert end_of(log) == ("e1", 61)
    for position in (60, 61):
        with pytest.raises(ValueError, match=f"{position} comes after 61"):
            skip_to(log, position)
        with pytest.raises(ValueError, match=f"{position} comes after 61"):
            forget_at(log, position, b"news", b"data:\n\n", 0)
    verify(log)


def test_only_what_comes_from_outside_leaves_positions_out() -> None:
    log = shared_log()
    for leave_out in (lambda: skip_to(log, 5), lambda: forget_at(log, 5, b"news", b"data:\n\n", 0)):
        with pytest.raises(ValueError, match="begins with a mark"):
            leave_out()
    assert log.head == 0
