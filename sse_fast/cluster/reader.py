"""What is read from an engine: all that comes, for ever, by one; and older pages, by another."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple, Protocol

from sse_fast.cluster.connection import Connection
from sse_fast.cluster.counts import Counts
from sse_fast.cluster.entries import Item, Mark, Missed, Sequence, in_order
from sse_fast.cluster.functions import Log, Looked
from sse_fast.cluster.trouble import unreachable
from sse_fast.errors import EngineRefused, EngineUnavailable
from sse_fast.event import EventId

logger = logging.getLogger("sse_fast.cluster")

BLOCK = 1000  # milliseconds that a read waits for news: who is not answered soon after that has gone deaf
GRACE = 1.5  # seconds
PAGE_BYTES = 256 * 1024
LEAST, MOST = 16, 1024  # entries of a page
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0
SILENCE = 3.0  # seconds without an answer, after which nothing is read

Entries = list[tuple[bytes, list[bytes]]]


class Page(NamedTuple):
    """after: where the next one begins. done: there is no more."""

    items: list[Item]
    after: EventId
    done: bool


class Source(Protocol):
    """The engine that is read from."""

    log: Log
    counts: Counts
    looked: Looked | None
    trouble: EngineUnavailable | None

    @property
    def connected(self) -> bool: ...
    @property
    def timeout(self) -> float: ...
    async def another_connection(self) -> Connection: ...


class Reader:
    """Reads for one engine."""

    def __init__(self, engine: Source) -> None:
        self._engine = engine
        self.heard = 0.0
        self._connection: Connection | None = None
        self._pages: Connection | None = None
        self._one_page: asyncio.Lock = asyncio.Lock()
        self._size = float(PAGE_BYTES // LEAST)  # of an entry, as those of late were
        self._most = MOST  # entries that are asked for: fewer where so many were not answered in time

    @property
    def reading(self) -> bool:
        connection = self._connection
        return connection is not None and connection.open and asyncio.get_running_loop().time() - self.heard < SILENCE

    def elsewhere(self) -> None:
        """Another server has the log."""
        for connection in (self._connection, self._pages):
            if connection is not None:
                connection.abort(unreachable(connection.name, "another server has the log"))

    async def close(self) -> None:
        for connection in (self._connection, self._pages):
            if connection is not None:
                await connection.close()

    async def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        sequence = Sequence(after)
        wait = FIRST_WAIT
        while True:
            try:
                async with aclosing(self._follow(sequence)) as read:
                    async for items in read:
                        wait = FIRST_WAIT
                        yield items
            except EngineRefused as error:
                logger.error("the engine's log cannot be followed: %s", error)
                wait = LONGEST_WAIT
            except EngineUnavailable as error:
                logger.info("the engine's log is followed again in a moment: %s", error)
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, LONGEST_WAIT)

    async def _follow(self, sequence: Sequence) -> AsyncGenerator[list[Item], None]:
        """By one connection. Raises EngineUnavailable."""
        loop = asyncio.get_running_loop()
        engine, log = self._engine, self._engine.log
        if sequence.at is not None:
            log.knows(sequence.at.epoch)
        connection = self._connection = await engine.another_connection()
        came = loop.time()
        try:
            while True:
                sent = loop.time()
                with self._as_many() as count:
                    reply = log.checked(await connection.ask(log.read(sequence.at, count, BLOCK), BLOCK / 1000 + GRACE))
                self.heard = loop.time()
                if reply:
                    items = self._items(sequence, reply[0][1])
                    came = loop.time()
                    yield items
                elif (look := engine.looked) is not None and sequence.at is not None:
                    # What the other connection saw of the log's end, since something came by this one.
                    if look.sent > came and in_order(look.found.last) < in_order(sequence.at):
                        logger.warning("the engine's log ends before what was read of it; it has another past")
                        log.knows(sequence.at.epoch)
                        came = loop.time()
                    elif look.answered < sent and in_order(look.found.last) > in_order(sequence.at):
                        raise unreachable(connection.name, "it gives nothing to who reads, and there is news")
        finally:
            self._connection = None
            await connection.close()

    def _items(self, sequence: Sequence, entries: Entries) -> list[Item]:
        items = sequence.read(entries)
        size = sum(len(fields[3]) for _, fields in entries) / len(entries)
        self._size += (size + 64 - self._size) / 4
        counts = self._engine.counts
        counts.entries_read += len(entries)
        for item in items:
            counts.marks += isinstance(item, Mark)
            counts.missed += isinstance(item, Missed)
        return items

    @contextmanager
    def _as_many(self) -> Iterator[int]:
        """How many entries to ask for. The size of those that come is not known: what is not answered is tried again by
        fewer."""
        count = min(self._most, max(LEAST, int(PAGE_BYTES / self._size)))
        try:
            yield count
        except EngineUnavailable:
            self._most = max(1, count // 8)
            raise
        self._most = min(2 * self._most, MOST)

    async def page(self, after: EventId, until: EventId | None) -> Page:
        engine, log = self._engine, self._engine.log
        async with self._one_page:
            if self._pages is None or not self._pages.open:
                if engine.trouble is not None and not engine.connected:
                    raise engine.trouble.again(maybe=False)
                self._pages = await engine.another_connection()
            with self._as_many() as count:
                reply: Any = log.checked(await self._pages.ask(log.range(after, until, count), engine.timeout))
            engine.counts.pages_read += 1
        if not reply:
            return Page([], after, True)
        sequence = Sequence(after)
        items = self._items(sequence, reply)
        assert sequence.at is not None
        return Page(items, sequence.at, len(reply) < count or sequence.at == until)
