"""The last ten minutes of a node, second by second, for whoever begins to look at it.

A ring of rows in memory that all workers of a node map. A row has the node's totals and gauges at its time, so that
what lies between two rows is known whoever wrote them. Each worker looks once a second whether the newest row is old
enough, and then writes the next: nobody has to be the one who does, and none is missed when a worker dies or hangs. A
row that two wrote at once, or that is just being written, has a wrong checksum, and is left out.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from sse_fast._native.base.histogram import BOUNDS

SECONDS = 600
EVERY = 1.0  # seconds between two rows
SOON = 0.9 * EVERY  # a row is not that old: the next is another worker's, or still to come
GAP = 5.0  # seconds without a row: of a node that stood still nobody knows how it went
PLACES = SECONDS + 40
BUCKETS = len(BOUNDS) + 1

TOTALS = ("published", "deliveries", "handed", "writes", "bytes", "cpu", "gaps", "slow", "refused")
"""handed: deliveries with those to who watches, as `writes` has them. cpu: microseconds, of all workers."""
GAUGES = ("streams", "parked", "send_memory", "channels", "log_used")
FIELDS = (*TOTALS, *(f"last {at}" for at in range(BUCKETS)), *GAUGES)
VALUES = Struct(f"<{1 + len(FIELDS)}Q")  # milliseconds since 1970 first
CHECK = Struct("<I")
PLACE = VALUES.size + 8  # bytes

Row = Sequence[int]
"""As FIELDS, behind the time."""


class Second(NamedTuple):
    """What there was between two rows, and at the later one. Per second, but for: `time`, milliseconds since 1970;
    `p50` and `p99`, milliseconds from the publish of an event to its write to the last subscriber that could be written
    to; `cpu_per_delivery`, microseconds; `events_per_write`; and the gauges. None: there was nothing to say it of."""

    time: int
    published: float
    deliveries: float
    bytes: float
    p50: float | None
    p99: float | None
    cpu_per_delivery: float | None
    events_per_write: float | None
    cpu: float
    gaps: float
    slow: float
    refused: float
    streams: int
    parked: int
    send_memory: int
    channels: int
    log_used: int


class History:
    """History(memory): `History.size()` bytes, of a node; without them, of this process alone."""

    def __init__(self, memory: memoryview | None = None) -> None:
        self._memory = memoryview(bytearray(self.size())) if memory is None else memory

    @staticmethod
    def size() -> int:
        """Bytes."""
        return PLACES * PLACE

    def is_due(self, now: float) -> bool:
        """Whether it is time for a row, of seconds since 1970."""
        newest = max((row[0] for at in (-1, 0, 1) if (row := self._row(int(now) + at)) is not None), default=0)
        # Of a clock that was set back nothing is waited for.
        return not 0 <= now - newest / 1000 < SOON

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        """`totals`: by FIELDS, as of now, in seconds since 1970."""
        packed = VALUES.pack(round(1000 * now), *(max(0, totals[name]) for name in FIELDS))
        at = int(now) % PLACES * PLACE
        self._memory[at : at + VALUES.size] = packed
        CHECK.pack_into(self._memory, at + VALUES.size, crc32(packed))

    def _row(self, second: int) -> Row | None:
        at = second % PLACES * PLACE
        packed = bytes(self._memory[at : at + VALUES.size])
        (check,) = CHECK.unpack_from(self._memory, at + VALUES.size)
        row = VALUES.unpack(packed)
        return row if row[0] and check == crc32(packed) else None

    def seconds(self, now: float | None = None, last: int = SECONDS) -> list[Second]:
        """What is known of the last so many seconds, the oldest first."""
        now = time.time() if now is None else now
        rows = [row for at in range(-last - 1, 1) if (row := self._row(int(now) + at)) is not None]
        rows = [row for row in rows if now - last - 2 * EVERY <= row[0] / 1000 <= now + EVERY]
        between = (between_rows(before, after) for before, after in pairwise(rows))
        return [second for second in between if second is not None]


def between_rows(before: Row, after: Row) -> Second | None:
    """None: they are too far from each other, or a node's totals began anew between them."""
    seconds = (after[0] - before[0]) / 1000
    grown = [new - old for old, new in zip(before[1:], after[1:], strict=True)]
    totals = dict(zip(TOTALS, grown, strict=False))
    if not 0 < seconds <= GAP or min(totals.values()) < 0:
        return None
    lasts = grown[len(TOTALS) : len(TOTALS) + BUCKETS]
    gauges = dict(zip(GAUGES, after[1 + len(TOTALS) + BUCKETS :], strict=True))
    rate = {name: round(totals[name] / seconds, 3) for name in TOTALS}
    handed = totals["handed"]
    return Second(
        time=after[0],
        published=rate["published"],
        deliveries=rate["deliveries"],
        bytes=rate["bytes"],
        p50=quantile(lasts, 0.5),
        p99=quantile(lasts, 0.99),
        cpu_per_delivery=round(totals["cpu"] / handed, 3) if handed else None,
        events_per_write=round(handed / totals["writes"], 3) if handed and totals["writes"] else None,
        cpu=rate["cpu"],
        gaps=rate["gaps"],
        slow=rate["slow"],
        refused=rate["refused"],
        **gauges,
    )


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Milliseconds, of counts by BOUNDS: within one as if all were spread evenly, as Prometheus' histogram_quantile has
    it; of what is over them all the last bound. None: nothing was counted."""
    wanted, below = share * sum(counts), 0
    if not wanted:
        return None
    for count, lower, upper in zip(counts, (0.0, *BOUNDS), BOUNDS, strict=False):
        if count and below + count >= wanted:
            return round(1000 * (lower + (upper - lower) * (wanted - below) / count), 3)
        below += count
    return 1000 * BOUNDS[-1]


def in_columns(seconds: Sequence[Second]) -> dict[str, list[float | int | None]]:
    """By name, what each second has."""
    return {name: [second[at] for second in seconds] for at, name in enumerate(Second._fields)}
