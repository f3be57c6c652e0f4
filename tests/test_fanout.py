"""What the fan-out promises, law by law; the state machine next transport holds all of it against the model at once."""

import asyncio
import gc
import mmap
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

import pytest
from model import parse
from test_ring import PATIENCE_SECONDS, assert_whole, body_of, written_by_another_process

from sse_fast._native.fanout.drain import EARLIEST, TIMEOUTS_UNDER_SKIP, UNKNOWN, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Batch, Sink, SteppedSink
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.wire.envelope import envelope
from sse_fast.errors import EndReason


class Taker(Sink):
    """Takes what it gets; refuses more after each write if it is told to block."""

    def __init__(self, *, blocks: bool = False) -> None:
        self.blocks = blocks
        self.got: list[bytes] = []
        self.end: tuple[EndReason, Exception | None] | None = None

    def write(self, data: bytes) -> bool:
        self.got.append(data)
        return not self.blocks

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.end = (reason, error)

    @property
    def positions(self) -> list[int]:
        return [frame.position for frame in parse(b"".join(self.got))]


class Doing(Taker):
    """Does something of its own in each write."""

    def __init__(self, what: Callable[[], Any]) -> None:
        super().__init__()
        self.what = what

    def write(self, data: bytes) -> bool:
        super().write(data)
        self.what()
        return True


def join(fanout: FanOut, sink: Sink, *channels: bytes, after: int | None = None, history: int = 0) -> Subscriber:
    subscriber = fanout.subscribe(channels, sink, after=after, history=history)
    fanout.unblock(subscriber, 0.0)
    return subscriber


def drain(fanout: FanOut, now: float = 0.0, budget: int = 4_000_000) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while fanout.drain(now, budget):
        assert time.monotonic() < deadline, "the drain does not come to rest"


def fill(log: Log, channel: bytes, count: int, size: int = 100) -> None:
    for _ in range(count):
        log.append(channel, body_of(size))


# ---- forms ----


@pytest.mark.parametrize("channels", [[b"a"], [b"a", b"b"]])
def test_an_event_is_put_into_an_envelope_once_for_all_who_want_it(channels: list[bytes]) -> None:
    log = Log.private(1 << 20)
    fanout, takers = FanOut(log), [Taker() for _ in range(1000)]
    for taker in takers:
        fanout.unblock(fanout.subscribe(channels, taker, enveloped=True), 0.0)
        join(fanout, Taker(), *channels)
    for batch in range(1, 4):
        log.append_many([(b"a", b"data: x\n\n")] * 5)
        drain(fanout)
        assert fanout.enveloped == 5 * batch
    for taker in takers:
        assert len(taker.got) == 3
        assert all(mine is shared for mine, shared in zip(taker.got, takers[0].got, strict=True)), (
            "they share its bytes"
        )


def test_those_who_want_no_envelope_are_sent_what_the_log_has() -> None:
    log = Log.private(1 << 20)
    fanout, plain, other = FanOut(log), Taker(), Taker()
    join(fanout, plain, b"a")
    fanout.unblock(fanout.subscribe([b"a"], other, enveloped=True), 0.0)
    log.append((b"a", b"b"), b"data: x\n\n")
    drain(fanout)
    [record] = log.records()
    assert plain.got == [record.frame]
    assert other.got == [envelope(record.frame, [b"a"], record.milliseconds)]
    assert fanout.say(b"a", b"data: now\n\n", 0.0) == 2
    assert plain.got[-1] == b"data: now\n\n"
    assert b'"data":"now"' in other.got[-1]


def test_a_backlog_in_envelopes_is_taken_for_as_long_as_it_is_without() -> None:
    """Whoever had everything before stays with those who keep up over two of the largest batches, whatever the form."""
    log = Log.private(1 << 20)
    fanout, taker = FanOut(log, deep=1000), Taker()
    fanout.unblock(fanout.subscribe([b"a"], taker, enveloped=True), 0.0)
    drain(fanout)
    count = log.largest_batch // 1100
    log.append_many([(b"a", b"data: %b\n\n" % (b"\x01" * 1000))] * count)  # in JSON it is six times as long
    while fanout.drain(0.0, 0):
        assert fanout.rest == 0.0, "it rests, as one that has a long way to go"
    assert len(taker.positions) == count


def catch_up_in_envelopes(fanout: FanOut, *channels: bytes, after: int | None = 0, history: int = 0) -> Taker:
    taker = Taker()
    fanout.unblock(fanout.subscribe(channels, taker, after=after, history=history, enveloped=True), 0.0)
    return taker


@pytest.mark.parametrize("channels", [[b"a"], [b"a", b"b"]])
def test_an_event_is_put_into_an_envelope_once_for_those_who_catch_up_from_different_places(
    channels: list[bytes],
) -> None:
    log = Log.private(1 << 20)
    log.append_many([((b"a", b"b", b"c"), b"data: %d\n\n" % number) for number in range(100)])
    inside = [envelope(record.frame, channels, record.milliseconds) for record in log.records()]
    fanout = FanOut(log, piece=1000)
    takers = [catch_up_in_envelopes(fanout, *channels, after=after) for after in range(50)]
    drain(fanout)
    later = catch_up_in_envelopes(fanout, *channels, after=70)
    other = catch_up_in_envelopes(fanout, b"b", after=70)
    drain(fanout)
    for after, taker in [*enumerate(takers), (70, later)]:
        assert b"".join(taker.got) == b"".join(inside[after:])
    assert all('"channel":"b","event"' in frame.data for frame in parse(b"".join(other.got)))
    assert fanout.enveloped == 100 + 30


def test_of_envelopes_the_newest_4096_are_remembered() -> None:
    log = Log.private(1 << 22)
    for _ in range(10):
        log.append_many([(b"a", b"data: x\n\n")] * 500)
    fanout = FanOut(log)
    catch_up_in_envelopes(fanout, b"a")
    drain(fanout)
    assert fanout.enveloped == 5000
    newest = catch_up_in_envelopes(fanout, b"a", after=5000 - 4096)
    drain(fanout)
    assert (fanout.enveloped, len(newest.positions)) == (5000, 4096)
    older = catch_up_in_envelopes(fanout, b"a", after=5000 - 4096 - 1)
    drain(fanout)
    assert fanout.enveloped > 5000
    assert older.positions == list(range(904, 5001))


@pytest.mark.parametrize("size", [100, 10_000, 64_000, 500_000])
def test_what_is_remembered_of_envelopes_is_bounded_in_bytes_and_goes_with_the_last_who_wants_them(size: int) -> None:
    log = Log.private(1 << 24)
    fanout = FanOut(log)
    for _ in range(4):
        log.append_many([(b"a", b"data: %b\n\n" % (b"\x01" * size))] * (log.largest_batch // 4 // (size + 100)))
    join(fanout, Taker(), b"a")
    drain(fanout)

    def nobody() -> Taker:
        taker = Taker()
        taker.write = lambda data: True  # type: ignore[method-assign]
        return taker

    gc.collect()
    tracemalloc.start()
    try:
        subscribers = []
        for channels in ([b"a"], [b"a", b"b"]):
            subscribers.append(fanout.subscribe(channels, nobody(), after=EARLIEST, enveloped=True))
            fanout.unblock(subscribers[-1], 0.0)
            drain(fanout)
        assert fanout.delivered_bytes > 8 << 20
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        for subscriber in subscribers:
            fanout.unsubscribe(subscriber)
        del subscriber, subscribers
        gc.collect()
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < (1 << 20) + (1 << 18)
    assert left < 1 << 14


@pytest.mark.parametrize("body", [b"x", b'"' * 100, b"\x01" * 300, b"\x01" * 5000])
def test_a_piece_in_envelopes_is_no_longer_than_a_piece_but_for_one_event(body: bytes) -> None:
    log = Log.private(1 << 23)
    names = tuple(b"%d:" % number + b'"' * 250 for number in range(32))  # of an event of few bytes they make many
    log.append_many([(b"a", b"data: %b\n\n" % body)] * 100 + [(names, b"data: x\n\n")] * 100)
    fanout = FanOut(log, piece=4096)
    taker = catch_up_in_envelopes(fanout, b"a", *names)
    drain(fanout)
    assert taker.positions == list(range(1, 201))
    for piece in taker.got:
        assert len(piece) <= 4096 or len(list(parse(piece))) == 1
    assert fanout.enveloped == 200


# ---- now, of a moment ago ----


@pytest.mark.parametrize("seed", range(20))
def test_who_was_here_a_moment_ago_gets_the_history_of_then_and_all_that_came_since(seed: int) -> None:
    """To the event, whatever channels an event has, and whatever else was published meanwhile."""
    chance = random.Random(seed)
    log = Log.private(1 << 20)
    fanout, listed = FanOut(log), []
    for position in range(1, chance.randint(0, 60) + 1):
        channels = tuple(chance.sample([b"a", b"b", b"c"], chance.randint(1, 1 if seed % 4 == 0 else 3)))
        log.append(channels if len(channels) > 1 else channels[0], b"data:\n\n")
        listed.append((position, set(channels)))
        if chance.random() < 0.1:
            fanout.index.take_in()
    for _ in range(20):
        mine = chance.sample([b"a", b"b", b"c"], chance.randint(1, 3))
        since, history = chance.randint(0, len(listed)), chance.randint(0, 8)
        own = [position for position, channels in listed if channels & set(mine)]
        before, after = [p for p in own if p <= since], [p for p in own if p > since]
        taker = Taker()
        subscriber = fanout.subscribe(mine, taker, history=history, since=since)
        assert not subscriber.lost
        fanout.unblock(subscriber, 0.0)
        drain(fanout)
        assert taker.positions == (before[-history:] if history else []) + after


@pytest.mark.parametrize("history", [0, 5])
def test_what_is_gone_since_then_is_lost(history: int) -> None:
    log = Log.private(64 * 1024)
    fanout = FanOut(log)
    fill(log, b"a", 10)
    since = log.position
    fill(log, b"a", 2000)
    while fanout.index.take_in():
        pass
    kept = next(log.records()).position
    assert since + 1 < kept
    subscriber = fanout.subscribe([b"a"], Taker(), history=history, since=since)
    assert (subscriber.lost, subscriber.position) == (True, kept - 1)
    assert not fanout.subscribe([b"quiet"], Taker(), history=history, since=since + 2000).lost


def test_who_says_where_it_was_begins_there_whatever_was_now_then() -> None:
    log = Log.private(1 << 20)
    fanout, taker = FanOut(log), Taker()
    fill(log, b"a", 10)
    subscriber = fanout.subscribe([b"a"], taker, after=3, history=2, since=7)
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    assert taker.positions == [4, 5, 6, 7, 8, 9, 10]


# ---- long backlogs ----


def interleaved(channels: int, count: int) -> FanOut:
    """`count` events, one after the other in so many channels: position p is in channel (p - 1) % channels."""
    log = Log.private(4 * 1024 * 1024)
    for number in range(count):
        log.append(b"c%d" % (number % channels), b"data:\n\n")
    fanout = FanOut(log)
    while fanout.index.take_in():
        pass
    return fanout


@pytest.mark.parametrize("mine", [1, 2, 3])
def test_a_backlog_longer_than_is_merged_at_once_comes_whole_and_in_log_order(mine: int) -> None:
    fanout, taker = interleaved(4, 20_000), Taker()
    join(fanout, taker, *(b"c%d" % number for number in range(mine)), after=EARLIEST)
    drain(fanout)
    assert taker.positions == [position for position in range(1, 20_001) if (position - 1) % 4 < mine]
    assert max(map(len, taker.got)) <= 32768


@pytest.mark.parametrize("history", [1, 3000, 9999, 10_000, 10_001])
def test_a_long_history_is_the_newest_over_all_its_channels(history: int) -> None:
    fanout, taker = interleaved(4, 20_000), Taker()
    join(fanout, taker, b"c0", b"c2", history=history)
    drain(fanout)
    mine = [position for position in range(1, 20_001) if (position - 1) % 2 == 0]
    assert taker.positions == mine[-history:]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_place_to_begin_is_found_in_steps_by_the_logarithm_of_the_backlog(channels: int) -> None:
    """Also when the log has gone round many times, and wherever in what is kept the place is."""
    log, chance = Log.private(2**20), random.Random(channels)
    fanout, names = FanOut(log), [b"c%d" % n for n in range(channels)]
    for _ in range(10):
        for _ in range(9000):
            log.append(chance.choice(names), b"data:\n\n")
        while fanout.index.take_in():
            pass
        oldest = fanout.index.position - fanout.index.kept
        for _ in range(20):
            after = chance.randrange(oldest, fanout.index.position)
            before = fanout.index.steps
            taker = Taker()
            subscriber = join(fanout, taker, *names, after=after)
            fanout.drain(0.0, 0)
            assert taker.positions == list(range(after + 1, after + 1 + len(taker.positions)))
            assert fanout.index.steps - before <= len(taker.positions) + 3 * 17 * channels
            fanout.unsubscribe(subscriber)


@pytest.mark.parametrize("channels", [1, 2, 128])
@pytest.mark.parametrize("history", [4000, 5000, 10_001, 19_999])
def test_where_a_history_begins_is_found_without_walking_it(channels: int, history: int) -> None:
    fanout = interleaved(channels, 20_000)
    subscriber = fanout.subscribe([b"c%d" % n for n in range(channels)], Taker(), history=history)
    assert subscriber.position == 20_000 - history
    assert fanout.index.steps <= (34 if channels == 1 else max(4096, channels * 15 * 15))


def test_the_first_look_at_a_quiet_channel_passes_over_everybody_elses_events() -> None:
    log = Log.private(2**22)
    for channel in (b"mine", *[b"noise"] * 30_000, b"mine"):
        log.append(channel, b"data:\n\n")
    fanout, taker = FanOut(log), Taker()
    join(fanout, taker, b"mine", b"other", after=EARLIEST)
    drain(fanout)
    assert taker.positions == [1, 30_002]
    assert fanout.index.steps < 10


# ---- where a stream begins ----


@pytest.fixture
def fanout() -> FanOut:
    """Ten events: a at the odd positions, b at the even ones."""
    fanout = FanOut(Log.private(65536))
    fanout.index.log.append_many([(b"ab"[n % 2 : n % 2 + 1], body_of(n)) for n in range(10)])
    fanout.index.take_in()
    return fanout


@pytest.mark.parametrize(
    ("channels", "start", "positions", "lost"),
    [
        ([b"a"], {}, [], False),
        ([b"a"], {"after": EARLIEST}, [1, 3, 5, 7, 9], False),
        ([b"a"], {"after": UNKNOWN}, [1, 3, 5, 7, 9], True),
        ([b"a"], {"after": 0}, [1, 3, 5, 7, 9], False),
        ([b"a"], {"after": 5}, [7, 9], False),
        ([b"a", b"b"], {"after": 5}, [6, 7, 8, 9, 10], False),
        ([b"a"], {"after": 10}, [], False),
        ([b"a"], {"after": 11}, [1, 3, 5, 7, 9], True),
        ([b"a"], {"after": 2**63}, [1, 3, 5, 7, 9], True),
        ([b"a"], {"after": 10**40}, [1, 3, 5, 7, 9], True),
        ([b"a"], {"history": 2}, [7, 9], False),
        ([b"a"], {"history": 5}, [1, 3, 5, 7, 9], False),
        ([b"a"], {"history": 99}, [1, 3, 5, 7, 9], False),
        ([b"a"], {"history": 2**64 - 1}, [1, 3, 5, 7, 9], False),
        ([b"b", b"a"], {"history": 3}, [8, 9, 10], False),
        ([b"b", b"c"], {"history": 1}, [10], False),
        ([b"a"], {"after": 7, "history": 5}, [9], False),
        ([b"c"], {"after": EARLIEST}, [], False),
    ],
)
def test_a_stream_begins_where_it_was_asked_to(fanout, channels, start, positions, lost) -> None:
    sink = Taker()
    subscriber = join(fanout, sink, *channels, **start)
    drain(fanout)
    assert (sink.positions, subscriber.lost, fanout.gaps) == (positions, lost, int(lost))
    fanout.index.log.append(channels[0], body_of(1))
    drain(fanout)
    assert sink.positions == [*positions, 11]
    assert subscriber.position == 11


@pytest.mark.parametrize(
    ("channels", "start", "error"),
    [
        ([], {}, ValueError),
        (["text"], {}, TypeError),
        ([None], {}, TypeError),
        ([b"new", None], {}, TypeError),
        ([b"new"], {"after": -3}, ValueError),
        ([b"new"], {"after": "1"}, TypeError),
        ([b"new"], {"history": -1}, OverflowError),
    ],
)
def test_a_subscription_that_makes_no_sense_is_refused_and_leaves_nothing_behind(
    fanout, channels, start, error
) -> None:
    with pytest.raises(error):
        fanout.subscribe(channels, Taker(), **start)
    assert fanout.index.names() == [b"a", b"b"]
    assert fanout.connections == 0


def test_a_channel_named_twice_is_listened_to_once(fanout: FanOut) -> None:
    sink = Taker()
    join(fanout, sink, b"a", b"b", b"a", after=8)
    drain(fanout)
    assert sink.positions == [9, 10]
    for name in (b"a", b"b"):
        channel = fanout.index.get(name)
        assert channel is not None
        assert channel.subscribers == 1


def test_nothing_is_written_before_unblock(fanout: FanOut) -> None:
    sink = Taker()
    subscriber = fanout.subscribe([b"a"], sink, after=EARLIEST)
    drain(fanout)
    fanout.beat(100.0, 0.0, 10)
    assert fanout.say(b"a", b":\n", 0.0) == 0
    assert (sink.got, fanout.blocked) == ([], 0)
    assert fanout.unblock(subscriber, 0.0) is True
    assert fanout.unblock(subscriber, 0.0) is False


# ---- the sweep ----


def test_one_of_many_channels_costs_one_write() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker() for _ in range(100_000)]
    for n, sink in enumerate(sinks):
        join(fanout, sink, b"c%d" % n)
    fanout.index.log.append(b"c77777", body_of(5))
    assert fanout.drain(0.0) is False
    assert (fanout.writes, fanout.deliveries) == (1, 1)
    assert sinks[77_777].positions == [1]


def test_a_stream_of_128_channels_gets_them_in_log_order() -> None:
    fanout = FanOut(Log.private(2**20), piece=1000)
    names = [b"c%d" % n for n in range(128)]
    late, live = Taker(), Taker()
    join(fanout, live, *names)
    for n in range(3000):
        fanout.index.log.append(names[n * 7919 % 128], body_of(n % 50))
        if n % 100 == 0:
            fanout.drain(0.0)
    join(fanout, late, *reversed(names), after=EARLIEST)
    drain(fanout)
    assert live.positions == late.positions == list(range(1, 3001))


def test_subscribers_at_one_place_share_one_piece_and_one_message() -> None:
    fanout = FanOut(Log.private(65536))
    messages: list[dict[str, Any]] = []

    class Keeping(SteppedSink):
        pass

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    for _ in range(50):
        join(fanout, Keeping(send), b"a")
    fill(fanout.index.log, b"a", 3)
    drain(fanout)
    assert len(messages) == fanout.writes == 50
    assert fanout.deliveries == 150
    assert len({id(message) for message in messages}) == 1
    assert messages[0].keys() == {"type", "body", "more_body"}
    assert fanout.delivered_bytes == 50 * len(messages[0]["body"])


def test_the_budget_holds_however_small_the_groups_are() -> None:
    """Two thousand groups of one subscriber each, news for all of them at once: the loop is given back in between."""
    fanout = FanOut(Log.private(65536))
    sinks = [Doing(lambda: time.sleep(0.0001)) for _ in range(2000)]
    for n, sink in enumerate(sinks):
        join(fanout, sink, b"everybody", b"user%d" % n)
    fanout.index.log.append(b"everybody", body_of(1))
    slices = 0
    most = 0
    before = 0
    while fanout.drain(0.0, 1_000_000):
        slices += 1
        most = max(most, fanout.writes - before)
        before = fanout.writes
    assert slices > 20
    assert most < 100
    assert all(sink.positions == [1] for sink in sinks)


def test_of_the_groups_that_share_a_channel_so_many_a_turn_are_told_of_its_news() -> None:
    """And everybody who stays gets it once, whoever comes and goes between the turns."""
    fanout, chance = FanOut(Log.private(65536), tell=500), random.Random(7)
    stay = [Taker() for _ in range(10_000)]
    leave = []
    for n, sink in enumerate(stay):
        join(fanout, sink, b"everybody", b"user%d" % n)
        if n % 4 == 0:
            leave.append(join(fanout, Taker(), b"everybody", b"guest%d" % n))
    chance.shuffle(leave)
    fanout.index.log.append(b"everybody", body_of(1))
    turns, more = 0, True
    while more:
        before = fanout.told
        more = fanout.drain(0.0)
        assert fanout.told - before <= 500
        turns += 1
        for _ in range(100):
            if leave:
                fanout.unsubscribe(leave.pop())
        stay.append(Taker())
        join(fanout, stay[-1], b"everybody", b"late%d" % turns, after=0)
        if turns == 10:
            fanout.index.log.append(b"everybody", body_of(2))  # the first news is half told
            more = True
    drain(fanout)  # for the last one who came
    assert not leave
    assert all(sink.positions == [1, 2] for sink in stay)


def test_a_newcomer_waits_for_no_more_of_the_log_than_a_turn_takes() -> None:
    log = Log.private(2**22)
    for _ in range(40_000):
        log.append(b"a", b"data:\n\n")
    fanout = FanOut(log)
    live, resuming, all_of_it = Taker(), Taker(), Taker()
    now = join(fanout, live, b"a")
    assert 0 < fanout.index.kept <= 16384
    resumed = join(fanout, resuming, b"a", b"b", after=39_990)
    assert join(fanout, Taker(), b"a", after=40_001).lost
    join(fanout, all_of_it, b"a", after=EARLIEST)
    assert (now.position, resumed.position, resumed.lost) == (40_000, 39_990, False)
    log.append(b"a", b"data:\n\n")
    drain(fanout)
    assert live.positions == [40_001]
    assert resuming.positions == list(range(39_991, 40_002))
    assert all_of_it.positions == list(range(1, 40_002))


def test_leaving_costs_the_same_however_many_groups_share_a_channel() -> None:
    fanout = FanOut(Log.private(65536))
    subscribers = [join(fanout, Taker(), b"everybody", b"user%d" % n) for n in range(30_000)]
    start = time.process_time()
    for subscriber in reversed(subscribers):  # each is the last of its list: the worst for a search from the front
        fanout.unsubscribe(subscriber)
    assert time.process_time() - start < 3.0
    assert len(fanout.index) == 0


@pytest.mark.parametrize("budget", [0, 10_000, 10**9])
def test_a_subscriber_that_joins_during_a_sweep_takes_nobodys_turn(budget: int) -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker() for _ in range(3)]
    for sink in sinks:
        join(fanout, sink, b"a")
    for n in range(1, 20):
        fanout.index.log.append(b"a", body_of(n))
        sinks.append(Taker())
        join(fanout, sinks[-1], b"a", after=n - 1)  # takes in the news before the sweep does
        drain(fanout, budget=budget)
        assert all(sink.positions[-1:] == [n] for sink in sinks)


def test_those_who_leave_during_a_sweep_take_nobody_with_them() -> None:
    fanout = FanOut(Log.private(65536))
    left: list[Subscriber] = []
    sinks = [Doing(lambda: fanout.unsubscribe(left.pop()) if left else None) for _ in range(200)]
    subscribers = [join(fanout, sink, b"a") for sink in sinks]
    left += subscribers[::3]
    fanout.index.log.append(b"a", body_of(1))
    drain(fanout)
    stayed = [sink for sink, subscriber in zip(sinks, subscribers, strict=True) if not subscriber.closed]
    assert len(stayed) == fanout.connections == 200 - len(subscribers[::3])
    assert all(sink.positions == [1] for sink in stayed)
    assert all(sink.positions in ([], [1]) for sink in sinks)


def test_what_is_published_from_within_a_write_is_delivered_too() -> None:
    fanout = FanOut(Log.private(4096))
    left = iter(range(300))
    sinks: list[Taker] = [Doing(lambda: next(left, None) is not None and fill(fanout.index.log, b"a", 1, 300)), Taker()]
    for sink in sinks:
        join(fanout, sink, b"a")
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    for sink in sinks:
        assert sink.positions == list(range(1, 302))


@pytest.mark.parametrize("channels", [[b"a"], [b"a", b"b"]])
def test_those_who_catch_up_side_by_side_miss_nothing_between_their_pieces(channels: list[bytes]) -> None:
    fanout = FanOut(Log.private(65536), piece=500)
    fill(fanout.index.log, b"a", 100)
    sinks = [Taker() for _ in range(6)]
    for n, sink in enumerate(sinks):
        join(fanout, sink, *channels, after=n // 2)  # in pairs at one place, each pair at another
    drain(fanout)
    assert [sink.positions for sink in sinks] == [list(range(n // 2 + 1, 101)) for n in range(6)]


def test_those_with_a_long_way_to_go_rest_while_others_get_their_news() -> None:
    fanout = FanOut(Log.private(65536), piece=100, deep=500)
    fill(fanout.index.log, b"long", 300)
    deep, live = Doing(lambda: time.sleep(0.001)), Taker()
    join(fanout, deep, b"long", after=EARLIEST)
    join(fanout, live, b"live")
    rested = 0
    while len(deep.positions) < 300:
        fanout.drain(0.0, 40_000_000)  # 5 ms for those who catch up; then they rest for 10 at least
        began, rest, handed = time.monotonic(), fanout.rest, len(deep.got)
        fanout.index.log.append(b"live", body_of(1))
        fanout.drain(0.0, 40_000_000)
        if time.monotonic() - began < rest:
            assert len(deep.got) == handed
            rested += 1
        assert live.positions == list(range(301, fanout.index.log.position + 1))
    assert rested > 10
    drain(fanout)
    assert deep.positions == list(range(1, 301))
    assert fanout.rest == 0


def test_news_for_many_who_catch_up_is_not_handed_to_them_past_their_turn() -> None:
    fanout = FanOut(Log.private(65536), piece=100)
    fill(fanout.index.log, b"a", 100)
    sinks = [Taker() for _ in range(50)]
    for sink in sinks:
        join(fanout, sink, b"a", after=EARLIEST)
    for _ in range(20):
        before = fanout.writes
        fanout.index.log.append(b"a", body_of(1))
        fanout.drain(0.0, 0)
        assert fanout.writes - before <= 1
    drain(fanout)
    assert all(sink.positions == list(range(1, 121)) for sink in sinks)


# ---- the slow ----


def test_a_drain_asked_for_from_within_a_write_leaves_the_one_under_way_alone() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Doing(lambda: fanout.drain(0.0)) for _ in range(4)]
    for n, sink in enumerate(sinks):
        join(fanout, sink, b"ab"[n % 2 : n % 2 + 1])
    fanout.index.log.append_many([(b"a", body_of(1)), (b"b", body_of(1))])
    drain(fanout)
    assert [sink.positions for sink in sinks] == [[1], [2], [1], [2]]


def test_a_piece_larger_than_what_is_merged_at_once_ends_where_that_ends() -> None:
    fanout = FanOut(Log.private(2 << 20), piece=1 << 20)
    for n in range(10_000):
        fanout.index.log.append(b"ab"[n % 2 : n % 2 + 1], body_of(1))
    while fanout.index.take_in():
        pass
    sink = Taker()
    join(fanout, sink, b"a", b"b", after=EARLIEST)
    drain(fanout)
    assert sink.positions == list(range(1, 10_001))


def test_a_blocked_subscriber_is_not_written_to_and_delays_nobody() -> None:
    fanout = FanOut(Log.private(65536), piece=300)
    slow, fast = Taker(blocks=True), Taker()
    parked = join(fanout, slow, b"a")
    join(fanout, fast, b"a")
    for n in range(1, 50):
        fill(fanout.index.log, b"a", 1)
        drain(fanout)
        assert fast.positions == list(range(1, n + 1))
    assert (slow.positions, parked.position, fanout.blocked) == ([1], 1, 1)
    slow.blocks = False
    assert fanout.unblock(parked, 0.0) is True
    drain(fanout)
    assert slow.positions == fast.positions
    assert all(len(data) <= 300 for data in slow.got)


def test_one_piece_never_exceeds_its_measure_but_for_a_single_event() -> None:
    fanout = FanOut(Log.private(65536), piece=1000)
    sink = Taker()
    for size in (10, 900, 80, 5000, 10, 10, 1000, 10):
        fill(fanout.index.log, b"a", 1, size)
    join(fanout, sink, b"a", after=EARLIEST)
    drain(fanout)
    assert sink.positions == list(range(1, 9))
    assert [len(list(parse(data))) for data in sink.got] == [1, 1, 1, 1, 2, 1, 1] or max(
        len(data) for data in sink.got if len(list(parse(data))) > 1
    ) <= 1000


@pytest.mark.parametrize("channels", [[b"a"], [b"a", b"b"]])
def test_whoever_the_log_overtakes_leaves_as_slow(channels: list[bytes]) -> None:
    fanout = FanOut(Log.private(4096))
    sink = Taker(blocks=True)
    subscriber = join(fanout, sink, *channels)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    for _ in range(60):
        fill(fanout.index.log, b"a", 1)
        drain(fanout)
    assert sink.end is None
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    assert sink.end == (EndReason.SLOW, None)
    assert (fanout.slow, fanout.connections, subscriber.closed) == (1, 0, True)
    assert sink.positions == [1]


@pytest.mark.parametrize("channels", [[b"a"], [b"a", b"b"]])
def test_with_skip_it_is_told_of_the_gap_and_goes_on_with_the_newest(channels: list[bytes]) -> None:
    fanout = FanOut(Log.private(4096), skip=True)
    sink = Taker(blocks=True)
    subscriber = join(fanout, sink, *channels)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    for _ in range(60):
        fill(fanout.index.log, b"a", 1)
        drain(fanout)
    sink.blocks = False
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    frames = list(parse(b"".join(sink.got)))
    epoch = fanout.index.log.epoch
    assert [(frame.event, frame.position) for frame in frames] == [("message", 1), ("$gap", 60), ("message", 61)]
    assert frames[1].data == f'{{"after":"{epoch}-1","until":"{epoch}-60","positions":59}}'
    assert (fanout.gaps, fanout.slow, fanout.deliveries) == (1, 1, 2)


def test_others_events_that_are_evicted_are_no_gap() -> None:
    fanout = FanOut(Log.private(4096))
    quiet, sink = Taker(), Taker(blocks=True)
    join(fanout, quiet, b"quiet")
    parked = join(fanout, sink, b"quiet", b"rare")
    for _ in range(100):
        fill(fanout.index.log, b"loud", 1)
        drain(fanout)
    fill(fanout.index.log, b"quiet", 1)
    drain(fanout)
    assert quiet.positions == [101]
    for _ in range(10):
        fill(fanout.index.log, b"loud", 1)
        drain(fanout)
    fanout.unblock(parked, 0.0)
    drain(fanout)
    assert (sink.positions, sink.end, quiet.end, fanout.gaps) == ([101], None, None, 0)


def test_a_channel_that_was_quiet_for_longer_than_the_index_remembers_entries_goes_on_with_its_own() -> None:
    fanout = FanOut(Log.private(4096))
    sink = Taker()
    join(fanout, sink, b"quiet")
    fill(fanout.index.log, b"quiet", 1)
    drain(fanout)
    for _ in range(3000):  # the place of the entry that was handed over last is taken by others' several times
        fill(fanout.index.log, b"loud", 1)
        drain(fanout)
    fill(fanout.index.log, b"quiet", 1)
    drain(fanout)
    assert sink.positions == [1, 3002]


def test_who_takes_no_byte_for_the_timeout_leaves_as_slow() -> None:
    fanout = FanOut(Log.private(65536))
    sink, other = Taker(blocks=True), Taker()
    join(fanout, sink, b"a")
    join(fanout, other, b"a")
    fill(fanout.index.log, b"a", 1)
    drain(fanout, now=10.0)
    fanout.expire(39.9, 30.0)
    assert sink.end is None
    fanout.expire(40.0, 30.0)
    assert sink.end == (EndReason.SLOW, None)
    assert (other.end, fanout.slow, fanout.blocked, fanout.connections) == (None, 1, 0, 1)


def test_whoever_is_told_that_it_ends_may_let_others_go() -> None:
    fanout = FanOut(Log.private(65536))

    class Taking(Taker):
        def ended(self, reason: EndReason, error: Exception | None) -> None:
            super().ended(reason, error)
            fanout.unsubscribe(second)

    first, other, reader = Taking(blocks=True), Taker(blocks=True), Taker()
    join(fanout, first, b"a")
    second = join(fanout, other, b"a")
    join(fanout, reader, b"a")
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    fanout.expire(30.0, 30.0)
    assert (first.end, other.end, fanout.slow) == ((EndReason.SLOW, None), None, 1)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    assert (reader.positions, fanout.connections) == ([1, 2], 1)


def test_with_skip_the_timeout_tells_of_a_gap_only_if_something_is_skipped() -> None:
    fanout = FanOut(Log.private(65536), skip=True)
    sinks = [Taker(blocks=True), Taker(blocks=True)]
    one_behind, far_behind = (join(fanout, sink, b"a") for sink in sinks)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    fanout.expire(30.0, 30.0)
    assert fanout.gaps == 0
    fanout.unblock(one_behind, 30.0)
    drain(fanout, 30.0)
    fill(fanout.index.log, b"a", 1)
    drain(fanout, 30.0)
    fanout.expire(60.0, 30.0)
    fanout.expire(90.0, 30.0)
    assert fanout.gaps == 1
    for sink, subscriber in zip(sinks, (one_behind, far_behind), strict=True):
        sink.blocks = False
        fanout.unblock(subscriber, 90.0)
    drain(fanout, 90.0)
    assert [sink.positions for sink in sinks] == [[1, 2, 3], [1, 2, 3]]
    assert [frame.event for frame in parse(b"".join(sinks[1].got))] == ["message", "$gap", "message"]


def test_what_was_skipped_is_not_sent_after_its_gap() -> None:
    fanout = FanOut(Log.private(65536), skip=True)
    sink = Taker(blocks=True)
    subscriber = join(fanout, sink, b"a")
    for _ in range(5):
        fill(fanout.index.log, b"a", 1)
        drain(fanout)
    fanout.expire(30.0, 30.0)
    sink.blocks = False
    fanout.unblock(subscriber, 30.0)
    drain(fanout, 30.0)
    assert sink.positions == [1, 4, 5]
    assert subscriber.position == 5


# ---- heartbeats, and what is said beside the log ----


def test_heartbeats_go_round_and_only_to_the_idle() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker() for _ in range(10)]
    subscribers = [fanout.subscribe([b"a"], sink) for sink in sinks]
    for n, subscriber in enumerate(subscribers):
        fanout.unblock(subscriber, 10.0 if n % 2 else 0.0)
    for _ in range(5):
        fanout.beat(10.0, 10.0, 2)
    assert [sink.got for sink in sinks] == [[b":\n"] if n % 2 == 0 else [] for n in range(10)]
    assert (fanout.heartbeats, fanout.deliveries) == (5, 0)
    fanout.beat(15.0, 10.0, 1000)
    assert fanout.heartbeats == 5


def test_nobody_is_passed_over_because_another_one_leaves() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker() for _ in range(10)]
    subscribers = [join(fanout, sink, b"a") for sink in sinks]
    fanout.beat(10.0, 10.0, 5)
    fanout.unsubscribe(subscribers[0])
    fanout.beat(10.0, 10.0, 4)
    assert [sink.got for sink in sinks[1:]] == [[b":\n"]] * 9
    at = fanout.finish(b"data: bye\n\n", 10.0, fanout.connections, 4)
    fanout.unsubscribe(subscribers[1])
    while at := fanout.finish(b"data: bye\n\n", 10.0, at, 4):
        pass
    assert all(b"data: bye\n\n" in sink.got for sink in sinks[2:])


def test_say_reaches_the_ready_ones_of_a_channel_however_they_listen() -> None:
    fanout = FanOut(Log.private(65536))
    solo, several, other, parked = Taker(), Taker(), Taker(), Taker()
    join(fanout, solo, b"a")
    join(fanout, several, b"a", b"b")
    join(fanout, other, b"b")
    fanout.subscribe([b"a"], parked)
    assert fanout.say(b"a", b"data: x\n\n", 0.0) == 2
    assert fanout.say(b"nobody", b"data: x\n\n", 0.0) == 0
    assert [sink.got for sink in (solo, several, other, parked)] == [[b"data: x\n\n"]] * 2 + [[], []]


def test_the_last_words_reach_everybody_in_slices_and_end_all_lets_everybody_go() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker() for _ in range(25)]
    for n, sink in enumerate(sinks):
        join(fanout, sink, b"c%d" % n)
    at, slices = 25, 0
    while at := fanout.finish(b"data: bye\n\n", 0.0, at, 10):
        slices += 1
    assert slices == 2
    assert all(sink.got == [b"data: bye\n\n"] for sink in sinks)
    assert fanout.end_all(EndReason.SHUTDOWN) == 25
    assert all(sink.end == (EndReason.SHUTDOWN, None) for sink in sinks)
    assert (fanout.connections, len(fanout.index), fanout.slow) == (0, 0, 0)


def test_nothing_follows_the_last_words() -> None:
    fanout = FanOut(log := Log.private(65536))
    ready, behind, stuck, new = Taker(), Taker(), Taker(blocks=True), Taker()
    join(fanout, ready, b"a")
    stuck_one = join(fanout, stuck, b"a")
    fill(log, b"a", 1)
    drain(fanout)
    join(fanout, behind, b"a", after=EARLIEST)
    starting = fanout.subscribe([b"a"], new)
    taken = [list(sink.got) for sink in (ready, behind, stuck, new)]
    assert fanout.finish(b"data: bye\n\n", 0.0, fanout.connections, 100) == 0
    fill(log, b"a", 10)  # by another worker
    drain(fanout)
    fanout.beat(100.0, 1.0, 100)
    assert fanout.say(b"a", b"data: x\n\n", 0.0) == 0
    for subscriber in (starting, stuck_one):
        assert fanout.unblock(subscriber, 0.0), "there are the last words for it"
        drain(fanout)
    assert not fanout.unblock(stuck_one, 0.0), "nothing is left for it"
    drain(fanout)
    fanout.beat(200.0, 1.0, 100)
    assert fanout.finish(b"data: bye\n\n", 0.0, fanout.connections, 100) == 0
    assert [sink.got for sink in (ready, behind, stuck, new)] == [[*got, b"data: bye\n\n"] for got in taken]
    assert fanout.blocked == 0


# ---- sinks ----


class Loop(SteppedSink):
    """Keeps what was suspended, as the one who finishes it would."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.rest: list[tuple[Generator[Any, Any, Any], Any]] = []
        self.end: tuple[EndReason, Exception | None] | None = None

    def suspended(self, awaited: Generator[Any, Any, Any], yielded: Any) -> None:
        self.rest.append((awaited, yielded))

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.end = (reason, error)


def delivered_to(send: Callable[[Any], Any]) -> tuple[FanOut, Subscriber, Loop]:
    fanout = FanOut(Log.private(65536))
    sink = Loop(send)
    subscriber = join(fanout, sink, b"a")
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    return fanout, subscriber, sink


def test_a_send_that_finishes_at_once_is_written() -> None:
    bodies = []

    async def send(message: dict[str, Any]) -> None:
        bodies.append(message["body"])

    fanout, _, sink = delivered_to(send)
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    assert [frame.position for frame in parse(b"".join(bodies))] == [1, 2]
    assert (sink.rest, sink.end, fanout.blocked, fanout.writes) == ([], None, 0, 2)


async def test_a_send_that_suspends_hands_over_the_rest_and_parks() -> None:
    future = asyncio.get_running_loop().create_future()
    sent = []

    async def send(message: dict[str, Any]) -> None:
        await future
        sent.append(message)

    fanout, subscriber, sink = delivered_to(send)
    [(awaited, yielded)] = sink.rest
    assert yielded is future
    assert (fanout.blocked, subscriber.closed, sent) == (1, False, [])
    future.set_result(None)
    with pytest.raises(StopIteration):
        awaited.send(None)
    assert len(sent) == 1
    fanout.unblock(subscriber, 0.0)
    assert fanout.blocked == 0


class Awaitable:
    """An awaitable of somebody else's: a bare iterator, with no send() and no throw()."""

    def __init__(self, *yields: object) -> None:
        self.yields = yields

    def __await__(self) -> Any:
        return iter(self.yields)


def test_any_awaitable_will_do() -> None:
    fanout, _, sink = delivered_to(lambda message: Awaitable())
    assert (sink.rest, sink.end, fanout.blocked) == ([], None, 0)
    fanout, _, sink = delivered_to(lambda message: Awaitable("once", "twice"))
    [(awaited, yielded)] = sink.rest
    assert (yielded, list(awaited), fanout.blocked) == ("once", ["twice"], 1)


async def test_a_future_that_is_ready_is_written_and_one_that_waits_parks() -> None:
    ready = asyncio.get_running_loop().create_future()
    ready.set_result(None)
    fanout, _, sink = delivered_to(lambda message: ready)
    assert (sink.rest, fanout.blocked) == ([], 0)
    waits = asyncio.get_running_loop().create_future()
    fanout, _, sink = delivered_to(lambda message: waits)
    assert (sink.rest[0][1], fanout.blocked) == (waits, 1)


class Refusing(Exception):
    pass


def raising(error: BaseException) -> Callable[[Any], Any]:
    async def send(message: object) -> None:
        raise error

    return send


@pytest.mark.parametrize(
    ("send", "error"),
    [
        (raising(Refusing()), Refusing),
        (raising(asyncio.CancelledError()), type(None)),
        (lambda message: None, TypeError),
        (lambda message: [1].pop(5), IndexError),
        (lambda message: (n for n in "generator"), TypeError),
        (lambda message, more: None, TypeError),
    ],
)
def test_a_send_that_fails_lets_the_subscriber_go_and_nobody_else(send, error) -> None:
    fanout = FanOut(Log.private(65536))
    before, sink, after = Taker(), Loop(send), Taker()
    for each in (before, sink, after):
        join(fanout, each, b"a")
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    assert sink.end is not None
    assert sink.end[0] is EndReason.ERROR
    assert isinstance(sink.end[1], error)
    assert (before.positions, after.positions, fanout.connections, fanout.writes) == ([1], [1], 2, 2)


def test_an_interrupt_passes_through_but_loses_nothing_of_the_others() -> None:
    fanout = FanOut(Log.private(65536))
    sinks: list[Any] = [Taker(), Loop(raising(KeyboardInterrupt())), Taker()]
    for sink in sinks:
        join(fanout, sink, b"a")
    fill(fanout.index.log, b"a", 1)
    with pytest.raises(KeyboardInterrupt):
        drain(fanout)
    drain(fanout)
    assert (sinks[0].positions, sinks[2].positions, fanout.connections) == ([1], [1], 2)


def test_a_sink_that_leaves_within_its_own_send_is_not_freed_under_it() -> None:
    fanout = FanOut(Log.private(65536))

    def leave_first() -> Callable[[object], Awaitable]:
        own: list[Subscriber] = []

        def send(message: object) -> Awaitable:
            fanout.unsubscribe(own.pop())
            return Awaitable("waits")

        own.append(join(fanout, Loop(send), b"a"))
        return send

    kept_alive = [leave_first() for _ in range(50)]
    fill(fanout.index.log, b"a", 1)
    drain(fanout)
    assert (fanout.connections, fanout.blocked) == (0, 0)
    assert len(kept_alive) == 50


# ---- over one segment, between processes ----


def test_a_second_fan_out_over_the_same_memory_delivers_the_same() -> None:
    memory = mmap.mmap(-1, segment_size(8192))
    first, second = FanOut(Log(memory)), FanOut(Log(memory))
    sinks = [Taker(), Taker()]
    for fanout, sink in zip((first, second), sinks, strict=True):
        join(fanout, sink, b"a", b"b")
    for n in range(300):
        (first, second)[n % 2].index.log.append(b"ab"[n % 2 : n % 2 + 1], body_of(n % 90))
        drain(first)
        drain(second)
    assert sinks[0].positions == sinks[1].positions == list(range(1, 301))


@pytest.mark.parametrize("skip", [True, False])
def test_no_torn_frame_is_delivered_while_another_process_laps_the_drain(skip: bool) -> None:
    memory = mmap.mmap(-1, segment_size(65536))
    log = Log(memory)
    fanout = FanOut(log, skip=skip, piece=4000)
    names = [b"c%d" % n for n in range(5)]
    streams: list[tuple[tuple[bytes, ...], Taker]] = []

    def keep_listening() -> None:
        for channels in (names[:1], names[1:3], names):
            if all(asked != tuple(channels) or sink.end for asked, sink in streams):
                streams.append((tuple(channels), Taker()))
                join(fanout, streams[-1][1], *channels, after=EARLIEST)

    deadline = time.monotonic() + PATIENCE_SECONDS
    with written_by_another_process(memory):
        while fanout.deliveries < 20_000 or fanout.gaps + fanout.slow < 20:
            assert time.monotonic() < deadline, f"too little happened: {fanout.deliveries} deliveries"
            keep_listening()
            fanout.drain(0.0, 300_000)
    keep_listening()
    drain(fanout)
    for channels, sink in streams:
        own = {int(name[1:]) for name in channels}
        last = None
        for frame in parse(b"".join(sink.got)):
            assert last is None or frame.position > last
            if frame.event != "$gap":
                assert assert_whole(b"id: x2345678-1\ndata: %s\n\n" % frame.data.encode()) == frame.position - 1
                assert (frame.position - 1) % 5 in own
                if last is not None:  # whatever lies between is of other channels, or a gap was told before
                    assert not any((position - 1) % 5 in own for position in range(last + 1, frame.position))
            last = frame.position


# ---- memory ----


def test_streams_that_come_and_go_leave_nothing_behind() -> None:
    fanout = FanOut(Log.private(65536), remembered=8)
    shared = Taker()

    def come_and_go(times: int) -> None:
        for n in range(times):
            subscriber = join(fanout, shared, b"a", b"user%d" % n, after=EARLIEST)
            if n % 3 == 0:
                fanout.index.log.append(b"user%d" % n, body_of(1))
                fanout.drain(0.0)
            fanout.unsubscribe(subscriber)
        fill(fanout.index.log, b"a", 200, 1000)
        drain(fanout)
        shared.got.clear()
        gc.collect()

    come_and_go(1000)
    objects, references = len(gc.get_objects()), sys.getrefcount(shared)
    come_and_go(10_000)
    assert len(gc.get_objects()) - objects < 50
    assert sys.getrefcount(shared) == references
    assert (fanout.connections, fanout.index.names()) == (0, [b"a"])


@pytest.mark.parametrize("native", [FanOut, Subscriber, SteppedSink, Batch])
def test_the_pxd_was_found(native: type) -> None:
    """One that stands in the wrong place is ignored without a word; the objects would then have no C fields."""
    assert native.__basicsize__ > object.__basicsize__ + 8


def test_with_skip_too_whoever_takes_nothing_is_ended_in_the_end() -> None:
    fanout = FanOut(Log.private(65536), skip=True)
    stuck, alive = Taker(blocks=True), Taker(blocks=True)
    join(fanout, stuck, b"a")
    lives = join(fanout, alive, b"a")
    now = 0.0
    for timeouts in range(1, 2 * TIMEOUTS_UNDER_SKIP):
        fill(fanout.index.log, b"a", 2)
        drain(fanout, now)
        now += 30.0
        fanout.expire(now, 30.0)
        assert stuck.end == ((EndReason.SLOW, None) if timeouts >= TIMEOUTS_UNDER_SKIP else None)
        fanout.unblock(lives, now)
    assert alive.end is None


def test_who_is_blocked_for_longest_is_shed_first_and_no_more_than_is_owed() -> None:
    fanout = FanOut(Log.private(65536))
    sinks = [Taker(blocks=True) for _ in range(10)]
    unknown = Taker(blocks=True)  # nothing is known of what it holds
    join(fanout, unknown, b"c0")
    for number, sink in enumerate(sinks):
        sink.charge = 1000
        join(fanout, sink, b"c%d" % number)
        fill(fanout.index.log, b"c%d" % number, 1)
        drain(fanout, now=float(number))
    ready = Taker()
    join(fanout, ready, b"c9")
    assert fanout.shed(2500, 100) == (0, 3)
    assert [sink.end for sink in sinks] == [(EndReason.SLOW, None)] * 3 + [None] * 7
    assert fanout.shed(5000, 2) == (3000, 2)
    assert fanout.shed(3000, 0) == (3000, 0)
    assert [sink.end for sink in sinks] == [(EndReason.SLOW, None)] * 5 + [None] * 5
    assert (unknown.end, ready.end) == (None, None)
