"""What a listener is handed: events, and what is said in the place of those that are gone."""

from dataclasses import dataclass

import orjson

from sse_fast._native.wire.control import FORGOTTEN, GAP
from sse_fast._native.wire.event_parser import ReceivedEvent
from sse_fast.client.envelope import PublishedEvent


@dataclass(frozen=True, slots=True)
class Gap:
    """Here events are missing: the log no longer has them, or it is not known what was missed.

    after, until: the ids between which they are gone; None: not known. positions: of all channels from the one to the
    other, so the most that can be missing; None: not known. id: to resume behind it.
    """

    after: str | None
    until: str | None
    positions: int | None
    id: str


def item_of(event: ReceivedEvent | PublishedEvent) -> PublishedEvent | Gap | None:
    """None: it is the server's own affair. `$forgotten`, what a channel has let go, is an event of its channel."""
    if isinstance(event, PublishedEvent):
        return event
    if event.event == GAP:
        return gap_of(event)
    if event.event.startswith("$") and event.event != FORGOTTEN:
        return None
    return PublishedEvent(event.data, event.event, event.id, "", (), "")


def gap_of(event: ReceivedEvent) -> Gap:
    """Anybody may have said it: what is no field of it is None."""
    try:
        said = orjson.loads(event.data)
        after, until, positions = said.get("after"), said.get("until"), said.get("positions")
    except (orjson.JSONDecodeError, AttributeError):
        return Gap(None, None, None, event.id)
    return Gap(
        after if isinstance(after, str) else None,
        until if isinstance(until, str) else None,
        positions if type(positions) is int else None,
        event.id,
    )
