"""The relay: hands on the requests that nobody here answers to the app server of this worker, exchange by exchange.

    client --> connection --> RelayedExchange --> upstream --> app server
    client <-- connection <-- RelayedExchange <-- upstream <-- app server

What it keeps: connections to the app server, of which there are at most `most`; exchanges for which none is free, in
their order, so many and so long at most. One address has about half of either, see `parts`.
What it drops: connections that are idle for a while, or say what nobody asked for.
Who is told: a client whose exchange fails, see `relayed`.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from errno import EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM
from itertools import takewhile
from typing import TYPE_CHECKING

from sse_fast._native.front.connection import Connection
from sse_fast._native.front.upstream import Upstream, connect
from sse_fast.access.addresses import one_client
from sse_fast.access.local import UNIX
from sse_fast.transports.head import Head
from sse_fast.transports.parts import Parts
from sse_fast.transports.relayed import Hold, RelayedExchange
from sse_fast.transports.upload import HELD

if TYPE_CHECKING:
    from sse_fast.transports.front import Front

logger = logging.getLogger("sse_fast.transports")

MOST = 256
RESERVED = 16  # of those at most, for this server's own answers
WAITING = 1024  # exchanges at once for which no connection is free
PATIENCE = 5.0  # seconds they wait
TIMEOUT = 60.0  # seconds without a byte from the app that owes one
BODY_SECONDS = 30.0  # without a byte of the request's body
GATHER_SECONDS = 2.0  # in which the beginning of one without a length is waited for
TUNNEL_SECONDS = 3600.0  # without a byte in either direction
SLOW_SECONDS = 15.0  # in which a client takes a piece; who takes longer is slow
IDLE_SECONDS = 5.0  # less than any app server keeps a connection

FULL = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM))  # of connecting: later, perhaps
STOPPING = "the server is shutting down; come back in a moment"


def reserved(most: int) -> int:
    """Of so many connections to the app server, how many only the server's own exchanges may take."""
    return min(RESERVED, most // 4)


class Relay:
    """Relay(front, path, …): relays to the app server that listens at the Unix socket `path`, for as long as `front`
    listens.

    `most`: connections to it at once, a few of which only the server's `own` exchanges may take; `waiting`: exchanges
    that wait for one, `patience` seconds each. `timeout`: seconds without a byte from the app before its answer, or in
    the midst of one that has a length, or behind which its client has asked for more.
    `body_seconds`: without a byte of a request's body; `gather_seconds`: in which the beginning of one without a length
    is waited for, before the app is asked with less. `tunnel_seconds`: of a tunnel without a byte. `slow_seconds`: that
    a client may take over a piece of its answer while others wait. `authority`: Host of a request that has none.
    """

    def __init__(
        self,
        front: "Front",
        path: str,
        *,
        most: int = MOST,
        waiting: int = WAITING,
        patience: float = PATIENCE,
        timeout: float = TIMEOUT,
        body_seconds: float = BODY_SECONDS,
        gather_seconds: float = GATHER_SECONDS,
        tunnel_seconds: float = TUNNEL_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        authority: bytes = b"localhost",
    ) -> None:
        self.front = front
        self._path = path
        self._most, self._waiting = most, waiting
        self._reserved = reserved(most)
        self.shared = most - self._reserved
        """Connections to the app server that any exchange may take."""
        half = max(self.shared // 2, 1)
        self._parts: Parts[RelayedExchange] = Parts(half, half + self._reserved)
        self._own = 0  # that the server's own exchanges have
        self.patience, self.timeout = patience, timeout
        self.body_seconds, self.gather_seconds, self.tunnel_seconds = body_seconds, gather_seconds, tunnel_seconds
        self._slow_seconds = slow_seconds
        self.authority = authority
        self.hold: Hold | None = None
        self.open = 0
        """Connections to the app server."""
        self.held = 0
        """Bytes of bodies that wait for one."""
        self.exchanges = self.tunnels = 0
        """Begun, so far; those of them that are tunnels now."""
        self.uploads = 0
        """Those that have a connection to the app, and not all of their body."""
        self.blocked: dict[RelayedExchange, float] = {}
        """Those whose client has yet to take what it was sent, and since when, in this order."""
        self.failed: Counter[int] = Counter()
        """What was answered in the app's place, by status."""
        self._under_way: dict[RelayedExchange, None] = {}
        self._queue: dict[RelayedExchange, None] = {}
        self._own_queue: dict[RelayedExchange, None] = {}
        self._slow_queue: dict[RelayedExchange, None] = {}
        self._queues = (self._own_queue, self._queue, self._slow_queue)
        self._idle: dict[Upstream, float] = {}  # since when, in this order
        self.now = 0.0
        self._beginning = False
        self._silent_until = 0.0
        self._finishing = False
        self._quiet: asyncio.Event | None = None

    @property
    def busy(self) -> int:
        """Exchanges under way; a tunnel is none."""
        return len(self._under_way) - self.tunnels

    @property
    def queued(self) -> int:
        """Exchanges that wait for a connection."""
        return sum(map(len, self._queues)) + self._parts.waiting

    @property
    def idle(self) -> int:
        """Connections to the app server that wait for an exchange."""
        return len(self._idle)

    @property
    def _half(self) -> int:
        return -(-self.shared // 2)

    @property
    def has_room_for_slow(self) -> bool:
        """Half of the connections stay for those whose body is there."""
        return self.uploads < self._half

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
    ) -> RelayedExchange:
        """Hand on this request of a connection that waits. `client`: who asks; `trusted`: what the request says beside
        that is a trusted proxy's word. `keep`: the connection may be kept behind it. `length`: of its body; None: that
        is chunked. `own`: it is a question to this server, answered
        whatever the app's clients hold. `local`: it comes from this machine itself."""
        exchange = RelayedExchange(
            self, connection, head, client=client, trusted=trusted, keep=keep, length=length, own=own, local=local
        )
        if not trusted and connection.address != UNIX:  # else it is that of many
            exchange.address = one_client(connection.address)
        self._under_way[exchange] = None
        self.exchanges += 1
        try:
            exchange.begin()
        except BaseException:
            exchange.gone()
            raise
        return exchange

    def admit(self, exchange: RelayedExchange) -> None:
        """Begin it, or have it wait, or refuse it."""
        if self._finishing:
            exchange.fail(503, STOPPING)
        elif not self._parts.enter(exchange):
            if self._parts.waiting_with(exchange) < max(self._waiting // 2, 1) and self.held <= HELD:
                self._parts.wait(exchange)
                exchange.connection.give(self.patience)
            else:
                exchange.fail(503, "so many requests of this address are under way, and wait; come back in a moment")
        elif (queue := self._queue_of(exchange)) or not self._begun(exchange):
            # The slow wait in half of the places, too.
            most = self._waiting if exchange.whole else -(-self._waiting // 2)
            if len(queue) < most and self.held <= HELD:
                self._wait(exchange)
            else:
                taken = f"the {self.shared} connections that a worker has for it are taken"
                exchange.fail(503, f"the app is busy: {taken}, and so many wait already; come back in a moment")

    def tick(self, now: float) -> None:
        """A few times a second: `now` is seconds on a steady clock."""
        self.now = now
        while self._idle:
            upstream, since = next(iter(self._idle.items()))
            if since > now - IDLE_SECONDS:
                break
            self._drop(upstream)
        self._next()
        if self._queue or self._own_queue:
            self._make_room()

    def leave(self) -> None:
        """The server is about to end: a client's next request is its last."""
        for upstream in list(self._idle):
            self._drop(upstream)

    async def finish(self, seconds: float) -> None:
        """Begin no more, and wait until no exchange is under way, so long at most; then what has no answer is answered
        here, and the rest broken off. Tunnels stay."""
        self._finishing = True
        if self.busy:
            self._quiet = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), seconds)
            self._give_up([exchange for exchange in self._under_way if not exchange.tunnel])

    def close(self) -> None:
        """End what is open."""
        self._give_up(list(self._under_way))
        self.leave()

    def _give_up(self, exchanges: list[RelayedExchange]) -> None:
        for queue in self._queues:
            queue.clear()
        self._parts.clear()
        for exchange in exchanges:
            exchange.give_up()

    # ---- for exchanges -----------------------------------------------------------------------------------------------

    def again(self, exchange: RelayedExchange, upstream: Upstream) -> None:
        """By another connection, a new one."""
        self._drop(upstream)
        self._own -= exchange.own
        if not self._begun(exchange, fresh=True):
            self._wait(exchange)

    def over(self, exchange: RelayedExchange, upstream: Upstream | None, *, keep: bool) -> None:
        """It is, and its connection to the app server may be `keep`t."""
        del self._under_way[exchange]
        if self._queue or self._own_queue or self._slow_queue:
            for queue in self._queues:
                queue.pop(exchange, None)
        self.tunnels -= exchange.tunnel
        if upstream is not None:
            self._own -= exchange.own
            if keep and not self.front.closing:
                upstream.context = self
                upstream.resume()
                self._idle[upstream] = self.now
            else:
                self._drop(upstream)
        if exchange.address and (waits := self._parts.leave(exchange)) is not None:
            self._queue_of(waits)[waits] = None
        if self._queue or self._own_queue or self._slow_queue:
            self._next()
        if self._quiet is not None and not self.busy:
            self._quiet.set()

    def complain(self, what: str, *about: object) -> None:
        """Say in the log what is wrong with the app, once a second at most."""
        if self.now >= self._silent_until:
            self._silent_until = self.now + 1.0
            logger.warning(what, *about)

    # ---- connections to the app server -------------------------------------------------------------------------------

    def _begun(self, exchange: RelayedExchange, *, fresh: bool = False) -> bool:
        """Whether there is a connection for it now. `fresh`: only a new one is good enough."""
        taken = self.open - len(self._idle)
        if taken >= self.shared and not exchange.own and taken >= self.shared + min(self._own, self._reserved):
            return False
        if not (exchange.whole or self.has_room_for_slow):
            return False
        while self._idle and not fresh:
            upstream, _ = self._idle.popitem()
            if upstream.quiet():  # what it says unasked nobody may take for an answer
                upstream.context = exchange
                self._own += exchange.own
                exchange.start(upstream, reused=True)
                return True
            self._drop(upstream)
        if self.open >= self._most:
            return False
        assert self.front.listener is not None
        try:
            upstream = connect(self.front.listener, self._path, exchange)
        except OSError as error:
            if error.errno in FULL:
                return False
            self.complain("the app cannot be reached: %s", error)
            exchange.fail(502, "the app cannot be reached")
            return True
        self.open += 1
        self._own += exchange.own
        exchange.start(upstream, reused=False)
        return True

    def _wait(self, exchange: RelayedExchange) -> None:
        self._queue_of(exchange)[exchange] = None
        exchange.connection.give(self.patience)

    def _queue_of(self, exchange: RelayedExchange) -> dict[RelayedExchange, None]:
        if not exchange.whole:
            return self._slow_queue
        return self._own_queue if exchange.own else self._queue

    def _next(self) -> None:
        """Begin those that wait, while there are connections for them."""
        if self._beginning:
            return  # one that fails at once frees its connection for the next
        self._beginning = True
        try:
            while self._queue or self._own_queue:
                own = self._own_queue and (self._own < self._reserved or not self._queue)
                queue = self._own_queue if own else self._queue
                exchange = next(iter(queue))
                if not self._begun(exchange):
                    break
                queue.pop(exchange, None)
            while self._slow_queue:
                exchange = next(iter(self._slow_queue))
                if not self._begun(exchange):
                    break
                self._slow_queue.pop(exchange, None)
        finally:
            self._beginning = False

    def _make_room(self) -> None:
        """For those that wait: who is slow, either way, has half of the connections. Whose client is blocked for
        longest goes first."""
        since = self.now - self._slow_seconds
        slow = list(takewhile(lambda exchange: self.blocked[exchange] <= since, self.blocked))
        waiting = len(self._queue) + len(self._own_queue)
        for exchange in slow[: max(0, min(waiting, self.uploads + len(slow) - self._half))]:
            self.complain("the answer of a client that reads slowly is broken off: others wait for the app")
            exchange.cut()

    def _drop(self, upstream: Upstream) -> None:
        self._idle.pop(upstream, None)
        upstream.context = None
        upstream.abort()
        self.open -= 1

    def received(self, upstream: Upstream, data: bytes) -> None:
        """From one that is idle: it closes, or says what nobody asked for."""
        self._drop(upstream)

    def sent(self, upstream: Upstream) -> None: ...

    def lost(self, upstream: Upstream) -> None:
        self._drop(upstream)
