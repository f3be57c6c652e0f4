"""Rates counted in shared memory: never more than a rate allows, over all processes, whatever happens to the table."""

import multiprocessing
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast._native.node.buckets import Buckets, Limit
from sse_fast.node.segment import create_shared, open_shared

SECOND = 10**9
START = 10**15

steps = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.sampled_from([b"a", b"b"]), st.integers(1, 30), st.booleans()), max_size=40
)


@given(steps, st.sampled_from([(1, 1.0), (7, 1.0), (100, 60.0), (10**9, 60.0)]), st.integers(1, 12))
def test_it_counts_as_an_obvious_model_counts(
    steps: list[tuple[int, bytes, int, bool]], rate: tuple[int, float], burst: int
) -> None:
    limit = Limit(Buckets.private(64), 0, *rate, burst)
    interval = 1e9 * rate[1] / rate[0]
    room = int(burst * interval)
    spent_until: dict[bytes, int] = {}
    now = START
    for passed, name, cost, gives_back in steps:
        now += passed
        begin, amount = max(spent_until.get(name, 0), now), int(cost * interval)
        wait = max(begin + min(amount, room) - now - room, 0)
        assert limit.spend(name, cost, now) == pytest.approx(wait / SECOND)
        if not wait:
            spent_until[name] = begin + amount
            if gives_back:
                limit.give_back(name, cost)
                spent_until[name] -= amount


@given(st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 5)), max_size=60), st.integers(1, 50))
def test_in_no_time_is_more_taken_than_the_rate_brings_and_one_burst(uses: list[tuple[int, int]], burst: int) -> None:
    limit = Limit(Buckets.private(64), 0, 10, 1, burst)
    now = START
    taken: list[tuple[int, int]] = []
    for passed, cost in uses:
        now += passed
        cost = min(cost, burst)
        if limit.spend(b"a", cost, now) == 0:
            taken.append((now, cost))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            within = (taken[last][0] - taken[first][0]) / SECOND
            assert sum(cost for _, cost in taken[first : last + 1]) <= burst + 10 * within + 1e-6


@given(st.integers(1, 10**6), st.sampled_from([1.0, 60.0, 3600.0]), st.integers(1, 100))
def test_who_waits_as_long_as_it_is_told_is_taken_and_not_before(count: int, seconds: float, burst: int) -> None:
    limit = Limit(Buckets.private(64), 0, count, seconds, burst)
    assert [limit.spend(b"a", 1, START) for _ in range(burst)] == [0.0] * burst, "a burst comes at once"
    wait = limit.spend(b"a", 1, START)
    assert 0 < wait <= seconds / count
    assert limit.spend(b"a", 1, START + round(wait * SECOND) - 1) > 0
    assert limit.spend(b"a", 1, START + round(wait * SECOND)) == 0


def test_what_is_larger_than_a_burst_is_taken_when_nothing_is_owed_and_the_rest_is_owed() -> None:
    limit = Limit(Buckets.private(64), 0, 10, 1, 20)
    assert limit.spend(b"a", 1, START) == 0
    assert limit.spend(b"a", 100, START) == pytest.approx(0.1)
    assert limit.spend(b"a", 100, START + SECOND // 10) == 0
    assert limit.spend(b"a", 1, START + SECOND // 10) == pytest.approx(8.1)


def test_a_kind_counts_for_itself_and_so_does_every_name() -> None:
    buckets = Buckets.private(64)
    one, other = (Limit(buckets, kind, 1, 3600, 1) for kind in (1, 2))
    assert [one.spend(b"a"), other.spend(b"a"), one.spend(b""), one.spend(b"b" * 1000)] == [0.0] * 4
    assert one.spend(b"a") > 3590
    assert other.spend(b"a") > 3590


def test_where_all_places_are_taken_the_key_goes_whose_time_is_over_first() -> None:
    buckets = Buckets.private(1)
    assert buckets.room == 8
    limit = Limit(buckets, 0, 1, 1, 10)
    for number in range(8):
        assert limit.spend(b"%d" % number, 9 - number, START) == 0
    assert buckets.evicted == 0
    assert limit.spend(b"new", 10, START) == 0
    assert buckets.evicted == 1
    assert limit.spend(b"0", 10, START) > 0, "who has most to wait for is still there"
    assert limit.spend(b"7", 10, START) == 0, "who had least has a whole burst again"
    assert limit.spend(b"other", 1, START + 60 * SECOND) == 0
    assert buckets.evicted == 2, "whose time is over is not missed"


def test_a_name_cannot_be_made_to_share_a_place() -> None:
    """Two tables put the same names to different places: nobody outside knows which."""
    names = [b"%d" % number for number in range(64)]

    def pushed_out() -> tuple[bytes, ...]:
        limit = Limit(Buckets.private(16), 0, 1, 1, 10)
        for at, name in enumerate(names):
            limit.spend(name, 10, START + at)
        return tuple(name for name in names if limit.spend(name, 1, START + 64) == 0)

    assert len({pushed_out() for _ in range(4)}) > 1


def hammer(address: str, count: int, told: "multiprocessing.Queue[int]") -> None:
    with open_shared(address) as segment:
        limit = Limit(Buckets(segment.memory), 0, 1, 3600, 1000)
        told.put(sum(limit.spend(b"a") == 0 for _ in range(count)))


def test_several_processes_take_one_burst_together_to_the_last_one() -> None:
    with create_shared(Buckets.size(64)) as segment:
        limit = Limit(Buckets(segment.memory, 64), 0, 1, 3600, 1000)
        assert limit.spend(b"a") == 0  # it has its place
        context = multiprocessing.get_context("fork")
        told = context.Queue()
        others = [context.Process(target=hammer, args=(segment.address, 20_000, told)) for _ in range(4)]
        for other in others:
            other.start()
        taken = sum(told.get(timeout=30) for _ in others)
        for other in others:
            other.join()
        assert taken == 999
        del limit


@pytest.mark.parametrize("lost", [0, 8, 63, 64, 100])
def test_memory_that_is_cut_off_is_refused(lost: int) -> None:
    memory = bytearray(Buckets.size(64))
    Buckets(memory, 64)
    with pytest.raises(ValueError, match="this memory"):
        Buckets(memory[:lost])


@pytest.mark.parametrize("sets", [0, 3, 2**20, 2**59, 2**63])
def test_memory_that_says_it_is_larger_is_refused(sets: int) -> None:
    memory = bytearray(Buckets.size(64))
    Buckets(memory, 64)
    struct.pack_into("<Q", memory, 16, sets)
    with pytest.raises(ValueError, match="does not hold"):
        Buckets(memory)


def test_whatever_another_process_writes_there_nothing_waits_for_ever() -> None:
    rng = random.Random(13)
    for _ in range(200):
        memory = bytearray(Buckets.size(4))
        limit = Limit(Buckets(memory, 4), 0, 10, 1, 5)
        for at in range(64, len(memory), 8):
            value = rng.choice((0, 1, 2, START, 2**64 - 1, rng.getrandbits(64)))
            struct.pack_into("<Q", memory, at, value)
        for number in range(20):
            assert limit.spend(b"%d" % number, 1, START) >= 0
            limit.give_back(b"%d" % number)


@pytest.mark.parametrize(
    "rate", [(0, 1, 1), (1, 0, 1), (-1, 1, 1), (1, 1, 0), (float("nan"), 1, 1), (1, 1e18, 1), (1, 1, 10**18)]
)
def test_what_is_no_rate_is_refused(rate: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="no rate"):
        Limit(Buckets.private(8), 0, *rate)
