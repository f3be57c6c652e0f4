"""The streams that are open on this worker: found page by page and ended, by whoever runs the server. There may be a
hundred thousand: so many are looked at in one turn of the loop."""

import asyncio
from typing import Protocol, TypedDict, Unpack

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast.errors import EndReason
from sse_fast.event_rules import channel_name

STREAMS_AT_ONCE = 16384  # looked at in one turn: about a third of a millisecond
ENDED_AT_ONCE = 128  # each costs a socket's last write and its close, or the turn of a task


class Sought(TypedDict, total=False):
    """Which streams are meant: those of which all that is given is true. number: of `Subscriber.number`."""

    number: int | None
    channel: str | None
    user: str | None
    address: str | None


class Home(Protocol):
    """What this needs of its hub."""

    fanout: FanOut


class OpenStreams:
    """Of one hub."""

    __slots__ = ("_hub", "own")

    def __init__(self, hub: Home) -> None:
        self._hub = hub
        self.own: set[Subscriber] = set()
        """Those of the server itself, which are neither found nor counted."""

    @property
    def count(self) -> int:
        return self._hub.fanout.connections - len(self.own)

    async def page(
        self, *, before: int = 0, limit: int = 100, **sought: Unpack[Sought]
    ) -> tuple[list[Subscriber], int]:
        """At most `limit` of them, each once, from place `before` on, 0: from the last; and the place to go on from, or
        0 if that was all. Raises InvalidEvent for a channel that can't be."""
        found: dict[int, Subscriber] = {}
        while True:
            streams, before = self._look(before, limit - len(found), sought)
            found.update((stream.number, stream) for stream in streams)
            if before == 0 or len(found) >= limit:
                return list(found.values()), before
            await asyncio.sleep(0)

    async def end(self, reason: EndReason, **sought: Unpack[Sought]) -> int:
        """End those that are open when this is called, and return how many. Raises ValueError if nothing says which,
        and InvalidEvent as above."""
        if all(value is None for value in sought.values()):
            raise ValueError("nothing says which streams to end: give their number, channel, user or address")
        ended = before = 0
        while True:
            streams, before = self._look(before, ENDED_AT_ONCE, sought)
            for stream in streams:
                ended += not stream.closed
                self._hub.fanout.end(stream, reason)
            if before == 0:
                return ended
            await asyncio.sleep(0)

    def _look(self, before: int, limit: int, sought: Sought) -> tuple[list[Subscriber], int]:
        channel = sought.get("channel")
        found, place = self._hub.fanout.page(
            before,
            limit,
            STREAMS_AT_ONCE,
            number=sought.get("number"),
            channel=channel_name(channel) if channel is not None else None,
            user=sought.get("user"),
            address=sought.get("address"),
        )
        return [stream for stream in found if stream not in self.own] if self.own else found, place
