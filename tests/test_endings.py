"""Streams that end by themselves, law by law: those whose credential ends, and those that are old. The state machine of
the fan-out holds it against the model (`test_fanout_machine.py`)."""

import random
import sys
import time
from functools import partial
from typing import Any

import pytest
from test_fanout import Taker, drain, join

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.log.ring import Log
from sse_fast._native.wire.control import closing, expiring
from sse_fast.errors import EndReason
from sse_fast.hub.hub import LAST_BYTES, TICK
from sse_fast.hub.lifetime import AHEAD, SPREAD, SPREAD_MOST, end_of

NOW = 0.0  # of each test
EXPIRED, AGE = closing("expired", 250), closing("age", 250)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "NOW", time.time())


def fanout_of(**options: Any) -> tuple[Log, FanOut]:
    log = Log.private(1 << 20)
    return log, FanOut(log, **options)


def stay(fanout: FanOut, until: float | None, *, aged: bool = False, sink: Taker | None = None) -> Taker:
    taker = sink or Taker()
    fanout.unblock(fanout.subscribe([b"a"], taker, until=until, aged=aged), 0.0)
    return taker


def end_all_due(fanout: FanOut, wall: float) -> None:
    while fanout.end_due(wall, 0.0, 100):
        pass


def test_a_stream_is_told_that_its_end_is_near_and_then_ends() -> None:
    log, fanout = fanout_of()
    taker = stay(fanout, NOW + 3600)
    end_all_due(fanout, NOW + 3569)
    assert (taker.got, taker.end) == ([], None)
    end_all_due(fanout, NOW + 3570)
    assert (taker.got, taker.end) == ([expiring(30)], None)
    end_all_due(fanout, NOW + 3599.9)
    assert (taker.got, taker.end) == ([expiring(30)], None)
    end_all_due(fanout, NOW + 3600)
    assert (taker.got[1:], taker.end) == ([EXPIRED], None), "a proxy may drop what comes with the end"
    log.append(b"a", b"data: later\n\n")
    drain(fanout)
    end_all_due(fanout, NOW + 3600 + LAST_BYTES)
    assert (len(taker.got), taker.end) == (2, (EndReason.EXPIRED, None))
    assert fanout.connections == 0


def test_a_stream_of_a_short_time_is_told_half_way() -> None:
    _, fanout = fanout_of()
    now = time.time()
    taker = stay(fanout, now + 10)
    end_all_due(fanout, now + 4.9)
    assert taker.got == []
    end_all_due(fanout, now + 5.1)
    assert taker.got == [expiring(5)]


def test_who_is_past_its_end_is_told_of_no_end_to_come() -> None:
    _, fanout = fanout_of()
    taker = stay(fanout, NOW - 1)
    end_all_due(fanout, NOW)
    assert taker.got == [EXPIRED]


def test_an_old_stream_ends_with_no_word_of_credentials() -> None:
    _, fanout = fanout_of()
    taker = stay(fanout, NOW + 100, aged=True)
    end_all_due(fanout, NOW + 99)
    assert (taker.got, taker.end) == ([], None)
    end_all_due(fanout, NOW + 100)
    end_all_due(fanout, NOW + 100 + LAST_BYTES)
    assert (taker.got, taker.end) == ([AGE], (EndReason.AGE, None))


def test_streams_without_an_end_stay() -> None:
    _, fanout = fanout_of()
    taker = stay(fanout, None)
    end_all_due(fanout, NOW + 10**9)
    assert taker.end is None


def test_who_is_blocked_is_told_when_it_can_be_written_to_before_anything_else() -> None:
    log, fanout = fanout_of()
    taker = Taker(blocks=True)
    subscriber = fanout.subscribe([b"a"], taker, until=NOW + 3600)
    fanout.unblock(subscriber, 0.0)
    log.append(b"a", b"data: 1\n\n")
    drain(fanout)
    log.append(b"a", b"data: 2\n\n")
    end_all_due(fanout, NOW + 3580)
    assert len(taker.got) == 1
    taker.blocks = False
    assert fanout.unblock(subscriber, 0.0), "there is something for it"
    drain(fanout)
    assert taker.got[1] == expiring(20)
    assert taker.positions[-1] == 2
    end_all_due(fanout, NOW + 3600)
    assert taker.got[3:] == [EXPIRED]


def test_who_is_blocked_at_its_end_ends_at_once() -> None:
    log, fanout = fanout_of()
    taker = stay(fanout, NOW + 100, aged=True, sink=Taker(blocks=True))
    log.append(b"a", b"data: 1\n\n")
    drain(fanout)
    end_all_due(fanout, NOW + 100)
    assert (len(taker.got), taker.end) == (1, (EndReason.AGE, None))


def test_one_notice_is_made_for_all_who_are_told_at_once() -> None:
    _, fanout = fanout_of()
    takers = [stay(fanout, NOW + 100) for _ in range(100)]
    end_all_due(fanout, NOW + 80)
    assert {id(taker.got[0]) for taker in takers} == {id(takers[0].got[0])}


def test_a_call_ends_so_many_at_most_and_says_whether_there_are_more() -> None:
    _, fanout = fanout_of()
    takers = [stay(fanout, NOW + number / 1000, aged=True) for number in range(1000)]
    calls = 0
    while fanout.end_due(NOW + 10, 0.0, 64):
        calls += 1
        assert sum(len(taker.got) for taker in takers) == 64 * calls
    assert calls == 1000 // 64
    assert all(taker.got == [AGE] for taker in takers)
    while fanout.end_due(NOW + 11, 0.0, 64):
        calls -= 1
        assert fanout.connections == 1000 - 64 * (1000 // 64 - calls)
    assert all(taker.end == (EndReason.AGE, None) for taker in takers)


def test_they_end_in_the_order_of_their_ends_whoever_left_meanwhile() -> None:
    _, fanout = fanout_of()
    chance = random.Random(2)
    here: dict[float, Subscriber] = {}
    for _ in range(2000):
        until = NOW + chance.uniform(0, 1000)
        here[until] = fanout.subscribe([b"a"], Taker(), until=until, aged=True)
        if chance.random() < 0.4:
            fanout.unsubscribe(here.pop(chance.choice(list(here))))
    for until in sorted(here):  # they are parked, and end at once
        assert not here[until].closed
        assert not fanout.end_due(until, 0.0, 2), "the next one is not due yet"
        assert here[until].closed
    assert fanout.connections == 0


def test_a_subscriber_says_of_itself_what_it_was_given() -> None:
    log, fanout = fanout_of()
    subscriber = fanout.subscribe([b"b", b"a"], Taker(), until=NOW + 9, user="ann", address="192.0.2.1")
    other = join(fanout, Taker(), b"a")
    assert subscriber.channels == (b"a", b"b")
    assert (subscriber.user, subscriber.address, subscriber.until) == ("ann", "192.0.2.1", NOW + 9)
    assert (other.user, other.address, other.until) == (None, "", None)
    assert abs(subscriber.opened - time.time()) < 60
    assert (subscriber.native, subscriber.parked, other.parked) == (False, True, False)
    log.append(b"a", b"data: 1\n\n")
    log.append(b"a", b"data: 2\n\n")
    drain(fanout)
    assert (fanout.lag(subscriber), fanout.lag(other)) == (2, 0)


def test_no_two_streams_have_one_number_not_even_of_a_worker_that_came_before() -> None:
    numbers = []
    for _ in range(3):
        _, fanout = fanout_of()
        numbers += [join(fanout, Taker(), b"a").number for _ in range(100)]
        time.sleep(0.002)  # a worker takes longer to start
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**53, "as JSON it stays what it is"


def pages(fanout: FanOut, limit: int, looks: int, **sought: Any) -> list[Subscriber]:
    found: list[Subscriber] = []
    before = 0
    while True:
        streams, before = fanout.page(before, limit, looks, **sought)
        assert len(streams) <= limit
        found += streams
        if before == 0:
            return found


def test_streams_are_found_page_by_page_by_what_is_known_of_them() -> None:
    _, fanout = fanout_of()
    here = [
        fanout.subscribe([b"%d" % (n % 5)], Taker(), user=f"u{n % 7}", address=f"192.0.2.{n % 3}") for n in range(500)
    ]
    for limit, looks in ((10, 1000), (1000, 10), (7, 3)):
        assert sorted(s.number for s in pages(fanout, limit, looks)) == [s.number for s in here]
        assert {s.user for s in pages(fanout, limit, looks, user="u3")} == {"u3"}
        assert len(pages(fanout, limit, looks, user="u3")) == sum(s.user == "u3" for s in here)
        found = pages(fanout, limit, looks, channel=b"4", address="192.0.2.1")
        assert len(found) == sum(s.channels == (b"4",) and s.address == "192.0.2.1" for s in here)
        assert pages(fanout, limit, looks, number=here[77].number) == [here[77]]
        assert pages(fanout, limit, looks, channel=b"nobody's") == []
    assert fanout.page(0, 1000, 10, user="nobody") == ([], 490), "it looks at so many, found or not"


def test_who_leaves_between_two_pages_hides_nobody() -> None:
    _, fanout = fanout_of()
    chance = random.Random(3)
    here = [fanout.subscribe([b"a"], Taker()) for _ in range(500)]
    seen: set[int] = set()
    before = 0
    while True:
        streams, before = fanout.page(before, 10, 10)
        seen |= {stream.number for stream in streams}
        if before == 0:
            break
        fanout.unsubscribe(here.pop(chance.randrange(len(here))))
        fanout.subscribe([b"a"], Taker())
    assert seen >= {stream.number for stream in here}


def test_a_subscriber_takes_192_bytes_with_the_garbage_collectors_own() -> None:
    """There are as many as streams; one field more makes it 208."""
    _, fanout = fanout_of()
    assert sys.getsizeof(join(fanout, Taker(), b"a")) <= 192


# ---- when ----


def test_an_end_is_ahead_of_the_credentials_by_more_than_a_look_at_those_due() -> None:
    for share in (0.0, 0.5, 1.0):
        for left in (1.0, 60.0, 3600.0, 10**7):
            end, aged = end_of(NOW, NOW + left, None, partial(float, share))
            assert end is not None
            assert not aged
            assert end <= NOW + left - AHEAD
            assert end >= NOW + left - AHEAD - min(SPREAD * left, SPREAD_MOST)
    assert AHEAD > 2 * TICK + LAST_BYTES


def test_ends_of_those_who_came_together_are_spread() -> None:
    ends = sorted(end_of(NOW, NOW + 60, None)[0] or 0 for _ in range(10_000))
    assert all(NOW + 60 - AHEAD - 12 <= end <= NOW + 60 - AHEAD for end in ends)
    in_a_second = max(sum(second <= end < second + 1 for end in ends) for second in range(int(NOW) + 46, int(NOW) + 61))
    assert in_a_second < 1200


def test_what_comes_first_is_the_end() -> None:
    assert end_of(NOW, None, None) == (None, False)
    assert end_of(NOW, None, 100, lambda: 0.0) == (NOW + 100, True)
    assert end_of(NOW, None, 100, lambda: 1.0) == (NOW + 80, True)
    assert end_of(NOW, NOW + 1000, 100, lambda: 0.0) == (NOW + 100, True)
    assert end_of(NOW, NOW + 50, 100, lambda: 0.0) == (NOW + 50 - AHEAD, False)
