"""Who joins and who leaves: what an app is told of its streams, by whichever transport they came."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import anyio

from sse_fast.asgi import Scope
from sse_fast.errors import EndReason, HubClosed
from sse_fast.hub.subscription import Subscription

logger = logging.getLogger("sse_fast.embed")

END_SECONDS = 1.0  # the most that a stream which is ended waits until all that was published is handed out
LEAVE_SECONDS = 10.0  # that `on_leave` may take; a server that stops waits for it

OnJoin = Callable[["StreamInfo"], Awaitable[None] | None]
OnLeave = Callable[["StreamInfo", EndReason], Awaitable[None] | None]


class OpenStream(Protocol):
    """A stream that can be ended."""

    @property
    def busy(self) -> bool:
        """Whether what was published is still being handed out."""

    def end(self) -> None: ...


class StreamInfo:
    """A stream, as `on_join` and `on_leave` are told of it.

    id: a number that no other stream of this hub has, in this process. channels: their names. patterns: of further
    channels. resumed: how it began, "live", "complete" or "gap". client: the client's address as the server knows it.
    scope: the request's ASGI scope; of a stream that is held a copy without what was there for its exchange: asgi,
    extensions, and what frameworks keep there for themselves (fastapi_…, starlette.…). path, query_string, headers,
    path_params, state, session, user, auth, app and what your middlewares have put there stay.
    """

    __slots__ = ("_stream", "channels", "client", "id", "patterns", "resumed", "scope")

    def __init__(
        self, stream: OpenStream, id: int, scope: Scope, channels: tuple[str, ...], subscription: Subscription
    ) -> None:
        self._stream: OpenStream | None = stream
        self.id = id
        self.channels = channels
        self.patterns = tuple(pattern.decode() for pattern in subscription.subscriber.patterns)
        self.resumed: str = subscription.resumed
        self.client: str | None = (scope.get("client") or (None,))[0]
        self.scope = scope

    def __repr__(self) -> str:
        return f"StreamInfo(id={self.id}, channels={self.channels}, client={self.client!r}, resumed={self.resumed!r})"

    async def end(self) -> None:
        """End this stream. The client gets what was published before, `$closing`, and the end of the response; a
        browser's EventSource comes back then, until it is answered with 204 or an error. Again: nothing happens."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + END_SECONDS
        while self._stream is not None and self._stream.busy and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the pump's turn of the loop
        if self._stream is not None:
            self._stream.end()

    def forget(self) -> None:
        """The stream is over."""
        self._stream = None


async def tell_joined(joined: Iterable[OnJoin], info: StreamInfo) -> None:
    for told in joined:
        await _tell(told, info)


async def tell_left(left: Iterable[OnLeave], info: StreamInfo, reason: EndReason) -> None:
    """Also where the task is being cancelled; but not for ever."""
    info.forget()
    with anyio.move_on_after(LEAVE_SECONDS, shield=True) as bound:
        for told in left:
            await _tell(told, info, reason)
    if bound.cancelled_caught:
        logger.warning("on_leave took more than %g s, and was cancelled", LEAVE_SECONDS)


async def _tell(told: Callable[..., Awaitable[None] | None], *what: Any) -> None:
    try:
        answer = told(*what)
        if inspect.isawaitable(answer):
            await answer
    except HubClosed:
        pass  # it wanted to publish who left, while everybody leaves
    except Exception:
        logger.exception("a presence callback failed")
