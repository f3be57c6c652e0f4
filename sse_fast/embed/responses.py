"""EventSourceResponse: what an iterable yields, as an event stream in anybody's ASGI app.

Its parameters are sse-starlette's, so that changing the import is the migration; what differs is listed in
docs/coming-from/sse-starlette.md.

How it is sent. The response's own task iterates; there is no queue. What the content yields is sent at once, unless the
content shows that it has more ready: while it yields within `QUICK` of the last time, its events are gathered, and go
out together when it waits for something, after `LONGEST`, or when they make `FULL` bytes. A content that never waits
gives the loop back after each such send. So nothing is held back while the content waits, and at most one step of the
content's own computing passes between an event and its send.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from time import monotonic
from typing import Any

import anyio
from starlette.background import BackgroundTask
from starlette.responses import Response

from sse_fast._native.wire.control import HEARTBEAT
from sse_fast.asgi import Receive, Scope, Send, answer_head, set_stream_headers
from sse_fast.embed import items
from sse_fast.embed.connection import FAILED, Connection, check_seconds
from sse_fast.errors import ConnectionClosed, EndReason

logger = logging.getLogger("sse_fast.embed")

QUICK = 0.0005  # seconds
LONGEST = 0.002
FULL = 32 * 1024  # bytes; half of what uvicorn buffers before it makes a send wait


class EventSourceResponse(Response):
    """A response that streams what `content` yields as Server-Sent Events.

    content: an async or a sync iterable of events: `str`, `bytes` that are encoded already, `dict`s with the keys data,
    event, id, retry, comment; `Event`; or any other value that `sse_fast.serialization` takes, as JSON. It is closed in
    any case, in the task that iterated it. If it raises, clients get an event of type `error` that says no more than
    that, the log gets the traceback, and the stream ends.

    ping: seconds of silence until a comment is sent, 15 by default, 0 for never; what `ping_message_factory` returns
    is sent instead. send_timeout: seconds that a client may take nothing while there is something to send; then the
    stream ends. background: runs afterwards, however the stream ended.

    client_close_handler_callable: awaited with the `http.disconnect` message when the client has left, before the
    content is cancelled. data_sender_callable: runs in a task beside the stream, and is cancelled with it.
    shutdown_event: its `set()` is called at SIGTERM and SIGINT, `shutdown_grace_period` seconds before the content is
    cancelled. cleanup_timeout: seconds that the closing of the content may take, None for any.

    Raises TypeError or ValueError for arguments that cannot be.
    """

    media_type = "text/event-stream"
    DEFAULT_PING_INTERVAL: float = 15
    DEFAULT_CLEANUP_TIMEOUT = 30.0

    def __init__(
        self,
        content: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        ping: float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], Any] | None = None,
        data_sender_callable: Callable[[], Coroutine[Any, Any, None]] | None = None,
        send_timeout: float | None = None,
        client_close_handler_callable: Callable[[Any], Awaitable[None]] | None = None,
        shutdown_event: Any = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = DEFAULT_CLEANUP_TIMEOUT,
    ) -> None:
        items.check_content(content)
        if sep not in (None, "\n"):
            raise ValueError(f"lines always end with '\\n', which every client takes; leave out sep={sep!r}")
        if shutdown_event is not None and not callable(getattr(shutdown_event, "set", None)):
            raise TypeError(
                f"shutdown_event has a method set(), as anyio.Event; {type(shutdown_event).__name__} has none"
            )
        self.body_iterator = content
        self.status_code = status_code
        if media_type is not None:
            self.media_type = media_type
        self.background = background
        self.ping_interval = ping if ping is not None else self.DEFAULT_PING_INTERVAL
        self.ping_message_factory = ping_message_factory
        self.data_sender_callable = data_sender_callable
        self.send_timeout = send_timeout
        self.client_close_handler_callable = client_close_handler_callable
        self._shutdown_event = shutdown_event
        self._shutdown_grace_period = shutdown_grace_period
        self._cleanup_timeout = cleanup_timeout
        check_seconds("ping", self.ping_interval)
        check_seconds("shutdown_grace_period", shutdown_grace_period)
        if send_timeout is not None:
            check_seconds("send_timeout", send_timeout, zero=False)
        if cleanup_timeout is not None:
            check_seconds("cleanup_timeout", cleanup_timeout)
        self.init_headers(headers)
        set_stream_headers(self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"an event stream answers HTTP requests, not {scope['type']!r}")
        if scope["method"] == "HEAD":
            try:
                await answer_head(send, self.status_code, self.raw_headers)
            finally:
                await self._close(self.body_iterator, scope)
        else:
            await self._stream(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(
            scope,
            receive,
            send,
            ping=self.ping_interval,
            heartbeat=self._heartbeat,
            send_timeout=self.send_timeout,
            on_disconnect=self.client_close_handler_callable,
            on_shutdown=self._shutdown_event,
            grace=self._shutdown_grace_period,
        )
        content: Any = self.body_iterator
        sender: asyncio.Task[None] | None = None
        complete = False
        try:
            await connection.open(self.status_code, self.raw_headers)
            content = items.iterate(content)
            if self.data_sender_callable is not None:
                sender = asyncio.get_running_loop().create_task(self._send_data(self.data_sender_callable, connection))
            await _Pump(connection, content)
            complete = connection.end_reason is None
        except asyncio.CancelledError:
            if connection.end_reason is None:
                connection.end_reason = EndReason.SHUTDOWN
                raise
            if connection.failure is not None:
                raise connection.failure from None
            complete = connection.end_reason is EndReason.ERROR and await self._say_failed(connection)
        except ConnectionClosed:
            pass  # `leaving` says it
        except Exception:
            if connection.failure is not None:
                raise
            logger.exception("stream ended: its content failed", extra={"path": scope["path"]})
            complete = await self._say_failed(connection)
        finally:
            try:
                if connection.end_reason is EndReason.CLIENT:
                    await connection.disconnected({"type": "http.disconnect"})
                await self._close(content, scope, sender)
            except asyncio.CancelledError:
                if connection.end_reason is None:
                    raise
            finally:
                await connection.close(complete=complete)

    async def _send_data(self, send_data: Callable[[], Coroutine[Any, Any, None]], connection: Connection) -> None:
        try:
            await send_data()
        except Exception:
            logger.exception("stream ended: its data_sender_callable failed")
            connection.interrupt(EndReason.ERROR)

    @staticmethod
    async def _say_failed(connection: Connection) -> bool:
        """Whether the client could still be told."""
        try:
            await connection.write(FAILED)
        except ConnectionClosed:
            return False
        except asyncio.CancelledError:
            if connection.end_reason is None:
                raise
            return False
        connection.end_reason = EndReason.ERROR
        return True

    async def _close(self, content: Any, scope: Scope, sender: asyncio.Task[None] | None = None) -> None:
        with anyio.move_on_after(self._cleanup_timeout, shield=True) as bound:
            try:
                await items.close(content)
            except Exception:
                logger.exception("closing a stream's content failed", extra={"path": scope["path"]})
            if sender is not None and not sender.done():
                sender.cancel()
                await asyncio.wait((sender,))
        if bound.cancel_called:
            logger.warning(
                "closing a stream's content took more than %g s, and was cancelled",
                self._cleanup_timeout,
                extra={"path": scope["path"]},
            )

    def _heartbeat(self) -> bytes:
        return HEARTBEAT if self.ping_message_factory is None else items.frame(self.ping_message_factory())


class _Pump:
    """Awaited once: sends all that `content` yields.

    `_gather` is the coroutine that iterates; `__await__` steps it, and so sees it wait. Then what was gathered is sent
    while the content waits on. If such a send has to wait too, the task waits for the send, and then for what the
    content waits for; but a cancellation that comes meanwhile is the content's, as if it had waited alone: its own
    `asyncio.timeout` or cancel scope may have sent it.
    """

    __slots__ = ("_connection", "_content", "_pending", "_size", "_waited")

    def __init__(self, connection: Connection, content: AsyncIterator[Any]) -> None:
        self._connection, self._content = connection, content
        self._pending: list[bytes] = []
        self._size = 0
        self._waited = False  # since the last send

    async def _gather(self) -> None:
        try:
            await self._gather_and_write()
        finally:
            if self._pending:  # it has ended, or failed behind these
                await self._connection.write(self._take())

    async def _gather_and_write(self) -> None:
        connection = self._connection
        last = sent = monotonic()
        async for item in self._content:
            frame = items.frame(item)
            self._pending.append(frame)
            self._size += len(frame)
            now = monotonic()
            if now - last > QUICK or now - sent > LONGEST or self._size >= FULL or connection.end_reason is not None:
                await connection.write(self._take())
                if connection.end_reason is not None:
                    return
                if not self._waited:
                    await asyncio.sleep(0)
                self._waited = False
                sent = now = monotonic()
            last = now

    def _take(self) -> bytes:
        frames, self._pending, self._size = self._pending, [], 0
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def __await__(self) -> Generator[Any, Any, None]:
        gathering = self._gather()
        step: Callable[[Any], Any] = gathering.send
        argument: Any = None
        while True:
            try:
                awaited = step(argument)
                self._waited = True
                while self._pending:
                    awaited = yield from self._write_meanwhile(gathering, awaited)
            except StopIteration:
                return
            try:
                argument = yield awaited
                step = gathering.send
            except BaseException as error:
                step, argument = gathering.throw, error

    def _write_meanwhile(self, gathering: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, Any]:
        """Send what is pending while the content waits for `awaited`; what it waits for then."""
        writing = self._connection.write(self._take())
        step: Callable[[Any], Any] = writing.send
        argument: Any = None
        outcome: BaseException | None = None  # how the content ended meanwhile
        stirred = False  # a cancellation woke the content; from then on it goes on beside the send
        while True:
            try:
                blocked = step(argument)
            except StopIteration:
                break
            except (Exception, asyncio.CancelledError):
                self._connection.give_up()
                break
            step, argument = writing.send, None
            while True:
                try:
                    yield from _first_of((blocked, awaited) if stirred and outcome is None else (blocked,))
                    if _is_over(blocked):
                        break
                    awaited, outcome = _outcome(gathering.send, None)
                except BaseException as error:
                    if outcome is None:
                        stirred = True
                        awaited, outcome = _outcome(gathering.throw, error)
                        if self._connection.end_reason is None and (outcome is None or isinstance(outcome, Exception)):
                            continue
                    step, argument = writing.throw, error
                    break
        if outcome is not None:
            raise outcome
        return awaited


def _outcome(step: Callable[[Any], Any], argument: Any) -> tuple[Any, BaseException | None]:
    try:
        return step(argument), None
    except BaseException as outcome:
        return None, outcome


def _is_over(awaited: Any) -> bool:
    """Whether what a coroutine yielded is worth waiting for no longer; a bare yield waits for one turn of the loop."""
    return not asyncio.isfuture(awaited) or awaited.done()


def _first_of(all_awaited: tuple[Any, ...]) -> Generator[Any, Any, None]:
    """Wait for the first of what coroutines yielded; but a cancellation of the waiting reaches none of it."""
    futures: list[asyncio.Future[Any]] = [awaited for awaited in all_awaited if asyncio.isfuture(awaited)]
    if len(futures) < len(all_awaited):
        yield None
        return
    first = futures[0].get_loop().create_future()

    def end(_: object) -> None:
        if not first.done():
            first.set_result(None)

    for future in futures:
        future._asyncio_future_blocking = False  # as a task does when it takes it
        future.add_done_callback(end)
    try:
        yield from first
    finally:
        for future in futures:
            future.remove_done_callback(end)
            future._asyncio_future_blocking = True
