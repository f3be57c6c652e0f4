"""The one table of how streams end. Every transport, the metrics and the log go by it.

A new reason is a line in `errors.EndReason` and a row here; `tests/test_ends.py` walks the rows, at both transports.
"""

import logging
from dataclasses import dataclass
from enum import StrEnum

from sse_fast.errors import EndReason

AT_ONCE = 250  # milliseconds


class Close(StrEnum):
    """What a client sees of its response behind the last bytes."""

    COMPLETE = "complete"  # its end: the last chunk, or END_STREAM. Some clients take that for the last word
    CUT = "cut"  # a connection that closes, or a stream that is reset, without it: that brings all clients back
    RESET = "reset"  # its connection at once, and what waits in the kernel is dropped. CUT where it has other streams


@dataclass(frozen=True, slots=True)
class End:
    """What follows from a reason."""

    told: str
    """`reason` in the `$closing` that the client is sent, if it reads and there is time; "": it is told nothing."""
    close: Close
    level: int
    """Of the line in the log, of `logging`."""
    retry: int | None = None
    """Milliseconds after which the client is to come back; None: as the stream's beginning told it."""

    @property
    def comes_back(self) -> bool:
        """Whether also a client does that takes a complete response for the last word. Browsers' EventSource comes back
        after any end."""
        return self.close is not Close.COMPLETE


ENDS: dict[EndReason, End] = {
    # The client closed it: nobody is there to be told, or to be closed properly.
    EndReason.CLIENT: End("", Close.CUT, logging.DEBUG),
    # What is on its way to it is what it does not read, `$closing` would stand behind that.
    EndReason.SLOW: End("", Close.RESET, logging.WARNING),
    EndReason.SHUTDOWN: End("shutdown", Close.CUT, logging.DEBUG),
    # Ends of these are spread already, so that their clients may be back before anybody notices.
    EndReason.EXPIRED: End("expired", Close.CUT, logging.DEBUG, AT_ONCE),
    EndReason.AGE: End("age", Close.CUT, logging.DEBUG, AT_ONCE),
    # Its last bytes have told it so, with the id by which it goes on.
    EndReason.MORE: End("", Close.CUT, logging.DEBUG),
    EndReason.OPERATOR: End("operator", Close.COMPLETE, logging.INFO),
    EndReason.APP: End("app", Close.COMPLETE, logging.DEBUG),
    # It may have been within a frame, so nothing can follow.
    EndReason.ERROR: End("", Close.CUT, logging.WARNING),
}

OVERLOADED = End("overloaded", Close.CUT, logging.DEBUG)
"""Of a client for whom there is no room: it is told so in a stream that ends at once, and in no count of streams."""
RATE_LIMITED = End("rate_limited", Close.CUT, logging.DEBUG)
"""Of one that asks more often than it may: likewise."""
BEHIND = End("behind", Close.CUT, logging.DEBUG)
"""Of one that has seen at another node what has not come to this one: likewise."""
