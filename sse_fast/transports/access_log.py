"""The access log: a line for each stream that opens, and one for each that ends, which says how long it was there, how
much it was handed, and why it ended. Nothing of a credential is in either."""

import logging
import time

from sse_fast._native.fanout.groups import Subscriber
from sse_fast.access.limits import Counted, address_of_counted
from sse_fast.errors import EndReason
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import Subscribe
from sse_fast.transports.life import Transport
from sse_fast.transports.refusals import shown

logger = logging.getLogger("sse_fast.access")


class Logged:
    """An open stream that has its line, and what it counts under."""

    __slots__ = ("begun", "counted", "subscriber", "told")

    def __init__(self, counted: str | Counted, subscriber: Subscriber, told: dict[str, object]) -> None:
        self.counted, self.subscriber, self.told = counted, subscriber, told
        self.begun = time.monotonic()


class AccessLog:
    """Knows the streams that are open, so that the end of a process is the end of each."""

    def __init__(self) -> None:
        self._open: set[Logged] = set()

    def opened(
        self, counted: str | Counted, transport: Transport, wanted: Subscribe, subscription: Subscription
    ) -> Logged:
        """What `ended` is to be told by."""
        told: dict[str, object] = {
            "client": address_of_counted(counted),
            "transport": transport,
            "channel": shown(wanted),
        }
        if wanted.grants.user is not None:
            told["user"] = wanted.grants.user
        logger.info("stream opened", extra=told | {"resumed": subscription.resumed})
        stream = Logged(counted, subscription.subscriber, told)
        self._open.add(stream)
        return stream

    def ended(self, stream: Logged, reason: EndReason) -> None:
        """Again: nothing happens."""
        if stream not in self._open:
            return
        self._open.discard(stream)
        handed = {"events": stream.subscriber.events, "bytes": stream.subscriber.bytes}
        age = round(time.monotonic() - stream.begun, 3)
        logger.info("stream ended", extra=stream.told | {"reason": reason.value, "age": age} | handed)

    def all_ended(self, reason: EndReason) -> None:
        for stream in list(self._open):
            self.ended(stream, reason)
