"""A look through all channels, which may be a million: so many a turn of the loop, and one look at a time."""

import asyncio
import os

from sse_fast._native.log.channels import Channel
from sse_fast._native.log.index import Index
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import brief

CHANNELS_AT_ONCE = 2048  # looked at in one turn of the loop: a third of a millisecond
REST = 0.001  # seconds between two such turns
WAITING = 8  # looks of several turns that wait while another one is under way


class TooManyListings(Exception):
    """More looks through all channels at once than are taken."""


class Listings:
    """Of the channels of one worker."""

    def __init__(self, index: Index, own: bytes | None = None) -> None:
        """`own`: a channel of the server's, which is not listed."""
        self._index, self._own = index, own
        self._one_at_a_time = asyncio.Lock()
        self._under_way = 0

    @property
    def total(self) -> int:
        return len(self._index) - (self._own is not None and self._index.get(self._own) is not None)

    async def look(self, prefix: bytes, limit: int, before: int = 0) -> tuple[list[Channel], int]:
        """Channels whose names begin with `prefix`, the newest first, from number `before` on (0: from the newest); at
        most `limit`. Returns them, and the number to go on from, or 0 if that was all. Raises TooManyListings, which
        costs next to nothing."""
        found: dict[bytes, Channel] = {}  # one that moved while others went may be seen twice

        def step() -> bool:
            nonlocal before
            channels, before = self._index.page(before, prefix, limit - len(found), CHANNELS_AT_ONCE)
            found.update((channel.name, channel) for channel in channels if channel.name != self._own)
            return before == 0 or len(found) == limit

        crowded = self._under_way > WAITING
        if (crowded and prefix) or not step():  # how far one by prefix has to look is not known before
            if crowded:
                raise TooManyListings(f"{WAITING} requests that look through all channels wait already")
            self._under_way += 1
            try:
                async with self._one_at_a_time:
                    while not step():  # noqa: ASYNC110 - others' turns
                        await asyncio.sleep(REST)
            finally:
                self._under_way -= 1
        return list(found.values()), before


def place_before(cursor: str | None) -> int:
    """What `next` in a list of channels said; it holds for the worker that said it. Raises InvalidEvent."""
    if cursor is None:
        return 0
    pid, _, place = cursor.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 and int(part) for part in (pid, place)):
        raise InvalidEvent(f"'before' is what 'next' said in the answer before, not {brief(cursor)}")
    if int(pid) != os.getpid():
        raise InvalidEvent(f"worker {pid} began this list, and {os.getpid()} answers; begin again, on one connection")
    return int(place)
