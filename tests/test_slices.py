"""Work of many is done in the order in which it comes, and so much of it in a turn of the loop."""

import asyncio
from collections import Counter

import pytest

import sse_fast.hub.slices as slices
from sse_fast.hub.slices import Slices


async def turns_of(count: int) -> tuple[list[int], Counter[int]]:
    """The order of so many pieces of work, and how many were done in each turn."""
    done: list[int] = []
    a_turn: Counter[int] = Counter()
    turn = 0
    loop = asyncio.get_running_loop()

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        if len(done) < count:
            loop.call_soon(next_turn)

    def work(number: int) -> int:
        done.append(number)
        a_turn[turn] += 1
        return number

    next_turn()
    shared = Slices()
    assert await asyncio.gather(*(shared.done(lambda at=at: work(at)) for at in range(count))) == list(range(count))
    return done, a_turn


async def test_what_takes_as_long_as_a_slice_is_one_piece_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 0.0)
    done, a_turn = await turns_of(20)
    assert done == list(range(20))
    assert max(a_turn.values()) == 1


async def test_what_is_short_is_done_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 600.0)
    done, a_turn = await turns_of(20)
    assert done == list(range(20))
    assert max(a_turn.values()) == 20


async def test_what_fails_is_its_own_and_what_nobody_waits_for_is_not_done() -> None:
    shared, done = Slices(), list[str]()
    failing = asyncio.create_task(shared.done(lambda: 1 // 0))
    gone = asyncio.create_task(shared.done(lambda: done.append("gone")))
    last = asyncio.create_task(shared.done(lambda: done.append("last")))
    await asyncio.sleep(0)  # they have asked, and nothing was done
    gone.cancel()
    found = await asyncio.gather(failing, gone, last, return_exceptions=True)
    assert [type(each) for each in found] == [ZeroDivisionError, asyncio.CancelledError, type(None)]
    assert done == ["last"]
    assert await shared.done(lambda: 7) == 7
