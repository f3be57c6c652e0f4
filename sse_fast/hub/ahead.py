"""Who has seen at another node what this one's log has not yet: one look at the log for all who wait for it."""

import asyncio
import heapq
from collections.abc import Callable

from sse_fast.errors import HubClosed
from sse_fast.event import EventId

LOOK = 0.02  # seconds between two looks
MOST_WAITING = 16_384  # who comes then is sent away for a moment


def in_order(id: EventId) -> tuple[int, str, int]:
    """Epochs are numbers, and rise."""
    return len(id.epoch), id.epoch, id.position


class Ahead:
    """Ahead(newest): `newest()` is what the log has come to."""

    def __init__(self, newest: Callable[[], EventId | None]) -> None:
        self._newest = newest
        self._heap: list[tuple[tuple[int, str, int], int, asyncio.Future[None]]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = 0

    async def come_to(self, id: EventId) -> None:
        """Until the log has. Raises HubClosed where too many wait."""
        if self.waiting >= MOST_WAITING:
            raise HubClosed("too many wait for what they have seen at another node; come back in a moment")
        loop = asyncio.get_running_loop()
        come: asyncio.Future[None] = loop.create_future()
        self._number += 1
        heapq.heappush(self._heap, (in_order(id), self._number, come))
        self.waiting += 1
        if self._timer is None:
            self._timer = loop.call_later(LOOK, self._look, loop)
        try:
            await come
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Who waits is sent away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, come in self._heap:
            if not come.done():
                come.set_exception(HubClosed("the hub is closed and takes no more streams"))
        self._heap.clear()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        here = self._newest()
        if len(self._heap) > 2 * self.waiting + 64:  # most have given up
            self._heap = [waiting for waiting in self._heap if not waiting[2].done()]
            heapq.heapify(self._heap)
        while self._heap:
            id, _, come = self._heap[0]
            if not come.done():
                if here is None or in_order(here) < id:
                    break
                come.set_result(None)
            heapq.heappop(self._heap)
        if self._heap:
            self._timer = loop.call_later(LOOK, self._look, loop)
