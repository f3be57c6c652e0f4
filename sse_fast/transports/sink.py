"""Where bytes leave an ASGI server: a sink over its `send`, stepped from the drain instead of awaited one task each.

`send` returns an awaitable, and one step of it tells whether the server took the message at once. If it did not, the
awaitable is finished in a task of its own, which the hub's stepper has ready, and until then the subscriber is parked.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from sse_fast._native.fanout.sinks import SteppedSink
from sse_fast.asgi import Send
from sse_fast.errors import EndReason
from sse_fast.hub.stepper import Stepper

logger = logging.getLogger("sse_fast.transports")


class _Rest:
    """The rest of an awaitable that was stepped once outside of a task: awaiting it goes on where that stopped."""

    def __init__(self, awaited: Generator[Any, Any, Any], yielded: Any) -> None:
        self._awaited, self._yielded = awaited, yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited, yielded = self._awaited, self._yielded
        while True:
            step: Callable[[], Any]
            try:
                sent = yield yielded
            except BaseException as error:
                if not hasattr(awaited, "throw"):  # a bare iterator
                    raise
                step = partial(awaited.throw, error)
            else:
                step = partial(awaited.send, sent) if hasattr(awaited, "send") else partial(next, awaited)
            try:
                yielded = step()
            except StopIteration as finished:
                return finished.value


def _nobody(*_: object) -> None:
    pass


class AsgiSink(SteppedSink):
    """AsgiSink(send, stepper, ended): one stream's way out.

    `unblock()`, to be set, is called when a suspended send is done; `ended(reason, error)` when the fan-out lets the
    stream go.
    """

    __slots__ = ("_ended", "_finishing", "_stepper", "unblock")

    def __init__(self, send: Send, stepper: Stepper, ended: Callable[[EndReason, Exception | None], None]) -> None:
        self._stepper = stepper
        self._ended = ended
        self.unblock: Callable[[], None] = _nobody
        self._finishing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a send is suspended."""
        return self._finishing is not None

    def suspended(self, awaited: Generator[Any, Any, Any], yielded: Any) -> None:
        self._finishing = self._stepper.take_over(partial(self._finish, _Rest(awaited, yielded)))

    async def _finish(self, rest: _Rest) -> None:
        try:
            await rest
            self._finishing = None
            self.unblock()
        except Exception as error:
            self.ended(EndReason.ERROR, error)

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        try:
            self._ended(reason, error)
        except MemoryError:  # it may not have noticed: it is told again
            raise
        except Exception:  # its own affair: the others still wait for their turn
            logger.exception("a stream's `ended` failed")

    def close(self) -> None:
        """Give up a send that is still suspended, and everybody who was to be called: nothing is left in a cycle then,
        and the server's end of the connection goes with the last reference instead of with the garbage collector."""
        if self._finishing is not None:
            self._finishing.cancel()
            self._finishing = None
        self.unblock = self._ended = _nobody
