"""Which worker of a node reads the engine: one at a time, whatever hangs; who was taken for gone appends nothing."""

import asyncio
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from engines import MemoryEngine, Server
from support import until

import sse_fast.hub.turn as turn_of
from sse_fast._native.log.outside import (
    append_at,
    end_turn,
    forget_at,
    keep_turn,
    mark,
    reader_of,
    skip_to,
    take_turn,
)
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.cluster.entries import Events
from sse_fast.errors import Superseded
from sse_fast.event import EventId
from sse_fast.hub.follower import Follower, newest_of
from sse_fast.hub.over_engine import OverEngine
from sse_fast.hub.turn import Turn

EPOCH = "1700000000000"


class Peers:
    """Of one worker; the others are those `living`."""

    others_busy = False
    held_by_others = held_for_streams_by_others = 0

    def __init__(self, living: set[int]) -> None:
        self.living = living

    def is_there(self, process: int) -> bool:
        return process in self.living

    def lead(self, what: str) -> bool:
        return True

    def is_known(self, what: str) -> bool:
        return False

    def arm(self) -> None: ...
    def disarm(self) -> None: ...
    def notify(self) -> None: ...
    def know(self, what: str) -> None: ...
    def lead_no_more(self, what: str) -> None: ...
    def hold(self, held: int, for_streams: int) -> None: ...


@pytest.fixture
def memory() -> mmap.mmap:
    """Two workers map it."""
    return mmap.mmap(-1, segment_size(65536))


def texts(log: Log) -> list[bytes]:
    return [record.frame.split(b"\n")[0][6:] for record in log.records() if record.channel is not None]


@pytest.mark.parametrize(
    "append",
    [
        lambda log: append_at(log, [(2, b"news", b"data: late\n\n", 0)]),
        lambda log: append_at(log, []),
        lambda log: skip_to(log, 5),
        lambda log: forget_at(log, 2, b"news", b"data:\n\n", 0),
        lambda log: mark(log, "1700000000001"),
    ],
    ids=["events", "nothing", "a gap", "forgetting", "an epoch"],
)
def test_whose_turn_is_over_appends_nothing(memory: mmap.mmap, append: Callable[[Log], object]) -> None:
    one, other = Log(memory), Log(memory)
    assert take_turn(one, 0, 1001)
    mark(one, EPOCH)
    append_at(one, [(1, b"news", b"data: 1\n\n", 0)])
    turn, process, _ = reader_of(other)
    assert process == 1001
    assert take_turn(other, turn, 1002)
    head = other.head
    with pytest.raises(Superseded, match="1002"):
        append(one)
    assert other.head == head
    append_at(other, [(2, b"news", b"data: 2\n\n", 0)])
    assert texts(one) == [b"1", b"2"]
    verify(other)


def test_a_turn_is_taken_once_of_those_who_saw_the_same(memory: mmap.mmap) -> None:
    one, other = Log(memory), Log(memory)
    assert not keep_turn(one)  # nobody has it by not asking for it
    assert take_turn(one, 0, 1001)
    assert not take_turn(other, 0, 1002)
    assert keep_turn(one)
    assert not keep_turn(other)
    with pytest.raises(Superseded):
        mark(other, EPOCH)


def test_a_turn_that_was_ended_is_nobodys_and_does_not_come_again(memory: mmap.mmap) -> None:
    one, other = Log(memory), Log(memory)
    assert take_turn(one, 0, 1001)
    end_turn(one)
    turn, process, _ = reader_of(one)
    assert process == 0
    assert not keep_turn(one)
    with pytest.raises(Superseded):
        mark(one, EPOCH)
    assert take_turn(other, turn, 1001)
    assert not keep_turn(one)  # the same process, in another turn


def test_who_lives_and_says_so_keeps_its_turn_and_who_is_gone_loses_it(memory: mmap.mmap) -> None:
    one, other = Log(memory), Log(memory)
    living = {1001}
    assert take_turn(one, 0, 1001)
    waiting = Turn(other, Peers(living))
    assert not any(waiting.take() for _ in range(5))
    living.clear()
    assert waiting.take()
    assert waiting.keep()


@pytest.mark.parametrize(
    ("silences", "taken"),
    [
        ([0.1, 1.0, 1.9], False),
        ([0.1, 100.0, 0.1, 2.5, 0.1], False),  # the machine was asleep; it is late again and again
        ([0.1, 100.0, 100.25], True),
        ([2.5, 0.2, 2.1, 2.3], True),
    ],
)
def test_one_that_was_not_seen_for_a_while_is_looked_at_twice(
    memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch, silences: list[float], taken: bool
) -> None:
    one, other = Log(memory), Log(memory)
    assert take_turn(one, 0, 1001)
    seen = iter(silences)
    monkeypatch.setattr(turn_of, "reader_of", lambda log: (reader_of(log)[0], 1001, next(seen)))
    waiting = Turn(other, Peers({1001}))
    looks = [waiting.take() for _ in silences]
    assert looks == [False] * (len(silences) - 1) + [taken]


async def test_a_reader_that_wakes_up_with_events_in_hand_appends_none_of_them(memory: mmap.mmap) -> None:
    one, other = Log(memory), Log(memory)
    assert take_turn(one, 0, 1001)
    woken, instead = (Follower(log, MemoryEngine(Server()), lambda: None) for log in (one, other))
    events = [Events(EPOCH, [(n, b"news", b"data: %d\n\n" % n, 0) for n in range(1, 6)])]
    await woken.take(events)
    turn, _, _ = reader_of(other)
    assert take_turn(other, turn, 1002)
    more = [Events(EPOCH, [(n, b"news", b"data: %d\n\n" % n, 0) for n in range(6, 9)])]
    with pytest.raises(Superseded):
        await woken.take(more)
    assert newest_of(other) == EventId(EPOCH, 5)
    await instead.take(more)
    assert texts(one) == [b"%d" % n for n in range(1, 9)]
    verify(other)


@contextmanager
def stopped_reader(memory: mmap.mmap) -> Iterator[int]:
    """Another process, which has taken the turn, and is stopped."""
    ready, told = os.pipe()
    process = os.fork()
    if not process:
        take_turn(Log(memory), 0, os.getpid())
        os.write(told, b"!")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


async def test_a_process_that_is_stopped_hands_the_reading_on(
    memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_of, "HANGS", 0.3)
    Log(memory)  # laid out
    server = Server()
    with stopped_reader(memory) as process:
        log = Log(memory)
        backplane = OverEngine(lambda: MemoryEngine(server), log, Peers({process}), lambda: None)
        backplane.start()
        try:
            ids = (await backplane.engine.publish([(b"news", b"data: 1\n\n")])).ids
            await until(lambda: newest_of(log) == ids[-1])
            assert backplane.follows
        finally:
            await backplane.close()
    _, holder, _ = reader_of(log)
    assert holder == 0  # whoever comes next need not wait


async def test_a_worker_whose_turn_was_taken_reads_no_more(memory: mmap.mmap) -> None:
    server, log = Server(), Log(memory)
    living: set[int] = set()
    backplane = OverEngine(lambda: MemoryEngine(server), log, Peers(living), lambda: None)
    backplane.start()
    try:
        await backplane.engine.publish([(b"news", b"data: 1\n\n")])
        await until(lambda: newest_of(log) == server.last)
        before = server.last
        turn, _, _ = reader_of(log)
        living.add(1002)
        other = Log(memory)
        assert take_turn(other, turn, 1002)  # as it was taken for hung
        await until(lambda: not backplane.follows)
        await backplane.engine.publish([(b"news", b"data: 2\n\n")])
        for _ in range(3):
            await asyncio.sleep(0)
        assert newest_of(log) == before
        living.clear()  # and if that is gone, it is this one's turn again
        await until(lambda: newest_of(log) == server.last)
    finally:
        await backplane.close()
