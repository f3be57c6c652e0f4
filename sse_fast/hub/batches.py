"""Large batches wait: appended one after another, each when it overtakes nobody who keeps up.

A batch that fills a good part of the log would push out what others have not read yet. So its writer waits until all
have everything, on the other workers too, but not for ever: who never keeps up is overtaken like anybody slow.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.log.ring import Log
from sse_fast.errors import BatchTooLarge, LogBusy
from sse_fast.hub.peers import Peers

# The most that are appended at once: 10 to 25 ms of this loop and of the log's lock; with a key each up to 40.
BATCH_EVENTS = 100_000
LARGE = 1 / 16  # of the log: who brings what is unread beyond it waits for those who read
AT_ONCE = 1000  # events of a batch that are looked through and appended in one turn of the loop
READERS_SECONDS = 1.0  # the most that it waits
LONGEST_WAIT = 1000  # microseconds that the loop is held while another worker appends
BUSY_SECONDS = 0.1  # that a log is waited for whose lock is not given back, and
LOOK_AGAIN = 0.001  # seconds between two tries
FAULT_IN_AT_ONCE = 256 * 1024  # bytes of the log whose memory is brought in before the loop is given back

Appended = TypeVar("Appended")


def refuse_batch_over(most: int, count: int) -> None:
    if count > most:
        raise BatchTooLarge(f"the batch has more than {most} events; send it in several")


class Busy:
    """How long a log that is locked is waited for, on a loop that has other things to do meanwhile."""

    def __init__(self) -> None:
        self._until: float | None = None

    def again(self, error: LogBusy) -> None:
        """Try it again after LOOK_AGAIN, or raise the error: it has been long enough."""
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + BUSY_SECONDS
        if now >= self._until:
            raise error


class Line:
    """Those who wait for a log that is locked. One try in LOOK_AGAIN is made for them all; when the log is had, they
    go in their order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any], float]] = deque()
        self._next: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Somebody waits: who comes is behind."""
        return self._next is not None

    async def wait(self, append: Callable[[], Appended]) -> Appended:
        """What `append` returns, as soon as the log can be had. Raises LogBusy."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Appended] = loop.create_future()
        self._waiting.append((append, turn, loop.time() + BUSY_SECONDS))
        if self._next is None:
            self._next = loop.call_later(LOOK_AGAIN, self._look)
        try:
            return await turn
        finally:
            turn.cancel()  # who has left publishes nothing

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        locked: LogBusy | None = None
        try:
            while self._waiting:
                append, turn, until = self._waiting[0]
                if not turn.done():
                    if locked is None:
                        try:
                            turn.set_result(append())
                        except LogBusy as error:
                            locked = error
                            continue
                        except Exception as error:
                            turn.set_exception(error)
                    elif now >= until:
                        turn.set_exception(LogBusy(*locked.args))
                    else:
                        break
                self._waiting.popleft()
        finally:
            self._next = loop.call_later(LOOK_AGAIN, self._look) if self._waiting else None


class Turns:
    """The turns of large batches, of all who publish on one worker. `check_open()` raises once nothing is to be
    appended any more."""

    def __init__(self, log: Log, fanout: FanOut, peers: Peers | None, check_open: Callable[[], None]) -> None:
        self.share = int(log.capacity * LARGE)
        """Bytes that may be unread without anybody who keeps up being overtaken."""
        self._log = log
        self._fanout = fanout
        self._peers = peers
        self._check_open = check_open
        self._all_read = 0  # the log's head when everybody had everything last
        self._mine: asyncio.Lock  # who appends a large batch, or waits to

    def start(self) -> None:
        """On the loop that is lived on."""
        self._mine = asyncio.Lock()

    async def take(self, events: int, room: int, append: Callable[[int | None], Appended | None]) -> Appended:
        """What `append(limit)` returns, when it is this batch's turn: of so many events, that take `room` bytes of the
        log. Where that raises LogBusy it is tried again for a while. `limit`: if other workers have brought the head
        beyond it nothing is to be appended, and None returned."""
        async with self._mine:
            if room > self.share or events > AT_ONCE:
                await self._fault_in(room)
            loop = asyncio.get_running_loop()
            deadline = loop.time() + READERS_SECONDS
            busy = Busy()
            while True:
                self._check_open()
                head = self._log.head  # before the look: others append meanwhile
                late = loop.time() >= deadline
                go = late or not self._busy()
                if go:
                    self._all_read = head
                if go or head - self._all_read + room <= self.share:
                    try:
                        appended = append(None if late else self._all_read + self.share)
                    except LogBusy as error:
                        appended = None
                        busy.again(error)
                    if appended is not None:
                        return appended
                await asyncio.sleep(0 if self._fanout.busy else LOOK_AGAIN)  # the pump's turns; or other workers'

    async def _fault_in(self, room: int) -> None:
        """Before a large batch, piece by piece, so that the log's lock is not had for long; the batch was looked
        through in this turn of the loop, and is appended in another."""
        for start in range(0, room, FAULT_IN_AT_ONCE):
            self._log.fault_in(start, FAULT_IN_AT_ONCE)
            await asyncio.sleep(0)

    def _busy(self) -> bool:
        return self._fanout.busy or (self._peers is not None and self._peers.others_busy)
