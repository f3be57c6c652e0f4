"""What the server says of those it refuses: each is counted under its reason, and has a line in the log.

Of each reason there are so many lines a second at most, whatever comes; of those beyond that one line says how many
there were. A line tells who asked, why not, and for which channel; nothing of a credential, and nothing of a query.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sse_fast.protocol.decision import Publish, Subscribe
from sse_fast.protocol.native import channels_named
from sse_fast.protocol.request import Request
from sse_fast.transports.life import Transport

logger = logging.getLogger("sse_fast.refused")

LINES = 5  # a second, for each reason
SECOND = 1.0
NAMED = 3  # channels
NAME_LENGTH = 64  # characters
DETAIL_LENGTH = 256
OF_CREDENTIALS = frozenset(("unauthorized", "wrong_key", "forbidden"))
"""Of these a line has the sentence of the answer, which has nothing of a credential or a query."""

REASONS = (
    "invalid",  # the request is wrong: 400, 405, 408, 415, 417, 422, 431, 501
    "too_large",  # an event, a body, a batch
    "unauthorized",  # it has no credential where one is needed, or one that is none
    "wrong_key",  # a publish key that is none
    "forbidden",  # the credential does not grant it
    "foreign_origin",  # a page of another origin, where no key is asked for
    "foreign_host",  # a name that is none of the server's
    "undecided",  # whether it may could not be found out: of the key set's server, or of the webhook
    "backplane",  # what holds the log takes no events
    "overloaded",  # there is no room now, other than by one of the limits
    "behind",  # this node is behind what was seen at another
    "shutdown",
)
"""Why, beside the limits and the rates, which count where they are met."""


class _Second:
    """One reason in one second."""

    __slots__ = ("begun", "left_out", "lines")

    def __init__(self, begun: float) -> None:
        self.begun, self.lines, self.left_out = begun, 0, 0


class Refusals:
    """`counts`: those that were ever told of here, by reason."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._now = now
        self._seconds: dict[str, _Second] = {}

    def note(
        self,
        reason: str,
        client: str,
        transport: Transport,
        asked: Request | Subscribe | Publish | None,
        detail: str = "",
    ) -> None:
        """Somebody was refused; "": nobody was. client: the address, "" if nobody knows it. asked: for what. detail:
        what they are answered."""
        if not reason:
            return
        self.counts[reason] += 1
        if not logger.isEnabledFor(logging.INFO):
            return
        now = self._now()
        second = self._seconds.get(reason)
        if second is None or now - second.begun >= SECOND:
            self._end(reason, now)
            second = self._seconds[reason] = _Second(now)
        if second.lines >= LINES:
            second.left_out += 1
            return
        second.lines += 1
        told = {"reason": reason, "client": client, "channel": shown(asked), "transport": transport}
        if reason in OF_CREDENTIALS:
            where = asked.path[:NAME_LENGTH] if isinstance(asked, Request) and not told["channel"] else ""
            told |= {"path": where, "detail": detail[:DETAIL_LENGTH]}
        logger.info(f"refused: {reason}", extra={name: value for name, value in told.items() if value})

    def tell(self, *, last: bool = False) -> None:
        """Of those who have had no line so far, if their second is over, or if this is the last that is said. To be
        called once a second."""
        now = self._now()
        for reason, second in list(self._seconds.items()):
            if last or now - second.begun >= SECOND:
                self._end(reason, now)

    def _end(self, reason: str, now: float) -> None:
        second = self._seconds.pop(reason, None)
        if second is not None and second.left_out:
            told = {"reason": reason, "left_out": second.left_out, "seconds": round(now - second.begun, 1)}
            logger.info(f"refused: {second.left_out:,} more: {reason}", extra=told)


def shown(asked: Request | Subscribe | Publish | None) -> str:
    """The channels that are asked for, as a line can show them."""
    names = channels_of(asked)
    listed = [name[:NAME_LENGTH] for name in islice(names, NAMED)]
    return ", ".join(listed) + (", …" if next(names, None) is not None else "")


def channels_of(asked: Request | Subscribe | Publish | None) -> Iterator[str]:
    found: Iterable[str] = ()
    if isinstance(asked, Subscribe):
        found = (*asked.channels, *asked.patterns)
    elif isinstance(asked, Publish):
        found = (asked.channel,) if asked.channel is not None else ()
    elif asked is not None:
        found = channels_named(asked)
    return iter(found)
