"""What the engine has taken comes into the node's log here, with the ids that the engine gave, and by no other way.

One reader a node. It begins where the log ends, so whichever worker goes on, wherever the one before it died, no event
comes twice and none is missed: to append and to move on is one step.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVarTuple

from sse_fast._native.log.outside import append_at, end_of, forget_at, mark, skip_to
from sse_fast._native.log.ring import Log
from sse_fast.cluster.entries import Events, Forgotten, Item, Mark, Missed
from sse_fast.errors import BatchTooLarge, EventTooLarge, LogBusy, SSEFastError
from sse_fast.event import EventId
from sse_fast.hub.batches import LOOK_AGAIN, Busy
from sse_fast.hub.engine import Engine

logger = logging.getLogger("sse_fast.hub")

AT_ONCE = 512  # events that are appended in one turn of the loop: well below a millisecond
WINDOW = 7 / 8  # of the log that is filled at first; what comes meanwhile has the rest
NOTHING_LOST = b":\n\n"  # a frame of which a client sees nothing

Ts = TypeVarTuple("Ts")
Event = tuple[int, bytes | tuple[bytes, ...], bytes, int]
"""As `append_at` takes it."""


def newest_of(log: Log) -> EventId | None:
    """The engine's newest that the log has, or passes over. None: it never had any."""
    end = end_of(log)
    return EventId(*end) if end is not None else None


class PastReturned(SSEFastError):
    """What is followed is in an epoch again that it had left: its ids would come twice."""


class Follower:
    """Follower(log, engine, tell): `tell` is called when there is news in the log."""

    def __init__(self, log: Log, engine: Engine, tell: Callable[[], None]) -> None:
        self._log, self._engine, self._tell = log, engine, tell

    async def follow(self) -> None:
        """For ever. Raises EngineUnavailable or LogBusy; then it is to be called again in a while."""
        after = newest_of(self._log)
        if after is None:
            after = await self._engine.window(int(self._log.capacity * WINDOW))
        async for items in self._engine.follow(after):
            await self.take(items)

    async def take(self, items: Iterable[Item]) -> None:
        """Append what came. What is not there any more that came before it, or is left out here, is told to be lost."""
        for item in items:
            match item:
                case Events(epoch, events):
                    await self._append(epoch, events)
                case Mark(epoch, prev, milliseconds):
                    begins = prev.position if self._engine.sparse and prev is not None else 0
                    await self._locked(self._begin, epoch, begins, prev, milliseconds)
                case Forgotten():
                    await self._locked(self._forget, item)
                case Missed(after, at) if self._engine.sparse and after.epoch == at.epoch:
                    await self._locked(skip_to, self._log, at.position)
                case Missed():
                    pass  # what comes next stands where it stands
            self._tell()
        await asyncio.sleep(0)  # who listens has it before more is asked for

    async def _append(self, epoch: str, events: list[Event]) -> None:
        """A turn of the loop for each piece."""
        at, most = 0, AT_ONCE
        while at < len(events):
            piece = events[at : at + most]
            try:
                await self._locked(self._append_at, epoch, piece)
            except (BatchTooLarge, EventTooLarge):
                if len(piece) > 1:
                    most = len(piece) // 2
                    continue
                logger.error(
                    "an event that another node took is too large for the log of this one, and was left out here; give "
                    "all nodes the same log_size and max_event_size",
                    extra={"id": f"{epoch}-{piece[0][0]}"},
                )
                await self._locked(skip_to, self._log, piece[0][0])
            at += len(piece)
            if at < len(events):
                self._tell()
                await asyncio.sleep(0)

    def _append_at(self, epoch: str, events: list[Event]) -> None:
        end = newest_of(self._log)
        if end is not None and end.epoch == epoch and events[0][0] <= end.position:  # another reader brought them
            events = [event for event in events if event[0] > end.position]
        if events:
            self._stand_before(epoch, events[0][0])
            append_at(self._log, events)

    def _forget(self, item: Forgotten) -> None:
        self._stand_before(item.epoch, item.position)
        forget_at(self._log, item.position, item.channel, item.body, item.milliseconds)

    def _stand_before(self, epoch: str, position: int) -> None:
        """Have the log end where that comes next."""
        end = newest_of(self._log)
        if end is None or end.epoch != epoch:
            self._begin(epoch, position - 1)
        elif end.position < position - 1 and not self._engine.sparse:
            skip_to(self._log, position - 1)

    def _begin(self, epoch: str, position: int, prev: EventId | None = None, milliseconds: int | None = None) -> None:
        """An epoch, of which this log has nothing up to that position. One that had nothing before loses nothing."""
        end = newest_of(self._log)
        fork = prev.position if prev is not None and end is not None and prev.epoch == end.epoch else None
        body = NOTHING_LOST if end is None or (self._engine.sparse and fork is not None) else None
        try:
            mark(self._log, epoch, fork, position=position, body=body, milliseconds=milliseconds)
        except ValueError as error:
            if end is None or "has been in the epoch" not in str(error):
                raise
            raise PastReturned(
                f"{error}. Was what is behind this edge put back to what it was before? Restart this one; its clients "
                "are told of a gap"
            ) from None

    async def _locked(self, append: Callable[[*Ts], object], *what: *Ts) -> None:
        """Raises LogBusy where another process holds the log's lock and does not go on."""
        busy = Busy()
        while True:
            try:
                append(*what)
                return
            except LogBusy as error:
                busy.again(error)
                await asyncio.sleep(LOOK_AGAIN)
