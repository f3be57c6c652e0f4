"""Streams over an ASGI server: what was decided is carried out by a coroutine for each client.

The native fan-out writes to the server's own `send`; the coroutine only opens the stream and then waits for the client
to go.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from sse_fast._native.wire.control import HEARTBEAT, closing
from sse_fast._native.wire.gzip import stored
from sse_fast.access.limits import Counted
from sse_fast.asgi import Receive, Scope, Send, break_off
from sse_fast.ends import ENDS, Close, End
from sse_fast.errors import EndReason, HubClosed, Overloaded, Unsupported
from sse_fast.hub.hub import LAST_BYTES
from sse_fast.hub.recall import Recalled
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import Answer, Subscribe
from sse_fast.transports.life import Life, Lives, Transport
from sse_fast.transports.listening import Owed
from sse_fast.transports.sink import AsgiSink
from sse_fast.transports.streams import ADDRESS_LENGTH, Streams

if TYPE_CHECKING:  # of the server that needs Linux
    from sse_fast.transports.kernel import ServerConnections

logger = logging.getLogger("sse_fast.transports")

PEER = "sse_fast.peer"
"""Key in the ASGI scope: who the connection is from, whatever a proxy says of its client."""


async def send_answer(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body, "more_body": not answer.whole})


def client_address(scope: Scope) -> str:
    """Who the client is."""
    client: str = (scope.get("client") or ("local", 0))[0]
    return client[:ADDRESS_LENGTH]


class Stream:
    """One connection, from the request to its end. Each stream of the hub over ASGI is one; a subclass may write
    in another way, and see streams open and end."""

    __slots__ = (
        "_address",
        "_life",
        "_receive",
        "_retry",
        "_scope",
        "_send",
        "_streams",
        "_task",
        "end_reason",
    )

    def __init__(
        self, streams: Streams, scope: Scope, receive: Receive, send: Send, *, retry: int | None = None
    ) -> None:
        self._streams = streams
        self._scope, self._receive, self._send = scope, receive, send
        self._retry = retry
        self._life = Life.ARRIVED
        self.end_reason = EndReason.CLIENT

    @property
    def _lives(self) -> Lives:
        return self._streams.transports[Transport.ASGI]

    # ---- what a subclass may do in its own way -----------------------------------------------------------------------

    def _writer(self) -> Send:
        """What the hub writes to."""
        return self._send

    async def _joined(self, subscription: Subscription) -> None:
        """The client has been told that it is connected, and nothing else yet."""

    async def _left(self) -> None:
        """It is no subscriber any more, however the stream ended; it may not have joined."""

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def refuse(self, answer: Answer) -> None:
        """Answer with something else than a stream."""
        self._life = self._lives.move(self._life, "refuse")
        await send_answer(answer, self._send)
        if not answer.whole:
            await asyncio.sleep(LAST_BYTES)  # a server may abort at once what has no last body
            await break_off(self._receive)

    async def answer(self, wanted: Subscribe, *, since: int | None = None) -> None:
        """Answer with a stream until its end, or by turning the client away. since: a position of the log that stands
        for now."""
        streams = self._streams
        self._address = client_address(self._scope)
        counted = streams.counted(self._address, wanted)
        recalled = None
        try:
            await streams.hub.be_ready()
            unread = streams.recalls(wanted)
            self._life = streams.enter(counted, Transport.ASGI, wanted, unread=unread)
            if unread:
                try:
                    recalled = await streams.recall(wanted)
                    streams.was_read(counted, wanted, recalled)
                except BaseException:
                    streams.left(counted, EndReason.CLIENT, Transport.ASGI, self._life)
                    self._life = Life.ARRIVED
                    raise
        except (Overloaded, HubClosed, Unsupported) as error:
            answer = streams.turn_away(error, wanted)
            streams.refusals.note(answer.refused, self._address, Transport.ASGI, wanted)
            return await self.refuse(answer)
        return await self._stream(wanted, counted, since, recalled)

    async def _stream(
        self, wanted: Subscribe, counted: str | Counted, since: int | None, recalled: Recalled | None
    ) -> None:
        """Open the stream, then wait for the client to go."""
        left_by: Owed = counted
        writer = self._writer()
        self._task = asyncio.current_task()
        subscription = None
        sink: AsgiSink | None = None
        last: End | None = None
        connections = self._connections()
        under = self._streams.connections if self._scope.get(PEER) else None
        if under is not None:
            under.begin_stream(self._scope[PEER])
        try:
            sink = AsgiSink(writer, self._streams.hub.stepper, self._end)
            sink.charge = connections.charge if connections is not None else 0
            subscription = self._streams.attach(wanted, sink, self._address, since=since, recalled=recalled)
            # Before anything is waited for: whatever ends streams finds it.
            left_by = self._streams.opened(counted, Transport.ASGI, wanted, subscription, recalled)
            sink.unblock = subscription.start
            if recalled is not None and recalled.more:
                headers, preamble = wanted.headers, self._streams.part(wanted, recalled)
            else:
                headers = self._streams.opening_headers(subscription, wanted)
                preamble = self._streams.preamble(subscription, wanted, self._retry)
                if wanted.gzip:
                    preamble = sink.gzip(preamble)
            await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})
            await writer({"type": "http.response.body", "body": preamble, "more_body": True})
            self._life = self._lives.move(self._life, "open")
            if recalled is not None and recalled.more:
                self.end_reason = EndReason.MORE
            else:
                await self._joined(subscription)
                subscription.start()
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except HubClosed as error:  # more templates than one worker tries
            if subscription is not None:
                raise
            self.end_reason = EndReason.ERROR
            await send_answer(self._streams.turn_away(error, wanted), self._send)
        except asyncio.CancelledError:
            if self.end_reason is EndReason.CLIENT:  # it was not the hub
                self.end_reason = EndReason.SHUTDOWN
                raise
            # The hub let the stream go, and woke this task to say so.
            if self._task is None or self._task.uncancel():
                raise
            if self._life is Life.STREAMING and subscription is not None and not subscription.blocked:
                last = ENDS[self.end_reason]
                if not last.told or (subscription.subscriber.finished and last.comes_back):  # it knows
                    last = None
        finally:
            if subscription is not None:
                subscription.close()
            self._life = self._streams.left(left_by, self.end_reason, Transport.ASGI, self._life)
            if under is not None:
                under.end_stream(self._scope[PEER])
            await self._left()
        if last is not None:
            await self._say(last, sink if wanted.gzip else None, quiet=wanted.mercure is not None)
        if self.end_reason is EndReason.MORE:
            await asyncio.sleep(LAST_BYTES)  # a server may abort at once what has no last body
        if self.end_reason is not EndReason.CLIENT and (last is None or last.comes_back):
            await break_off(self._receive)

    async def _say(self, end: End, gzip: AsgiSink | None, *, quiet: bool) -> None:
        """`$closing`, and the end of the response where it is to be complete. gzip: the sink, if the stream is. quiet:
        nothing is said but a comment."""
        words = HEARTBEAT if quiet else closing(end.told, end.retry)
        if gzip is not None:
            words = stored(words) if end.comes_back else gzip.gzip_end(words)
        message = {"type": "http.response.body", "body": words, "more_body": end.comes_back}
        if not end.comes_back:
            await self._send(message)
            return
        # A server may abort at once what has no last body; and nobody waits longer for one who does not read.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_BYTES):
                await self._send(message)
                await asyncio.sleep(LAST_BYTES)

    def _end(self, reason: EndReason, error: Exception | None) -> None:
        """The hub let the stream go: wake the task that waits for the client, so that it ends."""
        if self.end_reason is not EndReason.CLIENT:
            return  # on its way out already; a second cancellation would not be taken back
        if self._task is not None:
            self._task.cancel()  # first: if there is no memory for it, this is called again
        self.end_reason = reason
        connections = self._connections()
        if ENDS[reason].close is Close.RESET and connections is not None:
            connections.reset(self._scope[PEER])
        if error is not None:
            extra = {"path": self._scope["path"], "error": f"{type(error).__name__}: {error}"}
            logger.warning("a stream's send failed", extra=extra)

    def _connections(self) -> "ServerConnections | None":
        """None also under HTTP/2, where a connection is not this stream's alone."""
        scope, connections = self._scope, self._streams.connections
        if connections is None or not scope.get(PEER) or scope["http_version"] == "2":
            return None
        return connections
