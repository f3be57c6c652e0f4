"""Work of many, so much of it in a turn of the loop, in the order in which it comes."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

SLICE = 0.002  # seconds of a turn, but for what was begun by then

T = TypeVar("T")


class Slices:
    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def done(self, work: Callable[[], T]) -> T:
        """What it returns, or raises. Who does not wait for it any more has it not done."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, found))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await found

    async def _work(self) -> None:
        try:
            while self._waiting:
                until = time.monotonic() + SLICE
                while self._waiting:
                    work, found = self._waiting.popleft()
                    if found.done():
                        continue
                    try:
                        found.set_result(work())
                    except Exception as error:
                        found.set_exception(error)
                    if time.monotonic() >= until:
                        break
                await asyncio.sleep(0)
        finally:
            self._task = None
