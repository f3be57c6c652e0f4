"""What this node's log no longer has, and the engine still: read for a stream that resumes from there.

It is read in pages that all share who want them at that time: where thousands come back at once the engine is asked
for each page once. What one stream is sent at once is bounded: it is told to come back for the rest, when it has read
that. Before anything is sent all pages up to the log are looked through, for what has been forgotten since; past so
many of them, over a mark, and where the engine does not have it either, the stream begins as it would without: with a
gap.

What the patterns of streams have of a page is decided once for all who have the same ones. What is done here in a turn
of the loop is bounded, and no part of the time that the engine has.
"""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from sse_fast._native.wire.envelope import envelope
from sse_fast.cluster.entries import Events, Forgotten, Missed
from sse_fast.errors import EngineUnavailable
from sse_fast.event import EventId
from sse_fast.event_rules import FRAGMENT, visible
from sse_fast.hub.engine import Engine, Page
from sse_fast.hub.slices import Slices

MOST_PAGES = 64  # that are looked through for one stream: some 16 MiB
MOST_BYTES = 256 * 1024  # of frames that one stream is sent at once, but for the last page of them
ALIGNED = 64  # positions; pages begin there, so that those of different streams are the same
KEPT = 64  # pages, for those who come in a moment
KEPT_SECONDS = 10.0
AT_ONCE = 2  # reads under way
MOST_READS = 256  # that are under way or wait; who needs one more gets a gap
MOST_WAITING = 4096  # streams that wait for what is read; who comes then gets a gap
SECONDS = 5.0  # that one of them waits for the engine at most
KNOWN = 16  # sets of patterns of which a page remembers what they have of it

Wants = Callable[[bytes], bool]
"""Whether a stream has the events of a channel."""
Patterns = tuple[str, ...]
POSITION = attrgetter("position")
IsHere = Callable[[EventId], bool]


class Event(NamedTuple):
    """frame: whole, with its id. milliseconds: when it was published."""

    position: int
    channels: tuple[bytes, ...]
    frame: bytes
    milliseconds: int


class Recalled(NamedTuple):
    """until: behind which the log goes on; or, where there is `more`, for which a client has to come back, the engine.
    wants: of which channels the events are. looked: up to where what is forgotten was looked for."""

    events: Sequence[Event]
    until: EventId
    wants: Wants
    looked: EventId
    more: bool = False

    @property
    def size(self) -> int:
        """Bytes of the frames."""
        return sum([len(event.frame) for event in self.events])

    def frames(self, enveloped: bool) -> bytes:
        if not enveloped:
            return b"".join([event.frame for event in self.events])
        return b"".join(
            [
                envelope(frame, [name for name in channels if self.wants(name)], milliseconds)
                for _, channels, frame, milliseconds in self.events
            ]
        )


class Part:
    """A page, looked through once for all who want it: of the epoch where it begins, what is whole behind `begins`, up
    to `ends`. further: what is behind that may be whole, too."""

    def __init__(self, page: Page, begin: EventId) -> None:
        self.begins = self.ends = begin.position
        self.further = not page.done and page.after.epoch == begin.epoch
        self._of: dict[bytes, list[Event]] = {}
        self._had: dict[Patterns, tuple[bytes, ...]] = {}
        self._forgotten: dict[bytes, int] = {}  # channel -> where it was to forget all from before, the last time
        for item in page.items:
            if isinstance(item, Missed):
                continue
            if isinstance(item, Forgotten) and item.epoch == begin.epoch:
                self._come_to(item.position)
                self._forgotten[item.channel] = item.position
                continue
            if not isinstance(item, Events) or item.epoch != begin.epoch:
                self.further = False  # what a mark means is the log's to know
                break
            for position, channels, body, milliseconds in item.events:
                self._come_to(position)
                names = visible(channels)
                frame = with_id(body, EventId(begin.epoch, position))
                event = Event(position, names, frame, milliseconds)
                for name in names:
                    self._of.setdefault(name, []).append(event)

    def _come_to(self, position: int) -> None:
        if position != self.ends + 1:  # the engine has let go what was between
            self.begins = position - 1
        self.ends = position

    def of(self, patterns: Patterns, wants: Wants | None) -> tuple[bytes, ...]:
        """The channels in it that these patterns have, each of which `wants` is asked about once."""
        if wants is None:
            return ()
        found = self._had.get(patterns)
        if found is None:
            if len(self._had) >= KNOWN:
                del self._had[next(iter(self._had))]
            found = self._had[patterns] = tuple(name for name in {**self._of, **self._forgotten} if wants(name))
        return found

    def has_forgotten(self, position: int, names: Collection[bytes]) -> bool:
        """Whether something of these channels from behind a position."""
        return bool(self._forgotten) and any(self._forgotten.get(name, -1) > position for name in names)

    def behind(self, position: int, names: Collection[bytes]) -> Sequence[Event]:
        """The events of these channels behind a position, in order and once each."""
        found = [
            events[bisect_right(events, position, key=POSITION) :] for name in names if (events := self._of.get(name))
        ]
        if len(found) == 1:
            return found[0]
        return sorted({event.position: event for events in found for event in events}.values(), key=POSITION)


class Looking:
    """For one stream: what was found so far, and where."""

    def __init__(
        self, after: EventId, is_here: IsHere, names: Collection[bytes], wants: Wants | None, patterns: Patterns
    ) -> None:
        self._is_here, self._names, self._wants, self._patterns = is_here, names, wants, patterns
        self._found: list[Event] = []
        self._size, self._at = 0, after
        self._full: EventId | None = None  # up to there is what is sent at once
        self.begin = aligned(after)
        """Of the page that it needs next."""

    def through(self, part: Part) -> Recalled | bool:
        """What there is, or whether another page is to be looked through; False: it cannot be had."""
        if part.begins > self._at.position:
            return False
        names: Collection[bytes] = self._names
        if had := part.of(self._patterns, self._wants):
            names = {*names, *had}
        if part.has_forgotten(self._at.position, names):
            return False
        if self._full is None:
            events = part.behind(self._at.position, names)
            self._size += sum([len(event.frame) for event in events])
            self._found += events
        self._at = at = EventId(self._at.epoch, max(self._at.position, part.ends))
        if part.ends > self.begin.position and self._is_here(at):
            return Recalled(self._found, self._full or at, self._has, at, more=self._full is not None)
        if self._full is None and self._size > MOST_BYTES:
            self._full = at
        if not part.further or part.ends <= self.begin.position:
            return False
        ends = EventId(at.epoch, part.ends)
        self.begin = aligned(ends) if aligned(ends).position > self.begin.position else ends
        return True

    def _has(self, name: bytes) -> bool:
        return name in self._names or (self._wants is not None and self._wants(name))


class Read:
    """Of one page, for all who wait for it."""

    __slots__ = ("begun", "task", "waiting")

    task: asyncio.Task[Part]

    def __init__(self) -> None:
        self.begun, self.waiting = False, 0


class TooManyReads(Exception):
    """One more page is not read now."""


class Recall:
    """Of one worker, over its engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parts: OrderedDict[EventId, tuple[Part, float]] = OrderedDict()
        self._reads: dict[EventId, Read] = {}
        self._reading = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._slices = Slices()

    async def behind(
        self,
        after: EventId,
        is_here: IsHere,
        names: Collection[bytes],
        wants: Wants | None = None,
        patterns: Patterns = (),
    ) -> Recalled | None:
        """The events of these channels behind an id, up to where nothing is missing here: `is_here`; or as many as are
        sent at once. `wants`: where a stream has `patterns`, whether one of them has a channel. None: some cannot be
        had, or are too far behind."""
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            return await self._look(Looking(after, is_here, names, wants, patterns))
        except (TimeoutError, EngineUnavailable, TooManyReads):
            return None
        finally:
            self._waiting -= 1

    async def _look(self, looking: Looking) -> Recalled | None:
        loop, left = asyncio.get_running_loop(), SECONDS
        for _ in range(MOST_PAGES):
            begun = loop.time()
            async with asyncio.timeout(left):
                part = await self._part(looking.begin)
            left -= loop.time() - begun
            found = await self._slices.done(partial(looking.through, part))
            if isinstance(found, Recalled):
                return found
            if not found:
                return None
        return None

    async def _part(self, begin: EventId) -> Part:
        """One read for all who want it now, or did lately. One that has not begun when nobody wants it any more never
        does."""
        loop = asyncio.get_running_loop()
        part, read_at = self._parts.get(begin, (None, 0.0))
        if part is not None and loop.time() - read_at <= KEPT_SECONDS:
            return part
        read = self._reads.get(begin)
        if read is None:
            if len(self._reads) >= MOST_READS:
                raise TooManyReads
            self._reads[begin] = read = Read()
            read.task = loop.create_task(self._read(begin, read))
        read.waiting += 1
        try:
            return await asyncio.shield(read.task)
        finally:
            read.waiting -= 1
            if not read.waiting and not read.begun:
                self._drop(begin, read)
                read.task.cancel()

    async def _read(self, begin: EventId, read: Read) -> Part:
        try:
            async with self._reading:
                read.begun = True
                part = Part(await self._engine.page(begin), begin)
            self._parts[begin] = part, asyncio.get_running_loop().time()
            self._parts.move_to_end(begin)
            if len(self._parts) > KEPT:
                self._parts.popitem(last=False)
            return part
        finally:
            self._drop(begin, read)

    def _drop(self, begin: EventId, read: Read) -> None:
        if self._reads.get(begin) is read:
            del self._reads[begin]


def with_id(body: bytes, id: EventId) -> bytes:
    """The frame of a body, as the log makes it: its id line last, its publisher's where it begins with one."""
    line, given = b"id: %b\n" % str(id).encode(), b""
    if body.startswith(b"id: "):
        given, _, body = body.partition(b"\n")
        line = given + b"\n" if given != b"id: " + FRAGMENT.encode() else b"id: #%b\n" % str(id).encode()
    return b"%b%b\n" % (body[:-1], line)


def aligned(id: EventId) -> EventId:
    return EventId(id.epoch, id.position - id.position % ALIGNED)
