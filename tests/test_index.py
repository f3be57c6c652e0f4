"""The index knows of every channel what is kept and what is gone, also after it was lapped, at a bounded price."""

import mmap
import struct
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import ModelIndex, ModelLog, parse
from taking import Taking
from test_ring import body_of

from sse_fast._native.fanout.drain import EARLIEST, UNKNOWN, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.channels import Channel
from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import Log, segment_size

NEXT_POSITION_AT = struct.calcsize("<8sIIQ8sQQ")


def state_of(index: Index) -> dict[bytes, tuple[int, int]]:
    channels = [index.get(name) for name in index.names()]
    return {channel.name: (channel.kept, channel.last_position) for channel in channels if channel}


def filled(index: Index) -> Index:
    while index.take_in():
        pass
    return index


def test_it_takes_in_what_is_new_and_no_more_than_asked() -> None:
    log = Log.private(65536)
    index = Index(log)
    log.append_many([(b"a", body_of(1)), (b"b", body_of(1)), (b"a", body_of(1))])
    assert index.take_in(2) is True
    assert (index.position, index.kept, index.names()) == (2, 2, [b"a", b"b"])
    assert index.unread > 0
    assert index.take_in(10) is False
    assert (index.position, index.kept, index.unread) == (3, 3, 0)
    channel = index.get(b"a")
    assert channel is not None
    assert (channel.kept, channel.last_position, channel.evicted, channel.subscribers) == (2, 3, 0, 0)
    assert index.get(b"nobody") is None


def test_evicting_leaves_behind_where_the_channel_was_evicted() -> None:
    log = Log.private(4096)
    index = Index(log)
    log.append(b"old", body_of(1))
    filled(index)
    for _ in range(80):
        log.append(b"new", body_of(1))
        filled(index)
    assert index.get(b"old") is None
    channel = index.get(b"new")
    assert channel is not None
    assert channel.evicted == log.position - channel.kept
    assert len(index) == 1


def test_an_index_of_a_log_that_was_there_before_equals_the_one_that_saw_it_grow() -> None:
    memory = mmap.mmap(-1, segment_size(8192))
    grown = Index(Log(memory))
    writer = Log(memory)
    for n in range(700):
        writer.append(b"c%d" % (n % 7), body_of(n % 200))
        filled(grown)
    rebuilt = filled(Index(Log(memory)))
    assert state_of(rebuilt) == state_of(grown)
    assert (rebuilt.position, rebuilt.kept) == (grown.position, grown.kept)


def test_a_reader_that_was_lapped_between_takes_knows() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    writer, fanout = Log(memory), FanOut(Log(memory))
    writer.append(b"a", body_of(1))
    filled(fanout.index)
    for _ in range(100):
        writer.append(b"b", body_of(100))  # whose were those that are gone? the reader can't know
    filled(fanout.index)
    first_kept = next(writer.records()).position
    for channels in ([b"a"], [b"b"], [b"never seen"]):
        assert fanout.subscribe(channels, Sink(), after=first_kept - 2).lost
        assert not fanout.subscribe(channels, Sink(), after=first_kept - 1).lost


def test_an_index_over_a_fresh_log_knows_of_no_loss() -> None:
    fanout = FanOut(Log.private(4096))
    assert not fanout.subscribe([b"a"], Sink(), after=0).lost
    assert not fanout.subscribe([b"a"], Sink(), after=EARLIEST).lost


def test_an_event_that_is_being_appended_to_an_empty_log_is_not_taken_for_lost() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory)
    struct.pack_into(
        "<Q", memory, NEXT_POSITION_AT, 2
    )  # next_position: the writer has taken 1, and has not stored the head yet
    fanout = FanOut(log)
    struct.pack_into("<Q", memory, NEXT_POSITION_AT, 1)
    log.append(b"a", body_of(1))
    assert fanout.subscribe([b"a"], Sink(), after=EARLIEST).position == 0


@pytest.mark.parametrize("remembered", [0, 3, 100])
def test_what_is_remembered_of_dropped_channels_is_bounded_and_past_that_it_says_gap(remembered: int) -> None:
    log = Log.private(4096)
    fanout = FanOut(log, remembered=remembered)
    for n in range(20):
        log.append(b"gone%d" % n, body_of(1))
        filled(fanout.index)
    for _ in range(200):
        log.append(b"noise", body_of(1))
        filled(fanout.index)
    assert fanout.index.names() == [b"noise"]
    forgotten = 20 - remembered if remembered < 20 else 0
    assert fanout.index.forgotten == forgotten
    for n in range(20):
        own = n + 1  # the position of the channel's one event
        assert fanout.subscribe([b"gone%d" % n], Sink(), after=own - 1).lost
        assert not fanout.subscribe([b"gone%d" % n], Sink(), after=max(own, forgotten)).lost
    assert fanout.subscribe([b"never seen"], Sink(), after=0).lost == (forgotten > 0)


def test_dropping_the_next_channel_costs_the_same_however_many_were_forgotten() -> None:
    log = Log.private(65536)
    index = Index(log)
    began = time.process_time()
    for block in range(1000):
        log.append_many([(b"c%d" % (block * 200 + n), b"data: 1\n\n") for n in range(200)])
        index.take_in()
    assert time.process_time() - began < 2.0
    assert index.forgotten > 0


def test_a_channel_with_neither_events_nor_subscribers_is_dropped() -> None:
    log = Log.private(4096)
    fanout = FanOut(log)
    subscribers = [fanout.subscribe([b"a", b"b"], Sink()), fanout.subscribe([b"b"], Sink())]
    assert sorted(fanout.index.names()) == [b"a", b"b"]
    fanout.unsubscribe(subscribers[0])
    assert fanout.index.names() == [b"b"]
    fanout.unsubscribe(subscribers[1])
    assert len(fanout.index) == 0
    log.append(b"c", body_of(1))
    fanout.index.take_in()
    fanout.unsubscribe(fanout.subscribe([b"c"], Sink()))
    assert fanout.index.names() == [b"c"]


def test_a_page_of_channels_looks_at_no_more_than_it_is_told_to() -> None:
    log = Log.private(2**16)
    index = Index(log)
    log.append_many([(b"%s%d" % (b"ab"[n % 2 : n % 2 + 1], n), b"data:\n\n") for n in range(100)])
    filled(index)
    channels, place = index.page(0, b"a", 10, 15)
    assert [channel.name for channel in channels] == [b"a%d" % n for n in range(98, 84, -2)]
    assert place == 85
    channels, place = index.page(place, b"a", 3, 1000)
    assert ([channel.name for channel in channels], place) == ([b"a84", b"a82", b"a80"], 80)
    assert index.page(10**12, b"", 1000, 1000)[1] == 0
    assert index.page(80, b"nobody", 1, 80) == ([], 0)


# ---- events of several channels ----


class TakingEvents(Taking):
    @property
    def positions(self) -> list[int]:
        return [frame.position for frame in parse(self.stream)]


def listening(fanout: FanOut, *channels: bytes, **begin: int) -> TakingEvents:
    sink = TakingEvents()
    fanout.unblock(fanout.subscribe(channels, sink, **begin), 0.0)
    return sink


def drain(fanout: FanOut) -> None:
    while fanout.drain(0.0):
        pass


def test_who_listens_to_several_of_an_events_channels_gets_it_once() -> None:
    fanout = FanOut(Log.private(65536))
    log, sinks = fanout.index.log, [listening(fanout, *names) for names in ([b"a"], [b"a", b"b"], [b"b", b"c", b"d"])]
    log.append_many([((b"a", b"b", b"c"), body_of(1)), (b"b", body_of(1)), ((b"c", b"d"), body_of(1))])
    drain(fanout)
    log.append((b"d", b"c", b"b", b"a"), body_of(1))
    drain(fanout)
    assert [sink.positions for sink in sinks] == [[1, 4], [1, 2, 4], [1, 2, 3, 4]]
    assert fanout.deliveries == 9
    late = [listening(fanout, *names, after=EARLIEST) for names in ([b"a"], [b"a", b"b"], [b"b", b"c", b"d"])]
    drain(fanout)
    assert [sink.stream for sink in late] == [sink.stream for sink in sinks]


@pytest.mark.parametrize("limit", [1, 2, 40])
def test_pieces_of_any_size_split_no_event_of_several_channels(limit: int) -> None:
    fanout = FanOut(Log.private(65536), piece=limit)
    fanout.index.log.append_many([((b"a", b"b", b"c"), body_of(n % 3)) for n in range(50)])
    sink = listening(fanout, b"a", b"b", b"c", after=0)
    drain(fanout)
    assert sink.positions == list(range(1, 51))


def test_news_of_one_event_reaches_a_group_once() -> None:
    fanout = FanOut(Log.private(65536), tell=1)
    names = [b"c%d" % n for n in range(20)]
    sinks = [listening(fanout, *names) for _ in range(3)] + [listening(fanout, names[0], names[n]) for n in range(1, 5)]
    fanout.index.log.append(tuple(names), body_of(1))
    drain(fanout)
    assert [sink.positions for sink in sinks] == [[1]] * 7
    assert fanout.writes == 7


def test_an_event_of_several_channels_is_kept_once_and_counted_in_each() -> None:
    log = Log.private(4096)
    index = Index(log)
    log.append_many([((b"a", b"b"), body_of(1)), (b"a", body_of(1)), ((b"b", b"c", b"d"), body_of(1))])
    filled(index)
    assert (index.kept, index.position) == (3, 3)
    assert state_of(index) == {b"a": (2, 2), b"b": (2, 3), b"c": (1, 3), b"d": (1, 3)}


def test_evicting_an_event_of_several_channels_tells_every_one_of_them() -> None:
    log = Log.private(4096)
    fanout = FanOut(log)
    log.append((b"a", b"b", b"c"), body_of(1))
    log.append(b"c", body_of(1))
    drain(fanout)
    while log.tail == 0:
        log.append(b"noise", body_of(1))
        drain(fanout)
    assert fanout.index.names() == [b"c", b"noise"]
    for name in (b"a", b"b", b"c"):
        assert fanout.subscribe([name], Sink(), after=0).lost
        assert not fanout.subscribe([name], Sink(), after=1).lost


@pytest.mark.parametrize("history", [1, 7, 100, 4096, 5000, 10_000])
def test_history_over_several_channels_counts_an_event_once(history: int) -> None:
    fanout = FanOut(Log.private(2**22))
    kinds = ((b"a", b"b", b"c"), b"a", (b"b", b"c"), b"other", b"c", (b"c", b"other"))
    for _ in range(5):
        fanout.index.log.append_many([(kinds[n % 6], body_of(0)) for n in range(4000)])
    filled(fanout.index)
    own = [position for position in range(1, 20_001) if kinds[(position - 1) % 4000 % 6] != b"other"]
    sink = listening(fanout, b"a", b"b", b"c", history=history)
    drain(fanout)
    assert sink.positions == own[-history:]


ONE_SHARED = tuple(b"c%d" % n for n in range(32))


@pytest.fixture(scope="module")
def shared_by_32() -> Log:
    log = Log.private(2**23)
    while log.tail == 0:
        log.append(ONE_SHARED, body_of(1))
    return log


@pytest.mark.parametrize("asked", [1, 512, 513, 2000, 4000, 16_384, 16_385, 100_000])
def test_however_many_events_of_many_channels_are_asked_for_that_many_come_and_finding_them_is_bounded(
    shared_by_32: Log, asked: int
) -> None:
    """Also after an id that nobody gave."""
    fanout = FanOut(shared_by_32, unknown=asked)
    filled(fanout.index)
    kept = fanout.index.kept
    assert kept > 4000
    for begin in ({"history": asked}, {"after": UNKNOWN}):
        steps = fanout.index.steps
        begun = fanout.index.position - fanout.subscribe(ONE_SHARED, Sink(), **begin).position
        assert fanout.index.steps - steps <= 2 * 16_384
        assert begun >= min(asked, kept)
        assert begun == asked or asked > 512, "512 events are 16,384 links: so many are counted one by one"


of_abcd = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=4, unique=True)


@given(
    events=st.lists(of_abcd, min_size=1, max_size=60), names=of_abcd, asked=st.integers(1, 70), merge=st.integers(1, 80)
)
def test_history_is_never_less_than_asked_for_and_exact_up_to_the_bound(
    events: list[list[bytes]], names: list[bytes], asked: int, merge: int
) -> None:
    fanout = FanOut(Log.private(65536), merge=merge)
    fanout.index.log.append_many([(tuple(event), body_of(1)) for event in events])
    own = [n for n, event in enumerate(events, 1) if set(event) & set(names)]
    links = sum(len(set(events[n - 1]) & set(names)) for n in own[-asked:])
    sink = listening(fanout, *names, history=asked)
    drain(fanout)
    assert sink.positions == own[len(own) - len(sink.positions) :]
    assert len(own[-asked:]) <= len(sink.positions) <= len(own[-asked * len(names) :])
    if links <= merge or len(names) == 1:
        assert sink.positions == own[-asked:]


def test_who_shares_nothing_gets_as_many_as_asked_for_wherever_others_did_before() -> None:
    """What several channels shared bounds nothing any more when it is gone."""
    fanout = FanOut(Log.private(4096), merge=2)
    fanout.index.log.append((b"x", b"y", b"z"), body_of(1))
    filled(fanout.index)
    while fanout.index.get(b"x"):
        fanout.index.log.append_many([(b"a", body_of(1)), (b"b", body_of(1))])
        filled(fanout.index)
    sink = listening(fanout, b"a", b"b", history=20)
    drain(fanout)
    assert len(sink.positions) == 20


def test_what_an_index_takes_for_an_event_of_one_channel_does_not_grow() -> None:
    """An entry of 24 bytes, and a link of 32: both together what one entry was."""
    log = Log.private(2**23)
    index = Index(log)
    append_slowly(log, [(b"a", b"data:\n\n")] * 100_000)
    tracemalloc.start()
    try:
        filled(index)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert index.kept == 100_000
    assert taken < 100_000 * 57 + 100_000


def taken_of(count: int) -> int:
    """Bytes of the index of a full log of the smallest events of so many channels each, all of them new."""
    log = Log.private(2**20)
    index, number = Index(log), 0
    while log.tail == 0:
        log.append(tuple(b"%06x" % n for n in range(number, number + count)), b"data:\n\n")
        number += count
    tracemalloc.start()
    try:
        filled(index)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [2, 5, 32])
def test_the_log_bounds_the_index_however_many_channels_its_events_have(count: int) -> None:
    assert taken_of(count) < 1.25 * taken_of(1)


def test_an_event_of_many_channels_is_taken_in_and_dropped_whole_and_costs_what_it_is_worth() -> None:
    log = Log.private(2**21)
    index = Index(log, drop=1)
    names = tuple(b"c%04d" % n for n in range(5000))
    log.append(names, body_of(1))
    log.append(b"next", body_of(1))
    assert index.take_in(2) is True  # there is more: the first was more than it was asked for
    assert (index.position, len(index)) == (1, 5000)
    filled(index)
    while log.tail == 0:
        log.append(b"next", body_of(5000))
        filled(index)
    assert index.names() == [b"next"]


def append_slowly(log: Log, events: list[tuple[bytes, bytes]]) -> None:
    for start in range(0, len(events), 8192):
        log.append_many(events[start : start + 8192])


def test_no_turn_pays_for_all_that_is_kept_because_it_grows() -> None:
    log = Log.private(2**23)
    append_slowly(log, [(b"a", b"data:\n\n")] * 100_000)
    index, grown, before = Index(log), [], 0
    tracemalloc.start()
    try:
        while index.take_in(1024):
            now = tracemalloc.get_traced_memory()[0]
            grown.append(now - before)
            before = now
    finally:
        tracemalloc.stop()
    assert index.kept == 100_000
    assert max(grown) < 2 * 1024 * 64


def test_a_worker_that_stood_still_drops_and_tells_what_it_missed_so_much_a_turn() -> None:
    memory = mmap.mmap(-1, segment_size(2**22))
    writer, fanout = Log(memory), FanOut(Log(memory))
    append_slowly(writer, [(b"c%d" % n, b"data:\n\n") for n in range(40_000)])
    filled(fanout.index)
    for n in range(20_000):
        fanout.unblock(fanout.subscribe([b"quiet%d" % n], Sink()), 0.0)
    while fanout.drain(0.0):
        pass
    append_slowly(writer, [(b"new", b"data:\n\n")] * 70_000)  # all that was there is gone, and some of this
    channels = len(fanout.index)
    fanout.index.take_in(0)
    assert channels - len(fanout.index) == 1024
    more, left = True, 0
    while more:  # those whose channel may have lost something have to resume
        more = fanout.drain(0.0, 10**10)
        assert fanout.slow - left <= 4096
        left = fanout.slow
    assert left == 20_000
    assert fanout.index.names() == [b"new"]


def test_its_entries_grow_past_their_first_room_in_order() -> None:
    log, model = Log.private(2**18, epoch="growing1"), ModelLog(2**18, "growing1")
    for n in range(9000):  # more than 1,024 and 2,048 and 4,096 at once, and evicting meanwhile
        channel, body = b"c%d" % (n % 3), body_of(n % 5)
        log.append(channel, body)
        model.append(channel, body)
        if n == 3000:
            index = filled(Index(log))
            oracle = ModelIndex(model, 100)
            oracle.take_in(10_000)
            assert index.kept == 3001
    filled(index)
    oracle.take_in(10_000)
    assert state_of(index) == {name: (len(c.kept), c.last_position) for name, c in oracle.channels.items()}


def of_channels(count: int) -> tuple[Log, FanOut]:
    """A log with an event each of channels c1, c2, ... at positions 1, 2, ..., all taken in."""
    log = Log.private(2**20)
    fanout = FanOut(log, remembered=0, drop=100)
    log.append_many([(b"c%d" % n, b"data:\n\n") for n in range(1, count + 1)])
    filled(fanout.index)
    assert len(fanout.index) == count
    return log, fanout


def test_what_one_batch_evicts_is_dropped_so_much_a_call_and_is_gone_at_once_for_whoever_resumes() -> None:
    log, fanout = of_channels(4000)
    index = fanout.index
    while log.tail == 0:
        log.append(b"new", body_of(20_000))
        index.take_in()
    log.append_many([(b"new", body_of(20_000))] * 4)
    index.take_in()
    first_kept = next(log.records()).position
    left = len(index)
    assert left > 4000 - 2 * 100 - 1  # those who have gone were two calls' worth
    assert index.kept == log.position + 1 - first_kept
    gone, kept = [b"c%d" % (first_kept - 1)], [b"c%d" % first_kept]
    assert index.get(gone[0]) is not None
    assert fanout.subscribe(gone, Sink(), after=first_kept - 2).lost
    assert fanout.subscribe([*gone, *kept], Sink(), after=first_kept - 2).lost
    assert not fanout.subscribe(gone, Sink(), after=first_kept - 1).lost
    assert not fanout.subscribe(kept, Sink(), after=first_kept - 1).lost
    assert fanout.subscribe([*gone, *kept], Sink(), after=EARLIEST).position == first_kept - 1
    left = len(index)
    while index.take_in(0):
        assert left - 100 <= len(index) <= left
        left = len(index)
    assert index.get(b"c%d" % (first_kept - 2)) is None
    assert index.get(kept[0]) is not None


def test_channels_are_told_of_a_hole_so_many_a_call_and_none_is_left_out() -> None:
    log, fanout = of_channels(4000)
    subscriber = fanout.subscribe([b"c1"], Sink(), after=1)
    fanout.unblock(subscriber, 0.0)
    channels = [channel for name in fanout.index.names() if (channel := fanout.index.get(name))]
    for _ in range(40):
        log.append(b"new", body_of(60_000))  # more than the log keeps, unseen
    hole = next(log.records()).position - 1
    told = 0
    while fanout.index.take_in(1):
        now_told = sum(channel.last_position >= hole for channel in channels)
        assert now_told <= told + 100
        told = now_told
    assert all(channel.last_position >= hole for channel in channels if channel.kept or channel.subscribers)
    while fanout.drain(0.0):
        pass
    assert subscriber.closed  # it was behind the hole, which may have held events of its channel


LONG_QUEUES = """
import gc, threading
from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import Log
from sse_fast._native.fanout.sinks import Sink

COUNT = 20_000
names = [b"c%d" % n for n in range(COUNT)]
log = Log.private(1 << 23)
log.append_many([(name, b"data:\\n\\n") for name in names])

def channels():
    index = Index(log)
    while index.take_in():
        pass

def groups_and_subscribers():
    fanout = FanOut(log, tell=2 * COUNT)
    subscribers = [fanout.subscribe([name], Sink(), after=0) for name in names]
    for subscriber in subscribers:
        assert fanout.unblock(subscriber, 0.0)
    for name in names:
        log.append(name, b"data:\\n\\n")
    while fanout.index.take_in():
        pass
    fanout.drain(0.0, 0)
    del subscribers, subscriber, fanout
    gc.collect()

threading.stack_size(128 * 1024)  # instead of a queue that is so much longer
for drop in (channels, groups_and_subscribers):
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
print("dropped")
"""


def test_a_queue_of_any_length_is_dropped_on_a_small_stack() -> None:
    run = subprocess.run([sys.executable, "-c", LONG_QUEUES], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "dropped\n"), run.stderr


def test_the_pxd_was_found() -> None:
    """One that stands in the wrong place is ignored without a word; the objects would then have no C fields."""
    for native in (Log, Index, Channel):
        assert native.__basicsize__ > object.__basicsize__ + 8
