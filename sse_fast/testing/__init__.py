"""For tests of your own app: read its event streams in process, without a server.

    async with EventClient(app) as client:
        async with client.stream("/sse/orders") as stream:
            event = await stream.next(timeout=1)
            assert event.json() == {"paid": True}

httpx' own ASGITransport first waits for the end of the response, which a stream never reaches. Here the app runs in a
task beside the test. It has as much room for what is not read yet as a server has, then its sends wait. EndReason the
block is the client's leaving: the app gets `http.disconnect`, and has to end.
"""

# ruff: noqa: ASYNC109 - a test says how long it waits for an event, and is told what came instead

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Self

from sse_fast.errors import NeedsExtra

try:
    import httpx
except ModuleNotFoundError as missing:
    raise NeedsExtra("sse_fast.testing", missing, "client") from None

from anyio.from_thread import BlockingPortal, start_blocking_portal

from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.asgi import Receive, Scope, Send

__all__ = [
    "AppStillRunning",
    "EventClient",
    "EventStream",
    "NoEvent",
    "ReceivedEvent",
    "SyncEventClient",
    "SyncEventStream",
]

App = Callable[[Scope, Receive, Send], Awaitable[None]]

TIMEOUT = 5.0  # seconds
ROOM = 64 * 1024  # bytes


class NoEvent(AssertionError):
    """The event that was waited for did not come. Says what came instead."""


class AppStillRunning(AssertionError):
    """The app did not end after its client had left."""


class EventClient:
    """Reads event streams from an ASGI app; runs the app's lifespan round the block unless `lifespan` is False.

    `timeout`: seconds for every single wait. `http`: an httpx client of the same app, for requests that are answered
    at once; its cookies, headers and auth headers go with the streams too.
    """

    def __init__(
        self,
        app: App | Any,
        *,
        base_url: str = "http://testserver",
        headers: Mapping[str, str] | None = None,
        lifespan: bool = True,
        timeout: float = TIMEOUT,
    ) -> None:
        self._app = app
        self._lifespan = _Lifespan(app, timeout) if lifespan else None
        self._timeout = timeout
        self._open = AsyncExitStack()
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self._run), base_url=base_url, headers=headers)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            if self._lifespan is not None:
                await opening.enter_async_context(self._lifespan)
            await opening.enter_async_context(self.http)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._open.__aexit__(*error)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._lifespan is not None:
            scope["state"] = self._lifespan.state.copy()
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def stream(
        self, url: str, *, method: str = "GET", last_event_id: str | None = None, **request: Any
    ) -> AsyncIterator["EventStream"]:
        """Open a stream; `request` is what httpx takes: headers, params, json, content...

        Returns when the head of the response is there. Raises what the app raises.
        """
        built = self.http.build_request(method, url, **request)
        built.headers.setdefault("accept", "text/event-stream")
        if last_event_id is not None:
            built.headers["last-event-id"] = last_event_id
        exchange = _Exchange(self._run, built, await built.aread())
        try:
            stream = EventStream(exchange, await exchange.head(self._timeout), self._timeout)
            self.http.cookies.extract_cookies(stream.response)
            yield stream
        except BaseException:
            await exchange.abandon()
            raise
        await exchange.leave(self._timeout)


class EventStream:
    """One open stream."""

    def __init__(self, exchange: "_Exchange", response: httpx.Response, timeout: float) -> None:
        self._exchange = exchange
        self._timeout = timeout
        self.response = response
        self.events: list[ReceivedEvent] = []
        """Every event that `next` gave so far."""
        self.comments: list[str] = []
        """The comments before and between them, heartbeats among them."""
        self._parser = EventParser(on_comment=self.comments.append)
        self._is_read = EventParser.reads(response.headers.get("content-type"))

    @property
    def status_code(self) -> int:
        """Of the response's head."""
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        """Of the response's head."""
        return self.response.headers

    @property
    def complete(self) -> bool:
        """The app has ended its response. One that was broken off never is, though there is no more to read."""
        return self._exchange.complete

    @property
    def text(self) -> str:
        """All that has been read so far, as it came."""
        return self._exchange.read_so_far.decode(errors="replace")

    async def next(self, timeout: float | None = None) -> ReceivedEvent:
        """The next event. Raises NoEvent when none has come after `timeout` seconds, or when the stream ends before;
        and what the app raises."""
        event = await self._next(timeout)
        if event is None:
            raise NoEvent(f"the stream ended without another event; {self._so_far()}")
        return event

    async def take(self, count: int, timeout: float | None = None) -> list[ReceivedEvent]:
        """So many events; `timeout` for each of them. Raises as `next`."""
        return [await self.next(timeout) for _ in range(count)]

    async def rest(self, timeout: float | None = None) -> list[ReceivedEvent]:
        """All events until the stream ends; `timeout` for each of them. Raises as `next`."""
        return [event async for event in self._until_the_end(timeout)]

    def __aiter__(self) -> AsyncIterator[ReceivedEvent]:
        return self._until_the_end(None)

    async def _until_the_end(self, timeout: float | None) -> AsyncIterator[ReceivedEvent]:
        while (event := await self._next(timeout)) is not None:
            yield event

    async def _next(self, timeout: float | None) -> ReceivedEvent | None:
        seconds = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                while (event := next(self._parser, None)) is None:
                    chunk = await self._exchange.read()
                    if not chunk:
                        return None
                    if self._is_read:
                        self._parser.feed(chunk)
        except TimeoutError:
            raise NoEvent(f"no event came within {seconds:g} s; {self._so_far()}") from None
        self.events.append(event)
        return event

    def _so_far(self) -> str:
        kind = self.headers.get("content-type", "no content type")
        said = f"the response is {self.status_code}, {kind}{'' if self._is_read else ', and no event stream'}"
        if not self._exchange.read_so_far:
            return f"{said}; nothing was received"
        return f"{said}; received so far: {len(self.events)} events in {bytes(self._exchange.read_so_far[-1000:])!r}"


class SyncEventClient:
    """EventClient for plain test functions: the app runs on a loop in a thread of its own.

    with SyncEventClient(app) as client, client.stream("/sse/orders") as stream:
        assert stream.next(timeout=1).data == "paid"
    """

    def __init__(self, app: App | Any, **options: Any) -> None:
        self._client = EventClient(app, **options)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._portal = opening.enter_context(start_blocking_portal())
            opening.enter_context(self._portal.wrap_async_context_manager(self._client))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    @contextmanager
    def stream(self, url: str, **request: Any) -> Iterator["SyncEventStream"]:
        """Open a stream; parameters and errors as in `EventClient.stream`."""
        with self._portal.wrap_async_context_manager(self._client.stream(url, **request)) as stream:
            yield SyncEventStream(self._portal, stream)

    def request(self, method: str, url: str, **request: Any) -> httpx.Response:
        """A request that is answered at once."""

        async def ask() -> httpx.Response:
            return await self._client.http.request(method, url, **request)

        return self._portal.call(ask)


class SyncEventStream:
    """EventStream, waiting in the thread of the test."""

    def __init__(self, portal: BlockingPortal, stream: EventStream) -> None:
        self._portal, self._stream = portal, stream

    def next(self, timeout: float | None = None) -> ReceivedEvent:
        """The next event; see `EventStream.next`."""
        return self._portal.call(self._stream.next, timeout)

    def take(self, count: int, timeout: float | None = None) -> list[ReceivedEvent]:
        """So many events; see `EventStream.take`."""
        return self._portal.call(self._stream.take, count, timeout)

    def rest(self, timeout: float | None = None) -> list[ReceivedEvent]:
        """All events until the stream ends; see `EventStream.rest`."""
        return self._portal.call(self._stream.rest, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Exchange:
    """One request to the app, which runs in a task, and the response as far as it has come."""

    def __init__(self, app: App, request: httpx.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._unread = bytearray()
        self._start: MutableMapping[str, Any] | None = None
        self.complete = False
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._left = asyncio.Event()
        self.read_so_far = bytearray()
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 50_000),
            "server": (url.host, url.port or (443 if url.scheme == "https" else 80)),
        }
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))
        self._task.add_done_callback(lambda _: self._something.set())

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            assert self._start is None, "the app started its response twice"
            self._start = message
        else:
            assert self._start is not None, f"the app sent {message['type']} before http.response.start"
            assert not self.complete, "the app sent more after the end of its response"
            while len(self._unread) > ROOM and not self._left.is_set():
                self._room.clear()
                await self._room.wait()
            self._unread += message.get("body", b"")
            if not message.get("more_body", False):
                self.complete = True
                self._left.set()  # as servers do: nothing else is left to be received
        self._something.set()

    async def head(self, timeout: float) -> httpx.Response:
        try:
            async with asyncio.timeout(timeout):
                while self._start is None and not self._task.done():
                    await self._wait()
        except TimeoutError:
            raise NoEvent(f"the app did not start its response within {timeout:g} s") from None
        if self._start is None:
            self._task.result()
            raise NoEvent("the app ended without a response")
        return httpx.Response(self._start["status"], headers=self._start.get("headers", []), request=self._request)

    async def read(self) -> bytes:
        """What has come, or nothing at the end. Raises what the app raises."""
        while not self._unread and not self.complete and not self._task.done():
            await self._wait()
        if not self._unread and self._task.done():
            self._task.result()
        chunk = bytes(self._unread)
        self._unread.clear()
        self._room.set()
        self.read_so_far += chunk
        return chunk

    async def _wait(self) -> None:
        self._something.clear()
        await self._something.wait()

    async def leave(self, timeout: float) -> None:
        """As a client that closes its connection; returns when the app has ended. Raises what the app raises."""
        self._left.set()
        self._room.set()
        done, _ = await asyncio.wait((self._task,), timeout=timeout)
        if not done:
            await self.abandon()
            raise AppStillRunning(f"the app still ran {timeout:g} s after its client had left, and was cancelled")
        self._task.result()

    async def abandon(self) -> None:
        self._left.set()
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()  # the test has failed by something else already


class _Lifespan:
    """The app's lifespan, round a block."""

    def __init__(self, app: App, timeout: float) -> None:
        self._app = app
        self._timeout = timeout
        self.state: dict[str, Any] = {}

    async def __aenter__(self) -> None:
        self._messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self._app(scope, self._messages.get, self._answers.put))
        await self._say("startup")

    async def __aexit__(self, *error: Any) -> None:
        if not self._task.done():
            await self._say("shutdown")
        self._task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._task

    async def _say(self, what: str) -> None:
        self._messages.put_nowait({"type": f"lifespan.{what}"})
        answering = asyncio.ensure_future(self._answers.get())
        await asyncio.wait((answering, self._task), timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
            if not self._task.done():
                self._task.cancel()
                raise TimeoutError(f"the app's {what} took more than {self._timeout:g} s")
            return  # an app that knows no lifespan raises, or returns
        answer = answering.result()
        if answer["type"].endswith(".failed"):
            raise RuntimeError(f"the app's {what} failed: {answer.get('message', '')}")
