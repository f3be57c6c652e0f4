"""The streams that publish keys have opened: they end when their key is taken away."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from sse_fast._native.fanout.groups import Subscriber
from sse_fast.access.limits import Counted
from sse_fast.errors import EndReason
from sse_fast.hub.hub import Hub
from sse_fast.hub.open_streams import ENDED_AT_ONCE
from sse_fast.protocol.decision import Subscribe
from sse_fast.transports.access_log import Logged


class Keyed(NamedTuple):
    """What one of them counts under, and who it is."""

    counted: str | Counted | Logged
    key: bytes
    subscriber: Subscriber


class KeyedStreams:
    """Of one hub, by the digests of the keys, which may come to be called otherwise. They are few: publishers listen
    now and then."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._of: dict[bytes, set[Subscriber]] = {}

    def opened(
        self, counted: str | Counted | Logged, wanted: Subscribe, subscriber: Subscriber
    ) -> str | Counted | Logged | Keyed:
        """What `left` is to be given for it."""
        key = wanted.grants.key
        if key is None:
            return counted
        self._of.setdefault(key, set()).add(subscriber)
        return Keyed(counted, key, subscriber)

    def left(self, keyed: Keyed) -> str | Counted | Logged:
        """What else counts it."""
        streams = self._of[keyed.key]
        streams.discard(keyed.subscriber)
        if not streams:
            del self._of[keyed.key]
        return keyed.counted

    async def end(self, keys: Iterable[bytes]) -> int:
        """End those of these keys; how many."""
        ended = 0
        for subscriber in [each for key in keys for each in self._of.get(key, ())]:
            if ended and ended % ENDED_AT_ONCE == 0:
                await asyncio.sleep(0)
            ended += not subscriber.closed
            self._hub.fanout.end(subscriber, EndReason.EXPIRED)
        return ended
