"""What can go wrong, as values: the exceptions, and the one table of reasons why a stream ends.

Logs, metrics and clients all read the same table, so a reason has one name everywhere.
"""

from enum import StrEnum


class SSEFastError(Exception):
    """The root of every error this package raises on purpose."""


class InvalidEvent(SSEFastError, ValueError):
    """An event, a channel name or an event id that the wire format or a limit forbids. Nothing was published."""


class MistypedEvent(InvalidEvent, TypeError):
    """An event with a field of a wrong type, with one that events don't have, or with none. A TypeError as well, since
    most of these are slips in the code that makes the event."""


class EventTooLarge(InvalidEvent):
    """An event larger than `max_event_size`, or than a quarter of the log; of a stream that is read, than what its
    reader takes."""


class BatchTooLarge(InvalidEvent):
    """A batch of more events, or of more of the log's bytes, than can become readable at once; send it in several."""


class KeyReused(SSEFastError):
    """An idempotency key that was given before, with another event or batch. Nothing was published."""


class Unauthorized(SSEFastError):
    """A publish key was missing or wrong."""


class ForeignOrigin(SSEFastError):
    """A web page of another origin wanted to publish where no key is asked for."""


class Overloaded(SSEFastError):
    """A limit on connections was reached; trying again later may work."""


class HubClosed(SSEFastError):
    """The hub is draining or closed; nothing was published or subscribed."""


class Unsupported(SSEFastError):
    """A stream needs what the transport by which its client came has not got, such as a filter. It did not open."""


class LogBusy(SSEFastError):
    """Another process holds the log's lock and does not go on: it is stopped. Nothing was appended; try again later."""


class UnusableLogFile(SSEFastError):
    """A log file that this server must not use, in one sentence that names it and says what to do."""


class ConnectionClosed(SSEFastError, ConnectionError):
    """The client of this stream has left, or was let go; nothing more reaches it."""


class ResponseAlreadySent(SSEFastError, RuntimeError):
    """The head of the response is gone: too late for a status, a header or a second start."""


class EndReason(StrEnum):
    """Why a stream ended. The values are label values in /metrics, and `reason` in logs and in `$closing`."""

    CLIENT = "client"  # the client closed the connection
    SLOW = "slow"  # it fell behind what the log keeps, or took no byte for `send_timeout`
    SHUTDOWN = "shutdown"  # the server drains; come back at once
    APP = "app"  # the app that holds the hub ended it
    ERROR = "error"  # the server's own send failed
