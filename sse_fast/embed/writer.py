"""An event stream for code that pushes, in anybody's ASGI app: SSEWriter; as a handler's answer: WriterResponse."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from sse_fast._native.wire.control import HEARTBEAT
from sse_fast._native.wire.frame import encode
from sse_fast.asgi import Receive, Scope, Send, answer_head, set_stream_headers
from sse_fast.embed.connection import FAILED, Connection, check_seconds
from sse_fast.errors import ConnectionClosed, ResponseAlreadySent

logger = logging.getLogger("sse_fast.embed")


class SSEWriter:
    """The answer to one request, as an async context manager: entering it opens the stream, leaving it ends it.

        async with SSEWriter(scope, receive, send) as sse:
            await sse.send({"step": 1}, event="progress")

    It answers the request itself, so it is for an ASGI app; a handler of a framework returns a WriterResponse.

    When the client leaves, the block is cancelled where it waits, and a send raises ConnectionClosed; either way the
    block ends quietly. So it does at a shutdown of the server, and when the client takes nothing for `send_timeout`
    seconds while there is something to send. An exception from the block is passed on, after the client got an event
    of type `error` that says no more than that.

    `ping`: seconds of silence until a comment is sent, 0 for never.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        ping: float = 15,
        send_timeout: float | None = None,
    ) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"an event stream answers HTTP requests, not {scope['type']!r}")
        check_seconds("ping", ping)
        if send_timeout is not None:
            check_seconds("send_timeout", send_timeout, zero=False)
        self._head_only = scope["method"] == "HEAD"
        self._send = send
        self._status_code = status_code
        self._headers = MutableHeaders(headers)
        set_stream_headers(self._headers)
        self._started = self._ended = False
        self._connection = Connection(
            scope, receive, send, ping=ping, heartbeat=lambda: HEARTBEAT, send_timeout=send_timeout
        )

    @property
    def status_code(self) -> int:
        """Of the response's head. Setting it raises ResponseAlreadySent once the stream is open."""
        return self._status_code

    @status_code.setter
    def status_code(self, value: int) -> None:
        self._check_head("the status")
        self._status_code = value

    def set_header(self, name: str, value: str) -> None:
        """Raises ResponseAlreadySent once the stream is open."""
        self._check_head("a header")
        self._headers[name] = value

    @property
    def closed(self) -> bool:
        """Nothing more can be sent."""
        return self._ended or self._connection.end_reason is not None

    async def __aenter__(self) -> Self:
        if self._started:
            raise ResponseAlreadySent("this response has been started already; a request is answered once")
        self._started = True
        if self._head_only:
            self._ended = True
            await answer_head(self._send, self.status_code, self._headers.raw)
        else:
            try:
                await self._connection.open(self.status_code, self._headers.raw)
            except ConnectionClosed:
                pass  # the first send will say so
            except BaseException:
                await self._connection.close(complete=False)
                raise
        return self

    async def send(
        self, data: Any, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> None:
        """Send one event; `data` is `str`, `bytes` in UTF-8, or what `sse_fast.serialization` takes.

        Waits while the client is slow. Any number of tasks may send; the order is that of the calls. Raises
        InvalidEvent, and nothing was sent; ConnectionClosed when the client has left.
        """
        await self._write(encode(data, event=event, id=id, retry=retry))

    async def comment(self, text: str) -> None:
        """Send a comment, which clients skip. Raises as `send`."""
        await self._write(encode(comment=text))

    async def _write(self, frame: bytes) -> None:
        if not self._started:
            raise RuntimeError("the stream is not open yet: async with SSEWriter(...) as sse")
        if self._ended:
            raise ConnectionClosed("the stream has ended")
        await self._connection.write(frame)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool:
        if self._head_only:
            return isinstance(error, ConnectionClosed)
        connection, leaving = self._connection, self._connection.end_reason
        complete = error is None
        try:
            if isinstance(error, Exception) and not self.closed:
                await connection.write(FAILED)
                complete = True
        except ConnectionClosed:
            pass
        finally:
            self._ended = True
            await connection.close(complete=complete)
        return leaving is not None and isinstance(error, (ConnectionClosed, asyncio.CancelledError))

    def _check_head(self, what: str) -> None:
        if self._started:
            raise ResponseAlreadySent(f"the head of the response is gone: {what} is set before the stream opens")


Body = Callable[[SSEWriter], Awaitable[None]]


class WriterResponse(Response):
    """A response that a handler returns, whose stream an async function writes.

        async def job(sse: SSEWriter) -> None:
            await sse.send({"step": 1}, event="progress")

        return WriterResponse(job)

    `body` is called once the stream is open; when it returns the stream ends, and `background` runs, however it ended.
    When the client leaves, at a shutdown of the server, and after `send_timeout`, it is cancelled as the block of an
    SSEWriter is. If it raises, the client gets an event of type `error` that says no more than that, the log gets the
    traceback, and the stream ends. HEAD is answered without calling it.

    `ping` and `send_timeout` as of SSEWriter. Raises TypeError or ValueError for arguments that cannot be.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        body: Body,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        *,
        ping: float = 15,
        send_timeout: float | None = None,
    ) -> None:
        if not callable(body) or inspect.isasyncgenfunction(body):
            if inspect.iscoroutine(body):
                body.close()
            raise TypeError(
                f"body is an async function that is given an SSEWriter, not {type(body).__name__}; "
                "what yields events goes into an EventSourceResponse"
            )
        check_seconds("ping", ping)
        if send_timeout is not None:
            check_seconds("send_timeout", send_timeout, zero=False)
        self.status_code = status_code
        self.background = background
        self._body, self._ping, self._send_timeout = body, ping, send_timeout
        self.init_headers(headers)
        set_stream_headers(self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await answer_head(send, self.status_code, self.raw_headers)
        else:
            await self._write(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        sse = SSEWriter(
            scope,
            receive,
            send,
            status_code=self.status_code,
            headers=self.headers,
            ping=self._ping,
            send_timeout=self._send_timeout,
        )
        try:
            async with sse:
                await self._body(sse)
        except Exception:
            if sse._connection.failure is not None:
                raise
            logger.exception("stream ended: its body failed", extra={"path": scope["path"]})
