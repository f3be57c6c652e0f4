"""A stream of a response that the front in front of the app holds: what the app is told of it.

The handler is done, its task has ended, and nothing runs for the stream but what was asked for: `on_join` before its
first event, `on_leave` and then the response's background task behind its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sse_fast.asgi import Scope
from sse_fast.embed.presence import OnJoin, OnLeave, StreamInfo, tell_joined, tell_left
from sse_fast.errors import EndReason
from sse_fast.hub.subscription import Home, Subscription
from sse_fast.transports.hold import MARK, HeldConnection, Holds

# What servers and frameworks put into a scope for one exchange, each time anew: kilobytes.
OF_THE_EXCHANGE = frozenset((MARK, "asgi", "extensions"))
OF_FRAMEWORKS = ("fastapi_", "starlette.", "_ls_")  # how such keys begin

Background = Callable[[], Awaitable[None]]


def kept(scope: Scope) -> Scope:
    """What stays of a request's scope while its stream is held."""
    return {
        name: value
        for name, value in scope.items()
        if name not in OF_THE_EXCHANGE and not name.startswith(OF_FRAMEWORKS)
    }


class HeldStream:
    """One stream, from what was offered to its end (`transports.hold.Presence`)."""

    __slots__ = (
        "_background",
        "_channels",
        "_connection",
        "_holds",
        "_hub",
        "_info",
        "_joined",
        "_joining",
        "_left",
        "_number",
        "_scope",
    )

    def __init__(
        self,
        holds: Holds,
        hub: Home,
        number: int,
        scope: Scope,
        channels: tuple[str, ...],
        joined: Sequence[OnJoin],
        left: Sequence[OnLeave],
        background: Background | None,
    ) -> None:
        self._holds, self._hub = holds, hub
        self._number, self._scope, self._channels = number, kept(scope), channels
        self._joined, self._left = joined, left
        self._background = background
        self._connection: HeldConnection | None = None
        self._info: StreamInfo | None = None
        self._joining: asyncio.Task[None] | None = None

    # ---- for the front -----------------------------------------------------------------------------------------------

    def opened(self, connection: HeldConnection, subscription: Subscription) -> None:
        self._connection = connection
        self._info = StreamInfo(self, self._number, self._scope, self._channels, subscription)
        if self._joined:
            self._joining = self._holds.run(self._join(self._info, connection))
        else:
            connection.start()

    def left(self, reason: EndReason) -> None:
        if self._info is not None or self._background is not None:
            self._holds.run(self._leave(self._info, reason))

    # ---- for its StreamInfo ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._hub.fanout.busy

    def end(self) -> None:
        if self._connection is not None:
            self._connection.end(EndReason.APP)

    # ---- tasks -------------------------------------------------------------------------------------------------------

    async def _join(self, info: StreamInfo, connection: HeldConnection) -> None:
        await tell_joined(self._joined, info)
        connection.start()
        self._joining = None

    async def _leave(self, info: StreamInfo | None, reason: EndReason) -> None:
        self._connection = None
        if self._joining is not None:
            await asyncio.wait((self._joining,))
        if info is not None:
            await tell_left(self._left, info, reason)
        if self._background is not None:
            await self._background()
