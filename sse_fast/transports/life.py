"""The life of a request for a stream, as a table that every transport walks; and how many are where in it.

arrived --refuse--> refused
   |
 admit --> opening --open--> streaming
              |                  |
             end                end --> ended
"""

from collections import Counter
from enum import StrEnum

from sse_fast.errors import EndReason
from sse_fast.protocol.decision import Need


class Life(StrEnum):
    """Where a request is in its life."""

    ARRIVED = "arrived"
    OPENING = "opening"
    STREAMING = "streaming"
    REFUSED = "refused"
    ENDED = "ended"

    __hash__ = str.__hash__  # that of Enum is Python, four times a stream


LIVES: dict[Life, dict[str, Life]] = {
    Life.ARRIVED: {"refuse": Life.REFUSED, "admit": Life.OPENING},
    Life.OPENING: {"open": Life.STREAMING, "end": Life.ENDED},
    Life.STREAMING: {"end": Life.ENDED},
    Life.REFUSED: {},
    Life.ENDED: {},
}


class Transport(StrEnum):
    """How a stream is sent: by an ASGI server, or by the front, which owns its connection."""

    ASGI = "asgi"
    NATIVE = "native"


OFFERS: dict[Transport, frozenset[Need]] = {
    Transport.ASGI: frozenset(Need),
    Transport.NATIVE: frozenset({Need.PRESENCE}),
}
"""What a stream may need of each. A native one is sent the same bytes as all others."""


class Lives:
    """Of all who came by one transport: plain counters, that only grow; others read them. A native stream has no object
    that could keep where it is; the code that moves it knows."""

    __slots__ = ("ended", "reached")

    def __init__(self) -> None:
        self.reached: dict[Life, int] = dict.fromkeys(Life, 0)
        self.ended: Counter[EndReason] = Counter()

    def move(self, life: Life, happening: str) -> Life:
        """Where this takes it. Raises KeyError for what can't happen there."""
        then = LIVES[life][happening]
        self.reached[then] += 1
        return then

    def end(self, life: Life, reason: EndReason) -> Life:
        then = self.move(life, "end")
        self.ended[reason] += 1
        return then

    @property
    def connections(self) -> int:
        """Streams that are open, or about to be."""
        return self.reached[Life.OPENING] - self.reached[Life.ENDED]

    @property
    def accepted(self) -> int:
        """Streams that were ever let in."""
        return self.reached[Life.OPENING]
