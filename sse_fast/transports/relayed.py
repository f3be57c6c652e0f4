"""One relayed exchange: a request on its way to the app server, and the response on its way back.

What it keeps: at most one piece that the other side has not taken, in either direction; whoever is slow is waited for.
What it drops: everything, when its client has gone, and the connection to the app server with it, so that the app hears
of it.
Who is told: a client whose exchange fails, by 408 (its body stopped coming), 502 (what came is no response), 503 (no
connection was free in time) or 504 (no response came in time); behind the beginning of a response only by an end that
is not a clean one.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from sse_fast._native.front.connection import Connection
from sse_fast._native.front.upstream import Upstream
from sse_fast.access.local import UNIX
from sse_fast.transports.forwarding import LOCAL, Header, asked_by, request_lines, upgrade_of
from sse_fast.transports.head import Forwarded, Head
from sse_fast.transports.response import COUNTED, BadResponse, Body, Response
from sse_fast.transports.streams import ADDRESS_LENGTH
from sse_fast.transports.upload import SLOWEST, Upload, Uploading

if TYPE_CHECKING:
    from sse_fast.transports.front import Front

HALF_SECONDS = 30.0  # without a byte, of a tunnel one side of which has ended
BOTH = 2
CLAIMED_BODY = 64 * 1024  # bytes behind a head that was not for the client

REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110, section 9.2.2


class Hold(Protocol):
    """What an app may answer with instead of a response: that its client becomes a stream."""

    def mark(self, exchange: "RelayedExchange") -> bytes:
        """Header lines to add to the request, before the app is asked."""

    def claim(self, exchange: "RelayedExchange", status: int, headers: list[Header]) -> bool:
        """The head of the answer has come, as the app wrote it. True: nothing of it is for the client, and `take` comes
        when it is complete."""

    def take(self, exchange: "RelayedExchange") -> None:
        """The client's connection is the hold's, in the midst of its exchange."""

    def leave(self, exchange: "RelayedExchange") -> None:
        """The exchange is over, whether `take` came or not."""


class Relaying(Uploading, Protocol):
    """What all exchanges have in common: see `Relay`."""

    front: "Front"
    hold: Hold | None
    authority: bytes
    patience: float
    timeout: float
    tunnel_seconds: float
    tunnels: int
    blocked: "dict[RelayedExchange, float]"
    failed: Counter[int]
    shared: int

    def admit(self, exchange: "RelayedExchange", /) -> None:
        """Begin it, or have it wait, or refuse it."""

    def over(self, exchange: "RelayedExchange", upstream: Upstream | None, /, *, keep: bool) -> None:
        """It is, and its connection to the app server may be kept."""

    def again(self, exchange: "RelayedExchange", upstream: Upstream, /) -> None:
        """By another connection: that one had been closed."""

    def complain(self, what: str, /, *about: object) -> None:
        """Say in the log what is wrong with the app."""


class RelayedExchange:
    """One exchange: the context of its upstream, and what the client's connection hands its bytes to. Made by
    `Relay.begin`.

    `context`: a hold's own. `address`, `counted`: the relay's own, see `parts`.
    """

    __slots__ = (
        "_blocked",
        "_claimed",
        "_ended",
        "_heard",
        "_keep",
        "_over",
        "_received",
        "_relay",
        "_request",
        "_response",
        "_reused",
        "_sent",
        "_upload",
        "_upstream",
        "address",
        "client",
        "connection",
        "context",
        "counted",
        "head",
        "own",
        "repeatable",
    )

    def __init__(
        self,
        relay: Relaying,
        connection: Connection,
        head: Head,
        *,
        client: str,
        trusted: bool,
        keep: bool,
        length: int | None,
        own: bool = False,
        local: bool = False,
    ) -> None:
        self.own = own
        self._relay, self.connection, self.head, self.client = relay, connection, head, client
        self.context: Any = None
        self.address = ""
        self.counted = False
        bare = length == 0
        forwarded = head.forwarded if bare else None  # of a head that is remembered
        if forwarded is None or forwarded.trusted is not trusted:
            forwarded = forwarded_as(head, trusted, relay.authority, length)
            if bare:
                head.forwarded = forwarded
        self._response = Response(head.method, head.minor, upgrade=forwarded.upgrade, keep=keep and bare)
        self._upstream: Upstream | None = None
        self._upload = None if bare else Upload(relay, chunked=length is None)
        self._received = bare  # the request's body is
        self.repeatable = bare and forwarded.upgrade is None and head.method in REPEATABLE
        self._reused = False
        self._heard = False  # a byte of the app's
        self._sent = False  # a byte of its answer
        self._blocked = False  # the client has not taken all that it was sent
        self._ended = 0  # sides of a tunnel
        self._claimed = 0  # bytes that were not for the client
        self._over = False
        marks = b"%b: 1\r\n" % LOCAL if local else b""
        if relay.hold is not None:
            marks += relay.hold.mark(self)
            self._response.claim = self._claim
        nobody = client == connection.address == UNIX  # and no proxy that says so
        self._request = asked_by(forwarded.lines, "" if nobody else client[:ADDRESS_LENGTH], marks)
        self._keep = keep

    @property
    def tunnel(self) -> bool:
        return self._response.tunnel

    @property
    def whole(self) -> bool:
        """Its body is there."""
        return self._received

    # ---- for the relay -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The connection is its own."""
        if self._upload is not None:
            self._read()
        else:
            self._relay.admit(self)

    def start(self, upstream: Upstream, reused: bool) -> None:
        """An upstream is there for it."""
        self._upstream, self._reused = upstream, reused
        if self._upload is not None and not self._received:
            self._upload.start()
        taken = upstream.send(self._request)
        if not self.repeatable:
            self._drop_request()
        if taken and not self._received:
            self._read()
        else:
            self._limit()

    def fail(self, status: int, detail: str) -> None:
        """Answer in the app's place; where it has answered already, break off."""
        if self._sent:
            self._break()
            return
        relay, front, head = self._relay, self._relay.front, self.head
        relay.failed[status] += 1
        if status >= 500 and not front.closing:
            relay.complain("%d for %s %s: %s", status, head.method, head.target[:80].decode("latin-1"), detail)
        answer = front.unanswered(head, status, detail)
        front.respond(self.connection, head, answer, last=not self._received)
        self._leave(keep=False)

    def cut(self) -> None:
        """Its client takes too little, and others wait."""
        self._break()

    def give_up(self) -> None:
        """The server ends before the app has answered."""
        if self.tunnel:
            self.connection.finish(True)
            self._leave(keep=False)
        else:
            self.fail(503, "the server is shutting down; come back in a moment")

    # ---- for the client's connection ---------------------------------------------------------------------------------

    def body(self, piece: bytes, last: bool) -> None:
        """More of the request's body."""
        if self._over:
            return
        upload = self._upload
        assert upload is not None
        self._received = last
        piece = upload.came(piece, last)
        if self._upstream is None:
            self._gather(upload, piece)
        else:
            if not self._upstream.send(piece) or last:
                self.connection.wait()
            self._limit()
            if last:
                upload.end()

    def _gather(self, upload: Upload, piece: bytes) -> None:
        self._request += piece
        upload.hold(piece)
        if upload.gathers:  # else it waits for an upstream
            if self._received or upload.is_enough(len(self._request)):
                self._ask(upload)
            else:
                self._limit()

    def _ask(self, upload: Upload) -> None:
        """With as much of the body as there is."""
        upload.gathers = False
        self.connection.wait()
        self._relay.admit(self)

    def writable(self) -> None:
        """The client has taken what it was sent."""
        self._blocked = False
        self._relay.blocked.pop(self, None)
        if self._upstream is not None:
            self._upstream.resume()
            self._limit()
        elif self._upload is not None and self._upload.gathers:
            self._limit()
        else:
            self.connection.give(self._relay.patience)

    def late(self) -> None:
        if self.tunnel:
            self.give_up()
        elif self._upload is not None and self._upload.has_grace:
            if self._upload.end_grace():
                self._ask(self._upload)
            else:
                self._limit()
        elif self.connection.state == "reading":
            if self._sent:
                self.connection.abort()  # `gone` is told
            else:
                pace = (
                    f"stopped coming for {self._relay.body_seconds:g} s, or comes by less than {SLOWEST} bytes a second"
                )
                self.fail(408, f"the body of the request {pace}")
        elif self._upstream is None:
            relay = self._relay
            taken = f"of the {relay.shared} connections that a worker has for it none was free"
            self.fail(503, f"the app is busy: {taken} within {relay.patience:g} s")
        elif self._response.claimed:
            self._taken()
        elif not self._response.status:
            self.fail(504, f"the app did not answer within {self._relay.timeout:g} s (--relay-timeout)")
        else:
            self._bound_silence()

    def gone(self) -> None:
        """The client is."""
        self._leave(keep=False)

    def broken(self) -> bool:
        """What comes is not the body that was announced. True: the client has been told nothing yet."""
        self._leave(keep=False)
        return not self._sent

    def tunnelled(self, data: bytes) -> None:
        """From the client, once there is a tunnel."""
        upstream = self._upstream
        if upstream is None:
            return
        if not data:
            upstream.shut()
            self._half_ended()
        elif not upstream.send(data):
            self.connection.wait()
        elif upstream.broken:
            self.give_up()
        else:
            self._limit()

    # ---- for the upstream --------------------------------------------------------------------------------------------

    def received(self, upstream: Upstream, data: bytes) -> None:
        """From the app server; none: it says no more."""
        if not data:
            self._app_ended(broke=False)
            return
        self._heard = True
        response = self._response
        was = response.body
        if not response.status:
            response.keep = self._keep and self._received and not self._relay.front.closing
        try:
            out = response.feed(data)
        except BadResponse as bad:
            self._relay.complain("the app's response cannot be relayed: %s", bad)
            self.fail(502, f"what the app answered cannot be relayed: {bad}")
            return
        if response.claimed:
            self._claimed += len(data)
            if response.complete or self._claimed > CLAIMED_BODY:
                self._taken()
            else:
                self._limit()
            return
        self._sent = response.status != 0
        if response.complete:
            self._finish(out)
            return
        becomes_tunnel = response.body is not was and response.tunnel
        self._relay.tunnels += becomes_tunnel
        if out and not self.connection.send(out):
            self._blocked = True
            self._relay.blocked[self] = self._relay.now
            upstream.pause()
        if self._over:
            return  # the client has gone
        if becomes_tunnel:
            self.connection.tunnel()
            self._read()
        else:
            self._limit()

    def _app_ended(self, *, broke: bool) -> None:
        """The app server has closed its connection, or that broke."""
        response = self._response
        if response.tunnel and not broke:
            self.connection.shut()
            self._half_ended()
        elif response.claimed:
            self._taken()
        elif response.ended() and not broke:
            self._finish(b"")
        elif not self._heard and self._reused and self.repeatable:
            # It had closed this one already: the request was not read (RFC 9112, section 9.3.1).
            upstream, self._upstream = self._upstream, None
            assert upstream is not None
            self._relay.again(self, upstream)
        else:
            self.fail(502, "the app closed its connection before its answer was complete")

    def sent(self, upstream: Upstream) -> None:
        """The app server has taken what it was sent."""
        if self._ended == BOTH:
            self.give_up()
            return
        if not self._received or self.tunnel:
            self._read()
        else:
            self._limit()

    def lost(self, upstream: Upstream) -> None:
        try:
            self._app_ended(broke=True)
        except BaseException:  # nobody else sees to the client
            self.connection.abort()
            raise

    # ---- what is waited for ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """What its client sends."""
        if self._upload is not None:
            self._upload.read()
        self.connection.read()
        self._limit()

    def _limit(self) -> None:
        """The time until something has to move. Of a client that takes nothing the connection itself sees to it."""
        if self._blocked:
            return
        relay = self._relay
        if self.tunnel:
            seconds = HALF_SECONDS if self._ended else relay.tunnel_seconds
        elif self.connection.state == "reading":
            upload = self._upload
            seconds = relay.body_seconds if self._response.status or upload is None else upload.seconds
        else:
            seconds = relay.timeout
        self.connection.give(seconds)

    def _bound_silence(self) -> None:
        """In the midst of its answer the app has said nothing for so long. It may, where only it knows when there is
        more, for as long as its client stays; and of a client that waits for further answers nobody knows that: its end
        would stand behind what is not read."""
        if self._response.body is not COUNTED and not self.connection.pipelined:
            self._limit()
            return
        relay, head = self._relay, self.head
        silent = f"in its midst the app said nothing for {relay.timeout:g} s (--relay-timeout)"
        target = head.target[:80].decode("latin-1")
        relay.complain("the answer to %s %s is broken off: %s", head.method, target, silent)
        self._break()

    def _finish(self, out: bytes) -> None:
        """The response is complete with this."""
        response = self._response
        last = not response.keep or self._relay.front.closing
        self.connection.answer(out, last)
        self._leave(keep=response.keeps_upstream and self._received)

    def _break(self) -> None:
        """The client must not take what it got for the whole."""
        response = self._response
        if response.body is Body.UNTIL_CLOSE or (response.body is Body.CHUNKED and response.minor == "1.0"):
            self.connection.abort()  # to it any end is as good as another
        else:
            self.connection.finish(True)
        self._leave(keep=False)

    def _taken(self) -> None:
        """What was not for the client is complete."""
        if not self._received:
            self.fail(502, "the app answered with a stream before it had all of the request's body")
            return
        hold = self._relay.hold
        assert hold is not None
        hold.take(self)
        self._leave(keep=self._response.complete and self._response.keeps_upstream)

    def _claim(self, status: int, headers: list[Header]) -> bool:
        hold = self._relay.hold
        return hold is not None and hold.claim(self, status, headers)

    def _half_ended(self) -> None:
        """One side of a tunnel has no more to say; what it said before is still sent."""
        self._ended += 1
        if self._ended < BOTH:
            self._limit()
        elif self._upstream is not None and (self._upstream.broken or not self._upstream.unsent):
            self.give_up()

    def _drop_request(self) -> None:
        """It has been sent, or never will be."""
        if self._upload is not None:
            self._upload.let_go()
        self._request = b""

    def _leave(self, *, keep: bool) -> None:
        """It is over, but for what the client has not taken yet. `keep`: its upstream may go on."""
        if self._over:
            return
        relay = self._relay
        upstream, self._upstream = self._upstream, None
        self._over = True
        if self._upload is not None:
            self._upload.end()
        if self._blocked:
            relay.blocked.pop(self, None)
        self._drop_request()
        self._response.claim = None
        if relay.hold is not None:
            relay.hold.leave(self)
        relay.over(self, upstream, keep=keep and not (upstream is None or upstream.broken or upstream.unsent))


def forwarded_as(head: Head, trusted: bool, authority: bytes, length: int | None) -> Forwarded:
    upgrade = upgrade_of(head.method, head.minor, head.headers) if length == 0 else None
    lines = request_lines(
        head.method,
        head.target,
        head.headers,
        trusted=trusted,
        authority=authority,
        chunked=length is None,
        upgrade=upgrade,
    )
    return Forwarded(trusted, upgrade, lines)
