"""In whose name the fan-out writes: steps of awaitables, run from the drain instead of awaited in one task each.

A task stands ready for whatever is not done with its first step, and that step runs in the task's name and context.
For it may be wrapped in what looks at its task and comes back to it (`asyncio.timeout`, cancel scopes, task groups,
context variables); in the name of the task that drains, it would cancel that one.
"""

import asyncio
import sys
from asyncio import tasks
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

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


class Stepper:
    """Runs what steps sends, in the name of a task that can take over any of them. One per hub."""

    def start(self) -> None:
        """On the loop that runs; before anything else, and again on another loop."""
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
        """The task in whose name a send began goes on with it, and another one stands ready."""
        loop, taken, handed_over = asyncio.get_running_loop(), self._ready, self._handed_over
        if taken.cancelling() or not self._running:
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
        try:
            task = asyncio.get_running_loop().create_task(work, context=self._context)
        except BaseException:
            work.close()  # it is nobody's
            raise
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
