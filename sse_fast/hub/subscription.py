"""One stream in a hub: where it begins, and what its first frames say of that."""

from typing import Literal, Protocol

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.control import connected, gap_from
from sse_fast.event_rules import EARLIEST
from sse_fast.hub.recall import Recalled


class Home(Protocol):
    """What a stream needs of its hub."""

    fanout: FanOut

    def event_id(self, position: int) -> str:
        """The id that the event of a position has."""

    def unblock(self, subscriber: Subscriber) -> None:
        """It may be written to (again)."""


class Subscription:
    """One stream in the hub, and where it begins. `opened` says so in the stream's first frames."""

    __slots__ = ("_asked", "_hub", "_recalled", "_sink", "resumed", "subscriber")

    def __init__(
        self, hub: Home, subscriber: Subscriber, sink: Sink, asked: str | None, recalled: Recalled | None = None
    ) -> None:
        """`recalled`: what comes before it."""
        self._hub = hub
        self.subscriber = subscriber
        self._sink = sink
        self._asked = asked
        self._recalled = recalled
        self.resumed: Literal["live", "complete", "gap"] = "live"
        if subscriber.lost:
            self.resumed = "gap"
        elif asked is not None:
            self.resumed = "complete"

    @property
    def id(self) -> str:
        """The id of the cursor: what a client that has seen nothing more would resume by."""
        return self._hub.event_id(self.subscriber.position)

    @property
    def preceding(self) -> str:
        """Before it starts: the id of the event before the first one that it will be sent, as readers know it;
        `earliest`: none is kept."""
        whole = self._recalled is not None or not self.subscriber.lost
        if whole and self._asked is not None and self._asked != EARLIEST:
            return self._asked
        return self._hub.fanout.id_at(self.subscriber.position) or EARLIEST

    def opening(self, left_out: tuple[str, ...] = ()) -> bytes:
        """`$connected`, which names what was `left_out`, and `$gap` if owed. The last of the two carries the id of the
        cursor: a drop before the first event loses nothing, and one before the gap was told has it told again."""
        enveloped = self.subscriber.enveloped
        if self._recalled is not None:
            return connected("complete", self._asked, enveloped, left_out) + self._recalled.frames(enveloped)
        if not self.subscriber.lost:
            return connected(self.resumed, self.id, enveloped, left_out)
        until = self._hub.event_id(self._hub.fanout.gone_until(self.subscriber))
        return connected(self.resumed, None, enveloped, left_out) + gap_from(self.id, self._asked, until)

    @property
    def blocked(self) -> bool:
        """Whether the last send is still suspended, where the sink is one that sends."""
        return bool(getattr(self._sink, "busy", False))

    def start(self) -> None:
        """The stream may be written to (again)."""
        self._hub.unblock(self.subscriber)

    def close(self) -> None:
        """Leave the hub. Again: nothing happens."""
        self._sink.close()
        self._hub.fanout.unsubscribe(self.subscriber)
