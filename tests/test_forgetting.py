"""A channel that forgets: nothing from before is kept, on any worker, now or later; who has not seen all of it is told
of a gap, and who listens is told that it happened."""

import json
import mmap
import time

import pytest
from model import parse
from taking import Taking

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.log.index import Index
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.recent import recent
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast._native.wire.control import forgotten
from sse_fast.errors import HubClosed, InvalidEvent
from sse_fast.hub.hub import Hub

NEWS, OTHER = b"news", b"other"


def body(text: object) -> bytes:
    return b"data: %s\n\n" % str(text).encode()


def shared(size: int = 65536) -> tuple[Log, Log]:
    """One log, as two processes have it."""
    memory = mmap.mmap(-1, segment_size(size))
    return Log(memory), Log(memory)


class Listener(Taking):
    subscriber: Subscriber


def seen(sink: Taking) -> list[tuple[str, int]]:
    return [(frame.event, frame.position) for frame in parse(sink.stream)]


def listening(fanout: FanOut, *channels: bytes, after: int | None = None, history: int = 0) -> Listener:
    sink = Listener()
    sink.subscriber = fanout.subscribe(list(channels), sink, after=after, history=history)
    fanout.unblock(sink.subscriber, 0.0)
    return sink


def drained(fanout: FanOut) -> None:
    while fanout.drain(0.0):
        time.sleep(fanout.rest)


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_what_a_channel_had_is_kept_no_more_and_what_others_have_is() -> None:
    log = Log.private(65536)
    index = Index(log)
    log.append_many([(NEWS, body(1)), (OTHER, body(2)), ((NEWS, OTHER), body(3))])
    assert log.forget(NEWS, forgotten("news")) == 4
    log.append(NEWS, body(5))
    while index.take_in():
        pass
    news, other = index.get(NEWS), index.get(OTHER)
    assert news is not None
    assert other is not None
    assert (news.kept, news.evicted, news.last_position) == (2, 3, 5)
    assert (other.kept, other.evicted, other.last_position) == (2, 0, 3)


@pytest.mark.parametrize("later", [False, True])
def test_every_worker_obeys_and_so_does_one_that_comes_later(later: bool) -> None:
    ours, theirs = shared()
    fanouts = [] if later else [FanOut(theirs)]
    for number in range(1, 6):
        ours.append(NEWS, body(number))
    ours.forget(NEWS, forgotten("news"))
    ours.append(NEWS, body(7))
    fanouts += [FanOut(theirs)] if later else []
    (fanout,) = fanouts
    for sink in (listening(fanout, NEWS, history=100), listening(fanout, NEWS, after=EARLIEST)):
        drained(fanout)
        assert seen(sink) == [("$forgotten", 6), ("message", 7)]


def test_a_log_in_a_file_that_has_forgotten_is_sound() -> None:
    memory = mmap.mmap(-1, segment_size(65536))
    log = Log(memory, checksums=True)
    log.append(NEWS, body(1))
    log.forget(NEWS, forgotten("news"))
    found = verify(Log(memory))
    assert (found.events, found.first, found.last) == (2, 1, 2)
    assert [(record.channels, record.position) for record in log.records()] == [((NEWS,), 1), ((NEWS,), 2)]


def test_what_was_forgotten_goes_with_its_place_in_the_log() -> None:
    """Also where it goes in small steps, forgotten again and again, with channels that come and go."""
    log = Log.private(4096)
    fanout = FanOut(log, drop=1)
    listener = listening(fanout, NEWS)
    for round in range(300):
        log.append(NEWS, body(round))
        log.append((NEWS, b"b:%d" % round), body(round))
        drained(fanout)
        if round % 3 == 0:
            log.forget(NEWS, forgotten("news"))
        if round % 7 == 0:
            log.forget(b"b:%d" % round, forgotten(f"b:{round}"))
        drained(fanout)
    news = fanout.index.get(NEWS)
    assert news is not None
    assert news.kept <= 5
    assert [position for _, position in seen(listener)] == sorted({position for _, position in seen(listener)})
    assert not any(event == "$gap" for event, _ in seen(listener))
    for _ in range(200):
        log.append(OTHER, body("x"))
        drained(fanout)
    assert fanout.index.names() == [NEWS, OTHER]  # NEWS has a subscriber, and nothing that is kept
    assert news.kept == 0


def test_a_channel_that_nobody_knows_forgets_too() -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    log.forget(NEWS, forgotten("news"))
    sink = listening(fanout, NEWS, after=EARLIEST)
    drained(fanout)
    assert seen(sink) == [("$forgotten", 1)]


# ---- who is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(NEWS,), (NEWS, OTHER)])
def test_who_has_everything_is_told_of_it_and_of_no_gap(channels: tuple[bytes, ...]) -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    sink = listening(fanout, *channels)
    log.append_many([(NEWS, body(1)), (OTHER, body(2)), (NEWS, body(3))])
    drained(fanout)
    log.append_many([(b"x", body("x"))] * 5)  # its cursor stands far before the newest
    drained(fanout)
    log.forget(NEWS, forgotten("news"))
    log.append(NEWS, body(10))
    drained(fanout)
    assert [event for event, position in seen(sink) if position > 3] == ["$forgotten", "message"]
    assert fanout.gaps == fanout.slow == 0


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("evicting", [False, True])
def test_who_has_not_had_it_is_told_of_a_gap_and_is_not_taken_for_slow(skip: bool, evicting: bool) -> None:
    log = Log.private(4096)
    fanout = FanOut(log, skip=skip)
    if evicting:  # others' events are gone by now, which has nothing to do with it
        idle = listening(fanout, NEWS)
        for _ in range(200):
            log.append(OTHER, body("x"))
            drained(fanout)
        del idle
    sink = listening(fanout, NEWS)
    begins = log.position
    for number in range(3):
        log.append(NEWS, body(number))
    log.forget(NEWS, forgotten("news"))
    log.append(NEWS, body("after"))
    drained(fanout)
    assert seen(sink) == [("$gap", begins + 3), ("$forgotten", begins + 4), ("message", begins + 5)]
    assert fanout.slow == 0
    assert not sink.subscriber.closed


@pytest.mark.parametrize(
    ("after", "told"),
    [(0, True), (1, True), (2, True), (3, False), (4, False), (5, False)],
)
def test_who_comes_back_from_before_is_told_and_who_had_all_is_not(after: int, told: bool) -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    log.append_many([(NEWS, body(1)), (OTHER, body(2)), (NEWS, body(3))])
    log.forget(NEWS, forgotten("news"))
    log.append(NEWS, body(5))
    sink = listening(fanout, NEWS, after=after)
    assert sink.subscriber.lost is told
    drained(fanout)
    assert [position for _, position in seen(sink)] == [position for position in (4, 5) if position > after]
    others = listening(fanout, OTHER, after=after)
    assert not others.subscriber.lost


@pytest.mark.parametrize("history", [None, 3, 100])
def test_who_begins_with_what_is_kept_gets_all_that_other_channels_keep_and_is_told_of_no_gap(
    history: int | None,
) -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    log.append_many([(OTHER, body(1)), (NEWS, body(2)), (OTHER, body(3)), (NEWS, body(4))])
    log.forget(NEWS, forgotten("news"))
    if history is None:
        sink = listening(fanout, NEWS, OTHER, after=EARLIEST)
    else:
        sink = listening(fanout, NEWS, OTHER, history=history)
    drained(fanout)
    assert seen(sink) == [("message", 1), ("message", 3), ("$forgotten", 5)]
    assert not sink.subscriber.lost
    log.append_many([(NEWS, body(6)), (OTHER, body(7))])
    log.forget(NEWS, forgotten("news"))  # from here on it is this one's business too
    drained(fanout)
    assert seen(sink)[3:] == [("$gap", 6), ("message", 7), ("$forgotten", 8)]


def test_who_has_begun_is_told_of_what_is_forgotten_from_then_on_whatever_others_had_forgotten_before() -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    log.append_many([(NEWS, body(1)), (OTHER, body(2))])
    log.forget(OTHER, forgotten("other"))
    sink = listening(fanout, NEWS, OTHER, after=EARLIEST)
    log.forget(NEWS, forgotten("news"))
    drained(fanout)
    assert seen(sink) == [("$gap", 2), ("$forgotten", 3), ("$forgotten", 4)]


def test_what_it_forgot_before_it_was_gone_from_the_index_is_remembered() -> None:
    log = Log.private(4096)
    fanout = FanOut(log)
    log.append(NEWS, body(1))
    log.forget(NEWS, forgotten("news"))
    for _ in range(200):
        log.append(OTHER, body("x"))
        drained(fanout)
    assert fanout.index.get(NEWS) is None
    assert listening(fanout, NEWS, after=0).subscriber.lost
    assert not listening(fanout, NEWS, after=2).subscriber.lost


async def test_a_hub_forgets_and_its_id_is_one_to_resume_behind() -> None:
    hub = Hub(log_size=64 * 1024)
    first = await hub.publish("größe", "1")
    id = await hub.forget("größe")
    assert (id.epoch, id.position) == (first.epoch, first.position + 1)
    (record,) = [record for record in hub.log.records() if record.position == id.position]
    lines = record.frame.decode().split("\n")
    assert lines[0] == "event: $forgotten"
    assert json.loads(lines[1].removeprefix("data: ")) == {"channel": "größe"}
    assert lines[2:] == [f"id: {id}", "", ""]
    for wrong in ("$stats", "$presence:a", "", "a b"):
        with pytest.raises(InvalidEvent):
            await hub.forget(wrong)
    await hub.close()
    with pytest.raises(HubClosed):
        await hub.forget("größe")


# ---- what came lately ------------------------------------------------------------------------------------------------


def test_how_many_came_since_a_moment_is_looked_up() -> None:
    memory = mmap.mmap(-1, segment_size(1 << 20))
    writer = Log(memory)
    index = Index(Log(memory))
    for number in range(1000):
        writer.append(NEWS if number % 3 else OTHER, body(number))
    while index.take_in():
        pass
    times = [record.milliseconds for record in writer.records() if record.channels == (NEWS,)]
    for since in {times[0] - 1, *times, times[-1] + 1}:
        lately = recent(index, NEWS, since)
        expected = [at for at in times if at >= since]
        assert lately == (times[-1], len(expected), expected[0] if expected else None)
    assert recent(index, b"nobody", 0) == (None, 0, None)
    writer.forget(NEWS, forgotten("news"))
    while index.take_in():
        pass
    assert recent(index, NEWS, 0)[1] == 1


def test_times_that_are_far_apart_are_told_apart() -> None:
    log = Log.private(1 << 20)
    mark(log, "engine")
    append_at(log, [(number, NEWS, body(number), 1000 * number) for number in range(1, 2001)])
    index = Index(log)
    while index.take_in():
        pass
    for since in (0, 1000, 1001, 999_000, 1_999_001, 2_000_000, 2_000_001):
        count = sum(1000 * number >= since for number in range(1, 2001))
        assert recent(index, NEWS, since)[:2] == (2_000_000, count)
