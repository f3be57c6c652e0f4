"""What the log has kept of some channels, read from within: for who has to know what was published before."""

import asyncio
from collections.abc import AsyncIterator

import orjson

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.errors import ConnectionClosed, EndReason
from sse_fast.hub.hub import Hub
from sse_fast.hub.presence import JOIN, LEAVE, PREFIX

LOOK = 0.002  # seconds between looks at what has come


class _Reader(Sink):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.end: EndReason | None = None

    def write(self, data: bytes) -> bool:
        self.pieces.append(data)
        return True

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.end = reason


async def kept(hub: Hub, pattern: str) -> AsyncIterator[list[ReceivedEvent]]:
    """The events of the channels that `pattern` has, in their order and a piece of them at a time, until none is left
    of those that are there now. It is a stream like any other, so it waits for nobody and nobody for it.
    Raises HubClosed, or ConnectionClosed if it was let go before it had all of them."""
    async for events in _read(hub, patterns=(pattern,), last_event_id="earliest"):
        yield events


async def newest(hub: Hub, channel: str, count: int) -> list[ReceivedEvent]:
    """So many of the newest events of a channel, those before the newest first. Raises as `kept`."""
    found = [event async for events in _read(hub, (channel,), history=count) for event in events]
    return found[-count:]


async def _read(
    hub: Hub,
    channels: tuple[str, ...] = (),
    *,
    patterns: tuple[str, ...] = (),
    last_event_id: str | None = None,
    history: int = 0,
) -> AsyncIterator[list[ReceivedEvent]]:
    reader, parser = _Reader(), EventParser()
    last = hub.log.position
    subscription = hub.attach(channels, reader, patterns=patterns, last_event_id=last_event_id, history=history)
    subscriber = subscription.subscriber
    try:
        subscription.start()
        while True:
            whole = subscriber.position >= last or not hub.fanout.lag(subscriber)
            pieces, reader.pieces = reader.pieces, []
            for piece in pieces:
                yield list(parser.feed(piece))
            if whole:
                break
            if reader.end is not None:
                raise ConnectionClosed(f"what the log has kept was not read to its end: {reader.end}")
            await asyncio.sleep(LOOK)
    finally:
        subscription.close()


async def told_of_presence(hub: Hub) -> AsyncIterator[list[tuple[str, str, str]]]:
    """Of `hub.presence.Recall`."""
    async for events in kept(hub, f"{PREFIX}**"):
        told = [(orjson.loads(event.data), event.event) for event in events if event.event in (JOIN, LEAVE)]
        yield [(about["channel"], about["user"], what) for about, what in told]
