"""What failed is tried again, after pauses that get longer."""

import logging
import random
from time import monotonic

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 15.0  # between two attempts
LONGEST_ASKED_PAUSE = 60.0  # whatever a server asks for


class Attempts:
    """in_vain: how many were, one after another."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.in_vain = 0

    def failed(self, reason: str, asked_for: float = 0.0) -> float:
        """Tell it; seconds until it is to be tried again, `asked_for` at least."""
        doubled = min(SHORTEST_PAUSE * 2.0 ** min(self.in_vain, 20), LONGEST_PAUSE)
        pause = max(doubled * random.uniform(0.7, 1.3), min(asked_for, LONGEST_ASKED_PAUSE))
        self.in_vain += 1
        # A server that is replaced, or a database that starts, is no news for as long as it is soon done.
        self._logger.log(
            logging.WARNING if self.in_vain in (1, 5) or self.in_vain % 20 == 0 else logging.DEBUG,
            "%s; trying again in %.1f s",
            reason,
            pause,
        )
        return pause

    def over(self) -> int:
        """What is tried next is something else; how many were in vain."""
        count, self.in_vain = self.in_vain, 0
        return count


class Seldom:
    """What may go wrong at each of many events: so many lines a second at most, and then how many there were."""

    def __init__(self, logger: logging.Logger, most: int = 10) -> None:
        self._logger, self._most = logger, most
        self._since = -1.0
        self._said = self._unsaid = 0

    def say(self, level: int, what: str, *, trace: bool = False) -> None:
        now = monotonic()
        if now - self._since >= 1.0:
            self._since, self._said = now, 0
        if self._said == self._most:
            self._unsaid += 1
            return
        self._said += 1
        more, self._unsaid = self._unsaid, 0
        self._logger.log(
            level, "%s%s", what, f" ({more:,} lines like it were left out)" if more else "", exc_info=trace
        )


class Progress:
    """Says how it goes, once a second at most."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next = 0.0

    def __call__(self, stats: object) -> None:
        now = monotonic()
        if now >= self._next:
            self._next = now + 1.0
            self._logger.debug("%s", stats)
