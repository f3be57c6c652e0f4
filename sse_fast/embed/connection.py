"""One event stream over ASGI while it is open, for `responses` and `writer`.

The laws of this file:
- sends never interleave, and they go out in the order of the calls; a heartbeat goes only when nothing else does;
- a stream costs one task, which waits for the client to go, and one timer; a heartbeat makes a task while it is sent;
- the task that runs the stream is interrupted, once, when the client goes, the server stops, or the client
  takes nothing for `send_timeout`; `leaving` says which.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from sse_fast._native.wire.frame import encode
from sse_fast.asgi import Receive, Scope, Send, break_off
from sse_fast.base import shutdown
from sse_fast.ends import ENDS
from sse_fast.errors import ConnectionClosed, EndReason

logger = logging.getLogger("sse_fast.embed")

FAILED = encode('{"error":"internal"}', event="error")


class Connection:
    """Open, write, close; all but `write` in one and the same task.

    `ping`: seconds of silence until `heartbeat()` is sent, 0 for never. `send_timeout`: seconds that the client may
    take nothing while something is to be sent, None for ever. `on_disconnect` is awaited with the client's
    `http.disconnect`, before the stream is interrupted. At a shutdown of the server `on_shutdown.set()` is called, and
    the stream is interrupted `grace` seconds later.
    """

    __slots__ = (
        "_cancelling",
        "_closed",
        "_grace",
        "_heartbeat",
        "_interrupted",
        "_last_sent",
        "_loop",
        "_on_disconnect",
        "_on_shutdown",
        "_ping",
        "_pinging",
        "_receive",
        "_scope",
        "_send",
        "_send_timeout",
        "_sending_since",
        "_shutting_down",
        "_task",
        "_timer",
        "_turn",
        "_watcher",
        "end_reason",
        "failure",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        ping: float,
        heartbeat: Callable[[], bytes],
        send_timeout: float | None,
        on_disconnect: Callable[[Any], Awaitable[None]] | None = None,
        on_shutdown: Any = None,
        grace: float = 0,
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._ping, self._heartbeat, self._send_timeout = ping, heartbeat, send_timeout
        self._on_disconnect, self._on_shutdown, self._grace = on_disconnect, on_shutdown, grace
        self._turn = asyncio.Lock()
        self._last_sent = 0.0
        self._sending_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._shutting_down: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._interrupted = self._closed = False
        self.end_reason: EndReason | None = None
        """Why the stream ends; None while it goes on, and when it ends by itself."""
        self.failure: Exception | None = None
        """What the server's own send raised, if that was not that the client is gone."""

    async def open(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head; from here on the current task may be interrupted, until `close`."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()  # by others, before
        shutdown.watch(self._shut_down)
        await self._pass_on({"type": "http.response.start", "status": status, "headers": headers})
        self._watcher = self._loop.create_task(self._watch())
        self._set_timer(self._last_sent)

    async def write(self, body: bytes) -> None:
        """Raises ConnectionClosed, or whatever else the server's own send raised."""
        async with self._turn:
            if self.end_reason is EndReason.CLIENT or self.end_reason is EndReason.SLOW or self._closed:
                raise ConnectionClosed(f"the stream has ended: {self.end_reason}")
            await self._pass_on({"type": "http.response.body", "body": body, "more_body": True})

    @property
    def sending(self) -> bool:
        return self._turn.locked()

    def interrupt(self, reason: EndReason) -> None:
        """End the stream: cancel the task that runs it. Again: nothing happens."""
        if self.end_reason is None and not self._closed:
            self.end_reason = reason
            self._interrupted = True
            self._task.cancel()

    def give_up(self) -> None:
        """A send failed in another task than the one that runs the stream: end the stream."""
        self.end_reason = self.end_reason or (EndReason.ERROR if self.failure is not None else EndReason.CLIENT)
        if not self._interrupted and not self._closed:
            self._interrupted = True
            self._task.cancel()

    async def close(self, *, complete: bool) -> None:
        """Nothing is sent after this but the end of the response, if it is `complete`; a client can tell one that is
        not. Raises CancelledError if the task was cancelled by others than `interrupt`."""
        shutdown.unwatch(self._shut_down)
        ended = False
        try:
            if complete and self.failure is None and self.end_reason in (None, EndReason.ERROR):
                async with self._turn:
                    self._closed = True
                    await self._pass_on({"type": "http.response.body", "body": b"", "more_body": False})
                    ended = True
        except ConnectionClosed:
            pass
        except asyncio.CancelledError:
            if self.end_reason is None:
                raise
        finally:
            self._closed = True
            for handle in (self._timer, self._shutting_down, self._watcher, self._pinging):
                if handle is not None:
                    handle.cancel()
            if self._interrupted and not ended and self.end_reason is not EndReason.CLIENT and self.failure is None:
                await break_off(self._receive)
            cancelled = self._interrupted and self._task.uncancel() > self._cancelling
        if cancelled:
            raise asyncio.CancelledError

    async def _pass_on(self, message: dict[str, Any]) -> None:
        self._last_sent = self._sending_since = monotonic()
        try:
            await self._send(message)
        except OSError as error:  # ASGI 2.4: the client is gone
            self.end_reason = self.end_reason or EndReason.CLIENT
            raise ConnectionClosed("the client has left") from error
        except Exception as error:
            self.failure = error
            raise
        finally:
            self._sending_since = 0.0

    async def _watch(self) -> None:
        """Wait for the client to go."""
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                pass
        except Exception:
            logger.exception("the server cannot say when the client leaves", extra={"path": self._scope["path"]})
            self.interrupt(EndReason.ERROR)
        else:
            await self.disconnected(message)
            self.interrupt(EndReason.CLIENT)

    async def disconnected(self, message: Any) -> None:
        """Run the callbacks for a client that has left."""
        told, self._on_disconnect = self._on_disconnect, None
        if told is not None:
            try:
                await told(message)
            except Exception:
                logger.exception("the handler of a disconnect failed", extra={"path": self._scope["path"]})

    # One timer for both; nothing touches it when something is sent. A send that began after it was set is looked at
    # when it next goes off, which is `send_timeout` later at most, and again at the very moment it is due.

    def _set_timer(self, now: float) -> None:
        due = self._last_sent + self._ping if self._ping else float("inf")
        if self._send_timeout is not None:
            due = min(due, (self._sending_since or now) + self._send_timeout)
        if due != float("inf"):
            self._timer = self._loop.call_later(max(due - now, 0.0), self._tick)

    def _tick(self) -> None:
        now = monotonic()
        if self._sending_since:
            if self._send_timeout is not None and now >= self._sending_since + self._send_timeout:
                logger.log(
                    ENDS[EndReason.SLOW].level,
                    "stream ended: the client took nothing for %g s",
                    self._send_timeout,
                    extra={"reason": EndReason.SLOW.value, "path": self._scope["path"]},
                )
                self.interrupt(EndReason.SLOW)
                return
            self._last_sent = now  # it is not idle
        elif self._ping and now >= self._last_sent + self._ping:
            self._last_sent = now
            self._pinging = self._loop.create_task(self._send_heartbeat())
        self._set_timer(now)

    async def _send_heartbeat(self) -> None:
        try:
            await self.write(self._heartbeat())
        except ConnectionClosed:
            self.give_up()
        except Exception:
            logger.exception("a heartbeat could not be sent", extra={"path": self._scope["path"]})
            self.interrupt(EndReason.ERROR)
        finally:
            self._pinging = None

    def _shut_down(self) -> None:
        if self._shutting_down is None:
            if self._on_shutdown is not None:
                self._on_shutdown.set()
            self._shutting_down = self._loop.call_later(self._grace, self.interrupt, EndReason.SHUTDOWN)


def check_seconds(name: str, seconds: Any, *, zero: bool = True) -> None:
    """Raises TypeError or ValueError for what is no number of seconds."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"{name} is a number of seconds, not {type(seconds).__name__}")
    if not (seconds >= 0 if zero else seconds > 0):
        raise ValueError(f"{name} is {'0 or more' if zero else 'more than 0'} seconds, not {seconds:g}")
