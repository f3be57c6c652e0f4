"""What a server puts into an envelope (`?envelope=json`), taken out again.

Whether it does, the server says itself, in `$connected`; nothing is guessed from data, which may be anything.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from sse_fast._native.wire.control import FORGOTTEN
from sse_fast._native.wire.event_parser import ReceivedEvent


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event with where and when it was published.

    channel: the first of its channels that were asked for. channels: all of those. time: RFC 3339, in UTC. A server
    that knows no envelopes tells neither, and they are empty.
    """

    data: str
    event: str
    id: str
    channel: str
    channels: tuple[str, ...]
    time: str

    @property
    def published(self) -> datetime:
        """Raises ValueError where it was not told."""
        return datetime.fromisoformat(self.time)

    def json(self) -> Any:
        """The data, read as JSON. Raises ValueError where it is none."""
        return orjson.loads(self.data)


def says_enveloped(connected: ReceivedEvent) -> bool:
    """Whether `$connected` says that what follows is in envelopes. Servers that don't know them say nothing."""
    try:
        return bool(orjson.loads(connected.data)["envelope"] == "json")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def opened(event: ReceivedEvent) -> PublishedEvent | ReceivedEvent:
    """What is in the envelope; an event of the server's own, which has none, as it stands. `$forgotten` is one of its
    channel, and has one."""
    if event.event.startswith("$") and event.event != FORGOTTEN:
        return event
    try:
        inside = orjson.loads(event.data)
        channel, time, data = inside["channel"], inside["time"], inside["data"]
        channels = tuple(inside.get("channels", (channel,)))
        datetime.fromisoformat(time)
    except (ValueError, KeyError, TypeError, AttributeError):
        return event
    if not channels or not all(isinstance(text, str) for text in (data, *channels)):
        return event
    return PublishedEvent(data, event.event, event.id, channels[0], channels, time)
