"""How late the event loop is: what holds it up, of the server's or of an app beside it, holds up everybody."""

import asyncio
import time

from sse_fast._native.base.histogram import Histogram

EVERY = 0.25  # seconds


class LoopLag:
    """From `start` to `stop` a timer of the loop is set over and over; `seconds`: how late it was each time."""

    def __init__(self) -> None:
        self.seconds = Histogram()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """On the running loop. Again: nothing happens."""
        if self._timer is None:
            self._set(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(EVERY, self._look, loop, time.monotonic() + EVERY)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.seconds.observe(time.monotonic() - due)
        self._set(loop)
