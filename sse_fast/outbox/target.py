"""Where the events of an outbox are published."""

from collections.abc import Sequence
from typing import Protocol

from sse_fast.client.failures import Unavailable
from sse_fast.errors import SSEFastError
from sse_fast.outbox.mark import Mark
from sse_fast.outbox.queue import Row


class Rejected(SSEFastError):
    """Of what came at once, at least one event will never be taken; nothing was published. status: as HTTP has it."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class Failing(Unavailable):
    """It is there, and fails: perhaps at one of the events, and then it always will."""


class NoMarks(SSEFastError):
    """Marks can't be written, or not read, and events may be published all the same."""


class Target(Protocol):
    """All or nothing, and once for each event's key. What fails is Rejected; `client.failures.Refused`, which whatever
    comes next would meet too; or Unavailable, and then nobody knows what became of it. Of the events that are published
    it may be Failing."""

    @property
    def name(self) -> str: ...

    async def publish(self, rows: Sequence[Row], mark: Mark | None) -> int:
        """Publish these, and their mark with them. Returns how many of all that had been published before."""

    async def newest_mark(self) -> Mark | None:
        """The newest that the log has; None: it has none. Raises NoMarks, too."""

    async def probe(self) -> None:
        """Publish nothing. Where it fails at that, too, it is no event's fault, and it is Unavailable."""

    async def close(self) -> None: ...
