"""What a source says, published by the hub of an app."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Self, TypedDict, Unpack

from sse_fast._native.wire.publication import encode_publication
from sse_fast.client.attempts import Progress
from sse_fast.client.errors import Forbidden
from sse_fast.client.failures import Unavailable
from sse_fast.client.listener import SILENCE
from sse_fast.client.relay import OnError, Relay, RelayStats, Transform, TransformFailed, name_of
from sse_fast.client.relay_mark import ASKING, MARK, MARKS, Mark, Rejected, Superseded, channel_of
from sse_fast.client.relay_source import MAX_EVENT_SIZE, Source
from sse_fast.errors import (
    BatchTooLarge,
    ConnectionClosed,
    EngineUnavailable,
    HubClosed,
    KeyReused,
    LogBusy,
    Overloaded,
)
from sse_fast.event_rules import Encoded
from sse_fast.hub.hub import Hub
from sse_fast.hub.kept import newest

logger = logging.getLogger("sse_fast.relay")

READING_SECONDS = 10.0
LOOK_AGAIN = 0.02  # seconds


class HubTarget:
    """name: of the relay."""

    name = "the hub"

    def __init__(self, hub: Hub, channel: str, name: str) -> None:
        self._hub, self._channel = hub, channel
        self._marks = channel_of(name)
        self._leads = False

    async def lead(self) -> bool:
        if not self._leads:
            self._leads = self._hub.lead(self._marks)
        return self._leads

    def prepare(self, data: object, event: str | None) -> Encoded:
        hub = self._hub
        return encode_publication(self._channel, data, event=event, limit=hub.max_event_size, typed=hub.typed)

    async def publish(self, prepared: Sequence[Any], mark: Mark, key: str) -> Sequence[str]:
        hub = self._hub
        said = encode_publication(self._marks, mark.data, event=MARK, limit=hub.max_event_size)
        events = [*prepared, said]
        keyed = hub.keys is not None or not hub.backplane.in_place
        try:
            ids = (await hub.append_once(events, key)).ids if keyed else await hub.append(events)
        except BatchTooLarge as error:
            raise Rejected(str(error)) from None
        except KeyReused as error:
            raise Superseded(str(error)) from None
        except (HubClosed, LogBusy, EngineUnavailable, Overloaded, MemoryError) as error:
            raise Unavailable(str(error) or "the memory is out") from None
        return [str(id) for id in ids[:-1]]

    async def newest_mark(self) -> Mark | None:
        hub, asking = self._hub, token_hex(16)
        try:
            async with asyncio.timeout(READING_SECONDS):
                await hub.take_in()
                # What is published comes to this log in its order, and where an engine is behind it not at once.
                await hub.publish(self._marks, asking, event=ASKING)
                while True:
                    events = await newest(hub, self._marks, MARKS)
                    if any(event.data == asking for event in events):
                        break
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            raise Unavailable("the hub did not hand out the newest mark") from None
        except (HubClosed, LogBusy, EngineUnavailable, Overloaded, ConnectionClosed, MemoryError) as error:
            raise Unavailable(str(error) or "the memory is out") from None
        marks = (Mark.read(event.data) for event in reversed(events) if event.event == MARK)
        return next(filter(None, marks), None)

    async def close(self) -> None:
        if self._leads:
            self._leads = False
            self._hub.lead_no_more(self._marks)


class RelayOptions(TypedDict, total=False):
    """See `Hub.relay`."""

    transform: Transform | None
    events: Collection[str]
    on_error: OnError
    since: str | None
    state: str | Path | None
    headers: Mapping[str, str] | None
    token: str | Callable[[], str] | None
    name: str | None
    max_event_size: int
    silence: float | None
    cross_origin: bool


class HubRelay:
    """What `Hub.relay` returns: it relays while it is open, `async with hub, hub.relay(...): yield`."""

    def __init__(self, hub: Hub, url: str, channel: str, **options: Unpack[RelayOptions]) -> None:
        name = options.get("name") or name_of(url, channel)
        encode_publication(channel, "", limit=2**20)  # or it raises what is wrong with it
        source = Source(
            url,
            headers=options.get("headers"),
            token=options.get("token"),
            max_event_size=options.get("max_event_size", MAX_EVENT_SIZE),
            silence=options.get("silence", SILENCE),
            cross_origin=options.get("cross_origin", False),
        )
        state = options.get("state")
        self._relay = Relay(
            source,
            HubTarget(hub, channel, name),
            name,
            transform=options.get("transform"),
            events=options.get("events", ()),
            on_error=options.get("on_error", "gap"),
            since=options.get("since"),
            state=Path(state) if state is not None else None,
            progress=Progress(logger),
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def stats(self) -> RelayStats:
        """What it has done."""
        return self._relay.stats

    async def wait(self) -> None:
        """Until the source says that there is nothing more. Raises what it stopped at: Forbidden, where the source
        answered 403; with `on_error="stop"` what failed."""
        if self._task is None:
            raise RuntimeError("this relay is not open; it is in `async with hub.relay(...):`")
        await asyncio.shield(self._task)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        try:
            await self._relay.run(give_up=False)
        except (TransformFailed, Forbidden) as error:
            logger.error("the relay has stopped: %s", error)
            raise

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None
