"""Which event it is that a target fails at."""

from collections.abc import Sequence

from sse_fast.outbox.queue import BATCH_EVENTS, Row

ATTEMPTS = 8  # of a batch before it is halved, and of one event before it is kept aside


class Suspects:
    """most: events that are tried at once. A batch that fails ATTEMPTS times is halved, and what is in it is tried in
    ever smaller parts, until all of it was published, or one event is left, which fails ATTEMPTS times by itself."""

    def __init__(self) -> None:
        self.most = BATCH_EVENTS
        self.why = ""
        self._first = 0  # the position of that with which the batch begins that failed
        self._last = 0  # of the last one that is suspect
        self._attempts = 0

    @property
    def any(self) -> bool:
        """Whether what was tried last failed."""
        return self._attempts > 0

    def failed(self, rows: Sequence[Row], why: str) -> bool:
        """Whether it is halved."""
        first, last = rows[0].position, rows[-1].position
        self._attempts = self._attempts + 1 if first == self._first else 1
        self._first, self.why = first, why
        if len(rows) == 1 or (self._attempts < ATTEMPTS and last > self._last):
            return False
        self._last = max(self._last, last)
        self._attempts = 0
        self.halve(rows)
        return True

    def halve(self, rows: Sequence[Row]) -> None:
        self.most = max(1, len(rows) // 2)

    def is_it(self, rows: Sequence[Row]) -> bool:
        return len(rows) == 1 and rows[0].position == self._first and self._attempts >= ATTEMPTS

    def passed(self, rows: Sequence[Row]) -> None:
        """They are published, or kept aside."""
        self._attempts = 0
        if rows[-1].position >= self._last:
            self.most = min(2 * self.most, BATCH_EVENTS)
