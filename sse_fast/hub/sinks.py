"""Where bytes leave an ASGI server: a sink over its `send`, stepped from the drain instead of awaited one task each.

`send` returns an awaitable, and one step of it tells whether the server took the message at once. If it did not, the
awaitable is finished in a task of its own, and until then the subscriber is parked.

That task stands ready before, and the first step runs in its name and context. For a send may be wrapped in what looks
at its task and comes back to it (`asyncio.timeout`, cancel scopes, task groups, context variables); in the name of
the task that drains, it would cancel that one.
"""

import asyncio
import logging
import sys
from asyncio import tasks
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from sse_fast._native.fanout.sinks import SteppedSink
from sse_fast.asgi import Send
from sse_fast.errors import EndReason

logger = logging.getLogger("sse_fast.hub")

Finish = Callable[[], Coroutine[Any, Any, None]]
P = ParamSpec("P")
T = TypeVar("T")


if sys.version_info >= (3, 12):
    swap_current_task = tasks._swap_current_task
else:

    def swap_current_task(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        """What later versions have. To leave one task and enter another may want memory in between, and without a
        current task, or with a wrong one, a loop can run nobody any more; to put one in another's place wants none."""
        current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = tasks._current_tasks  # type: ignore[attr-defined]
        if task is None:
            current.pop(loop, None)
        else:
            current[loop] = task


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


class Stepper:
    """Runs what steps sends, in the name of a task that can take over any of them. One per hub."""

    def __init__(self) -> None:
        # One for all: a send that has set a context variable resets it in the same context when it goes on.
        self._context = copy_context()
        self._running = False
        self._own: WeakSet[asyncio.Task[Any]] = (
            WeakSet()
        )  # tasks that are in that context already when they run something
        self._prepare()

    def run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._running:  # a send that says something itself
            return step(*args, **kwargs)
        if self._ready.cancelling():  # a send cancelled its task, which was this one, or the loop is ending
            self._prepare()
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
        swap_current_task(loop, self._ready)
        self._running = True
        try:
            if caller is not None and caller in self._own:  # a send that was taken over says something when it goes on
                return step(*args, **kwargs)
            return self._context.run(step, *args, **kwargs)
        finally:
            self._running = False
            swap_current_task(loop, caller)  # in place of the current one, whichever that is; it never fails

    def take_over(self, finish: Finish) -> asyncio.Task[None]:
        """Inside `run`: the task in whose name a send began goes on with it, and another one stands ready."""
        loop, taken, handed_over = asyncio.get_running_loop(), self._ready, self._handed_over
        if taken.cancelling():
            return self._make(finish())
        self._prepare()  # first of all: if this send fails, the next one finds a task that stands ready
        swap_current_task(loop, self._ready)
        handed_over.set_result(finish)
        return taken

    def close(self) -> None:
        self._ready.cancel()

    def _prepare(self) -> None:
        handed_over: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self._ready = self._make(self._stand_ready(handed_over))
        self._handed_over = handed_over

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
