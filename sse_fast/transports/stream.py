"""GET /sse as ASGI: request -> subscription -> bytes; and a connection's life as a table of states.

Plain ASGI, no framework: this is the transport that tens of thousands come through. The native fan-out writes to the
server's own `send`; this coroutine only opens the stream and then waits for the client to go.
"""

import asyncio
import logging
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from starlette.responses import Response

from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast.access.limits import Admission
from sse_fast.asgi import HEADERS, Headers, Receive, Scope, Send, answer_head, break_off
from sse_fast.errors import EndReason, HubClosed, InvalidEvent, Overloaded
from sse_fast.event_rules import MAX_ID_BYTES, brief, channel_name
from sse_fast.hub.hub import LAST_BYTES, Hub
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.problem import Problem

logger = logging.getLogger("sse_fast.transports")

PARAMETERS = ("channel", "history", "last_event_id")
UNKNOWN_COMPARED = 8  # of parameters that nobody here knows, with the known ones: each comparison costs 20 us
LETTERS_A_SLIP = 5  # one edit of "history" is a slip, "story" and "historyId" are names of somebody else's
SYNONYMS = {
    "chan": "channel",
    "hist": "history",
    "histories": "history",
    "lastid": "last_event_id",
    "since": "last_event_id",  # what `sse-fast listen` calls it
}
PLAIN_QUERY = re.compile(rb"(?:(?:channel|history|last_?event_?id)=[^&]*(?:&|\Z))*", re.I)
ALLOW = "GET, HEAD, OPTIONS"
SYSTEM_CHANNELS = frozenset(("$stats",))
MAX_HISTORY = 1_000_000
MOST_PARAMETERS = 1024  # in a query string, beside the channels
ADDRESS_LENGTH = 64  # characters; a proxy that is trusted passes on what any stranger calls his address
REMEMBERED_LENGTH = 256  # characters of a path and query whose meaning is remembered
CLOSING = b'event: $closing\ndata: {"reason":"%b"}\n\n'
RAW_SEND = "sse_fast.send"
"""Key in the ASGI scope: the server's own `send`, past what middleware wraps round it."""
PEER = "sse_fast.peer"
"""Key in the ASGI scope: who the connection is from, whatever a proxy says of its client."""
TAKE_OVER = "sse_fast.take_over"
"""Key in the ASGI scope: a `TakeOver`, where the connection can become a stream by itself."""


class TakeOver(Protocol):
    """A connection that takes a stream over: its end is told to `Streams.left`."""

    @property
    def has_room(self) -> bool:
        """Whether there is a connection to become a stream; else the client can only be turned away."""

    @property
    def sink(self) -> Sink: ...
    def stream(self, subscriber: Subscriber, opening: bytes, address: str) -> None:
        """Behind the head that was sent, `opening` and then the subscriber's events. `address`: for `Streams.left`,
        which is owed unless this raises."""


class Connections(Protocol):
    """What is known of the connections under an ASGI server."""

    charge: int
    """Bytes of kernel memory that one whose client does not read is taken to hold."""

    def begin_stream(self, peer: tuple[str, int | str]) -> None:
        """The connection from this address has become a stream, or has one more: `end_stream` is owed."""

    def end_stream(self, peer: tuple[str, int | str]) -> None: ...
    def reset(self, peer: tuple[str, int | str]) -> None:
        """Have the connection from this address end at once, and what waits for its client dropped."""


class Transport(StrEnum):
    """Where a stream came in: the ASGI server's port, or the stream port."""

    ASGI = "asgi"
    NATIVE = "native"


@dataclass(slots=True)
class TransportCounts:
    """Plain counters of one transport; others read them."""

    connections: int = 0
    accepted: int = 0
    ended: Counter[EndReason] = field(default_factory=Counter)


class Life(StrEnum):
    """Where a connection is in its life."""

    ARRIVED = "arrived"
    OPENING = "opening"
    STREAMING = "streaming"
    REFUSED = "refused"
    ENDED = "ended"


LIVES: dict[Life, dict[str, Life]] = {
    Life.ARRIVED: {"refuse": Life.REFUSED, "admit": Life.OPENING},
    Life.OPENING: {"open": Life.STREAMING, "end": Life.ENDED},
    Life.STREAMING: {"end": Life.ENDED},
    Life.REFUSED: {},
    Life.ENDED: {},
}


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a subscribe request asks for. The same grammar at every transport."""

    channels: tuple[str, ...]
    last_event_id: str | None
    history: int

    @classmethod
    def read(
        cls, path: str, query: bytes, last_event_id: str | None, max_channels: int, max_history: int = MAX_HISTORY
    ) -> "SubscribeRequest":
        """Read a request: `path` below /sse, the query string, the Last-Event-ID header. Raises InvalidEvent."""
        if len(path) + len(query) <= REMEMBERED_LENGTH and query_is_plain(query):
            channels, id_in_query, history = cls._remembered(path, query, max_channels, max_history)
        else:
            channels, id_in_query, history = cls._parsed(path, query, max_channels, max_history)
        return cls(channels, resume_id(last_event_id, id_in_query), history)

    @staticmethod
    def _parsed(
        path: str, query: bytes, max_channels: int, max_history: int
    ) -> tuple[tuple[str, ...], str | None, int]:
        """Channels, the id in the query, history."""
        parameters = _parameters(query, max_channels + MOST_PARAMETERS)
        _refuse_slips(key for key, _ in parameters)
        parts = path.split("/") if path else []
        if len(parts) > 2 or "" in parts:
            raise InvalidEvent(
                "a stream's path is /sse/CHANNEL or /sse/STREAM/NAME, no deeper and with no slash behind"
            )
        channels = [":".join(parts)] if parts else []
        channels += [value for key, value in parameters if key == "channel"]
        if not channels:
            raise InvalidEvent("name a channel: /sse/CHANNEL or /sse?channel=A&channel=B")
        channels = list(dict.fromkeys(channels))
        if len(channels) > max_channels:
            raise InvalidEvent(f"a stream names at most {max_channels} channels; this one names {len(channels)}")
        for channel in channels:
            channel_name(channel)
            if channel[0] == "$" and channel not in SYSTEM_CHANNELS:
                known = ", ".join(sorted(SYSTEM_CHANNELS))
                raise InvalidEvent(f"there is no system channel {channel!r}; there is {known}")
        id_in_query = _id_among(parameters)
        history, *others = [value for key, value in parameters if key == "history"] or ["0"]
        if others:
            raise InvalidEvent("the parameter 'history' is given twice")
        if not (history.isascii() and history.isdigit() and len(history) < 10 and int(history) <= max_history):
            raise InvalidEvent(f"'history' is a whole number from 0 to {max_history}, not {history[:40]!r}")
        return tuple(channels), id_in_query, int(history)

    # Thousands come with the same words, after a cut all at once.
    _remembered = staticmethod(lru_cache(maxsize=4096)(_parsed))


def _parameters(query: bytes, most: int, errors: Literal["strict", "replace"] = "strict") -> list[tuple[str, str]]:
    """Of a query string; `errors`: what becomes of text that is no UTF-8. Raises InvalidEvent."""
    try:
        text = query.decode("ascii", errors)
        return parse_qsl(text, keep_blank_values=True, errors=errors, max_num_fields=most)
    except ValueError as error:
        raise InvalidEvent(f"the query string cannot be read: {error}") from None


def query_is_plain(query: bytes) -> bool:
    """Whether it has none but parameters of ours. A secret would be another one, and may not be remembered."""
    return not query or PLAIN_QUERY.fullmatch(query) is not None


def _spelling(parameter: str) -> str:
    return parameter.lower().replace("_", "").replace("-", "")


def _edits(one: str, other: str) -> int:
    """Letters to put in, leave out, change, or swap with their neighbour (the optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, others in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != others)))
            if last and j > 1 and (letter, one[i - 2]) == (other[j - 2], others):
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def _meant(parameter: str) -> str | None:
    """The parameter of ours that another one must be a slip for."""
    spelling = _spelling(parameter).removesuffix("[]")
    for known in PARAMETERS:
        right = _spelling(known)
        most = len(right) // LETTERS_A_SLIP
        if abs(len(spelling) - len(right)) <= most and _edits(spelling, right) <= most:
            return known
    return SYNONYMS.get(spelling)


def _is_id(parameter: str) -> bool:
    """`last_event_id` as polyfills spell it: lastEventId, Last-Event-ID, evs_last_event_id."""
    return _spelling(parameter).removeprefix("evs") == "lasteventid"


def _id_among(parameters: list[tuple[str, str]]) -> str | None:
    """The last one that says anything: a polyfill appends its own behind what is in the page's URL already."""
    return next((value for key, value in reversed(parameters) if value and _is_id(key)), None)


def _refuse_slips(names: Iterable[str]) -> None:
    """Raise InvalidEvent for a parameter that must have been meant for one of ours. Others are nobody's business here:
    proxies, cache busters and polyfills have their own."""
    unknown = (name for name in names if name not in PARAMETERS and not _is_id(name))
    for name in islice(unknown, UNKNOWN_COMPARED):
        if meant := _meant(name):
            raise InvalidEvent(f"unknown parameter {brief(name)}; did you mean {meant!r}?")


def resume_id(in_header: str | None, in_query: str | None) -> str | None:
    """What a client says it has seen last; the header wins. Raises InvalidEvent."""
    given = in_query if in_header is None else in_header
    if given is not None and len(given) > MAX_ID_BYTES:
        raise InvalidEvent(f"a Last-Event-ID has at most {MAX_ID_BYTES} characters; this has {len(given)}")
    # An empty header is what a browser that has seen no id sends: nothing to resume.
    return given or None


def asked_id(scope: Scope) -> str | None:
    """`resume_id` of a request, whatever else it asks. Raises InvalidEvent."""
    header = id_header(scope)
    query = scope["query_string"] if header is None else b""
    return resume_id(header, _id_among(_parameters(query, MOST_PARAMETERS, errors="replace")) if query else None)


def id_header(scope: Scope) -> str | None:
    given: bytes | None = dict(scope["headers"]).get(b"last-event-id")
    return given.decode("latin-1") if given is not None else None


class Streams:
    """Everything under /sse, by whichever transport: who is admitted, what was asked for, how a stream begins."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        *,
        retry: int,
        max_channels: int,
        max_history: int = MAX_HISTORY,
        max_subscriptions: int | None = None,
    ) -> None:
        self.hub = hub
        self._admission = admission
        self._retry = retry
        self.max_channels, self.max_history = max_channels, max_history
        self._max_subscriptions = max_subscriptions
        self.transports = {transport: TransportCounts() for transport in Transport}
        self.connections: Connections | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer one request; `path` is what follows /sse/."""
        stream = Stream(self, scope, receive, send)
        if scope["method"] == "OPTIONS":
            return await stream.refuse(Response(status_code=204, headers={"allow": ALLOW}))
        if scope["method"] not in ("GET", "HEAD"):
            problem = Problem(405, f"streams are read with GET, not {scope['method']}", {"allow": ALLOW})
            return await stream.refuse(problem)
        try:
            wanted = SubscribeRequest.read(
                path, scope["query_string"], id_header(scope), self.max_channels, self.max_history
            )
        except InvalidEvent as error:
            return await stream.refuse(Problem(400, str(error)))
        return await stream.answer(wanted)

    def enter(self, address: str, transport: Transport, channels: int = 1) -> None:
        """Count a stream of so many channels in. Raises Overloaded or HubClosed; else `left` is owed."""
        if self.hub.draining:
            raise HubClosed("the server is shutting down; come back in a moment")
        most = self._max_subscriptions
        if most is not None and self.hub.fanout.listened + channels > most:
            self._admission.refused["max_subscriptions"] += 1
            raise Overloaded(f"all {most} channels that the streams of one worker may listen to are in use")
        self._admission.enter(address)
        self.transports[transport].connections += 1
        self.transports[transport].accepted += 1

    def left(self, address: str, reason: EndReason, transport: Transport = Transport.NATIVE) -> None:
        """Count a stream out."""
        self._admission.leave(address)
        self.transports[transport].connections -= 1
        self.transports[transport].ended[reason] += 1
        if reason in (EndReason.SLOW, EndReason.ERROR):
            logger.warning(
                "stream ended by the server", extra={"reason": reason.value, "client": address, "transport": transport}
            )

    def all_left(self) -> None:
        """Count out whoever is still here: the process ends, and his stream with it."""
        for counts in self.transports.values():
            counts.ended[EndReason.SHUTDOWN] += counts.connections
            counts.connections = 0

    def preamble(self, subscription: Subscription, retry: int | None = None) -> bytes:
        """No blank line after `retry`: a block of its own makes some clients deliver an empty event."""
        return b":\nretry: %d\n%b" % (jittered(self._retry if retry is None else retry), subscription.opening())

    def come_back_in(self, error: Overloaded | HubClosed) -> int:
        """Milliseconds, for a client that is turned away."""
        return jittered(max(10 * self._retry, 10_000) if isinstance(error, Overloaded) else self._retry)

    def no_room(self) -> None:
        """Count a client for whose connection no descriptor is left."""
        self._admission.refused["descriptors"] += 1

    def turn_away(self, error: Overloaded | HubClosed) -> bytes:
        """A stream that says when to come back; it is broken off behind these bytes, as some clients take a clean end
        for the last word."""
        reason = "overloaded" if isinstance(error, Overloaded) else EndReason.SHUTDOWN.value
        wait = self.come_back_in(error)
        return b":\nretry: %d\n%b" % (wait, CLOSING % reason.encode())


class Stream:
    """One connection, from the request to its end. Whoever answers with a stream of the hub does it here; a subclass
    may write in another way, and see who comes and goes."""

    __slots__ = ("_address", "_life", "_receive", "_retry", "_scope", "_send", "_streams", "_task", "end_reason")

    def __init__(
        self, streams: Streams, scope: Scope, receive: Receive, send: Send, *, retry: int | None = None
    ) -> None:
        self._streams = streams
        self._scope, self._receive, self._send = scope, receive, send
        self._retry = retry
        self._life = Life.ARRIVED
        self.end_reason = EndReason.CLIENT

    def _move(self, happening: str) -> None:
        self._life = LIVES[self._life][happening]

    # ---- what a subclass may do in its own way -----------------------------------------------------------------------

    def _writer(self) -> Send:
        """What the hub writes to. Middleware may wrap `send` to add headers; the events need none of it, so they go
        past it."""
        writer: Send = self._scope.get(RAW_SEND, self._send)
        return writer

    async def _joined(self, subscription: Subscription) -> None:
        """The client has been told that it is connected, and nothing else yet."""

    async def _left(self) -> None:
        """It is no subscriber any more, however the stream ended; it may not have joined."""

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def refuse(self, answer: Response) -> None:
        """Answer with something else than a stream."""
        self._move("refuse")
        await answer(self._scope, self._receive, self._send)

    async def answer(self, wanted: SubscribeRequest, headers: Headers = HEADERS) -> None:
        """Answer a request that was read: with a stream until its end, or by turning the client away."""
        scope, streams = self._scope, self._streams
        if scope["method"] == "HEAD":
            self._move("refuse")
            return await answer_head(self._send, 200, headers)
        self._address = (scope.get("client") or ("local", 0))[0][:ADDRESS_LENGTH]
        take_over: TakeOver | None = scope.get(TAKE_OVER)
        if take_over is None and not streams.hub.ready:
            await streams.hub.take_in()
        try:
            if take_over is not None and not take_over.has_room:
                raise Overloaded("no descriptor is left for another stream")
            streams.enter(
                self._address, Transport.ASGI if take_over is None else Transport.NATIVE, len(wanted.channels)
            )
        except (Overloaded, HubClosed) as error:
            self._move("refuse")
            return await self._turn_away(error, headers)
        self._move("admit")
        if take_over is None:
            await self._stream(wanted, headers)
        else:
            await self._hand_over(wanted, take_over)
        return None

    async def _stream(self, wanted: SubscribeRequest, headers: Headers) -> None:
        """Open the stream, then wait for the client to go."""
        writer = self._writer()
        self._task = asyncio.current_task()
        subscription = None
        complete = False
        connections = self._connections()
        under = self._streams.connections if self._scope.get(PEER) else None
        if under is not None:
            under.begin_stream(self._scope[PEER])
        try:
            subscription = self._streams.hub.subscribe(
                wanted.channels,
                writer,
                self._end,
                last_event_id=wanted.last_event_id,
                history=wanted.history,
                charge=connections.charge if connections is not None else 0,
            )
            preamble = self._streams.preamble(subscription, self._retry)
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await writer({"type": "http.response.body", "body": preamble, "more_body": True})
            self._move("open")
            await self._joined(subscription)
            subscription.start()
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if self.end_reason is EndReason.CLIENT:  # it was not the hub
                self.end_reason = EndReason.SHUTDOWN
                raise
            # The hub let the stream go, and woke this task to say so.
            if self._task is None or self._task.uncancel():
                raise
            complete = self.end_reason is EndReason.APP and subscription is not None and not subscription.blocked
        finally:
            self._move("end")
            if subscription is not None:
                subscription.close()
            self._streams.left(self._address, self.end_reason, Transport.ASGI)
            if under is not None:
                under.end_stream(self._scope[PEER])
            await self._left()
        if complete:  # all others end without a last chunk: see WIRE, drain
            last = CLOSING % EndReason.APP.encode()
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
        elif self.end_reason is not EndReason.CLIENT:
            await break_off(self._receive)

    async def _hand_over(self, wanted: SubscribeRequest, take_over: TakeOver) -> None:
        """The connection goes on by itself. When this returns nothing of the request is left."""
        subscription = None
        try:
            subscription = self._streams.hub.attach(
                wanted.channels, take_over.sink, last_event_id=wanted.last_event_id, history=wanted.history
            )
            preamble = self._streams.preamble(subscription)
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            take_over.stream(subscription.subscriber, preamble, self._address)
        except BaseException:
            self._move("end")
            if subscription is not None:
                subscription.close()
            self._streams.left(self._address, EndReason.ERROR)
            raise
        self._move("open")

    def _end(self, reason: EndReason, error: Exception | None) -> None:
        """The hub let the stream go: wake the task that waits for the client, so that it ends."""
        if self.end_reason is not EndReason.CLIENT:
            return  # on its way out already; a second cancellation would not be taken back
        if self._task is not None:
            self._task.cancel()  # first: if there is no memory for it, this is called again
        self.end_reason = reason
        connections = self._connections()
        if reason is EndReason.SLOW and connections is not None:
            connections.reset(self._scope[PEER])
        if error is not None:
            extra = {"path": self._scope["path"], "error": f"{type(error).__name__}: {error}"}
            logger.warning("a stream's send failed", extra=extra)

    def _connections(self) -> Connections | None:
        """None also under HTTP/2, where a connection is not this stream's alone."""
        scope, connections = self._scope, self._streams.connections
        if connections is None or not scope.get(PEER) or scope["http_version"] == "2":
            return None
        return connections

    async def _turn_away(self, error: Overloaded | HubClosed, headers: Headers) -> None:
        """503 for a caller that says it reads JSON. A browser's EventSource would take any error for the end and never
        come back, so it gets a stream that tells it when to; broken off, as some take a clean end for the last word."""
        if b"application/json" in dict(self._scope["headers"]).get(b"accept", b""):
            wait = {"retry-after": str(-(-self._streams.come_back_in(error) // 1000))}
            return await Problem(503, str(error), wait)(self._scope, self._receive, self._send)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": self._streams.turn_away(error), "more_body": True})
        if TAKE_OVER not in self._scope:  # a server may abort at once what has no last body
            await asyncio.sleep(LAST_BYTES)
            await break_off(self._receive)
        return None


def jittered(milliseconds: int) -> int:
    """±30 %, so that those who were cut together do not come back together."""
    return round(milliseconds * random.uniform(0.7, 1.3))
