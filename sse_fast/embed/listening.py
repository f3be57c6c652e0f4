"""Listening to a hub from within its own process: the same items as over HTTP, without the way there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Generic, Self, TypeVar

from sse_fast._native.wire.event_parser import EventParser
from sse_fast.access.patterns import Patterns, is_name
from sse_fast.client.address import named
from sse_fast.client.envelope import PublishedEvent, opened
from sse_fast.client.items import Gap, item_of
from sse_fast.errors import EndReason, HubClosed, InvalidEvent
from sse_fast.hub.hub import Hub
from sse_fast.hub.subscription import Subscription
from sse_fast.transports.sink import AsgiSink

T_co = TypeVar("T_co", PublishedEvent, PublishedEvent | Gap, covariant=True)


ENVELOPED = 8
"""Times the bytes of an event, at most, in its envelope."""


class HubListening(Generic[T_co]):
    """What `Hub.listen` returns: an async iterator, and an async context manager that closes it.

    What the hub hands over at once waits here until it is taken, and the hub with the rest: it is a cursor into the
    log, as any stream, and bounded so. Where it is ended as slow it goes on behind the last one, or finds that events
    are gone.
    """

    def __init__(
        self,
        hub: Hub,
        channels: Sequence[str],
        patterns: Sequence[str],
        last_event_id: str | None,
        history: int,
        on_gap: Callable[[Gap], object] | None,
    ) -> None:
        self._hub = hub
        self._channels, self._patterns = channels, patterns
        self._cursor, self._history = last_event_id, history
        self._on_gap = on_gap
        self._items: deque[PublishedEvent | Gap] = deque()
        self._news = asyncio.Event()  # there are items, or it has ended
        self._taken = asyncio.Event()  # all that there were
        self._parser: EventParser
        self._subscription: Subscription | None = None
        self._closed = self._was_open = False

    @property
    def last_event_id(self) -> str | None:
        """Behind which event it is: to keep, and to go on there another day."""
        return self._cursor

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self

    async def __anext__(self) -> T_co:
        while True:
            while self._items:
                item = self._items.popleft()
                self._cursor = item.id
                if not isinstance(item, Gap) or self._on_gap is None:
                    return item  # type: ignore[return-value]
                self._on_gap(item)
            if self._closed:
                raise StopAsyncIteration
            if self._subscription is None:
                await self._open_again()
                continue
            self._news.clear()
            self._taken.set()
            await self._news.wait()

    async def aclose(self) -> None:
        """End the iteration: a task that waits for an event finds that there are no more."""
        self._closed = True
        self._items.clear()
        self._let_go()

    async def __aenter__(self) -> Self:
        """It listens from here on."""
        if self._subscription is None and not self._closed:
            await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _open_again(self) -> None:
        try:
            await self._open()
        except HubClosed:
            if not self._was_open:
                raise
            self._closed = True

    async def _open(self) -> None:
        hub, id = self._hub, self._cursor
        await hub.be_ready()
        recalled = None
        if id is not None and hub.recalls(self._channels, self._patterns, id):
            listens = Patterns.of(self._patterns)
            recalled = await hub.recall(self._channels, self._patterns, id, lambda name: listens.matches(name.decode()))
        if self._subscription is not None or self._closed:
            return  # another task has, meanwhile
        sink = AsgiSink(self._take, hub.stepper, self._end)
        subscription = hub.attach(
            self._channels,
            sink,
            patterns=self._patterns,
            last_event_id=id,
            history=self._history if id is None else 0,
            envelope=True,
            recalled=recalled,
        )
        self._subscription, self._was_open = subscription, True
        sink.unblock = subscription.start
        self._parser = EventParser(max_event_size=ENVELOPED * hub.max_event_size, last_event_id=id or "")
        if id is None:
            self._cursor = subscription.id
        self._read(subscription.opening())
        subscription.start()

    async def _take(self, message: Any) -> None:
        """What the hub writes to."""
        self._read(message["body"])
        while self._items and self._subscription is not None:
            self._taken.clear()
            await self._taken.wait()

    def _read(self, piece: bytes) -> None:
        for event in self._parser.feed(piece):
            if (item := item_of(opened(event))) is not None:
                self._items.append(item)
        if self._items:
            self._news.set()

    def _end(self, reason: EndReason, _: Exception | None) -> None:
        """The hub lets go of it. But for its end, it comes back behind what was taken."""
        self._closed = self._closed or reason is EndReason.SHUTDOWN
        asyncio.get_running_loop().call_soon(self._let_go)  # it is about to

    def _let_go(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        self._news.set()
        self._taken.set()


def listening(
    hub: Hub,
    channels: Sequence[str],
    patterns: Sequence[str],
    last_event_id: str | None,
    history: int,
    on_gap: Callable[[Gap], object] | None,
) -> HubListening[Any]:
    """Raises TypeError, InvalidEvent, or ValueError."""
    names = named(channels, patterns)
    for name in names:
        if not is_name(name):
            raise InvalidEvent(f"{name!r} is a pattern, and no channel to listen to: patterns=[{name!r}]")
    Patterns.of(patterns)
    names += [pattern for pattern in patterns if is_name(pattern)]
    patterns = [pattern for pattern in patterns if not is_name(pattern)]
    if type(history) is not int or history < 0:
        raise ValueError(f"history is a whole number, 0 or more; this is {history!r}")
    return HubListening(hub, names, patterns, last_event_id, history, on_gap)
