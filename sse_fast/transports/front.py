"""The stream transport: the second port, whose connections the native module owns.

A request's head is parsed here and put to the same ASGI app as at the main port, so one place decides what is
admitted, what a request means and which headers it is answered with. Only the way of the bytes differs: a stream that
was admitted is taken over by the connection, and no task, coroutine or scope of it stays.
"""

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.errors import EndReason
from sse_fast.protocol.problem import Problem
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.stream import ALLOW, TAKE_OVER, query_is_plain

logger = logging.getLogger("sse_fast.transports")

BACKLOG = 4096
HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
REMEMBERED_BYTES, REMEMBERED_HEADS = 1024, 256  # of a head, and how many
TICK = 0.25  # seconds
DEFER_SECONDS = 1  # the least: who has not sent a byte by then is accepted all the same

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Streaming(Protocol):
    """What the transport needs of those who keep the streams."""

    def left(self, address: str, reason: EndReason) -> None: ...
    def no_room(self) -> None: ...


class BadHead(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _EndOfHead(Exception):
    """Stops the parser: what comes behind the head, a body or another request, is nobody's."""


class _Head:
    """A request's head. The parser calls its `on_*`."""

    __slots__ = ("complete", "headers", "method", "minor", "size", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0
        self.complete = False
        self.method, self.minor = "GET", "1.1"

    def on_url(self, part: bytes) -> None:
        self.target += part
        self.size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))
        self.size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        self.complete = True
        raise _EndOfHead


class _Reading:
    """A head while it comes. Apart from `_Head`, or the two and the parser would be a circle, left to the collector."""

    __slots__ = ("_parser", "head", "size")

    def __init__(self) -> None:
        self.head = _Head()
        self._parser = HttpRequestParser(self.head)
        self.size = 0

    def feed(self, data: bytes) -> bool:
        """True: the head is complete. Raises BadHead."""
        head = self.head
        self.size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise BadHead(400, "this is not an HTTP/1.1 request") from None  # an HTTP/2 preface
        except HttpParserError as error:
            if not head.complete:
                raise BadHead(400, f"this is not an HTTP/1.1 request: {error}") from None
        if (head.size if head.complete else self.size) > HEAD_BYTES:
            raise BadHead(431, f"a request's head has at most {HEAD_BYTES} bytes")
        if not head.complete:
            return False
        head.method = self._parser.get_method().decode("ascii")
        head.minor = self._parser.get_http_version()
        if head.minor not in ("1.0", "1.1"):
            head.minor = "1.0"
            raise BadHead(505, "this port speaks HTTP/1.1")
        return True


# Headers that hold nobody's secret. What is not named here, a cookie or somebody's own token, is read anew each time.
PLAIN_HEADERS = frozenset(
    b"host user-agent accept accept-language accept-encoding cache-control pragma connection keep-alive te priority "
    b"origin last-event-id dnt upgrade-insecure-requests x-requested-with x-real-ip "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
PLAIN_FAMILIES = (b"sec-fetch-", b"sec-ch-", b"sec-gpc")


def holds_no_secret(head: _Head) -> bool:
    target = head.target
    if not target.startswith(b"/") or b"#" in target:
        return False
    if b"?" in target and not query_is_plain(target.partition(b"?")[2]):
        return False
    if PLAIN_HEADERS.issuperset([name for name, _ in head.headers]):
        return True
    return all(
        name in PLAIN_HEADERS
        or name.startswith(PLAIN_FAMILIES)
        or (name == b"referer" and value.count(b"/") == 3 and value.endswith(b"/"))  # a page's origin, not its address
        for name, value in head.headers
    )


class RememberedHeads:
    """Heads by their bytes: clients of one program send the same words, after a cut thousands at once. None with a
    secret in it: those are hardly ever the same, and have no business to stay in memory."""

    def __init__(self, most: int = REMEMBERED_HEADS) -> None:
        self._heads: OrderedDict[bytes, _Head] = OrderedDict()
        self._most = most

    def get(self, data: bytes) -> _Head | None:
        return self._heads.get(data)

    def keep(self, data: bytes, head: _Head) -> None:
        """`data`: what has come from a client, all in one piece. It is kept if it is this head, and no more."""
        if len(data) <= REMEMBERED_BYTES and data.find(b"\r\n\r\n") == len(data) - 4 and holds_no_secret(head):
            if len(self._heads) == self._most:
                self._heads.popitem(last=False)
            self._heads[data] = head


class _Exchange:
    """One request put to the ASGI app, and what the app sends, until it makes a stream of it. Without a connection it
    can only be answered."""

    __slots__ = ("_chunked", "_connection", "_date", "_head", "body", "ended", "start", "taken_over")

    def __init__(self, connection: Connection | None, head: _Head, date: bytes) -> None:
        self._connection = connection
        self._head = head
        self._date = date
        self._chunked = head.minor == "1.1"
        self.start: dict[str, Any] = {}
        self.body = b""
        self.ended = self.taken_over = False

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    # ---- stream.TakeOver --------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        return self._connection is not None

    @property
    def sink(self) -> Sink:
        assert self._connection is not None
        return self._connection

    def stream(self, subscriber: Subscriber, opening: bytes, address: str) -> None:
        """The request becomes a stream of the connection, behind the head that was sent."""
        assert self._connection is not None
        self.taken_over = True
        self._connection.stream(self._rendered(opening), subscriber, address, self._chunked)

    # ---- the answer -------------------------------------------------------------------------------------------------

    def answer(self) -> bytes:
        """What was sent: whole, or without an end where the app did not end it."""
        if self._head.method == "HEAD":
            return self._rendered(None)
        return self._rendered(self.body, whole=self.ended)

    def _rendered(self, body: bytes | None, *, whole: bool = False) -> bytes:
        head = rendered_head(self.start["status"], tuple(self.start.get("headers", ())))
        if body is None or whole or not self._chunked:
            return b"%bdate: %b\r\nconnection: close\r\n\r\n%b" % (head, self._date, body or b"")
        # No "connection: close" here: undici, which is the fetch of Node, then takes whatever is cut off for whole.
        framed = (head, self._date, len(body), body)
        return b"%bdate: %b\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % framed


@lru_cache(maxsize=256)  # nearly always the same few
def rendered_head(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The head of an answer, open at its end."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, b"".join(lines))


class Front:
    """Front(app, fanout, streams, resume, …): listens from `open` to `close`, on one event loop.

    `app` is asked for every request under /sse; `main` names the port where everything else is, in words.
    """

    def __init__(
        self,
        app: App,
        fanout: FanOut,
        streams: Streaming,
        resume: Callable[[Subscriber], None],
        *,
        main: str,
        most: int,
        bounds: Bounds | None = None,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self._app = app
        self._fanout = fanout
        self._streams = streams
        self._main = main
        self._most = most
        self._bounds = bounds
        self._head_seconds = head_seconds
        self.resume = resume
        self.left = streams.left
        self.bad_heads = 0
        self._remembered = RememberedHeads()
        self.listener: Listener | None = None

    def open(self, host: str, port: int) -> None:
        """Listen. Raises OSError, and then nobody listens."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(bound_socket(host, port, self._bounds))
            # A connection is accepted with its request, which saves a turn of the loop for each.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
            self._socket.listen(BACKLOG)
            self._server: tuple[str, int] = self._socket.getsockname()[:2]
            listener = Listener(self._socket, self._fanout, self, head_seconds=self._head_seconds, most=self._most)
            loop.add_reader(listener.fileno(), listener.turn)
            undo.pop_all()
        self.listener = listener
        self._tick(loop, listener)

    @property
    def port(self) -> int:
        return self._server[1]

    def close(self) -> None:
        """End what is open and listen no more. Again: nothing happens."""
        if self.listener is not None:
            self._ticking.cancel()
            asyncio.get_running_loop().remove_reader(self.listener.fileno())
            self.listener.close()
            self._socket.close()
            self.listener = None

    def _tick(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._ticking = loop.call_later(TICK, self._tick, loop, listener)
        self._date = formatdate(usegmt=True).encode()
        listener.tick(loop.time())

    # ---- for the listener -------------------------------------------------------------------------------------------

    def turn_away(self, data: bytes) -> bytes:
        """What a client is answered that finds no room; `data` is what has come of its request, mostly all of it. The
        app is asked, so it is answered as any other that is turned away, in a form that its origin may read."""
        self._streams.no_room()
        reading = _Reading()
        try:
            complete = reading.feed(data)
        except BadHead as bad:
            return self._refuse(None, reading.head, bad).answer()
        if not complete and not reading.head.headers:
            return b""  # nobody knows yet what it is; a connection that breaks brings a browser back
        return self._put_to_app(None, reading.head).answer()

    def feed(self, connection: Connection, data: bytes) -> None:
        """Bytes of a request."""
        reading: _Reading | None = connection.context
        if reading is None and (known := self._remembered.get(data)) is not None:
            self._put_to_app(connection, known)
            return
        in_one_piece = reading is None
        reading = connection.context = reading or _Reading()
        try:
            complete = reading.feed(data)
        except BadHead as bad:
            self._refuse(connection, reading.head, bad)
            return
        if complete:
            if in_one_piece:
                self._remembered.keep(data, reading.head)
            self._put_to_app(connection, reading.head)
        return

    def late(self, connection: Connection) -> None:
        reading: _Reading | None = connection.context
        if reading is not None:
            late = BadHead(408, f"a request's head comes within {self._head_seconds:g} s")
            self._refuse(connection, reading.head, late)
        else:
            connection.abort()  # it never said a word

    # ---- the answer -------------------------------------------------------------------------------------------------

    def _put_to_app(self, connection: Connection | None, head: _Head) -> _Exchange:
        target = head.target
        if not target.startswith(b"/"):  # a request to a proxy, or OPTIONS *
            target = target.partition(b"://")[2].partition(b"/")[2]
            target = b"/" + target
        raw_path, _, query = target.partition(b"#")[0].partition(b"?")
        path = unquote(raw_path.decode("latin-1"))
        app = self._app if path == "/sse" or path.startswith("/sse/") else self._elsewhere
        if head.method not in ("GET", "HEAD", "OPTIONS"):
            app = self._elsewhere
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.minor,
            "method": head.method,
            "scheme": "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers.copy(),
            "client": (connection.address, 0) if connection is not None else None,
            "server": self._server,
        }
        exchange = _Exchange(connection, head, self._date)
        scope[TAKE_OVER] = exchange
        return self._run(app(scope, exchange.receive, exchange.send), exchange, connection)

    def _run(self, answering: Awaitable[None], exchange: _Exchange, connection: Connection | None) -> _Exchange:
        coroutine = cast("Coroutine[Any, Any, None]", answering)
        try:
            coroutine.send(None)
        except StopIteration:
            if connection is not None and not exchange.taken_over:
                connection.answer(exchange.answer())
            return exchange
        coroutine.close()
        raise RuntimeError("whoever answers at the stream transport may not wait, and this did")

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What this port has not got."""
        streams = scope["path"] == "/sse" or scope["path"].startswith("/sse/")
        detail = f"this port serves event streams only, {ALLOW} under /sse; everything else is on {self._main}"
        problem = Problem(405, detail, {"allow": ALLOW}) if streams else Problem(404, detail)
        await problem(scope, receive, send)

    def _refuse(self, connection: Connection | None, head: _Head, bad: BadHead) -> _Exchange:
        self.bad_heads += 1
        exchange = _Exchange(connection, head, self._date)
        problem = Problem(bad.status, str(bad))
        asked = problem({"type": "http", "method": "GET"}, exchange.receive, exchange.send)
        return self._run(asked, exchange, connection)
