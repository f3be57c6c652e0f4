"""An engine in memory, with the faults of real ones at hand: what stands behind several hubs of a test's process."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sse_fast.cluster.entries import Events, Forgotten, Item, Mark, Missed
from sse_fast.errors import EngineTrouble, EngineUnavailable, KeyReused
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded

PAGE = 100


class Look(NamedTuple):
    last: EventId | None


class Published(NamedTuple):
    ids: Sequence[EventId]
    repeated: int


class Page(NamedTuple):
    items: list[Item]
    after: EventId
    done: bool


def order(id: EventId) -> tuple[int, int]:
    return int(id.epoch), id.position


class Server:
    """What all nodes share. `kept`: (id, item) of each entry, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[EventId, Item]] = []
        self.last: EventId | None = None
        self.keys: dict[str, tuple[list[Encoded], list[EventId]]] = {}
        self.nodes: dict[str, bytes] = {}
        self.away = False
        self.deaf = False
        self.reads = self.pages = 0
        self._news = asyncio.Event()

    def begin(self, prev: EventId | None) -> None:
        """A new epoch, as after a failover or a flush."""
        self.last = EventId(str(int(self.last.epoch) + 1 if self.last else 1_700_000_000_000), 0)
        self._put(self.last, Mark(self.last.epoch, prev, now()))

    def lose(self, count: int) -> None:
        """A failover to a replica that lagged: so many events are gone, and a new epoch begins behind them."""
        del self.kept[-count:]
        self.begin(self.kept[-1][0])

    def flush(self) -> None:
        self.kept.clear()
        self.begin(None)

    def trim(self, count: int) -> None:
        """The oldest entries."""
        del self.kept[:count]

    def add(self, make: Callable[[EventId], Item]) -> EventId:
        if self.last is None:
            self.begin(None)
        assert self.last is not None
        self.last = EventId(self.last.epoch, self.last.position + 1)
        self._put(self.last, make(self.last))
        return self.last

    def _put(self, id: EventId, item: Item) -> None:
        self.kept.append((id, item))
        self.wake()

    def wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def behind(self, after: EventId | None, most: int) -> list[Item]:
        """What is kept behind a cursor; first what is not kept any more, if something is not."""
        found = [(id, item) for id, item in self.kept if after is None or order(id) > order(after)][:most]
        if not found:
            return []
        (id, item), items = found[0], []
        follows = after is not None and (id == EventId(after.epoch, after.position + 1) or isinstance(item, Mark))
        if after is not None and not follows:
            items.append(Missed(after, id))
        return [*items, *(item for _, item in found)]

    async def news(self) -> None:
        await self._news.wait()


def away() -> EngineUnavailable:
    return EngineUnavailable("the server is away", EngineTrouble.UNREACHABLE)


def now() -> int:
    return int(1000 * time.time())


def end_of(items: Sequence[Item], after: EventId | None) -> EventId | None:
    for item in items:
        if isinstance(item, Events):
            after = EventId(item.epoch, item.events[-1][0])
        elif isinstance(item, Mark):
            after = EventId(item.epoch, 0)
        elif isinstance(item, Forgotten):
            after = EventId(item.epoch, item.position)
    return after


@dataclass
class Counts:
    calls: int = 0
    failures: int = 0
    connections: int = 1
    entries_read: int = 0
    pages_read: int = 0
    missed: int = 0
    marks: int = 0


class MemoryEngine:
    """One hub's way to a server."""

    sparse = False

    def __init__(self, server: Server) -> None:
        self.server = server
        self.counts = Counts()
        self.closed = False

    @property
    def trouble(self) -> EngineUnavailable | None:
        return away() if self.server.away else None

    @property
    def since(self) -> float:
        return 0.0

    @property
    def reading(self) -> bool:
        return not self.server.away

    @property
    def look_of_late(self) -> Look:
        return Look(self.server.last)

    async def open(self) -> Look:
        await self._reached()
        if self.server.last is None:
            self.server.begin(None)
        return Look(self.server.last)

    async def close(self) -> None:
        self.closed = True

    async def publish(self, events: Sequence[Encoded], keys: str | Mapping[int, str] | None = None) -> Published:
        await self._reached()
        if isinstance(keys, str) and keys in self.server.keys:
            before, ids = self.server.keys[keys]
            if before != list(events):
                raise KeyReused.at(None)
            return Published(ids, len(events))
        ids = [
            self.server.add(lambda id, event=event: Events(id.epoch, [(id.position, *event, now())]))  # type: ignore[misc]
            for event in events
        ]
        if isinstance(keys, str):
            self.server.keys[keys] = list(events), ids
        return Published(ids, 0)

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        await self._reached()
        return self.server.add(lambda id: Forgotten(id.epoch, id.position, channel, body, now()))

    async def here(self, name: str, words: bytes, seconds: float) -> bool:
        await self._reached()
        self.server.nodes[name] = words
        return True

    async def nodes(self) -> dict[str, bytes]:
        await self._reached()
        return dict(self.server.nodes)

    async def window(self, size: int, /) -> EventId | None:
        await self._reached()
        for id, item in reversed(self.server.kept):
            size -= 64 + sum(len(event[2]) for event in item.events) if isinstance(item, Events) else 64
            if size < 0:
                return id
        return None

    async def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        while True:
            await self._until_reached()
            self.server.reads += 1
            if items := self.server.behind(after, PAGE):
                after = end_of(items, after)
                yield items
                await asyncio.sleep(0)
            else:
                await self.server.news()

    async def page(self, after: EventId, until: EventId | None = None) -> Page:
        await self._reached()
        self.server.pages += 1
        self.counts.pages_read += 1
        items = self.server.behind(after, PAGE)
        end = end_of(items, after)
        assert end is not None
        return Page(items, end, not items or end == self.server.last)

    async def _reached(self) -> None:
        await asyncio.sleep(0)
        if self.server.away:
            raise away()

    async def _until_reached(self) -> None:
        while self.server.away or self.server.deaf:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
