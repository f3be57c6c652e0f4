"""What can go wrong, as values: the exceptions, and the names of the reasons why a stream ends.

A reason has one name in logs, metrics and streams; what follows from each is the table in `ends`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Self


class SSEFastError(Exception):
    """The root of every error this package raises on purpose."""


class InvalidEvent(SSEFastError, ValueError):
    """An event, a channel name or an event id that the wire format or a limit forbids. Nothing was published."""


class InvalidPattern(InvalidEvent):
    """A pattern of channels that is none."""


class InvalidSchema(SSEFastError, ValueError):
    """A definition of typed events, or a document of them, that means nothing; the message names the place."""


class MistypedEvent(InvalidEvent, TypeError):
    """An event with a field of a wrong type, with one that events don't have, or with none. A TypeError as well, since
    most of these are slips in the code that makes the event."""


class EventTooLarge(InvalidEvent):
    """An event larger than `max_event_size`, or than a quarter of the log; of a stream that is read, than what its
    reader takes."""


class BatchTooLarge(InvalidEvent):
    """A batch of more events, or of more of the log's bytes, than can become readable at once; send it in several."""


class KeyReused(SSEFastError):
    """An idempotency key that was given before, with another event or batch. Nothing was published.

    place: of the event whose key it is, from 0; None: it is the key of all that came. first: the place of another event
    with this key, where both came together.
    """

    def __init__(self, sentence: str, place: int | None = None, first: int | None = None) -> None:
        super().__init__(sentence)
        self.place, self.first = place, first

    @classmethod
    def at(
        cls, place: int | None, first: int | None = None, name: Callable[[int], str] = "event {} of the batch".format
    ) -> Self:
        """`name`: what whoever published calls the event at a place."""
        before = "was used before, for something else"
        if first is not None:
            before = f"is in this batch twice, with different events: {name(first)} has it, too"
        where = "" if place is None else f"{name(place)}: "
        sentence = f"{where}this idempotency key {before}; nothing was published. Another event needs another key"
        return cls(sentence, place, first)


class Unauthorized(SSEFastError):
    """A credential was missing or wrong. error: the word for it of RFC 6750, section 3.1, "invalid_token"; None: there
    was none."""

    def __init__(self, sentence: str, error: str | None = None) -> None:
        super().__init__(sentence)
        self.error = error


class AmbiguousCredentials(Unauthorized):
    """A request has several credentials, or one where none is taken. It is refused as one that is malformed."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, "invalid_request")


class BadToken(Unauthorized):
    """A token was given that is none that is taken: it is forged, over, or of somebody else."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, "invalid_token")


class Forbidden(SSEFastError):
    """A credential was good, and does not grant what was asked for. channel: the first that it does not."""

    def __init__(self, sentence: str, channel: str | None = None) -> None:
        super().__init__(sentence)
        self.channel = channel


class WrongKey(Unauthorized):
    """A publish key was given, and is none of this server's."""


class ForeignOrigin(SSEFastError):
    """A web page of another origin wanted to publish where no key is asked for."""


class ForeignHost(SSEFastError):
    """A request to a name that is none of this server's: see `allowed_hosts`."""


class Overloaded(SSEFastError):
    """A limit on connections was reached; trying again later may work. `limit`: which, if it is one of those that are
    set."""

    def __init__(self, sentence: str, limit: str = "") -> None:
        super().__init__(sentence)
        self.limit = limit


class RateLimited(Overloaded):
    """Something was asked for more often than a rate allows. seconds: until it may be."""

    def __init__(self, sentence: str, seconds: float, limit: str = "") -> None:
        super().__init__(sentence, limit)
        self.seconds = seconds


class Undecided(Overloaded):
    """What has to be known before a request can be decided about, a key or a webhook's word, could not be found out.
    Nobody is let in by it; trying again later may work."""


class HubClosed(SSEFastError):
    """The hub is closed, or drains and takes no more streams; nothing was published or subscribed."""


class Behind(HubClosed):
    """A client has seen at another node what has not come to this one. Nothing is subscribed; it will have come in a
    moment."""


class Unsupported(SSEFastError):
    """A stream needs what the transport by which its client came has not got, such as a filter. It did not open."""


class Silent(SSEFastError):
    """Another worker of this node, of that process, did not answer what it was asked in time; try again later."""

    def __init__(self, sentence: str, pid: int = 0) -> None:
        super().__init__(sentence)
        self.pid = pid


class LogBusy(SSEFastError):
    """Another process holds the log's lock and does not go on: it is stopped. Nothing was appended; try again later."""


class Superseded(SSEFastError):
    """Another process appends to this log now, in the place of this one, which hung or was stopped. Nothing was
    appended."""


class EngineTrouble(StrEnum):
    """Why an engine does not take what is published. The values are label values in /metrics."""

    UNREACHABLE = "unreachable"  # no connection, or none that answers
    TIMEOUT = "timeout"  # it did not answer in time
    LOADING = "loading"  # it starts, or is busy with something long
    READ_ONLY = "read_only"  # a replica: a failover is going on, or the address is not the primary's
    REPLICAS = "replicas"  # too few replicas have what was published
    MEMORY = "memory"  # over its own limit
    DISK = "disk"  # it cannot save, and was told to take nothing then
    WAITING = "waiting"  # more waits for it than may
    CREDENTIALS = "credentials"
    PERMISSIONS = "permissions"
    FOREIGN = "foreign"  # what is under the keys is somebody else's
    VERSION = "version"  # the server's, or that of what is under the keys
    ADDRESS = "address"  # not the kind of server that the URL says
    OTHER = "other"


class EngineUnavailable(SSEFastError):
    """The engine behind the nodes does not take events now. It is asked again and again; nobody has to do anything.

    maybe: whether what was to be published may have been; else it was not. With an idempotency key to publish it again
    is right either way. seconds: after which to come again.
    """

    def __init__(self, sentence: str, reason: EngineTrouble, *, maybe: bool = False, seconds: float = 1.0) -> None:
        super().__init__(sentence)
        self.reason, self.maybe, self.seconds = reason, maybe, seconds

    def again(self, *, maybe: bool | None = None) -> Self:
        """The same, for somebody else."""
        given = self.maybe if maybe is None else maybe
        return type(self)(str(self), self.reason, maybe=given, seconds=self.seconds)


class EngineRefused(EngineUnavailable):
    """The engine will not take events until somebody puts something right, there or here: the sentence says what."""


class NotReplicated(EngineUnavailable):
    """What was published is in the engine, but not on as many replicas as are asked for, in time. It may be lost with
    the primary; then those who have seen it are told of a gap."""


class UnusableLogFile(SSEFastError):
    """A log file that this server must not use, in one sentence that names it and says what to do."""


class NeedsExtra(SSEFastError, ModuleNotFoundError):
    """What was asked for needs a package that an extra of this one brings."""

    def __init__(self, what: str, missing: ModuleNotFoundError, extra: str) -> None:
        package = (missing.name or str(missing)).partition(".")[0]
        super().__init__(
            f"{what} needs {package}, which is not installed: pip install 'sse-fast[{extra}]'", name=missing.name
        )


class NeedsLinux(SSEFastError, ImportError):
    """What was asked for needs Linux, and this build is without it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs Linux, and is not in this build of sse_fast, which has the encoder, the responses, the hub, "
            "the client, and the edge in one process: sse_fast.create_app() under any ASGI server"
        )


class ConnectionClosed(SSEFastError, ConnectionError):
    """The client of this stream has left, or was let go; nothing more reaches it."""


class ResponseAlreadySent(SSEFastError, RuntimeError):
    """The head of the response is gone: too late for a status, a header or a second start."""


class EndReason(StrEnum):
    """Why a stream ended. The values are label values in /metrics, and `reason` in logs and in `$closing`."""

    CLIENT = "client"  # the client closed the connection
    SLOW = "slow"  # it fell behind what the log keeps, or took no byte for `send_timeout`
    SHUTDOWN = "shutdown"  # the server drains; come back at once
    EXPIRED = "expired"  # its credential is about to end; come back with another, or with the same while it lasts
    AGE = "age"  # it was open for `max_stream_age`; come back at once
    OPERATOR = "operator"  # whoever runs the server ended it
    APP = "app"  # the app that holds the hub ended it
    MORE = "more"  # it was a part of what its client has missed; come back at once for the next
    ERROR = "error"  # the server's own send failed
