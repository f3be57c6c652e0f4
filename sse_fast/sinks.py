"""Where bytes leave an ASGI server: a sink over its `send`, stepped from the drain instead of awaited one task each.

`send` returns an awaitable, and one step of it tells whether the server took the message at once. If it did not, the
awaitable is finished in a task of its own, and until then the subscriber is parked.
"""

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from sse_fast._native.fanout import SteppedSink
from sse_fast.errors import Leaving

Send = Callable[[Any], Any]


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
    """AsgiSink(send, unblock, ended): one stream's way out.

    `unblock()` is called when a suspended send is done, `ended(reason, error)` when the fan-out lets the stream go.
    """

    __slots__ = ("_ended", "_finishing", "_unblock")

    def __init__(
        self,
        send: Send,
        unblock: Callable[[], None],
        ended: Callable[[Leaving, Exception | None], None],
    ) -> None:
        self._unblock = unblock
        self._ended = ended
        self._finishing: asyncio.Task[None] | None = None

    def suspended(self, awaited: Generator[Any, Any, Any], yielded: Any) -> None:
        self._finishing = asyncio.get_running_loop().create_task(self._finish(_Rest(awaited, yielded)))

    async def _finish(self, rest: _Rest) -> None:
        try:
            await rest
        except Exception as error:
            self._ended(Leaving.ERROR, error)
        else:
            self._finishing = None
            self._unblock()

    def ended(self, reason: Leaving, error: Exception | None) -> None:
        self._ended(reason, error)

    def close(self) -> None:
        """Give up a send that is still suspended, and everybody who was to be called: nothing is left in a cycle then,
        and the server's end of the connection goes with the last reference instead of with the garbage collector."""
        if self._finishing is not None:
            self._finishing.cancel()
            self._finishing = None
        self._unblock = self._ended = _nobody
