"""Where bytes leave an ASGI server: a sink over its `send`, stepped from the drain instead of awaited one task each.

`send` returns an awaitable, and one step of it tells whether the server took the message at once. If it did not, the
awaitable is finished in a task of its own, and until then the subscriber is parked.

That task stands ready before, and the first step runs in its name and context. For a send may be wrapped in what looks
at its task and comes back to it (`asyncio.timeout`, cancel scopes, task groups, context variables); in the name of
whoever drains, it would cancel him.
"""

import asyncio
import logging
from asyncio import tasks
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from sse_fast._native.sink import SteppedSink
from sse_fast.errors import Leaving

logger = logging.getLogger("sse_fast.sinks")

Send = Callable[[Any], Any]
Finish = Callable[[], Coroutine[Any, Any, None]]
P = ParamSpec("P")
T = TypeVar("T")


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


class Relay:
    """Runs what steps sends, in the name of a task that can take over any of them. One per hub."""

    def __init__(self) -> None:
        # One for all: a send that has set a context variable resets it in the same context when it goes on.
        self._context = copy_context()
        self._running = False
        self._own: WeakSet[asyncio.Task[Any]] = WeakSet()  # who already is in that context when he runs something
        self._prepare()

    def run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._running:  # a send that says something itself
            return step(*args, **kwargs)
        if self._ready.cancelling():  # a send cancelled its task, which was this one, or the loop is ending
            self._prepare()
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
        if caller is not None:
            tasks._leave_task(loop, caller)
        tasks._enter_task(loop, self._ready)
        self._running = True
        try:
            if caller is not None and caller in self._own:  # a send that was taken over says something when it goes on
                return step(*args, **kwargs)
            return self._context.run(step, *args, **kwargs)
        finally:
            self._running = False
            tasks._leave_task(loop, self._ready)  # another one, if a send was taken over
            if caller is not None:
                tasks._enter_task(loop, caller)

    def take_over(self, finish: Finish) -> asyncio.Task[None]:
        """Inside `run`: the task in whose name a send began goes on with it, and another one stands ready."""
        loop, taken = asyncio.get_running_loop(), self._ready
        if taken.cancelling():
            return self._make(finish())
        self._handed_over.set_result(finish)
        tasks._leave_task(loop, taken)
        self._prepare()
        tasks._enter_task(loop, self._ready)
        return taken

    def close(self) -> None:
        self._ready.cancel()

    def _prepare(self) -> None:
        loop = asyncio.get_running_loop()
        self._handed_over: asyncio.Future[Finish] = loop.create_future()
        self._ready = self._make(self._stand_ready(self._handed_over))

    def _make(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._own.add(task)
        return task

    @staticmethod
    async def _stand_ready(handed_over: asyncio.Future[Finish]) -> None:
        try:
            finish = await handed_over
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if handed_over.cancelled() or task is None:
                raise
            # It is meant for the send, which has not gone on yet: pass it on.
            finish = handed_over.result()
            task.uncancel()
            task.cancel()
        await finish()


def _nobody(*_: object) -> None:
    pass


class AsgiSink(SteppedSink):
    """AsgiSink(send, relay, ended): one stream's way out.

    `unblock()`, to be set, is called when a suspended send is done; `ended(reason, error)` when the fan-out lets the
    stream go.
    """

    __slots__ = ("_ended", "_finishing", "_relay", "unblock")

    def __init__(self, send: Send, relay: Relay, ended: Callable[[Leaving, Exception | None], None]) -> None:
        self._relay = relay
        self._ended = ended
        self.unblock: Callable[[], None] = _nobody
        self._finishing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a send is suspended."""
        return self._finishing is not None

    def suspended(self, awaited: Generator[Any, Any, Any], yielded: Any) -> None:
        self._finishing = self._relay.take_over(partial(self._finish, _Rest(awaited, yielded)))

    async def _finish(self, rest: _Rest) -> None:
        try:
            await rest
        except Exception as error:
            self.ended(Leaving.ERROR, error)
        else:
            self._finishing = None
            self.unblock()

    def ended(self, reason: Leaving, error: Exception | None) -> None:
        try:
            self._ended(reason, error)
        except Exception:  # his own affair: the others still wait for their turn
            logger.exception("a stream's `ended` failed")

    def close(self) -> None:
        """Give up a send that is still suspended, and everybody who was to be called: nothing is left in a cycle then,
        and the server's end of the connection goes with the last reference instead of with the garbage collector."""
        if self._finishing is not None:
            self._finishing.cancel()
            self._finishing = None
        self.unblock = self._ended = _nobody
