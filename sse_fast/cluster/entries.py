"""What the engine's stream holds, as bytes and as values; and whether anything is missing between two of them.

An entry's event is its channels and its frame: the number of channels (with the highest bit: it has a conflation key;
with the next: one of its names is longer than 256 bytes, and each length has two bytes, the higher first), for each its
length less one and its name, then the key's length and the key, then the frame without an id line of ours.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sse_fast.errors import EngineRefused, EngineTrouble
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded, Keyed

KEYED, WIDE = 0x80, 0x40
SHORT = 256  # bytes of a name whose length has one
_ONE = [bytes((1, length)) for length in range(256)]

Placed = tuple[int, bytes | tuple[bytes, ...], bytes, int]
"""(position, channels, frame, milliseconds), as a node's log takes it."""


class Events(NamedTuple):
    """Events of one epoch, at positions one after another."""

    epoch: str
    events: list[Placed]


class Forgotten(NamedTuple):
    """Nothing of this channel that came before is kept any more; `body` is the frame that says so."""

    epoch: str
    position: int
    channel: bytes
    body: bytes
    milliseconds: int


class Mark(NamedTuple):
    """An epoch begins here, at its position 0. What came behind `prev`, if anybody has seen it, was lost; with None all
    that came before is."""

    epoch: str
    prev: EventId | None
    milliseconds: int


class Missed(NamedTuple):
    """What came after `after` is no longer in the engine, up to `at`, which is what follows."""

    after: EventId
    at: EventId


Item = Events | Forgotten | Mark | Missed


def pack(event: Encoded) -> bytes:
    channels, frame = event
    if isinstance(channels, bytes):
        if len(channels) <= SHORT:
            return b"".join((_ONE[len(channels) - 1], channels, frame))
        channels = (channels,)
    keyed = isinstance(channels, Keyed)
    wide = any(len(name) > SHORT for name in channels)
    parts = [bytes((len(channels) | (KEYED if keyed else 0) | (WIDE if wide else 0),))]
    for name in channels:
        parts += (len(name) - 1).to_bytes(1 + wide, "big"), name
    if isinstance(channels, Keyed):
        parts += bytes((len(channels.key),)), channels.key
    parts.append(frame)
    return b"".join(parts)


def unpack(packed: bytes) -> Encoded:
    if packed[0] == 1:
        end = packed[1] + 3
        return packed[2:end], packed[end:]
    names, at = [], 1
    size = 2 if packed[0] & WIDE else 1  # bytes of a length
    for _ in range(packed[0] & ~(KEYED | WIDE)):
        end = at + int.from_bytes(packed[at : at + size], "big") + 1 + size
        names.append(packed[at + size : end])
        at = end
    channels: bytes | tuple[bytes, ...] = tuple(names)
    if len(names) == 1 and not packed[0] & KEYED:
        channels = names[0]
    if packed[0] & KEYED:
        end = at + packed[at] + 1
        channels = Keyed.of(tuple(names), packed[at + 1 : end])
        at = end
    return channels, packed[at:]


def id_of(raw: bytes) -> EventId:
    epoch, _, position = raw.decode().partition("-")
    return EventId(epoch, int(position))


def in_order(id: EventId | None) -> tuple[int, int]:
    """By which ids are earlier or later in the engine; None is before them all."""
    return (0, 0) if id is None else (int(id.epoch), id.position)


class Sequence:
    """Makes items of entries, and sees where some are missing: positions have no holes, and each mark says what it
    follows. `at`: the last that was there; None: whatever comes first is right."""

    def __init__(self, at: EventId | None) -> None:
        self.at = at

    def read(self, entries: Iterable[tuple[bytes, list[bytes]]]) -> list[Item]:
        """Raises EngineRefused for what is none of ours."""
        items: list[Item] = []
        epoch, last = self.at if self.at is not None else ("", -1)
        begins = epoch.encode() + b"-"
        run: list[Placed] | None = None
        try:
            for raw, (_, time, kind, value) in entries:
                if raw.startswith(begins):
                    position = int(raw[len(begins) :])
                    follows = position == last + 1
                else:
                    id = id_of(raw)
                    before, last = None if not epoch else EventId(epoch, last), id.position
                    epoch, position, run = id.epoch, id.position, None
                    begins = epoch.encode() + b"-"
                    if kind == b"m":
                        prev = id_of(value) if value else None
                        if before is not None and prev is not None and in_order(prev) > in_order(before):
                            items.append(Missed(before, id))
                        items.append(Mark(epoch, prev, int(time)))
                        continue
                    follows = before is None
                    if before is not None:
                        items.append(Missed(before, id))
                        follows = True
                if not follows:
                    items.append(Missed(EventId(epoch, last), EventId(epoch, position)))
                    run = None
                last = position
                if kind == b"e":
                    channels, frame = unpack(value)
                    if run is None:
                        run = []
                        items.append(Events(epoch, run))
                    run.append((position, channels, frame, int(time)))
                elif kind == b"f":
                    channel, body = unpack(value)
                    assert isinstance(channel, bytes)
                    items.append(Forgotten(epoch, position, channel, body, int(time)))
                    run = None
                elif kind == b"m":  # its own epoch's, whose first entry it is, read from before it
                    items.append(Mark(epoch, id_of(value) if value else None, int(time)))
                    run = None
                else:
                    raise ValueError(f"{kind!r}: an entry of no kind")
        except (ValueError, IndexError) as error:
            raise EngineRefused(
                f"the stream has an entry that is none of this edge's ({error}); another program uses its key. "
                "Give one of them another prefix",
                EngineTrouble.FOREIGN,
            ) from None
        if epoch:
            self.at = EventId(epoch, last)
        return items
