"""Events as people hand them in: names and limits checked, JSON through orjson, encoded once.

Everything that enters, over HTTP, from `Hub.publish`, or later from another process, passes here. Nothing here knows
a hub, a request or a loop.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import orjson

from sse_fast._native.frame import encode
from sse_fast.errors import EventTooLarge, InvalidEvent

MAX_CHANNEL_BYTES = 256
MAX_EVENT_NAME_BYTES = 256
MAX_RETRY_MS = 86_400_000
MAX_ID_BYTES = 64

EVENT_ID = re.compile(r"([a-z0-9]{8})-(0|[1-9][0-9]{0,19})\Z")
# Controls break logs and terminals, '/' is the path's own separator, white space is a slip of the pen.
CHANNEL_FORBIDS = re.compile(r"[\x00-\x20\x7f-\xa0/\u2028\u2029]")

Encoded = tuple[bytes, bytes]
"""What the log takes: the channel's name, and a frame without its id line."""


class EventId(NamedTuple):
    """`<epoch>-<position>`: the epoch names a log, the position rises with every event in it, over all channels."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The id, or None where the text is not one of ours."""
        match = EVENT_ID.match(text)
        return cls(match[1], int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data`: str or bytes as they stand, or any JSON value. `retry` in milliseconds."""

    data: Any
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def encode(self) -> bytes:
        """The event as one SSE frame (WHATWG HTML, section 9.2). Raises InvalidEvent or TypeError."""
        return encode(self.data, event=self.event, id=self.id, retry=self.retry, comment=self.comment)


@lru_cache(maxsize=65536)
def channel_name(name: str) -> bytes:
    """The channel's name as the log keeps it. Raises InvalidEvent for one that nobody may use."""
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"a channel name is UTF-8 text; {name!r} has a lone surrogate at {error.start}") from None
    if not raw:
        raise InvalidEvent("a channel name has at least one character")
    if len(raw) > MAX_CHANNEL_BYTES:
        raise InvalidEvent(f"a channel name has at most {MAX_CHANNEL_BYTES} bytes; this one has {len(raw)}")
    if bad := CHANNEL_FORBIDS.search(name):
        raise InvalidEvent(
            f"a channel name has no white space, control character or '/'; {name!r} has {bad[0]!r} at {bad.start()}"
        )
    return raw


def encode_publication(
    channel: str, data: Any, *, event: str | None = None, retry: int | None = None, limit: int
) -> Encoded:
    """Check and encode what a publisher hands in; `limit` is in bytes of the encoded frame.

    Raises InvalidEvent (EventTooLarge past the limit), or TypeError for a field of the wrong type.
    """
    if not isinstance(channel, str):
        raise InvalidEvent(f"'channel' is a string, not {type(channel).__name__}")
    if channel[:1] == "$":
        raise InvalidEvent(f"channels that begin with '$' belong to the server; {channel!r} cannot be published to")
    if event is not None:
        if not isinstance(event, str):
            raise InvalidEvent(f"'event' is a string, not {type(event).__name__}")
        if event[:1] == "$":
            raise InvalidEvent(f"event types that begin with '$' belong to the server; {event!r} cannot be published")
        if len(event) > MAX_EVENT_NAME_BYTES:
            raise InvalidEvent(f"'event' has at most {MAX_EVENT_NAME_BYTES} characters; this one has {len(event)}")
    if retry is not None and (type(retry) is not int or not 0 <= retry <= MAX_RETRY_MS):
        raise InvalidEvent(f"'retry' is a whole number of milliseconds from 0 to {MAX_RETRY_MS}, not {retry!r}")
    name = channel_name(channel)
    frame = encode(data, event=event, retry=retry)
    if len(frame) > limit:
        raise EventTooLarge(f"the event takes {len(frame)} bytes when encoded; at most {limit} are allowed")
    return name, frame


FIELDS = frozenset(("channel", "data", "event", "retry"))


def from_json_value(value: Any, limit: int) -> Encoded:
    """One publication from `{"channel", "data", "event"?, "retry"?}`. Raises InvalidEvent."""
    if type(value) is not dict:
        raise InvalidEvent(f"an event is a JSON object with 'channel' and 'data', not {_json_type(value)}")
    if not value.keys() <= FIELDS:
        unknown = ", ".join(repr(name) for name in value if name not in FIELDS)
        raise InvalidEvent(f"unknown field {unknown}; the fields are 'channel', 'data', 'event' and 'retry'")
    try:
        channel, data = value["channel"], value["data"]
    except KeyError as missing:
        raise InvalidEvent(f"the field {missing} is missing") from None
    return encode_publication(channel, data, event=value.get("event"), retry=value.get("retry"), limit=limit)


def from_ndjson(body: bytes, limit: int) -> Iterator[Encoded]:
    """Publications from newline-delimited JSON, one a line; blank lines are passed over.

    Raises InvalidEvent that names the line.
    """
    loads = orjson.loads
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            yield from_json_value(loads(line), limit)
        except orjson.JSONDecodeError as error:
            raise InvalidEvent(f"line {number} is not JSON: {error}") from None
        except EventTooLarge as error:
            raise EventTooLarge(f"line {number}: {error}") from None
        except InvalidEvent as error:
            raise InvalidEvent(f"line {number}: {error}") from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")
