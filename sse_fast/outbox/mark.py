"""Which batch of an outbox a log had last, said in the log itself.

With each batch goes one more event, its *mark*: all or nothing, so the mark is in the log if and only if the batch is.
A relay that does not know what became of a batch, as it died, or the server did, reads the newest mark; the batch that
it names is published, whatever the server has forgotten of idempotency keys since, and no other can be in doubt: a
batch is sent when the one before is out of the queue.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import orjson

BATCH = "batch"
ASKING = "asking"
MOST = 100_000  # positions that a mark is read to name: anybody who may publish may have written it
MARKS = 100
"""How many of the newest events of the marks' channel are looked through."""


class Placed(Protocol):
    @property
    def position(self) -> int: ...
    @property
    def key(self) -> str: ...


class Mark(NamedTuple):
    """positions: of the batch, in the outbox's queue. digest: of them with their keys."""

    positions: tuple[int, ...]
    digest: str

    @classmethod
    def of(cls, rows: Sequence[Placed]) -> "Mark":
        digest = blake2b(digest_size=16)
        for row in rows:
            digest.update(f"{row.position}:{row.key}\n".encode())
        return cls(tuple(row.position for row in rows), digest.hexdigest())

    @classmethod
    def read(cls, text: str) -> "Mark | None":
        """As `data` has it; None: this is none."""
        try:
            said = orjson.loads(text)
            positions: list[int] = []
            for first, last in said["positions"]:
                if not 0 < first <= last < 2**63 or last - first + len(positions) >= MOST:
                    return None
                positions += range(first, last + 1)
            return cls(tuple(positions), str(said["digest"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None

    @property
    def data(self) -> str:
        return orjson.dumps({"positions": spans(self.positions), "digest": self.digest}).decode()

    @property
    def key(self) -> str:
        return f"outbox:{self.digest}"


def channel_of(name: str) -> str:
    """Where the marks of an outbox are."""
    return f"outbox:{name}"


def spans(numbers: Iterable[int]) -> list[list[int]]:
    """1 2 3 7 8 -> [1, 3], [7, 8]"""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
