"""Signals end the streams of a server that is not ours, and leave its own handlers as they were."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sse_fast.base import shutdown

heard: list[int] = []


def server_s_own(number: int, frame: Any) -> None:
    heard.append(number)


def another(number: int, frame: Any) -> None:
    heard.append(-number)


@pytest.fixture(autouse=True)
def a_server() -> Iterator[None]:
    heard.clear()
    before = {number: signal.signal(number, server_s_own) for number in shutdown.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", shutdown.SIGNALS)
async def test_whoever_watches_is_told_and_so_is_the_server(number: int) -> None:
    told = asyncio.Event()
    shutdown.watch(told.set)
    signal.raise_signal(number)
    assert heard == [number]
    async with asyncio.timeout(30):
        await told.wait()
    shutdown.unwatch(told.set)


async def test_the_handlers_stay_while_somebody_watches_and_are_gone_with_the_last() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    shutdown.watch(first.set)
    shutdown.watch(second.set)
    shutdown.unwatch(first.set)
    shutdown.unwatch(first.set)
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        await second.wait()
    assert not first.is_set()
    shutdown.unwatch(second.set)
    assert [signal.getsignal(number) for number in shutdown.SIGNALS] == [server_s_own, server_s_own]


async def test_a_handler_that_came_since_is_chained_by_the_next_watch() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    shutdown.watch(first.set)
    signal.signal(signal.SIGTERM, another)
    shutdown.watch(second.set)
    signal.raise_signal(signal.SIGTERM)
    assert heard == [-signal.SIGTERM]
    async with asyncio.timeout(30):
        await first.wait()
        await second.wait()
    shutdown.unwatch(first.set)
    shutdown.unwatch(second.set)
    assert signal.getsignal(signal.SIGTERM) is another


async def test_outside_of_the_main_thread_nothing_happens() -> None:
    async def watch() -> None:
        shutdown.watch(heard.clear)

    await asyncio.to_thread(asyncio.run, watch())
    assert signal.getsignal(signal.SIGTERM) is server_s_own


async def test_a_signal_s_default_is_left_alone() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    shutdown.watch(heard.clear)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    shutdown.unwatch(heard.clear)
