from collections.abc import Callable, Iterator
from typing import Any, Self, final

@final
class ReceivedEvent:
    """An event as a browser would dispatch it (WHATWG HTML, section 9.2.6). A value: compared by its fields."""

    __match_args__ = ("data", "event", "id", "retry")

    def __init__(self, data: str, event: str = "message", id: str = "", retry: int | None = None) -> None: ...
    @property
    def data(self) -> str: ...
    @property
    def event(self) -> str:
        """Its type."""
    @property
    def id(self) -> str:
        """The last event id as it stands with this event, also when the event had none of its own."""
    @property
    def retry(self) -> int | None:
        """Milliseconds, if the event came with one."""
    def json(self) -> Any:
        """The data, read as JSON. Raises ValueError where it is none."""
    def __hash__(self) -> int: ...

@final
class EventParser(Iterator[ReceivedEvent]):
    """The events of one event stream, which comes in pieces of any size (WHATWG HTML, sections 9.2.5 and 9.2.6).

        for event in parser.feed(piece):
            ...

    Each event is there with the piece that ends it. What was fed and not iterated over comes with the next iteration.
    When the stream has ended there is nothing to do: an unfinished event is none, says the standard.

    max_event_size: bytes of all lines of an event together. Where one has more, the iteration raises EventTooLarge,
        after the events before it and wherever the stream was split; the stream cannot be read on.
    last_event_id: the id that stands until the stream brings one, for a stream that goes on where another ended.
    on_comment: called with the text of each comment, in its place among the events; "" for most heartbeats.
    """

    def __init__(
        self,
        *,
        max_event_size: int = 16777216,
        last_event_id: str = "",
        on_comment: Callable[[str], object] | None = None,
    ) -> None: ...
    def feed(self, piece: bytes | bytearray | memoryview) -> Self:
        """The next bytes of the stream, however many. Returns the parser, to be iterated."""
    def __next__(self) -> ReceivedEvent: ...
    @staticmethod
    def reads(content_type: str | None) -> bool:
        """Whether a response of this Content-Type is an event stream. A charset means nothing: it always is UTF-8."""
    @property
    def last_event_id(self) -> str:
        """What a client sends when it comes back: the id as it stands behind the last event that was handed out, and
        behind blocks after it that had no data."""
    @property
    def retry(self) -> int | None:
        """Milliseconds that the stream says a client should wait before it comes back; None: it has not said."""
    @property
    def max_event_size(self) -> int: ...
