"""Ends connections of an ASGI server whose clients ask for nothing.

Granian times a request's head only when it knows which version of HTTP its client speaks: who ends the TLS handshake
and then says nothing, or the letter with which both versions can begin, stays for ever, and so does one of HTTP/2 that
answers pings and asks for nothing. No server tells its app of connections. So they are found among the descriptors of
this process, and the app says from whom requests come: whose peer has none under way is quiet, and may be so for a
while only.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sse_fast._native.base.tcp import peer_key
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.base.descriptors import limit_descriptors, open_descriptors, raise_descriptor_limit
from sse_fast.base.listening import limit_queues, listening_sockets, refuse_new, take_new
from sse_fast.transports.kernel import ServerConnections

logger = logging.getLogger("sse_fast.transports")

App = Callable[[Scope, Receive, Send], Awaitable[None]]

FIRST_REQUEST = 15.0  # seconds for a handshake and a request's head
NEXT_REQUEST = 120.0  # seconds between requests; browsers keep idle connections of HTTP/2 for one to five minutes
BODY = 30.0  # seconds that an app may wait for more of a request's body
LOOK = 2.0  # seconds between looks
BEGIN = 0.02  # the same, until the server listens


class LastDescriptors:
    """LastDescriptors(port, descriptors, held_back): what a server with TLS on this port gets when it has run out.

    Where accept(2) fails for want of a descriptor, Granian tries again for ever, and looks at no handshake meanwhile:
    of the connections that it has none would ever be closed. So of the process' `descriptors` some are held back. When
    the others are in use nobody else may connect, and it gets these, which are more than wait to be accepted."""

    def __init__(self, port: int, descriptors: int, held_back: int) -> None:
        self.given = False
        self._port = port
        self._most = descriptors - held_back
        self._held_back = held_back
        self._probe = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._sockets: list[int] = []
        limit_descriptors(self._most)

    def close(self) -> None:
        if self._sockets:
            self._sockets = []
            raise_descriptor_limit()
        os.close(self._probe)

    @property
    def ready(self) -> bool:
        """The server listens, and is looked after."""
        return bool(self._sockets)

    def look(self) -> None:
        """Give them where there are no others, and take them back when there are. Raises OSError."""
        if not self._sockets:
            self._sockets = listening_sockets([self._port], early=True)
        limit_queues(self._sockets, self._held_back // 2)  # again and again: the server may set it too
        if self.given:
            if open_descriptors() <= self._most - self._held_back:
                self.given = False
                limit_descriptors(self._most)
                take_new(self._sockets)
        elif self._none_left():
            self.given = True
            refuse_new(self._sockets)
            raise_descriptor_limit()
            logger.warning("no descriptor is left for another connection; nobody may connect until some have ended")

    def _none_left(self) -> bool:
        try:
            os.close(os.dup(self._probe))
        except OSError as error:
            return error.errno == errno.EMFILE
        return False


def in_time(receive: Receive) -> Receive:
    """To a client that stops sending its request's body the app is not bound for ever: it is told `http.disconnect`."""
    whole = late = False

    async def received() -> MutableMapping[str, Any]:
        nonlocal whole, late
        if whole:
            return await receive()
        try:
            async with asyncio.timeout(0 if late else BODY):
                message = await receive()
        except TimeoutError:
            late = True
            return {"type": "http.disconnect"}
        whole = not message.get("more_body", False)
        return message

    return received


class QuietConnections:
    """QuietConnections(connections, most): those from whose peers no request is under way.

    They are reset if no request has come within `first` seconds, or no other one within `next` seconds after that.
    While there are more than `most` connections in all, the quiet go at once: the oldest that never had a request, then
    the longest idle."""

    def __init__(
        self,
        connections: ServerConnections,
        most: int,
        last: LastDescriptors | None = None,
        *,
        first: float | None = None,
        next: float | None = None,
    ) -> None:
        self.ended = 0
        self._connections = connections
        self._most = most
        self._last = last
        self._first = FIRST_REQUEST if first is None else first
        self._next = NEXT_REQUEST if next is None else next
        self._busy: dict[bytes, int] = {}  # requests under way, by peer
        self._asked: dict[bytes, float] = {}  # when a peer's last request began or ended
        self._seen: dict[int, float] = {}  # when a quiet connection was seen first, by inode
        self._watching: asyncio.Task[None] | None = None

    def begin(self, peer: tuple[str, int | str]) -> bytes:
        """A request from there: what `end` is to be called with."""
        key = peer_key(peer[0], int(peer[1]))
        self._busy[key] = self._busy.get(key, 0) + 1
        self._asked[key] = asyncio.get_running_loop().time()
        return key

    def end(self, key: bytes) -> None:
        self._asked[key] = asyncio.get_running_loop().time()
        if self._busy[key] > 1:
            self._busy[key] -= 1
        else:
            del self._busy[key]

    def watched(self, app: App) -> App:
        """The app, whose requests are these connections'."""

        async def asked(scope: Scope, receive: Receive, send: Send) -> None:
            peer = scope.get("client")
            if not peer:
                return await app(scope, receive, send)
            key = self.begin(peer)
            try:
                await app(scope, in_time(receive) if scope["type"] == "http" else receive, send)
            finally:
                self.end(key)

        return asked

    def watch(self) -> None:
        """Look every now and then, until `close`."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._last is not None:
            self._last.close()
            self._last = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK if self._last is None or self._last.ready else BEGIN)
            try:
                await self.look()
            except Exception:
                logger.exception("quiet connections could not be looked at; they are again in a moment")

    async def look(self) -> None:
        """End those that have been quiet for too long."""
        if self._last is not None:
            self._last.look()
        now = asyncio.get_running_loop().time()
        total, found = await self._connections.quiet(self._busy)
        seen = self._seen
        self._seen = {inode: seen.get(inode, now) for inode, *_ in found}
        # (has asked, since when, peer): in order of who is to go first
        quiet = sorted(
            (key in self._asked, self._asked.get(key, self._seen[inode]), (address, port))
            for inode, key, address, port in found
            if key not in self._busy
        )
        over = total - self._most
        for number, (asked, since, peer) in enumerate(quiet):
            if number < over or now - since >= (self._next if asked else self._first):
                self._connections.reset(peer)
                self.ended += 1
        there = {key for _, key, _, _ in found}
        # A request of a connection that came since is the next look's.
        self._asked = {
            key: when for key, when in self._asked.items() if key in there or key in self._busy or when >= now
        }
