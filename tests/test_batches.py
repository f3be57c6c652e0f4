"""A batch is all or nothing: refused, busy, draining, cancelled or killed in the midst, none of it is out.

And the largest that is taken holds up neither the loop nor the log's lock, nor overtakes anybody who keeps up.
"""

import asyncio
import itertools
import mmap
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from conftest import PATIENCE, missing
from support import turns_of_others, until

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.measure import BATCH_NAMES
from sse_fast._native.log.ring import Log, segment_size
from sse_fast.errors import BatchTooLarge, HubClosed, LogBusy
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded
from sse_fast.hub import batches
from sse_fast.hub.batches import BATCH_EVENTS
from sse_fast.hub.hub import Hub
from sse_fast.node.segment import Segment, create_shared, open_shared

LOG_SIZE = 256 * 1024
KILLS = int(os.environ.get("SSE_FAST_BATCH_KILLS", "12"))


def largest(log: Log, size: int = 40) -> list[Encoded]:
    """About as many events of a size as one batch may have."""
    event = (b"c", b"data: %s\n\n" % (b"x" * size))
    return [event] * (log.largest_batch // (log.measure([event])[1] // 64 * 64 + 64))


def positions(ids: Sequence[EventId]) -> range:
    """Of a batch, which has them one after the other."""
    assert [id.position for id in ids] == list(range(ids[0].position, ids[0].position + len(ids)))
    return range(ids[0].position, ids[0].position + len(ids))


class OtherWorkers:
    """Workers beside the hub, who are busy when they are told to."""

    def __init__(self) -> None:
        self.others_busy = False
        self.asked = asyncio.Event()

    def __getattribute__(self, name: str) -> Any:
        if name == "others_busy":
            self.asked.set()
        return super().__getattribute__(name)

    def arm(self) -> None: ...
    def disarm(self) -> None: ...
    def notify(self) -> None: ...


class Counting(Sink):
    """A stream that takes everything, and counts its events."""

    def __init__(self) -> None:
        self.events = 0
        self.ended_by: object = None

    def write(self, data: bytes) -> bool:
        self.events += data.count(b"\n\n")
        return True

    def ended(self, reason: object, error: object) -> None:
        self.ended_by = reason


def listen(hub: Hub) -> Counting:
    counter = Counting()
    hub.attach(["c"], counter).start()
    return counter


@pytest.fixture
def segment() -> Iterator[Segment]:
    with create_shared(segment_size(LOG_SIZE)) as segment:
        yield segment


@asynccontextmanager
async def hub_over(log: Log, others: OtherWorkers | None = None, keys: KeyTable | None = None) -> AsyncIterator[Hub]:
    hub = Hub(log=log, peers=others, keys=keys)
    try:
        yield hub
    finally:
        await hub.close()


# ---- what is refused ----


async def test_a_batch_over_a_quarter_of_the_log_is_refused_and_none_of_it_is_published() -> None:
    async with hub_over(Log.private(LOG_SIZE)) as hub:
        batch = largest(hub.log)
        with pytest.raises(BatchTooLarge, match=rf"at most {LOG_SIZE // 4} are appended at once.*send it in several"):
            await hub.append(batch * 2)
        assert (hub.log.head, hub.log.position, hub.published) == (0, 0, 0)
        assert positions(await hub.append(batch)) == range(1, len(batch) + 1)


async def test_a_batch_of_more_events_than_are_appended_at_once_is_refused() -> None:
    async with hub_over(Log.private(64 * 1024 * 1024)) as hub:
        with pytest.raises(BatchTooLarge, match="more than 100000 events; send it in several"):
            await hub.append([(b"c", b"data: x\n\n")] * (BATCH_EVENTS + 1))
        assert hub.log.position == 0
        assert len(await hub.append([(b"c", b"data: x\n\n")] * BATCH_EVENTS)) == BATCH_EVENTS


@pytest.mark.parametrize("keys", [None, {0: "a key"}])
async def test_a_batch_that_names_more_channels_than_that_is_refused_before_they_are_all_looked_through(
    keys: dict[int, str] | None,
) -> None:
    several = tuple(b"c:%d" % number for number in range(32))
    fits = [(several, b"data: x\n\n")] * (BATCH_NAMES // 32)
    last: Any = "what would be refused, if it were come to"
    log = Log.private(64 * 1024 * 1024)
    async with hub_over(log, keys=KeyTable.private(1024, window=60)) as hub:

        async def append(events: list[Encoded]) -> int:
            return len(await hub.append(events)) if keys is None else len((await hub.append_once(events, keys)).ids)

        with pytest.raises(BatchTooLarge, match="names more than 100000 channels, of all its events together"):
            await append([*fits, (several, b"data: x\n\n"), last])
        assert log.position == 0
        assert await append(fits) == len(fits)


# ---- what ends a batch that is under way ----


@contextmanager
def stopped_inside_an_append(log: Log, work: Callable[[], object]) -> Iterator[int]:
    """Another process that has appended something, and is stopped while it has the lock; killed in the end."""
    writer = os.fork()
    if writer == 0:
        try:
            work()
        finally:
            os._exit(0)
    head = log.head
    try:
        while True:
            os.kill(writer, signal.SIGSTOP)
            os.waitpid(writer, os.WUNTRACED)
            if log.locked_by == writer and log.head > head:
                break
            os.kill(writer, signal.SIGCONT)
            time.sleep(random.uniform(0.0002, 0.002))  # it needs a processor to get anywhere
        yield writer
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


@pytest.mark.parametrize("events", [2, 200, 500])
async def test_a_busy_log_takes_nothing_of_a_batch(segment: Segment, events: int) -> None:
    log = Log(segment.memory)

    def append() -> None:
        while True:
            log.append_many(largest(log))

    with stopped_inside_an_append(log, append):
        async with hub_over(log) as hub:
            head, position = log.head, log.position
            with pytest.raises(LogBusy):
                await hub.append([(b"c", b"data: x\n\n")] * events)
            assert (log.head, log.position, hub.published) == (head, position, 0)


async def test_a_log_that_is_busy_is_waited_for_without_holding_the_loop(segment: Segment) -> None:
    log = Log(segment.memory)

    def append() -> None:
        while True:
            log.append_many(largest(log))

    one = (b"c", b"data: x\n\n")
    with stopped_inside_an_append(log, append) as writer:
        async with hub_over(log, keys=KeyTable.private(16, 1000)) as hub, turns_of_others() as turns:
            for publishing in (
                hub.append([one]),
                hub.append([one] * 2),
                hub.append([one] * 1001),
                hub.append_once([one], "k"),
                hub.append_once([one] * 1001, "l"),
            ):
                before = turns.count
                with pytest.raises(LogBusy):
                    await publishing
                assert turns.count - before >= 10
            assert hub.published == 0
            waiting = asyncio.create_task(hub.append([one]))
            await asyncio.sleep(0)
            os.kill(writer, signal.SIGKILL)  # its lock is passed on
            assert len(await waiting) == 1


class Tried:
    """A log that counts how often it was tried to append to it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.tries: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def append(self, channel: bytes, frame: bytes) -> int:
        self.tries.append(channel)
        return self.log.append(channel, frame)

    def append_many(self, events: list[tuple[bytes, bytes]], *limit: int) -> int:
        self.tries.append(events[0][0])
        return self.log.append_many(events, *limit)


async def test_of_all_who_wait_for_a_busy_log_one_tries_and_then_they_go_in_their_order(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BUSY_SECONDS", 60.0)  # nobody gives up meanwhile, however slow the machine is
    log = Log(segment.memory)

    def append() -> None:
        while True:
            log.append_many(largest(log))

    with stopped_inside_an_append(log, append) as writer:
        async with hub_over(log) as hub, turns_of_others() as turns:
            backplane: Any = hub.backplane
            tried = backplane.log = Tried(log)
            backplane._share = 1 << 62  # whoever reads keeps up
            names = [b"%d" % number for number in range(500)]
            all_of_them = asyncio.gather(*(hub.append([(name, b"data: x\n\n")]) for name in names))
            await until(lambda: turns.count >= 20)
            assert set(tried.tries) == {names[0]}
            assert not hub.append_now([(b"later", b"data: x\n\n")])
            assert not hub.append_one((b"later", b"data: x\n\n"))
            os.kill(writer, signal.SIGKILL)
            positions = [id.position for (id,) in await all_of_them]
            assert positions == sorted(positions)
            assert tried.tries[-len(names) :] == names
            assert not backplane._line
            assert hub.append_one((b"later", b"data: x\n\n"))


async def test_who_left_the_line_publishes_nothing_and_the_next_one_tries(segment: Segment) -> None:
    log = Log(segment.memory)

    def append() -> None:
        while True:
            log.append_many(largest(log))

    with stopped_inside_an_append(log, append) as writer:
        async with hub_over(log) as hub:
            first, second = (asyncio.create_task(hub.append([(name, b"data: x\n\n")])) for name in (b"a", b"b"))
            await asyncio.sleep(0)
            first.cancel()
            os.kill(writer, signal.SIGKILL)
            assert len(await second) == 1
            assert first.cancelled()
            assert hub.published == 1


def test_a_log_that_was_busy_is_not_waited_for_again_before_it_was_had(segment: Segment) -> None:
    log = Log(segment.memory)

    def append() -> None:
        while True:
            log.append_many(largest(log))

    def waits() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    with stopped_inside_an_append(log, append):
        log.longest_wait = 1000
        with pytest.raises(LogBusy):
            log.append(b"c", b"data: x\n\n")
        before = waits()
        for _ in range(100):
            with pytest.raises(LogBusy):
                log.append(b"c", b"data: x\n\n")
        assert waits() - before < 50


@asynccontextmanager
async def waiting_batch(hub: Hub, others: OtherWorkers) -> AsyncIterator["asyncio.Task[Sequence[EventId]]"]:
    """A large batch that waits for those who read."""
    others.others_busy = True
    others.asked.clear()
    task = asyncio.create_task(hub.append(largest(hub.log)))
    async with asyncio.timeout(PATIENCE):
        await others.asked.wait()
    assert hub.log.head == 0
    yield task


async def test_a_hub_that_closes_takes_a_batch_whole_or_refuses_it_whole() -> None:
    others = OtherWorkers()
    async with hub_over(Log.private(LOG_SIZE), others) as hub, waiting_batch(hub, others) as task:
        await hub.close()
        with pytest.raises(HubClosed):
            await task
        assert (hub.log.head, hub.published) == (0, 0)


async def test_a_caller_that_is_cancelled_at_any_turn_has_published_all_or_nothing() -> None:
    outcomes = set()
    for turns in range(40):
        async with hub_over(Log.private(4 * 1024 * 1024)) as hub:
            batch = largest(hub.log)
            task = asyncio.create_task(hub.append(batch))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            cancelled = (await asyncio.gather(task, return_exceptions=True))[0]
            assert hub.log.position in (0, len(batch))
            assert isinstance(cancelled, asyncio.CancelledError) == (hub.log.position == 0)
            outcomes.add(hub.log.position)
    assert len(outcomes) == 2, "the cancellations came too early or too late"


async def test_those_who_wait_append_one_after_the_other_and_a_cancelled_one_is_passed_over() -> None:
    others = OtherWorkers()
    async with hub_over(Log.private(LOG_SIZE), others) as hub, waiting_batch(hub, others) as first:
        second, third = (asyncio.create_task(hub.append(largest(hub.log))) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        others.others_busy = False
        count = len(largest(hub.log))
        assert positions(await first) == range(1, count + 1)
        assert positions(await third) == range(count + 1, 2 * count + 1)
        assert second.cancelled()


def test_a_writer_killed_inside_an_append_has_published_whole_batches_only(segment: Segment) -> None:
    log, count = Log(segment.memory), 300
    for round_ in range(KILLS):

        def append(round_: int = round_) -> None:
            for number in itertools.count():
                body = b"data: %d.%d\n\n" % (round_, number)
                log.append_many([(b"c", body), ((b"c", b"d"), body)] * (count // 2))

        position = log.position
        with stopped_inside_an_append(log, append):
            pass
        batches = Counter(record.frame.partition(b"\n")[0] for record in log.records() if record.position > position)
        assert list(batches.values())[1:] == [count] * (len(batches) - 1), "a part of a batch is out"
        log.append(b"c", b"data: heir\n\n")  # the lock goes on, and so does the log


# ---- who reads ----


async def test_the_largest_batches_overtake_no_stream_that_keeps_up() -> None:
    async with hub_over(Log.private(LOG_SIZE)) as hub:
        streams = [listen(hub) for _ in range(50)]
        batch = largest(hub.log)
        for _ in range(20):
            await hub.append(batch)
        await until(lambda: all(stream.events == 20 * len(batch) or stream.ended_by for stream in streams))
        assert [stream.ended_by for stream in streams] == [None] * 50
        assert hub.fanout.gaps == hub.fanout.slow == 0


async def test_publishers_of_large_batches_at_once_overtake_no_stream_that_keeps_up() -> None:
    async with hub_over(Log.private(LOG_SIZE)) as hub:
        stream = listen(hub)
        batch = largest(hub.log)
        await asyncio.gather(*(hub.append(batch) for _ in range(12)))
        await until(lambda: stream.events == 12 * len(batch) or stream.ended_by)
        assert stream.ended_by is None


@pytest.mark.parametrize("events", [1, 15])
async def test_what_is_small_overtakes_no_stream_that_keeps_up_neither_however_much_comes_at_once(events: int) -> None:
    async with hub_over(Log.private(LOG_SIZE)) as hub:
        stream = listen(hub)
        batch = [(b"c", b"data: %s\n\n" % (b"x" * 1000))] * events
        count = 2 * LOG_SIZE // (1000 * events)
        await asyncio.gather(*(hub.append(batch) for _ in range(count)))
        await until(lambda: stream.events == count * events or stream.ended_by)
        assert (stream.events, stream.ended_by) == (count * events, None)


async def test_a_batch_that_was_appended_by_another_worker_since_nobody_was_busy_is_waited_for_too(
    segment: Segment,
) -> None:
    class Appending(OtherWorkers):
        """Another worker, that appends large batches between a look at who is busy and what follows it."""

        appends = 5

        @property
        def others_busy(self) -> bool:  # type: ignore[override]
            while self.appends > 1:
                self.appends -= 1
                theirs.append_many(batch)
            return False

        @others_busy.setter
        def others_busy(self, busy: bool) -> None: ...

    theirs = Log(segment.memory)
    batch = largest(theirs)
    async with hub_over(Log(segment.memory), Appending()) as hub:
        stream = listen(hub)
        assert positions(await hub.append(batch)) == range(4 * len(batch) + 1, 5 * len(batch) + 1)
        await until(lambda: stream.events == 5 * len(batch) or stream.ended_by)
        assert (stream.events, stream.ended_by) == (5 * len(batch), None)


def test_an_append_with_a_limit_takes_nothing_of_a_batch_once_the_head_is_beyond_it() -> None:
    log = Log.private(LOG_SIZE)
    batch = [(b"c", b"data: x\n\n")] * 2
    assert log.append_many(batch, log.head) == 1
    head = log.head
    for events in (batch, batch[:1]):
        assert log.append_many(events, head - 1) == 0
    assert (log.head, log.position) == (head, 2)
    assert log.append_many(batch[:1], head) == 3


async def test_a_reader_that_never_catches_up_holds_a_batch_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "READERS_SECONDS", 0.05)
    others = OtherWorkers()
    async with hub_over(Log.private(LOG_SIZE), others) as hub, waiting_batch(hub, others) as task:
        assert len(await task) == len(largest(hub.log))


def test_the_largest_batch_of_another_process_overtakes_no_reader_that_has_all(segment: Segment) -> None:
    """Neither at the end of the ring nor anywhere else: what was read up to the batch is read on behind it."""
    log = Log(segment.memory)
    for step in range(40):
        fanout = FanOut(Log(segment.memory))
        counter = Counting()
        fanout.unblock(fanout.subscribe([b"c"], counter, after=log.position or EARLIEST), 0.0)
        batch = largest(log, 20 + 31 * step)
        if (writer := os.fork()) == 0:
            Log(open_shared(segment.address).memory).append_many(batch)
            os._exit(0)
        os.waitpid(writer, 0)
        while fanout.drain(0.0):
            pass
        assert (counter.events, counter.ended_by) == (len(batch), None)


# ---- who else is on the loop ----


async def test_between_the_steps_of_a_large_batch_others_have_the_loop() -> None:
    """What brings its memory in is bounded a step; the append itself meets memory that is there."""
    async with hub_over(Log.private(64 * 1024 * 1024)) as hub:
        batch = [(b"c", b"data: %s\n\n" % (b"x" * 1000))] * 15_000
        _, room = hub.log.measure(batch)
        async with turns_of_others() as turns:
            await hub.append(batch)
        assert turns.count >= room // batches.FAULT_IN_AT_ONCE


async def test_the_append_of_a_large_batch_meets_memory_that_is_there() -> None:
    try:
        mmap.mmap(-1, mmap.PAGESIZE).madvise(23)  # MADV_POPULATE_WRITE
    except OSError:
        missing("Linux 5.14, which brings memory in when it is asked to")

    class Looking(OtherWorkers):
        """Whoever appends looks at who is busy last, when the memory should be there."""

        faults = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "others_busy":
                Looking.faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            return super().__getattribute__(name)

    with create_shared(segment_size(64 << 20)) as segment:
        async with hub_over(Log(segment.memory), Looking()) as hub:
            batch = [(b"c", b"data: %s\n\n" % (b"x" * 4000))] * 3_500
            pages = hub.log.measure(batch)[1] // mmap.PAGESIZE
            await hub.append(batch)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - Looking.faults < pages // 10
        del hub


async def test_a_batch_of_many_events_is_looked_through_in_one_turn_and_appended_in_another() -> None:
    async with hub_over(Log.private(64 * 1024 * 1024)) as hub:
        batch = [(b"c", b"data: x\n\n")] * 20_000
        assert hub.log.measure(batch)[1] < hub.log.capacity * batches.LARGE
        appending = asyncio.create_task(hub.append(batch))
        await asyncio.sleep(0)
        assert hub.log.position == 0
        await hub.close()
        with pytest.raises(HubClosed):
            await appending
        assert hub.log.position == 0


async def test_small_batches_wait_for_nobody() -> None:
    others = OtherWorkers()
    others.others_busy = True
    async with hub_over(Log.private(LOG_SIZE), others) as hub:
        appending = hub.append(largest(hub.log)[:100])
        with pytest.raises(StopIteration) as done:
            appending.send(None)
        assert positions(done.value.value) == range(1, 101)
