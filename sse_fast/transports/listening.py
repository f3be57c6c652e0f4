"""Who listens by Mercure, on this worker: each stream as a subscriber of its own, with one subscription a matcher."""

import os
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from sse_fast.access.limits import Counted
from sse_fast.access.matchers import Matcher
from sse_fast.protocol.decision import Subscribe
from sse_fast.transports.access_log import Logged
from sse_fast.transports.keyed import Keyed


class Subscriber(NamedTuple):
    """id: made for this stream, so nobody else has it and it says nothing of who it is. subscriptions: its matchers,
    each with what its token says that others are told of it, if it says something."""

    id: str
    subscriptions: tuple[tuple[Matcher, Any], ...]


class Listening(NamedTuple):
    """What one of the streams counts under, and as which subscriber it is told of."""

    counted: str | Counted | Logged | Keyed
    subscriber: Subscriber


class Listeners:
    """`told(subscriber, active)`: is called when one comes, and when it leaves."""

    def __init__(self, told: Callable[[Subscriber, bool], None]) -> None:
        self._told = told
        self.open: dict[str, Subscriber] = {}

    def opened(self, counted: str | Counted | Logged | Keyed, wanted: Subscribe) -> Listening:
        """What `left` is to be given for it."""
        claims = wanted.grants.mercure
        payload_for = claims.payload_for if claims is not None else lambda text: None
        subscriptions = tuple((matcher, payload_for(matcher.text)) for matcher in wanted.matchers)
        subscriber = Subscriber(f"urn:uuid:{uuid.UUID(bytes=os.urandom(16), version=4)}", subscriptions)
        self.open[subscriber.id] = subscriber
        self._told(subscriber, True)
        return Listening(counted, subscriber)

    def left(self, listening: Listening) -> str | Counted | Logged | Keyed:
        """What else counts it."""
        self.open.pop(listening.subscriber.id, None)
        self._told(listening.subscriber, False)
        return listening.counted


class Part(NamedTuple):
    """What a stream counts under that is sent so many bytes of what its client has missed, and comes back for more."""

    counted: str | Counted | Logged | Keyed
    size: int


Owed = str | Counted | Logged | Keyed | Listening | Part
"""What a stream has to be counted out by."""
