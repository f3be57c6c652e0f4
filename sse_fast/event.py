"""Events and their ids, as people write and read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, overload

from sse_fast._native.wire.frame import encode
from sse_fast.event_rules import OWN_ID

MAX_POSITION = 2**64 - 1
# What an epoch is to the log says `is_epoch` in its `epochs`; this is of a text, and reaches no log.


class EventId(NamedTuple):
    """`<epoch>-<position>`: the epoch names a server's log, the position rises with every event, over all channels."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The id, or None where the text is not one of ours."""
        match = OWN_ID.fullmatch(text)
        return cls(match[1], int(match[2])) if match and int(match[2]) <= MAX_POSITION else None


class EventIds(Sequence[EventId]):
    """The ids of a batch: positions of one epoch. Made one by one when they are asked for, for there may be many."""

    __slots__ = ("epoch", "positions")

    def __init__(self, epoch: str, positions: Sequence[int]) -> None:
        self.epoch, self.positions = epoch, positions

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, at: int) -> EventId: ...
    @overload
    def __getitem__(self, at: slice) -> "EventIds": ...
    def __getitem__(self, at: int | slice) -> "EventId | EventIds":
        if isinstance(at, slice):
            return EventIds(self.epoch, self.positions[at])
        return EventId(self.epoch, self.positions[at])

    def __repr__(self) -> str:
        return f"EventIds({self.epoch!r}, {self.positions!r})"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data`: str or bytes as they stand, or what `serialization` takes. `retry` in milliseconds."""

    data: Any
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def encode(self) -> bytes:
        """The event as one SSE frame (WHATWG HTML, section 9.2). Raises InvalidEvent."""
        return encode(self.data, event=self.event, id=self.id, retry=self.retry, comment=self.comment)
