"""Engines in this process, for tests, and what is read by them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sse_fast.cluster.engine import Engine, Limits
from sse_fast.cluster.entries import Events, Forgotten, Item, Mark
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded

PATIENCE = 30.0
prefixes = (f"t{number}" for number in itertools.count())


@asynccontextmanager
async def engine_at(
    url: str,
    prefix: str = "sse_fast",
    limits: Limits | None = None,
    *,
    replicas: int = 0,
    replica_timeout: float = 1.0,
    timeout: float = 2.0,  # noqa: ASYNC109 - of the engine's answers
) -> AsyncIterator[Engine]:
    engine = Engine.from_url(
        url,
        prefix=prefix,
        limits=limits or Limits(),
        replicas=replicas,
        replica_timeout=replica_timeout,
        timeout=timeout,
    )
    try:
        yield engine
    finally:
        await engine.close()


def event(text: str, channel: bytes = b"c") -> Encoded:
    return channel, b"data: %s\n\n" % text.encode()


async def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


class Following:
    """All that one engine's follower has given, in a task."""

    def __init__(self, engine: Engine, after: EventId | None = None) -> None:
        self.items: list[Item] = []
        self._came = asyncio.Event()
        self._follower = engine.follow(after)
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for some in self._follower:
            assert some, "what it gives is never empty"
            self.items += some
            self._came.set()

    async def wait(self, true: Callable[[list[Item]], object]) -> list[Item]:
        """Until that is true of what came."""
        async with asyncio.timeout(PATIENCE):
            while not true(self.items):
                self._came.clear()
                await self._came.wait()
        return self.items

    async def reach(self, id: EventId) -> list[Item]:
        return await self.wait(lambda items: id in ids_of(items[-3:]))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._follower.aclose()


@asynccontextmanager
async def following(engine: Engine, after: EventId | None = None) -> AsyncIterator[Following]:
    reading = Following(engine, after)
    try:
        yield reading
    finally:
        await reading.close()


async def read(engine: Engine, after: EventId | None, until: EventId) -> list[Item]:
    """By a follower, up to an id."""
    async with following(engine, after) as reading:
        return await reading.reach(until)


def ids_of(items: list[Item]) -> list[EventId]:
    """Of marks and of what was published."""
    found = []
    for item in items:
        if isinstance(item, Events):
            found += [EventId(item.epoch, each[0]) for each in item.events]
        elif isinstance(item, Forgotten):
            found.append(EventId(item.epoch, item.position))
        elif isinstance(item, Mark):
            found.append(EventId(item.epoch, 0))
    return found


def frames_of(items: list[Item]) -> list[bytes]:
    return [each[2] for item in items if isinstance(item, Events) for each in item.events]


def marks_of(items: list[Item]) -> list[Mark]:
    return [item for item in items if isinstance(item, Mark)]
