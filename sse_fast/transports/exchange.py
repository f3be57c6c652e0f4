"""One request of a native connection, from its first bytes until it is answered, or has become a stream.

    head --> Subscribe: the connection becomes a stream
         --> Answer: in place
         --> Publish: its body, then in place; a large one is relayed, with what has been read of it
         --> Elsewhere: relayed
         --> Ask: found out, while the connection waits; then one of the others

What comes behind the request is kept for the next one, and read when this one is answered.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from sse_fast._native.front.connection import Connection
from sse_fast.access.limits import Counted
from sse_fast.errors import HubClosed, Overloaded, SSEFastError
from sse_fast.hub.recall import Recalled
from sse_fast.protocol.decision import Answer, Ask, Elsewhere, Publish, Subscribe
from sse_fast.protocol.problem import TooLate, TooMuch, problem_of
from sse_fast.protocol.request import Request
from sse_fast.transports.body import Body
from sse_fast.transports.head import BadHead, Head, Known, Reading
from sse_fast.transports.life import Life

logger = logging.getLogger("sse_fast.transports")

IN_PLACE = 256 * 1024  # bytes of a body that is read here
BODIES = 64 * 1024 * 1024  # bytes of all that a worker is reading
BODY_SECONDS = 30.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Publisher = Callable[[Publish, bytes, str], Answer | Coroutine[Any, Any, Answer]]
"""What is published by a request with this body from a client with this address, and the answer to it: at once where
nothing has to be waited for. It raises nothing."""


class Relayed(Protocol):
    """An exchange that somebody else answers. It sends by the connection, and ends with its `finish` or `abort`."""

    def body(self, piece: bytes, last: bool, /) -> None:
        """More of the request's body, without its framing; the connection reads on when it is told to `read`."""

    def writable(self) -> None:
        """What the connection was sent is out."""

    def late(self) -> None:
        """The time that was given to the connection is over."""

    def gone(self) -> None:
        """The connection is closed."""

    def broken(self) -> bool:
        """The body cannot be read to its end; the connection is not this exchange's any more. Whether nothing of an
        answer was sent yet."""

    def tunnelled(self, data: bytes, /) -> None:
        """Bytes of a connection that is a tunnel; none: its client sends no more."""


class Relay(Protocol):
    """Hands requests on to whoever answers what nobody here does."""

    @property
    def busy(self) -> int:
        """Exchanges under way."""

    def begin(
        self,
        connection: Connection,
        head: Head,
        /,
        *,
        client: str,
        trusted: bool,
        keep: bool,
        length: int | None,
        own: bool = False,
        local: bool = False,
    ) -> Relayed:
        """Hand on this request of a connection that waits. client: who asks, as the head and its proxies say; trusted:
        one of those sent it. keep: the connection stays open behind it. length: of the body; None: nobody knows.
        own: it is a question to this server, such as whether it is well, and no request of the app's. local: it comes
        from this machine itself."""

    def tick(self, now: float, /) -> None: ...
    def leave(self) -> None: ...
    async def finish(self, seconds: float, /) -> None: ...
    def close(self) -> None: ...


Entered = tuple[str | Counted, Life]
"""What a stream counts under that was let in, and where it is."""


class Server(Protocol):
    """What an exchange needs of the front: see there."""

    head_seconds: float
    body_seconds: float
    relay: Relay | None
    exchanges: "set[Exchange]"
    held: int
    closing: bool

    @property
    def position(self) -> int: ...
    def known(self, data: bytes, connection: Connection, /) -> Known: ...
    async def found_out(self, connection: Connection, known: Known, /) -> Known: ...
    def published(self, wanted: Publish, body: bytes, client: str, /) -> Answer | Coroutine[Any, Any, Answer]: ...
    def learn(self, known: Known, answer: Answer, /) -> None: ...
    def client_of(self, connection: Connection, request: Request, /) -> str: ...
    def trusts(self, address: str, /) -> bool: ...
    def is_local(self, connection: Connection, request: Request, /) -> bool: ...
    def turned_away(self) -> None: ...
    def slowed(self, connection: Connection, known: Known, /) -> Known: ...
    def tried(self, connection: Connection, known: Known, /) -> Known: ...
    def note(self, connection: Connection, known: Known, answer: Answer, /) -> None: ...
    def respond(self, connection: Connection, head: Head, answer: Answer, /, *, last: bool) -> None: ...
    def refuse(self, connection: Connection, head: Head, bad: BadHead, /) -> None: ...
    def recalls(self, known: Known, /) -> bool: ...
    def entered(self, connection: Connection, known: Known, /) -> Entered | None: ...
    def not_begun(self, entered: Entered, /) -> None: ...
    async def recall(self, known: Known, /) -> Recalled | None: ...
    def stream_refused(self, connection: Connection, known: Known, error: HubClosed, /) -> None: ...
    def stream(
        self,
        connection: Connection,
        known: Known,
        /,
        *,
        since: int | None,
        entered: Entered | None = None,
        recalled: Recalled | None = None,
    ) -> None: ...


class Exchange:
    """Exchange(front): has a connection, as its context, while a request is under way."""

    __slots__ = (
        "_body",
        "_continued",
        "_front",
        "_held",
        "_known",
        "_parts",
        "_reading",
        "_relayed",
        "_since",
        "_waiting",
    )

    def __init__(self, front: Server) -> None:
        self._front = front
        self._reading: Reading | None = None
        self._known: Known | None = None
        self._body: Body | None = None  # of what is relayed without one, too
        self._continued = False
        self._parts: list[bytes] = []  # of a body that is read here
        self._held = 0  # bytes in them
        self._since: int | None = None  # the log's position when the request came, if something had to be found out
        self._waiting: asyncio.Task[None] | None = None  # until that is, or what was published is answered
        self._relayed: Relayed | None = None

    # ---- for the connection ------------------------------------------------------------------------------------------

    def feed(self, connection: Connection, data: bytes) -> None:
        if self._known is None:
            self._read_head(connection, data)
        elif self._relayed is not None:
            self._relay_body(connection, self._relayed, data)
        elif (piece := self._decoded(connection, self._known.head, data)) is not None:
            self._take(connection, self._known.head, piece)

    def writable(self, connection: Connection) -> None:
        if self._relayed is not None:
            self._relayed.writable()
        elif self._waiting is None:  # that its body may come: a send that is blocked ends its time
            connection.give(self._front.body_seconds)

    def late(self, connection: Connection) -> None:
        if self._relayed is not None:
            self._relayed.late()
        elif self._reading is not None:
            late = BadHead(408, f"a request's head comes within {self._front.head_seconds:g} s")
            self._front.refuse(connection, self._reading.partly, late)
        else:
            self._refuse(connection, TooLate(f"the body did not come within {self._front.body_seconds:g} s"))

    def gone(self, connection: Connection) -> None:
        if self._relayed is not None:
            self._relayed.gone()
        elif self._waiting is None:
            self._let_go()

    # ---- the head ----------------------------------------------------------------------------------------------------

    def _read_head(self, connection: Connection, data: bytes) -> None:
        reading = self._reading = self._reading or Reading()
        try:
            found = reading.feed(data)
            known = self._front.known(found[0], connection) if found is not None else None
        except BadHead as bad:
            self._front.refuse(connection, reading.partly, bad)
            return
        if found is not None and known is not None:
            self._reading = None
            if connection.context is self:
                connection.head_whole()
            self.begin(connection, known, found[1])
        elif connection.context is None:
            connection.context = self
            connection.head_begun()
            connection.give(self._front.head_seconds)

    def begin(self, connection: Connection, known: Known, rest: bytes) -> None:
        """The head is there; behind it came `rest`."""
        known = self._front.slowed(connection, known)
        if self._since is None:  # else it was counted before it was found out
            known = self._front.tried(connection, known)
        self._known = known
        decision, head = known.decision, known.head
        if isinstance(decision, Subscribe):
            if self._front.recalls(known):
                if (entered := self._front.entered(connection, known)) is not None:
                    self._wait(connection, self._recall(connection, known, entered))
            else:
                self._front.stream(connection, known, since=self._since)
        elif isinstance(decision, Ask):
            self._since = self._front.position
            self._wait(connection, self._find_out(connection, known, rest))
        elif isinstance(decision, Answer):
            if not head.has_body:  # one that nobody reads would be taken for the next request
                connection.keep(rest)
            self._front.turned_away()
            self._front.note(connection, known, decision)
            self._front.respond(connection, head, decision, last=head.has_body)
        else:
            publish = isinstance(decision, Publish)
            if not publish and not head.has_body:  # most of what is relayed
                if rest:
                    connection.keep(rest)
                self._relay(connection, head, b"")
            elif publish and self._front.closing:
                self._refuse(connection, HubClosed("this server is shutting down and takes no more events"))
            elif (piece := self._decoded(connection, head, rest)) is None:
                pass
            elif publish and head.length <= IN_PLACE:
                self._take(connection, head, piece)
            else:
                self._relay(connection, head, piece)

    async def _find_out(self, connection: Connection, known: Known, rest: bytes) -> None:
        """What could not be decided at once is by now; it is carried out if its client is still there."""
        try:
            try:
                known = await self._front.found_out(connection, known)
            finally:
                self._waiting = None
                self._let_go()
            if connection.context is self:
                connection.context = None
                connection.read()
                self.begin(connection, known, rest)
        except Exception:
            logger.exception("what had to be found out about a request failed; its connection is closed")
            connection.abort()

    async def _recall(self, connection: Connection, known: Known, entered: Entered) -> None:
        """What the stream is to begin with is read by then; it begins if its client is still there."""
        owed: Entered | None = entered
        try:
            try:
                recalled = await self._front.recall(known)
            finally:
                self._waiting = None
                self._let_go()
            if connection.context is self:
                connection.context = None
                connection.read()
                owed = None
                self._front.stream(connection, known, since=self._since, entered=entered, recalled=recalled)
        except HubClosed as error:
            if connection.context is self:
                connection.context = None
                connection.read()
                self._front.stream_refused(connection, known, error)
        except Exception:
            logger.exception("what a stream begins with could not be read; its connection is closed")
            connection.abort()
        finally:
            if owed is not None:
                self._front.not_begun(owed)

    def _decoded(self, connection: Connection, head: Head, data: bytes) -> bytes | None:
        """What this has of the body, whose end is where the next request begins. None: nobody knows where that is, and
        the client was told."""
        body = self._body = self._body or Body(head)
        try:
            piece = body.feed(data)
        except BadHead as bad:
            self._let_go()
            self._front.refuse(connection, head, bad)
            return None
        connection.keep(body.rest)
        return piece

    # ---- publishing in place -----------------------------------------------------------------------------------------

    def _take(self, connection: Connection, head: Head, piece: bytes) -> None:
        """More of the body."""
        body, wanted = self._body, self._wanted
        assert body is not None
        size = self._held + len(piece)
        if size > wanted.most:
            self._refuse(connection, too_much(wanted))
        elif size > IN_PLACE:
            self._relay(connection, head, piece)
        elif body.complete:
            self._publish(connection, wanted, b"".join((*self._parts, piece)) if self._parts else piece)
        elif not self._hold(piece):
            self._refuse(connection, Overloaded("all bodies that are read now are too many for one worker's memory"))
        elif connection.context is None:
            connection.context = self
            connection.give(self._front.body_seconds)
            if head.expects and not piece:
                self._continued = True
                connection.send(CONTINUE)

    def _publish(self, connection: Connection, wanted: Publish, data: bytes) -> None:
        assert self._known is not None
        client = self._front.client_of(connection, self._known.request)
        answer = self._front.published(wanted, data, client)
        if isinstance(answer, Answer):
            self._front.learn(self._known, answer)
            self._respond(connection, answer)
        else:
            self._wait(connection, self._wait_for(connection, answer))

    def _wait(self, connection: Connection, waiting: Coroutine[Any, Any, None]) -> None:
        """Nothing more is read meanwhile."""
        connection.context = self
        connection.wait()
        connection.give(None)
        self._front.exchanges.add(self)
        self._waiting = asyncio.get_running_loop().create_task(waiting)

    async def _wait_for(self, connection: Connection, answering: Coroutine[Any, Any, Answer]) -> None:
        """The answer, if its client is still there; what was asked is done in any case."""
        try:
            answer = await answering
            if self._known is not None:
                self._front.learn(self._known, answer)
            if connection.context is self:
                self._respond(connection, answer)
        except Exception:
            logger.exception("an answer failed; its connection is closed")
            connection.abort()
        finally:
            self._let_go()

    # ---- relaying ----------------------------------------------------------------------------------------------------

    def _relay(self, connection: Connection, head: Head, piece: bytes) -> None:
        """Somebody else answers; so much of the body was read beside what is held."""
        front, known, body, has_body = self._front, self._known, self._body, head.has_body
        assert known is not None
        if front.relay is None:
            if not isinstance(known.decision, Publish):
                raise TypeError(f"without a relay this cannot be carried out: {known.decision}")
            self._refuse(connection, too_much(known.decision, IN_PLACE))
            return
        read = piece
        if self._parts:
            read = b"".join((*self._parts, piece))
            self._let_go()
        connection.context = self
        connection.wait()
        connection.give(None)
        self._relayed = front.relay.begin(
            connection,
            head,
            client=front.client_of(connection, known.request),
            trusted=front.trusts(connection.address),
            keep=head.keep_alive,
            length=None if head.chunked else head.length,
            own=isinstance(known.decision, Elsewhere) and known.decision.ours and not has_body,
            local=front.is_local(connection, known.request),
        )
        if body is None or connection.context is not self or not has_body:
            return
        if read or body.complete:
            self._relayed.body(read, body.complete)
        elif head.expects and not self._continued:
            connection.send(CONTINUE)  # whoever answers is asked with a body, or the beginning of one

    def _relay_body(self, connection: Connection, relayed: Relayed, data: bytes) -> None:
        body = self._body
        if body is None or body.complete:
            relayed.tunnelled(data)
            return
        try:
            piece = body.feed(data)
        except BadHead as bad:
            assert self._known is not None
            self._relayed = None
            if relayed.broken():
                self._front.refuse(connection, self._known.head, bad)
            else:
                connection.abort()
            return
        if body.complete:
            connection.wait()
            connection.keep(body.rest)
        if piece or body.complete:
            relayed.body(piece, body.complete)

    # ---- answering ---------------------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> Publish:
        assert self._known is not None
        assert isinstance(self._known.decision, Publish)
        return self._known.decision

    def _respond(self, connection: Connection, answer: Answer, *, last: bool = False) -> None:
        assert self._known is not None
        self._let_go()
        self._front.note(connection, self._known, answer)
        self._front.respond(connection, self._known.head, answer, last=last)

    def _refuse(self, connection: Connection, error: SSEFastError) -> None:
        """What comes of the body nobody reads."""
        self._respond(connection, problem_of(error, self._wanted.headers), last=True)

    # ---- what it holds -----------------------------------------------------------------------------------------------

    def _hold(self, piece: bytes) -> bool:
        """Keep this of the body; False: all that is kept in this worker would be too much."""
        front = self._front
        front.exchanges.add(self)
        front.held += len(piece)
        self._held += len(piece)
        self._parts.append(piece)
        return front.held <= BODIES

    def _let_go(self) -> None:
        self._front.exchanges.discard(self)
        self._front.held -= self._held
        self._held = 0
        self._parts.clear()


def too_much(wanted: Publish, most: int | None = None) -> TooMuch:
    limit = wanted.most if most is None else most
    return TooMuch(f"the body is larger than {limit} bytes, the most that {wanted.form.words} has")
