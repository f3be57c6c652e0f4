"""The native transport: the port whose connections are this project's own, from accept to close.

Each request's head is decided about, as at any other transport, and what was decided is carried out on the loop's own
thread: a stream, which the connection itself becomes; an answer; what is published, and its answer. Everything else is
relayed. No task, coroutine or scope of a stream stays.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast._native.front.posts import Posts
from sse_fast.access.asking import Found
from sse_fast.access.limits import Counted, address_of_counted
from sse_fast.errors import EndReason, HubClosed, Overloaded, Unsupported
from sse_fast.hub.memory import HeldElsewhere
from sse_fast.hub.recall import Recalled
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import (
    Answer,
    Ask,
    Decision,
    Headers,
    Publish,
    Subscribe,
    stream_headers,
)
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.problem import AGAIN, FAILED, PROBLEMS, problem, problem_of
from sse_fast.protocol.request import Request, read_headers
from sse_fast.transports.asking import FindOut, found_out, tried
from sse_fast.transports.exchange import BODY_SECONDS, Entered, Exchange, Publisher, Relay
from sse_fast.transports.guesses import concerns
from sse_fast.transports.head import BadHead, Head, Known, Reading, RememberedHeads, parsed
from sse_fast.transports.hold import Presence
from sse_fast.transports.kernel import UNREAD
from sse_fast.transports.life import Life, Transport
from sse_fast.transports.listening import Owed
from sse_fast.transports.posts import FormReader, learn, posts_of
from sse_fast.transports.remembered import RememberedCredentials
from sse_fast.transports.streams import ADDRESS_LENGTH, Streams

logger = logging.getLogger("sse_fast.transports")

BACKLOG = 4096
HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0  # more than proxies keep a connection, 60 s: the one that sends should be the one that closes
STUCK_SECONDS = 30.0
TICK = 0.25  # seconds
PART_TICK = 0.02  # seconds between two looks whether what is sent in parts is out
KEPT = b"connection: keep-alive\r\n"  # what HTTP/1.0 does not expect
UNVERIFIED = Found(wait=1.0)  # who is turned away is told so whatever their token is
ACCEPT_ENCODING = frozenset((b"accept-encoding",))
DEFER_SECONDS = 1  # the least: who has not sent a byte by then is accepted all the same


class Front:
    """Front(streams, policy, …): serves from `open` to `close`, on one event loop.

    `most`: connections at once; `streams_each`: streams that one address may have of them. `head_seconds`,
    `body_seconds`: that a request's head may take from its first byte, and the body of one that is answered here.
    `idle_seconds`: between two requests. `stuck_seconds`: that a client may take nothing of an answer. `publish`:
    publishes; `publish_form`: a form, as `Posts.remember_form` has it. `find_out`: what has to be known before
    something is decided. `relay`: makes what answers everything else, once there is a `listener`.
    """

    def __init__(
        self,
        streams: Streams,
        policy: Policy,
        *,
        most: int,
        streams_each: int | None = None,
        head_seconds: float = HEAD_SECONDS,
        body_seconds: float = BODY_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        stuck_seconds: float = STUCK_SECONDS,
        publish: Publisher | None = None,
        publish_form: FormReader | None = None,
        find_out: FindOut | None = None,
        relay: Callable[["Front"], Relay] | None = None,
    ) -> None:
        self._streams = streams
        self._policy = policy
        self._most, self._streams_each = most, streams_each
        self.head_seconds, self.body_seconds = head_seconds, body_seconds
        self._seconds = {"head_seconds": head_seconds, "idle_seconds": idle_seconds, "stuck_seconds": stuck_seconds}
        self._publish, self._publish_form, self._find_out = publish, publish_form, find_out
        self._make_relay = relay
        self.relay: Relay | None = None
        self.resume = streams.hub.unblock
        self.closing = False
        self.exchanges: set[Exchange] = set()
        """Those that wait for their body, or for what they publish."""
        self.held = 0  # bytes of their bodies
        self.bad_heads = 0
        self._parts: dict[Connection, tuple[Subscriber, float]] = {}
        self._ending: asyncio.TimerHandle | None = None
        self._remembered = RememberedHeads()
        self._with_credentials = RememberedCredentials(policy.now)
        self._posts = posts_of(streams.hub, policy, streams.rates) if publish is not None else None
        if self._posts is not None:
            self._posts.failed = self._not_published
        policy.access.tell(self._forget)
        self.listener: Listener | None = None

    def open(self, listening: socket.socket) -> None:
        """Listen with a socket that is bound, and the front's from here on. Raises OSError, and then nobody listens."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(listening)
            if listening.family != socket.AF_UNIX:
                # A connection is accepted with its request, which saves a turn of the loop for each.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
            listening.listen(BACKLOG)
            fanout = self._streams.hub.fanout
            listener = Listener(
                listening, fanout, self, most=self._most, streams_each=self._streams_each, **self._seconds
            )
            listener.posts = self._posts
            loop.add_reader(listener.fileno(), listener.turn)
            undo.pop_all()
        self.listener = listener
        if self._make_relay is not None:
            self.relay = self._make_relay(self)
        self._tick(loop, listener)

    @property
    def port(self) -> int:
        """Where it listens, of TCP."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def known_credentials(self) -> int:
        """Streams whose credential was known by their head."""
        return self._with_credentials.hits

    @property
    def busy(self) -> int:
        """Exchanges under way, but for those whose head is not there."""
        return len(self.exchanges) + self._publishing + (self.relay.busy if self.relay is not None else 0)

    @property
    def _publishing(self) -> int:
        """Requests that are known, and wait for an engine."""
        return self._posts.waiting if self._posts is not None else 0

    def leave(self) -> None:
        """From here on nothing is taken to be published, and every answer is the last of its connection. Whose next
        request has not come yet stays: it may be on its way, and would never be answered."""
        self.closing = True
        if self._posts is not None:
            self._posts.enabled = False  # their answers keep the connection, but of those that wait for them
            self._say_date(self._posts)
        if self.relay is not None:
            self.relay.leave()

    def stop_accepting(self) -> None:
        if self.listener is not None:
            self.listener.stop_accepting()

    async def finish(self, seconds: float) -> None:
        """Wait until nothing but streams is under way, and all answers are out, at most so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if self.relay is not None:
            await self.relay.finish(seconds)
        while (self.exchanges or self._publishing or self._answering) and loop.time() < deadline:  # noqa: ASYNC110 - only at the end
            await asyncio.sleep(0.01)

    @property
    def _answering(self) -> int:
        return self.listener.answering if self.listener is not None else 0

    def close(self) -> None:
        """End what is open and listen no more. Again: nothing happens."""
        if self.listener is not None:
            self._ticking.cancel()
            if self._ending is not None:
                self._ending.cancel()
            asyncio.get_running_loop().remove_reader(self.listener.fileno())
            if self.relay is not None:
                self.relay.close()
                self.relay = None
            self.listener.close()
            self._socket.close()
            self.listener = None

    def _tick(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._ticking = loop.call_later(TICK, self._tick, loop, listener)
        self._date = formatdate(usegmt=True).encode()
        if self._posts is not None:
            self._say_date(self._posts)
            self._posts.now = self._policy.now()
        now = loop.time()
        listener.tick(now)
        if self.relay is not None:
            self.relay.tick(now)

    def _say_date(self, posts: Posts) -> None:
        """In the answers to come."""
        last = b"connection: close\r\n" if self.closing else b""
        posts.date = b"date: %b\r\n%b\r\n" % (self._date, last)

    # ---- what waits in the kernel ------------------------------------------------------------------------------------

    async def unread(self) -> HeldElsewhere:
        """For clients that have no stream; of those a number stands for the port."""
        for_answers, unread, at = 0, [], 0
        while self.listener is not None:
            held, found, at = self.listener.unread(int(UNREAD * 1000), at)
            for_answers += held
            unread += found
            if not at:
                break
            await asyncio.sleep(0)
        return HeldElsewhere(0, for_answers, unread)

    def reset(self, peer: tuple[str, int | str]) -> None:
        """End a connection that `unread` has just named."""
        if self.listener is not None:
            self.listener.reset(int(peer[1]))

    # ---- for the listener -------------------------------------------------------------------------------------------

    def turn_away(self, data: bytes, crowded: str | None = None) -> bytes:
        """What a client is answered that finds no room; `data` is what has come of its request, mostly all of it. It is
        decided about, so it is answered as any other that is turned away, in a form that its origin may read.
        `crowded`: its address, where that has too many connections."""
        self._streams.no_room(crowded is not None)
        reading = Reading()
        try:
            found = reading.feed(data)
            head = parsed(found[0]) if found is not None else reading.partly
        except BadHead as bad:
            return self._refused(reading.partly, bad)
        if found is None and not head.headers:
            return b""  # nobody knows yet what it is; a connection that breaks brings a browser back
        _, request, decision = self._decided(head, UNVERIFIED)
        if crowded is None:
            full = Overloaded("no descriptor is left for another connection", "descriptors")
        else:
            each = f"{crowded} has as many connections open as one address may have"
            full = Overloaded(each, "max_connections_per_ip")
        if isinstance(decision, Subscribe):
            decision = self._streams.turn_away(full, decision)
        elif isinstance(decision, Ask):
            decision = self._streams.undecided(full, decision)
        elif not isinstance(decision, Answer):
            decision = problem_of(full, decision.headers)
        self._streams.refusals.note(decision.refused, crowded or "", Transport.NATIVE, request, decision.detail)
        self.turned_away()
        return self._rendered(head, decision, last=True)

    def feed(self, connection: Connection, data: bytes) -> None:
        """The beginning of a request."""
        known = self._remembered.get(data) or self._with_credentials.get(data)
        if known is None:
            Exchange(self).feed(connection, data)
        elif isinstance(known.decision, Subscribe) and not self.recalls(known):
            self.stream(connection, known)
        else:
            Exchange(self).begin(connection, known, b"")

    def late(self, connection: Connection) -> None:
        connection.abort()  # it never said a word

    def left(self, counted: Owed, reason: EndReason) -> None:
        """A stream has ended."""
        self._streams.left(counted, reason, Transport.NATIVE, Life.STREAMING)

    # ---- for exchanges -----------------------------------------------------------------------------------------------

    def known(self, data: bytes, connection: Connection) -> Known:
        """What was decided about a head. Raises BadHead."""
        known = self._remembered.get(data) or self._with_credentials.get(data)
        if known is None:
            known = self._decided(parsed(data), connection)
            self._remembered.keep(data, known)
            self._with_credentials.keep(data, known)
        return known

    def _forget(self) -> None:
        """What was decided by keys that are others now."""
        self._with_credentials.forget()
        if self._posts is not None:
            self._posts.forget()

    def _decided(self, head: Head, whose: Connection | Found) -> Known:
        request = Request.from_head(head.method, head.target, head.headers, head.minor, self._policy.read)
        if isinstance(whose, Connection):
            whose = self._streams.found_of(self.client_of(whose, request))
        return _known(head, request, decide(request, self._policy, whose))

    async def found_out(self, connection: Connection, known: Known) -> Known:
        """What is decided about a request by now, of which something had to be found out."""
        head, request, ask = known
        assert isinstance(ask, Ask)
        client = self.client_of(connection, request)[:ADDRESS_LENGTH]
        decision = await found_out(ask, request, self._policy, client, self._streams, self._find_out)
        return _known(head, request, decision)

    @property
    def position(self) -> int:
        """Of the log: what is published from here on comes behind it."""
        return self._streams.hub.log.position

    def published(self, wanted: Publish, body: bytes, client: str) -> Answer | Coroutine[Any, Any, Answer]:
        if self._publish is None:
            raise TypeError(f"nobody publishes at this front: {wanted}")
        return self._publish(wanted, body, client)

    def _not_published(self, connection: Connection, known: Known, error: Exception) -> None:
        """A known request, that waited for an engine."""
        assert isinstance(known.decision, Publish)
        headers = known.decision.headers
        if isinstance(error, tuple(PROBLEMS)):
            answer = problem_of(error, headers)
        else:
            logger.error("a request to publish could not be answered as it should", exc_info=error)
            answer = problem(500, FAILED, headers)
        self.note(connection, known, answer)
        self.respond(connection, known.head, answer)

    def learn(self, known: Known, answer: Answer) -> None:
        """What was published may be known by its header block from here on."""
        if self._posts is not None:
            rendered = rendered_head(answer.status, answer.headers)
            learn(self._posts, self._policy, known, answer, rendered, self._publish_form)

    def client_of(self, connection: Connection, request: Request) -> str:
        return self._policy.client_of(request, connection.address)

    def trusts(self, address: str) -> bool:
        """Whether it is a proxy's whose word is taken."""
        return self._policy.trusts(address)

    def is_local(self, connection: Connection, request: Request) -> bool:
        """Whether this comes from this machine itself."""
        return self._policy.is_local(request, connection.address)

    def readable(self, head: Head) -> Headers:
        """Who may read what is answered here to this request."""
        origins = self._policy.origins
        return origins.headers_for(dict(head.headers).get(b"origin")) if origins is not None else ()

    def unanswered(self, head: Head, status: int, detail: str) -> Answer:
        """What is answered in an app's place. A browser's EventSource gets a stream that tells it when to come back:
        see `Streams.turn_away`."""
        readable = self.readable(head)
        accept = b", ".join(value for name, value in head.headers if name == b"accept")
        if (
            status >= 500
            and head.method == "GET"
            and b"text/event-stream" in accept
            and b"application/json" not in accept
        ):
            error = HubClosed(detail) if self.closing else Overloaded(detail)
            return self._streams.turn_away(error, Subscribe((), headers=stream_headers(readable), readable=readable))
        return problem(status, detail, (*readable, *(AGAIN if status == 503 else ())))

    def turned_away(self) -> None:
        """An answer that was decided counts as a stream that was refused."""
        self._streams.transports[Transport.NATIVE].move(Life.ARRIVED, "refuse")

    def slowed(self, connection: Connection, known: Known) -> Known:
        """What was decided, unless it is another answer for who is not on this machine, or too many wrong keys came
        from there."""
        guesses, decision = self._streams.guesses, known.decision
        if isinstance(decision, Answer) and decision.from_outside is not None:
            if not self.is_local(connection, known.request):
                known = known._replace(decision=decision.from_outside)
            return known
        if guesses is None or isinstance(decision, Ask) or not concerns(decision):
            return known
        decided = guesses.decided(decision, self.client_of(connection, known.request))
        return known if decided is decision else known._replace(decision=decided)

    def tried(self, connection: Connection, known: Known) -> Known:
        """What was decided, unless too many streams were asked for from there, or too many tokens were none."""
        if not isinstance(known.decision, Answer | Ask):
            return known
        client = self.client_of(connection, known.request)[:ADDRESS_LENGTH]
        return known._replace(decision=tried(known.decision, known.request, self._policy, client, self._streams))

    def note(self, connection: Connection, known: Known, answer: Answer) -> None:
        """Count and log an answer that refuses somebody."""
        if answer.refused:
            asked = known.decision if isinstance(known.decision, Subscribe | Publish) else known.request
            client = self.client_of(connection, known.request)[:ADDRESS_LENGTH]
            self._streams.refusals.note(answer.refused, client, Transport.NATIVE, asked, answer.detail)

    def respond(
        self, connection: Connection, head: Head, answer: Answer, *, last: bool = False, own: bool = True
    ) -> None:
        """Answer in place. last: the connection closes, which it may do for other reasons too. own: it has no headers
        but this server's."""
        last = last or self.closing or not head.keep_alive or not answer.whole
        connection.answer(self._rendered(head, answer, last, own), last)

    def refuse(self, connection: Connection, head: Head, bad: BadHead) -> None:
        """Where the next request would begin nobody knows."""
        self._streams.refusals.note("invalid", connection.address, Transport.NATIVE, None)
        connection.answer(self._refused(head, bad))

    def recalls(self, known: Known) -> bool:
        """Whether something has to be read for this stream before it can begin."""
        return isinstance(known.decision, Subscribe) and self._streams.recalls(known.decision)

    def entered(self, connection: Connection, known: Known) -> Entered | None:
        """Let a stream in before that is read. None: there is no room for it, and its client was told."""
        head, request, wanted = known
        assert isinstance(wanted, Subscribe)
        counted = self._streams.counted(self.client_of(connection, request)[:ADDRESS_LENGTH], wanted)
        life = self._admitted(connection, head, wanted, counted, own=True, unread=True)
        return (counted, life) if life is not None else None

    def not_begun(self, entered: Entered) -> None:
        """A stream that was let in, and does not begin."""
        counted, life = entered
        self._streams.left(counted, EndReason.CLIENT, Transport.NATIVE, life)

    async def recall(self, known: Known) -> Recalled | None:
        assert isinstance(known.decision, Subscribe)
        return await self._streams.recall(known.decision)

    def stream_refused(self, connection: Connection, known: Known, error: HubClosed | Overloaded) -> None:
        """A stream that could not begin here now."""
        assert isinstance(known.decision, Subscribe)
        answer = self._streams.turn_away(error, known.decision)
        self.note(connection, known, answer)
        self.turned_away()
        self.respond(connection, known.head, answer)

    def stream(
        self,
        connection: Connection,
        known: Known,
        *,
        since: int | None = None,
        entered: Entered | None = None,
        recalled: Recalled | None = None,
    ) -> None:
        """The connection becomes a stream, or is told that there is no room for it. since: a position of the log that
        stands for now. entered: it was let in, and recalled is what comes before."""
        head, request, wanted = known
        assert isinstance(wanted, Subscribe)
        if wanted.from_outside is not None and not self.is_local(connection, request):
            if isinstance(wanted.from_outside, Answer):
                self.turned_away()
                self.note(connection, known, wanted.from_outside)
                self.respond(connection, head, wanted.from_outside)
                return
            wanted = wanted.from_outside
        if entered is not None:
            counted, life = entered
            try:
                self._streams.was_read(counted, wanted, recalled)
            except Overloaded as error:
                self.not_begun(entered)
                self.stream_refused(connection, known, error)
                return
            self._stream(connection, head, wanted, counted, life, own=True, since=since, recalled=recalled)
            return
        counted = self._streams.counted(self.client_of(connection, request)[:ADDRESS_LENGTH], wanted)
        if (admitted := self._admitted(connection, head, wanted, counted, own=True)) is not None:
            self._stream(connection, head, wanted, counted, admitted, own=True, since=since)

    def hold(
        self,
        connection: Connection,
        head: Head,
        wanted: Subscribe,
        address: str,
        *,
        retry: int | None,
        since: int,
        presence: Presence | None,
    ) -> bool:
        """`stream`, as an app has answered. False: there is no room for it, and its client was told."""
        address = address[:ADDRESS_LENGTH]
        if self._policy.compress:
            accepted = read_headers(head.headers, ACCEPT_ENCODING).get(b"accept-encoding")
            wanted = wanted.negotiated(accepted)
        counted = self._streams.counted(address, wanted)
        life = self._admitted(connection, head, wanted, counted, own=False)
        if life is not None:
            self._stream(
                connection, head, wanted, counted, life, own=False, retry=retry, since=since, presence=presence
            )
        return life is not None

    def _admitted(
        self,
        connection: Connection,
        head: Head,
        wanted: Subscribe,
        counted: str | Counted,
        *,
        own: bool,
        unread: bool = False,
    ) -> Life | None:
        try:
            return self._streams.enter(counted, Transport.NATIVE, wanted, unread=unread)
        except (Overloaded, HubClosed, Unsupported) as error:
            answer = self._streams.turn_away(error, wanted)
            self._streams.refusals.note(answer.refused, address_of_counted(counted), Transport.NATIVE, wanted)
            self.turned_away()
            self.respond(connection, head, answer, own=own)
            return None

    def _stream(
        self,
        connection: Connection,
        head: Head,
        wanted: Subscribe,
        counted: str | Counted,
        life: Life,
        *,
        own: bool,
        retry: int | None = None,
        since: int | None = None,
        presence: Presence | None = None,
        recalled: Recalled | None = None,
    ) -> None:
        """The connection goes on by itself, as a stream. When this returns nothing of the request is left."""
        streams = self._streams
        left_by: Owed = counted
        subscription = None
        part = recalled is not None and recalled.more
        try:
            subscription = streams.attach(
                wanted, connection, address_of_counted(counted), since=since, recalled=recalled
            )
            if part:
                assert recalled is not None
                headers, preamble = wanted.headers, streams.part(wanted, recalled)
            else:
                headers = streams.opening_headers(subscription, wanted)
                preamble = streams.preamble(subscription, wanted, retry)
                if wanted.gzip:
                    preamble = connection.gzip(preamble)
            opening = self._opening(head, headers, preamble, own)
            life = streams.transports[Transport.NATIVE].move(life, "open")  # its end may come with its beginning
            left_by = streams.opened(counted, Transport.NATIVE, wanted, subscription, recalled)
            connection.stream(opening, subscription.subscriber, left_by, head.minor == "1.1", presence)
        except HubClosed as error:  # more templates than one worker tries
            streams.left(left_by, EndReason.ERROR, Transport.NATIVE, life)
            answer = streams.turn_away(error, wanted)
            streams.refusals.note(answer.refused, address_of_counted(counted), Transport.NATIVE, wanted)
            self.turned_away()
            self.respond(connection, head, answer, own=own)
            return
        except BaseException:
            if subscription is not None:
                subscription.close()
            streams.left(left_by, EndReason.ERROR, Transport.NATIVE, life)
            raise
        if part:
            self._parts[connection] = subscription.subscriber, asyncio.get_running_loop().time()
            self._end_parts()
        if presence is not None and connection.state == "streaming":
            try:
                presence.opened(connection, subscription)
            except Exception:  # the stream has begun, and its end tells everybody of itself
                connection.abort()
                logger.exception("nobody could be told of a stream; it is ended")

    def _end_parts(self) -> None:
        """End the parts that are out, and those of which nothing was taken for too long; look again, in a moment, for
        the others."""
        now = asyncio.get_running_loop().time()
        for connection, (subscriber, begun) in tuple(self._parts.items()):
            if connection.state == "streaming" and not subscriber.parked:
                connection.end(EndReason.MORE)
            elif now - max(begun, subscriber.touched) >= self._streams.hub.send_timeout:
                connection.end(EndReason.SLOW)
            if connection.state != "streaming":
                del self._parts[connection]
        if self._parts and self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(PART_TICK, self._look_at_parts)

    def _look_at_parts(self) -> None:
        self._ending = None
        self._end_parts()

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def _refused(self, head: Head, bad: BadHead) -> bytes:
        self.bad_heads += 1
        self.turned_away()
        plain = Head()
        plain.minor = head.minor
        return self._rendered(plain, problem(bad.status, str(bad), self.readable(head)), last=True)

    def _rendered(self, head: Head, answer: Answer, last: bool, own: bool = True) -> bytes:
        silent = head.method == "HEAD"
        if not (answer.whole or silent or head.minor != "1.1"):
            return self._opening(head, answer.headers, answer.body, own, answer.status)
        rendered = (remembered_head if own else rendered_head)(answer.status, answer.headers)
        option = b"connection: close\r\n" if last else KEPT if head.minor == "1.0" else b""
        return b"%bdate: %b\r\n%b\r\n%b" % (rendered, self._date, option, b"" if silent else answer.body)

    def _opening(self, head: Head, headers: Headers, said: bytes, own: bool, status: int = 200) -> bytes:
        """The head of an answer that goes on, and its first bytes."""
        rendered = (remembered_head if own else rendered_head)(status, headers)
        if head.minor != "1.1":
            return b"%bdate: %b\r\nconnection: close\r\n\r\n%b" % (rendered, self._date, said)
        # No "connection: close" here: undici, which is the fetch of Node, then takes whatever is cut off for whole.
        framed = (rendered, self._date, len(said), said)
        return b"%bdate: %b\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % framed


def _known(head: Head, request: Request, decision: Decision | Ask) -> Known:
    if head.has_body and (isinstance(decision, Subscribe) or (isinstance(decision, Ask) and decision.stream)):
        decision = problem(400, "the request for a stream has no body", decision.readable, "invalid")
    return Known(head, request, decision)


def rendered_head(status: int, headers: Headers) -> bytes:
    """The head of an answer, open at its end."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, b"".join(lines))


remembered_head = lru_cache(maxsize=256)(rendered_head)  # nearly always the same few
