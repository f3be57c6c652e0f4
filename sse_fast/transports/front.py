"""The stream transport: the second port, whose connections the native module owns.

A request's head is parsed here and decided about as at the main port. Only the way of the bytes differs: the connection
itself becomes the stream, and no task, coroutine or scope of it stays.
"""

import asyncio
import contextlib
import logging
import socket
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast.errors import EndReason, HubClosed, Overloaded, Unsupported
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Decision, Headers, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.problem import problem
from sse_fast.protocol.request import Request
from sse_fast.transports.head import BadHead, Head, Known, Reading, RememberedHeads
from sse_fast.transports.kernel import Bounds, bound_socket
from sse_fast.transports.life import Life, Transport
from sse_fast.transports.streams import ADDRESS_LENGTH, Streams

logger = logging.getLogger("sse_fast.transports")

BACKLOG = 4096
HEAD_SECONDS = 10.0
TICK = 0.25  # seconds
DEFER_SECONDS = 1  # the least: who has not sent a byte by then is accepted all the same


class Front:
    """Front(streams, policy, …): listens from `open` to `close`, on one event loop.

    `policy` says by `only_streams` where everything else is: this transport has nothing but streams, and no way to hand
    a request on. `most`: connections at once. `head_seconds`: that a request's head may take.
    """

    def __init__(
        self,
        streams: Streams,
        policy: Policy,
        *,
        most: int,
        bounds: Bounds | None = None,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        if policy.only_streams is None:
            raise ValueError("this transport has streams only; its policy's `only_streams` says where the rest is")
        self._streams = streams
        self._policy = policy
        self._most = most
        self._bounds = bounds
        self._head_seconds = head_seconds
        self.resume = streams.hub.unblock
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
            listener = Listener(
                self._socket, self._streams.hub.fanout, self, head_seconds=self._head_seconds, most=self._most
            )
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
        """What a client is answered that finds no room; `data` is what has come of its request, mostly all of it. It is
        decided about, so it is answered as any other that is turned away, in a form that its origin may read."""
        self._streams.no_room()
        reading = Reading()
        try:
            complete = reading.feed(data)
        except BadHead as bad:
            return self._refused(reading.head, bad)
        if not complete and not reading.head.headers:
            return b""  # nobody knows yet what it is; a connection that breaks brings a browser back
        request, decision = self._decided(reading.head)
        if isinstance(decision, Subscribe):
            decision = self._streams.turn_away(Overloaded("no descriptor is left for another stream"), decision)
        return self._answered(request, decision)

    def feed(self, connection: Connection, data: bytes) -> None:
        """Bytes of a request."""
        reading: Reading | None = connection.context
        if reading is None and (known := self._remembered.get(data)) is not None:
            self._carry_out(connection, *known)
            return
        in_one_piece = reading is None
        reading = connection.context = reading or Reading()
        try:
            complete = reading.feed(data)
        except BadHead as bad:
            connection.answer(self._refused(reading.head, bad))
            return
        if complete:
            known = self._decided(reading.head)
            if in_one_piece:
                self._remembered.keep(data, reading.head, known)
            self._carry_out(connection, *known)

    def late(self, connection: Connection) -> None:
        reading: Reading | None = connection.context
        if reading is not None:
            late = BadHead(408, f"a request's head comes within {self._head_seconds:g} s")
            connection.answer(self._refused(reading.head, late))
        else:
            connection.abort()  # it never said a word

    def left(self, address: str, reason: EndReason) -> None:
        """A stream has ended."""
        self._streams.left(address, reason, Transport.NATIVE, Life.STREAMING)

    # ---- carrying out -----------------------------------------------------------------------------------------------

    def _decided(self, head: Head) -> Known:
        request = Request.from_head(head.method, head.target, head.headers, head.minor, self._server)
        return request, decide(request, self._policy)

    def _carry_out(self, connection: Connection, request: Request, decision: Decision) -> None:
        if isinstance(decision, Subscribe):
            address = self._policy.client_of(request, connection.address)[:ADDRESS_LENGTH]
            try:
                life = self._streams.enter(address, Transport.NATIVE, decision)
            except (Overloaded, HubClosed, Unsupported) as error:
                decision = self._streams.turn_away(error, decision)
            else:
                self._stream(connection, request, decision, address, life)
                return
        connection.answer(self._answered(request, decision))

    def _stream(self, connection: Connection, request: Request, wanted: Subscribe, address: str, life: Life) -> None:
        """The connection goes on by itself, as a stream. When this returns nothing of the request is left."""
        streams = self._streams
        subscription = None
        try:
            subscription = streams.hub.attach(
                wanted.channels,
                connection,
                last_event_id=wanted.last_event_id,
                history=wanted.history,
                envelope=wanted.envelope,
            )
            opening = self._rendered(request, Answer(200, wanted.headers, streams.preamble(subscription), whole=False))
            life = streams.transports[Transport.NATIVE].move(life, "open")  # its end may come with its beginning
            connection.stream(opening, subscription.subscriber, address, request.version == "1.1")
        except BaseException:
            if subscription is not None:
                subscription.close()
            streams.left(address, EndReason.ERROR, Transport.NATIVE, life)
            raise

    def _answered(self, request: Request, decision: Decision) -> bytes:
        """An answer, as the bytes of a connection that has no more."""
        if not isinstance(decision, Answer):
            raise TypeError(f"at a port for streams only this cannot be carried out: {decision}")
        self._streams.transports[Transport.NATIVE].move(Life.ARRIVED, "refuse")
        return self._rendered(request, decision)

    def _refused(self, head: Head, bad: BadHead) -> bytes:
        self.bad_heads += 1
        origins = self._policy.origins
        readable = origins.headers_for(dict(head.headers).get(b"origin")) if origins is not None else ()
        return self._answered(Request("GET", "", version=head.minor), problem(bad.status, str(bad), readable))

    def _rendered(self, request: Request, answer: Answer) -> bytes:
        head = rendered_head(answer.status, answer.headers)
        silent = request.method == "HEAD"
        if answer.whole or silent or request.version != "1.1":
            return b"%bdate: %b\r\nconnection: close\r\n\r\n%b" % (head, self._date, b"" if silent else answer.body)
        # No "connection: close" here: undici, which is the fetch of Node, then takes whatever is cut off for whole.
        framed = (head, self._date, len(answer.body), answer.body)
        return b"%bdate: %b\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % framed


@lru_cache(maxsize=256)  # nearly always the same few
def rendered_head(status: int, headers: Headers) -> bytes:
    """The head of an answer, open at its end."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, b"".join(lines))
