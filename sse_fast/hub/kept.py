"""What the log has kept of some channels, read from within: for who has to know what was published before."""

import asyncio
from collections.abc import AsyncIterator

import orjson

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.hub.hub import Hub
from sse_fast.hub.presence import JOIN, LEAVE, PREFIX

LOOK = 0.002  # seconds between looks at what has come


class _Reader(Sink):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> bool:
        self.pieces.append(data)
        return True


async def kept(hub: Hub, pattern: str) -> AsyncIterator[list[ReceivedEvent]]:
    """The events of the channels that `pattern` has, in their order and a piece of them at a time, until none is left.
    It is a stream like any other, so it waits for nobody and nobody for it. Raises HubClosed."""
    reader, parser = _Reader(), EventParser()
    subscription = hub.attach((), reader, patterns=(pattern,), last_event_id="earliest")
    try:
        subscription.start()
        while reader.pieces or hub.fanout.lag(subscription.subscriber):
            pieces, reader.pieces = reader.pieces, []
            for piece in pieces:
                yield list(parser.feed(piece))
            await asyncio.sleep(LOOK)
    finally:
        subscription.close()


async def told_of_presence(hub: Hub) -> AsyncIterator[list[tuple[str, str, str]]]:
    """Of `hub.presence.Recall`."""
    async for events in kept(hub, f"{PREFIX}**"):
        told = [(orjson.loads(event.data), event.event) for event in events if event.event in (JOIN, LEAVE)]
        yield [(about["channel"], about["user"], what) for about, what in told]
