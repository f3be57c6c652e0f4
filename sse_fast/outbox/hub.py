"""The hub of an app, as events of an outbox are published there."""

import asyncio
import logging
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.publication import encode_publication
from sse_fast.client.failures import Unavailable
from sse_fast.embed.hub import Hub
from sse_fast.errors import (
    BatchTooLarge,
    ConnectionClosed,
    EngineUnavailable,
    HubClosed,
    InvalidEvent,
    KeyReused,
    LogBusy,
    Overloaded,
)
from sse_fast.outbox.mark import ASKING, BATCH, MARKS, Mark
from sse_fast.outbox.queue import Row
from sse_fast.outbox.target import Failing, Rejected

logger = logging.getLogger("sse_fast.outbox")

READING_SECONDS = 10.0


class HubTarget:
    """marks: the channel of the marks."""

    name = "the hub"

    def __init__(self, hub: Hub, marks: str) -> None:
        self._hub = hub
        self._marks = marks

    async def publish(self, rows: Sequence[Row], mark: Mark | None) -> int:
        limit, typed = self._hub.max_event_size, self._hub.typed
        try:
            events = [
                encode_publication(row.channels, row.data, event=row.event, limit=limit, typed=typed) for row in rows
            ]
            keys = {place: row.key for place, row in enumerate(rows)}
            if mark is not None:
                keys[len(events)] = mark.key
                events.append(encode_publication(self._marks, mark.data, event=BATCH, limit=limit))
            return (await self._hub.append_once(events, keys)).repeated
        except (InvalidEvent, BatchTooLarge) as error:
            raise Rejected(str(error), 400) from None
        except KeyReused as error:
            raise Rejected(str(error), 422) from None
        except (HubClosed, LogBusy, EngineUnavailable, Overloaded, MemoryError) as error:
            raise Unavailable(str(error) or "the memory is out") from None
        except Exception as error:
            logger.debug("publishing failed", exc_info=True)
            raise Failing(f"{type(error).__name__}: {error}") from error

    async def newest_mark(self) -> Mark | None:
        asking = token_hex(16)
        marks: list[str] = []
        read = asyncio.get_running_loop().create_future()
        parser = EventParser()

        async def take(message: Any) -> None:
            for event in parser.feed(message["body"]):
                if event.event == BATCH:
                    marks.append(event.data)
                elif event.data == asking and not read.done():
                    read.set_result(None)

        def ended(*_: object) -> None:
            if not read.done():
                read.set_exception(Unavailable("the hub has ended the stream of the marks"))

        try:
            await self._hub.publish(self._marks, asking, event=ASKING, key=asking)
            subscription = self._hub.subscribe([self._marks], take, ended, history=MARKS)
        except (HubClosed, LogBusy, EngineUnavailable, Overloaded, ConnectionClosed, MemoryError) as error:
            raise Unavailable(str(error) or "the memory is out") from None
        try:
            subscription.start()
            await asyncio.wait_for(read, READING_SECONDS)
        except TimeoutError:
            raise Unavailable("the hub did not hand out the newest mark") from None
        finally:
            subscription.close()
        return next(filter(None, map(Mark.read, reversed(marks))), None)

    async def probe(self) -> None:
        """Its marks say so."""

    async def close(self) -> None:
        """The hub is the app's."""
