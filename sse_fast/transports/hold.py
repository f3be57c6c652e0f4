"""Hold: the app answers a request that was relayed to it with a few words, and its client's connection becomes a
stream.

    front: request, marked --> app: `Mark.offer` --> answer with Grip-Hold, Grip-Channel and the offer's own name
    front: `claim`, `take` <-- that answer, with whatever middlewares have added; its headers are the stream's

What it keeps: a mark for as long as its exchange is under way, with what the app offers there, and the place in the log
where the stream begins: that of the moment before the app was asked.
What it drops: an offer whose answer does not come, or is another one.
Who is told: a client whose answer has lost its status or the headers that say what it is, by 502, and the log. Whoever
offered is told by `opened`, and by `left` when it is over, exactly once each; by `left` alone where the stream never
opened.

The words are of GRIP (the Generic Realtime Intermediary Protocol). The relay passes on no header of theirs from or to a
client, and nobody else reaches the app: so who is marked came from here.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote

from sse_fast.errors import EndReason
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import STREAM_HEADERS, Answer, Headers, Subscribe, in_order
from sse_fast.protocol.problem import problem
from sse_fast.transports.forwarding import HOP_BY_HOP, tokens

if TYPE_CHECKING:  # an app that makes hubs under other servers needs neither
    from sse_fast._native.front.connection import Connection
    from sse_fast.transports.head import Head

logger = logging.getLogger("sse_fast.transports")

MARK = "sse_fast.mark"
"""Key in the ASGI scope: the `Mark` of a request that may be answered with a hold."""

EXCHANGE = b"grip-exchange"
HOLD, STREAM = b"grip-hold", b"stream"
CHANNEL = b"grip-channel"
CHANNELS_BYTES = 8 * 1024  # of names that are said in headers; more are not
IN_A_HEADER = ":$@+*!~"  # what a name has there as it is, beside letters, digits and -._~
OF_A_BODY = frozenset((b"content-length", b"content-encoding", b"content-range", b"accept-ranges", b"etag", b"date"))
OF_A_STREAM = frozenset(name for name, _ in STREAM_HEADERS)
BODY = b": an event stream for the server in front of this app to hold; here is nobody who holds it\n\n"
ALTERED = "the app answered with a stream, and a middleware of its changed the status or the headers that say which"


class HeldConnection(Protocol):
    def start(self) -> None:
        """Events may be sent. Again, or when it is closed: nothing happens."""

    def end(self, reason: EndReason) -> None:
        """End the stream as that reason has it. When it is over: nothing happens."""


class Presence(Protocol):
    """Who wants to know of one held stream."""

    def opened(self, connection: HeldConnection, subscription: Subscription) -> None:
        """It is there; its client has been told so, and nothing else until `connection.start()`."""

    def left(self, reason: EndReason) -> None:
        """It is over, however it went. Once."""


class Offer(NamedTuple):
    """What the app wants its client's connection to become. retry: milliseconds, None: as the server says."""

    wanted: Subscribe
    retry: int | None = None
    presence: Presence | None = None


class RelayedExchange(Protocol):
    """What a hold needs to know of an exchange that is relayed. context: the hold's own."""

    head: "Head"
    client: str
    connection: "Connection"
    context: Any


class Front(Protocol):
    """What a hold needs of the front."""

    def respond(self, connection: "Connection", head: "Head", answer: Answer) -> None:
        """Answer in place."""

    def hold(
        self,
        connection: "Connection",
        head: "Head",
        wanted: Subscribe,
        address: str,
        *,
        retry: int | None,
        since: int,
        presence: Presence | None,
    ) -> bool:
        """Have the connection become a stream of its own headers. False: it is told that there is no room for it."""


class Mark:
    """One exchange that may be answered with a hold, and what was offered there."""

    __slots__ = ("_closed", "_offers", "headers", "holds", "name", "offer", "since")

    def __init__(self, holds: "Holds", name: bytes, since: int) -> None:
        self.holds, self.name, self.since = holds, name, since
        self.offer: Offer | None = None
        self.headers: Headers | None = None
        """Of the answer, once it is claimed; None: they are not what was offered."""
        self._offers = 0
        self._closed = False

    @property
    def offered(self) -> bytes:
        """The name of the offer that counts, the last one."""
        return b"%b.%d" % (self.name, self._offers)

    def answer(self, offer: Offer, headers: Headers) -> tuple[Headers, bytes]:
        """The head and the body to answer with, `headers` being the stream's own."""
        self.drop()
        self._offers += 1
        self.offer = offer
        if self._closed:
            self.drop()
        words = ((HOLD, STREAM), (EXCHANGE, self.offered), *channel_headers(offer.wanted.channels))
        return (*headers, *words, (b"content-length", b"%d" % len(BODY))), BODY

    def close(self) -> None:
        """The exchange is over. Nothing becomes of what was offered, nor of what is from here on."""
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Nothing becomes of what was offered."""
        offer, self.offer = self.offer, None
        if offer is not None and offer.presence is not None:
            offer.presence.left(EndReason.CLIENT)


class Holds:
    """The exchanges of a front that the app may answer with a hold. The relay's `Hold`."""

    def __init__(self, front: Front, position: Callable[[], int]) -> None:
        self._front = front
        self._position = position
        self._secret = secrets.token_hex(8).encode()
        self._count = 0
        self._marks: dict[bytes, Mark] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Exchanges under way that are marked."""
        return len(self._marks)

    def find(self, name: bytes) -> Mark | None:
        return self._marks.get(name)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have it done; `finish` waits for it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait for what is to be done for streams that have ended, so long at most."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=max(0.0, seconds))

    # ---- for the relay -----------------------------------------------------------------------------------------------

    def mark(self, exchange: RelayedExchange) -> bytes:
        """The header line that marks its request; none where a stream can't be the answer."""
        if exchange.head.method != "GET":
            return b""
        self._count += 1
        name = b"%b-%x" % (self._secret, self._count)
        self._marks[name] = exchange.context = Mark(self, name, self._position())
        return b"%b: %b\r\n" % (EXCHANGE, name)

    def claim(self, exchange: RelayedExchange, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
        """The head of its answer has come. True: it is not for the client, and `take` is to come."""
        mark: Mark | None = exchange.context
        if mark is None or mark.offer is None:
            return False
        low = [(name.lower(), value) for name, value in headers]
        said = {name: value for name, value in low if name in (HOLD, EXCHANGE, b"content-type")}
        streams = said.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        if EXCHANGE not in said and not (streams and status == 200):
            mark.drop()  # the app thought better of it
            return False
        channels = tuple(header for header in low if header[0] == CHANNEL)
        if (
            status == 200
            and streams
            and said.get(EXCHANGE) == mark.offered
            and said.get(HOLD) == STREAM
            and channels == channel_headers(mark.offer.wanted.channels)
        ):
            mark.headers = stream_headers(low)
        return True

    def take(self, exchange: RelayedExchange) -> None:
        """The answer is complete: its client's connection is ours."""
        mark: Mark = exchange.context
        self._marks.pop(mark.name, None)
        exchange.context = None
        try:
            self._take(exchange, mark)
        finally:
            mark.close()  # drops the offer unless it was taken

    def _take(self, exchange: RelayedExchange, mark: Mark) -> None:
        offer = mark.offer
        if mark.headers is None or offer is None:
            logger.error("%s (%s); see what a middleware does to them", ALTERED, exchange.head.target[:80])
            self._front.respond(exchange.connection, exchange.head, problem(502, ALTERED))
            return
        wanted = offer.wanted._replace(headers=mark.headers, readable=beside_a_stream(mark.headers))
        if self._front.hold(
            exchange.connection,
            exchange.head,
            wanted,
            exchange.client,
            retry=offer.retry,
            since=mark.since,
            presence=offer.presence,
        ):
            mark.offer = None

    def leave(self, exchange: RelayedExchange) -> None:
        """It is over. What was not taken is dropped."""
        mark: Mark | None = exchange.context
        if mark is not None:
            exchange.context = None
            self._marks.pop(mark.name, None)
            mark.close()


def channel_headers(channels: tuple[str, ...]) -> Headers:
    names = [quote(channel, safe=IN_A_HEADER).encode() for channel in channels]
    if sum(map(len, names)) > CHANNELS_BYTES:
        return ()
    return tuple((CHANNEL, name) for name in names)


def beside_a_stream(headers: Headers) -> Headers:
    """What any other answer there would have, too: who may read it, cookies, what middlewares add."""
    return tuple(header for header in headers if header[0] not in OF_A_STREAM)


def stream_headers(answer: list[tuple[bytes, bytes]]) -> Headers:
    """Those of the answer, names in lower case, that its stream has, too."""
    own = HOP_BY_HOP | OF_A_BODY | tokens(answer, b"connection")
    return in_order(*(header for header in answer if header[0] not in own and not header[0].startswith(b"grip-")))
