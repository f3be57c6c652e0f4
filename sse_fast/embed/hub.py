"""The hub inside your own app: it answers requests with streams, and tells when they open and end.

A stream is carried out by `transports.asgi`, for the edge and for here alike, or held by the front that the app is
behind (`transports.hold`). What this file adds to it: the channels come from the app instead of from the path, `filter`
and `transform`, presence, and the end at a signal.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypedDict, TypeVar, Unpack, overload

from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.ring import Log
from sse_fast._native.log.rules import ChannelRule
from sse_fast._native.wire.publication import encode_publication
from sse_fast.access.grants import OPEN
from sse_fast.access.limits import Admission
from sse_fast.access.namespaces import Namespace, Namespaces, read, reserves_of, rules_of
from sse_fast.access.patterns import is_name
from sse_fast.asgi import Scope, Send
from sse_fast.base import shutdown
from sse_fast.embed.filters import Filter, Frames, Transform, check_filter
from sse_fast.embed.hub_response import HubResponse
from sse_fast.embed.presence import OnJoin, OnLeave
from sse_fast.errors import EndReason, InvalidEvent, NeedsExtra
from sse_fast.event import EventId
from sse_fast.event_rules import RETRY, Encoded, channel_name
from sse_fast.hub import hub as node
from sse_fast.hub.engine import Engine
from sse_fast.hub.engine_at import PREFIX, SIZE, engine_of
from sse_fast.hub.peers import Peers
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import Subscribe
from sse_fast.protocol.native import asked_id
from sse_fast.protocol.policy import HISTORY
from sse_fast.protocol.problem import problem_of
from sse_fast.protocol.request import Request
from sse_fast.transports.sink import AsgiSink
from sse_fast.transports.streams import Streams

if TYPE_CHECKING:
    from sse_fast.client.envelope import PublishedEvent
    from sse_fast.client.items import Gap
    from sse_fast.embed.listening import HubListening
    from sse_fast.embed.relay import HubRelay, RelayOptions
    from sse_fast.schema.checking import Checker
    from sse_fast.schema.definitions import Channel
    from sse_fast.schema.definitions import Stream as TypedStream
    from sse_fast.schema.shape import Document

logger = logging.getLogger("sse_fast.embed")

E = TypeVar("E")

RETRY_AFTER = 3000  # milliseconds
DRAIN_SECONDS = 10.0


class HasScope(Protocol):
    """A request of Starlette, FastAPI or Litestar."""

    @property
    def scope(self) -> Any: ...


class NodeOptions(TypedDict, total=False):
    """What a hub has by itself: see `sse_fast.hub.hub.Hub`."""

    log_size: int
    keepalive: float
    send_timeout: float
    slow_policy: Literal["disconnect", "skip"]
    max_event_size: int
    send_memory: int | None
    max_history: int
    max_stream_age: float | None
    compress_min: int
    idempotency_window: float
    idempotency_keys: int
    log: Log | None
    peers: Peers | None
    keys: KeyTable | None
    rules: Iterable[ChannelRule]
    engine: Callable[[], Engine] | None
    reserves: Sequence[tuple[bytes, int]]


class Hub(node.Hub):
    """A hub for your app: `await hub.publish(...)`, `return hub.response(request, channels=[...])`.

    retry: milliseconds until a client that was cut comes back, ±30 %. max_connections, max_connections_per_ip: streams
    open at once, in all and from one address. on_join, on_leave: see `response`; these are told of every stream
    of it. drain_timeout: seconds that a stop may take until every client has its last events. compress: streams without
    `filter` and `transform` are gzip for clients that take it, compressed once for all of them. namespaces: what holds
    for the channels of a pattern, as tables: `{"pattern": "ticks:*", "keep": 100, "conflate": True}`; of what they say
    keep, max_age, conflate, reserve and max_connections count here. Raises ValueError for what is none.

    schema: typed streams, as `[Comments, Orders]`, a module that defines some, "shop.events", or a file, "shop.json":
    what is published to their channels, in whatever way, has to be one of their events. Raises InvalidSchema.

    Further, as for the node that it is: log_size, bytes of events kept for replay; keepalive, seconds of silence until
    a heartbeat; send_timeout, seconds a client may take nothing until slow_policy meets it, "disconnect" (it resumes by
    id) or "skip" (a `$gap`, then the newest); max_event_size, bytes of an encoded event;
    max_history, events that follow the `$gap` after an id that this log never gave; max_stream_age, seconds after which
    a stream ends and its client resumes, or up to a fifth less; compress_min, bytes from which on what is sent at once
    is compressed; idempotency_window, seconds that a key given to
    `publish` is remembered, and idempotency_keys, how many.

    backplane: the URL of a Redis that holds the log of as many processes and machines as have it, "redis://host:6379":
    what is published by any of them reaches the streams of all, in one order; the log here is a window on its newest
    part. backplane_prefix, of its keys there; backplane_replicas, that have an event before `publish` returns;
    backplane_size, bytes of events it keeps; backplane_max_age, seconds. Raises ValueError for what means nothing, and
    ModuleNotFoundError without `sse-fast[redis]`.

    It starts at its first use, on the loop it is used on. `async with hub:` in the app's lifespan starts it before,
    which `publish_threadsafe` needs, and closes it in the end. Each process has a hub of its own: without a backplane
    run one worker.

    Under `sse-fast serve --app` it is the server's own hub, with the log that all workers share. What a node has by
    itself, and the limits, are the server's settings there; the server starts, drains and closes it.
    """

    __slots__ = ("of_the_server", "on_join", "on_leave")

    def __init__(
        self,
        *,
        retry: int = RETRY_AFTER,
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        on_join: OnJoin | None = None,
        on_leave: OnLeave | None = None,
        drain_timeout: float = DRAIN_SECONDS,
        compress: bool = False,
        schema: "str | Document | Iterable[TypedStream[Any]] | None" = None,
        namespaces: Iterable[Namespace | Mapping[str, Any]] = (),
        backplane: str | None = None,
        backplane_prefix: str = PREFIX,
        backplane_replicas: int = 0,
        backplane_size: int = SIZE,
        backplane_max_age: float | None = None,
        **options: Unpack[NodeOptions],
    ) -> None:
        given = read(list(namespaces))
        self.on_join, self.on_leave = on_join, on_leave
        self.of_the_server = _of_the_server is not None
        if _of_the_server is not None:
            self.__dict__ = _of_the_server.__dict__  # one hub, however often it is made
            self._tell_what_the_server_sets(
                retry=retry if retry != RETRY_AFTER else None,
                drain_timeout=drain_timeout if drain_timeout != DRAIN_SECONDS else None,
                max_connections=max_connections,
                max_connections_per_ip=max_connections_per_ip,
                compress=compress or None,
                schema=schema if self.schema is not None else None,
                namespaces=given or None,
                backplane=backplane,
                **options,
            )
            if schema is not None and self.schema is None:
                self.use_schema(schema)
            return
        if backplane is not None:
            options["engine"] = engine_of(
                backplane,
                prefix=backplane_prefix,
                replicas=backplane_replicas,
                size=backplane_size,
                max_age=backplane_max_age,
                idempotency_window=options.get("idempotency_window", 120.0),
                idempotency_keys=options.get("idempotency_keys", 131_072),
            )
        reserves = reserves_of(given, options.get("log_size", node.LOG_SIZE))
        super().__init__(**{"rules": rules_of(given), "reserves": reserves} | options)
        self.schema: Checker | None = None
        if schema is not None:
            self.use_schema(schema)
        admission = Admission(
            max_connections=max_connections,
            max_connections_per_ip=max_connections_per_ip,
            namespaces=Namespaces(given),
        )
        self.admission = admission
        self.streams = Streams(self, admission, retry=RETRY.check(retry))
        self.frames = Frames()
        self.drain_timeout = drain_timeout
        self.compress = compress
        self.stream_numbers: Iterator[int] = count(1)
        self.apps = 0  # hubs that an app has made, which are this one
        self._stopping: asyncio.Task[None] | None = None

    def use_schema(self, schema: "str | Document | Iterable[TypedStream[Any]]") -> None:
        """From here on what is published to the channels of these streams has to fit. Raises InvalidSchema."""
        from sse_fast.schema.checking import Checker  # what they load is for those who use it
        from sse_fast.schema.document import schema_of

        self.schema = Checker(schema_of(schema))
        self.typed = self.schema.channels

    def _tell_what_the_server_sets(self, **given: object) -> None:
        names = sorted(name for name, value in given.items() if value is not None)
        if names:
            logger.info(
                f"Hub({', '.join(f'{name}=…' for name in names)}): this hub is the server's, and its settings "
                "hold, see sse-fast serve --help"
            )
        self.apps += 1
        if self.apps == 2:
            logger.warning(
                "the app makes several hubs, and under this server they are one: what is published by one of them "
                "reaches the streams of all, on channels of the same name"
            )

    async def __aenter__(self) -> Self:
        if not self._tasks and not self.of_the_server:  # never started, or closed: begin (again) on this loop
            self.draining, self._loop = False, None
        await self.take_in()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @overload
    def publish_threadsafe(
        self,
        channel: "Channel[E] | Sequence[Channel[E]]",
        data: E,
        *,
        retry: int | None = ...,
        key: str | None = ...,
        conflate_key: str | None = ...,
        id: str | None = ...,
        private: bool = ...,
    ) -> "Future[EventId]": ...
    @overload
    def publish_threadsafe(
        self,
        channel: str | Sequence[str],
        data: Any,
        *,
        event: str | None = ...,
        retry: int | None = ...,
        key: str | None = ...,
        conflate_key: str | None = ...,
        id: str | None = ...,
        private: bool = ...,
    ) -> "Future[EventId]": ...
    def publish_threadsafe(
        self,
        channel: Any,
        data: Any,
        *,
        event: str | None = None,
        retry: int | None = None,
        key: str | None = None,
        conflate_key: str | None = None,
        id: str | None = None,
        private: bool = False,
    ) -> "Future[EventId]":
        """`publish` from a thread without the hub's loop. What one thread publishes stays in order.

        The future has the id as soon as the event is in the log; don't wait for it in the loop's own thread. Raises
        InvalidEvent (EventTooLarge) here, HubClosed and what concerns the key by the future, RuntimeError while the hub
        has no loop.
        """
        encoded = encode_publication(
            channel,
            data,
            event=event,
            retry=retry,
            conflate_key=conflate_key,
            id=id,
            private=private,
            limit=self.max_event_size,
            typed=self.typed,
        )
        loop = self._loop
        if loop is None or loop.is_closed():
            raise RuntimeError(
                "the hub has no event loop to publish on yet; start it in the app's lifespan: `async with hub: yield`"
            )
        return asyncio.run_coroutine_threadsafe(self._append_one(encoded, key), loop)

    async def _append_one(self, encoded: Encoded, key: str | None) -> EventId:
        (id,) = await self.append([encoded]) if key is None else (await self.append_once([encoded], key)).ids
        return id

    def subscribe(
        self,
        channels: Iterable[str],
        send: Send,
        ended: Callable[[EndReason, Exception | None], None],
        *,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int = 0,
        envelope: bool = False,
        charge: int = 0,
    ) -> Subscription:
        """`attach` for an ASGI `send`. `ended` is called if the hub ends the stream. `charge`: bytes of kernel memory
        that it is taken to hold while it is blocked."""
        sink = AsgiSink(send, self.stepper, ended)
        sink.charge = charge
        subscription = self.attach(
            channels, sink, patterns=patterns, last_event_id=last_event_id, history=history, envelope=envelope
        )
        try:
            sink.unblock = subscription.start
        except MemoryError:
            subscription.close()
            raise
        return subscription

    def response(
        self,
        request: HasScope | Scope,
        channels: "Iterable[str | Channel[Any]] | Channel[Any]",
        *,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int = 0,
        envelope: bool = False,
        filter: Filter | None = None,
        transform: Transform | None = None,
        on_join: OnJoin | None = None,
        on_leave: OnLeave | None = None,
        retry: int | None = None,
        headers: Mapping[str, str] | None = None,
        until: float | None = None,
        user: str | None = None,
    ) -> HubResponse:
        """A stream of these channels as the answer to a request, for Starlette, FastAPI, Litestar and bare ASGI.

        channels: their names, or typed ones, as `Comments(item_id="7")`, which may stand alone.

        patterns: of further channels, as "orders:*"; with them `channels` may be empty.

        Under `sse-fast serve --app` it is held: the handler's task ends, and the server's own socket goes on as a
        stream. One with `filter` or `transform`, or that answers another method than GET, is streamed by ASGI there,
        as all are under other servers, at the price of a task each.

        It begins after `last_event_id` ("earliest": all that is kept), by default what the client says itself, in the
        header Last-Event-ID or the parameter last_event_id; else with the newest `history` events, else now. HEAD is
        answered without a stream. retry: milliseconds. envelope: each event's data is JSON, `{"channel", "event",
        "time", "data"}`; not with filter or transform.

        filter(event) says whether this client gets an event, transform(event) returns what it gets instead, or None
        for nothing. Both see `Event`s with `data` as text, are plain functions, and must be quick: all others wait.
        An event keeps its id. Where one raises, the client gets a `$gap` in place of the event and the stream goes on.
        Without them all streams of a channel share one piece of bytes; docs/app/responses.md has what they cost.

        on_join(info) is called once the client is connected, before its first event; on_leave(info, reason) once it
        has gone, however it went, also when the server stops. Both may be coroutine functions. What they raise is
        logged, and changes nothing.

        until: when what entitles the client to this stream ends, in seconds since 1970 as `time.time()` and the `exp`
        of a JWT. The stream says `$expiring` some seconds before, and ends ahead of it with `$closing` for the reason
        "expired"; the client comes back, and the app decides again. user: whose stream it is.

        Raises InvalidEvent or TypeError for what the app itself gave; what a client says wrong is answered with 400.
        """
        for words in (channels, patterns):
            if isinstance(words, str):
                raise TypeError(f"channels and patterns are lists of names; write [{words!r}]")
        listed = names_of(channels)
        given = tuple(dict.fromkeys(patterns))
        wild = tuple(pattern for pattern in given if not is_name(pattern))
        names = tuple(dict.fromkeys((*listed, *(pattern for pattern in given if is_name(pattern)))))
        if not names and not wild:
            raise InvalidEvent("a stream has at least one channel or pattern")
        for name in names:
            channel_name(name)
        HISTORY.check(history)
        check_filter("filter", filter)
        check_filter("transform", transform)
        check_moment("until", until)
        if user is not None and not isinstance(user, str):
            raise TypeError(f"user is text, not {type(user).__name__}")
        if envelope and not (filter is None and transform is None):
            raise TypeError(
                "envelope=True goes with neither filter nor transform, which would be given the envelope in place of "
                "the event; leave it out, and let the transform put what is needed into the data"
            )
        scope: Scope = request if isinstance(request, MutableMapping) else request.scope
        refusal = None
        if last_event_id is None:
            try:
                last_event_id = asked_id(Request.from_scope(scope))
            except InvalidEvent as error:
                refusal = problem_of(error)
        return HubResponse(
            self,
            Subscribe(
                names, last_event_id, history, envelope, patterns=wild, grants=replace(OPEN, user=user, until=until)
            ),
            filter=filter,
            transform=transform,
            on_join=on_join,
            on_leave=on_leave,
            retry=None if retry is None else RETRY.check(retry),
            headers=headers,
            refusal=refusal,
        )

    def relay(self, url: str, channel: str, **options: "Unpack[RelayOptions]") -> "HubRelay":
        """What an event stream says, published to a channel here, while this is open:

            async with hub, hub.relay("https://other.example/stream", "news", transform=shorter):
                yield

        Each event comes once and in order, as far as the source resumes behind its ids, through crashes of all of
        them: the log that has the events has the place where the source is to be resumed, in `relay:<name>`. What is
        gone at the source, or between two connections to one that gives no ids, is told by a `$gap`. Of the workers of
        a server one relays, and the others stand by.

        transform(event): what is published in the place of a `ReceivedEvent`: None (nothing), data, an `Event` with
        data and type, or a list of those; it may be a coroutine function. events: the types that are relayed; else all.
        on_error: where the transform raises, or an event will never be taken here, "gap" leaves it out and tells the
        subscribers so, "stop" ends the relay in front of it. since: where to begin the first time, an id; else now.
        state: a file that has the place as well, for a log that is not kept. headers, token: for the source, and for
        no other origin that it may redirect to; token may be a function, asked for each connection. name: another one
        for a second relay of this url to this channel. max_event_size: bytes of the source's events; silence: seconds
        after which it is taken for gone, None: never. Raises ValueError or InvalidEvent for what is no url, no name, no
        channel.
        """
        try:
            from sse_fast.embed.relay import HubRelay  # what it loads is for those who use it
        except ModuleNotFoundError as missing:
            raise NeedsExtra("hub.relay", missing, "client") from None

        return HubRelay(self, url, channel, **options)

    @overload
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = ...,
        last_event_id: str | None = ...,
        history: int = ...,
    ) -> "HubListening[PublishedEvent | Gap]": ...
    @overload
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = ...,
        last_event_id: str | None = ...,
        history: int = ...,
        on_gap: "Callable[[Gap], object]",
    ) -> "HubListening[PublishedEvent]": ...
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int = 0,
        on_gap: "Callable[[Gap], object] | None" = None,
    ) -> "HubListening[Any]":
        """What is published to channels, and to all that `patterns` have, in one order, each once, in this process, as
        `sse_fast.client.AsyncClient.listen` has it over HTTP:

            async with hub.listen("orders:7") as events:
                async for event in events:
                    ...

        last_event_id: goes on behind that, or with "earliest" with all that is kept; history: else with the newest so
        many; else it begins where it is entered, or asked for the first item. on_gap: called with each Gap, which
        otherwise comes among the events. Who is slower than the log keeps events finds a Gap. Ends when it is closed,
        and with the hub's drain. Raises InvalidEvent for what is no channel, HubClosed where there are no new streams.
        """
        from sse_fast.embed.listening import listening  # what it loads is for those who use it

        return listening(self, channels, list(patterns), last_event_id, history, on_gap)

    async def stop(self) -> None:
        """Take no more streams, hand out what there is, say `$closing` and end every stream: for a server that waits
        for its streams before it stops. At SIGTERM and SIGINT it happens by itself. Events are taken until `close`."""
        self.stop_soon()
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    def stop_soon(self) -> None:
        """Again, or when the hub is drained elsewhere: nothing happens."""
        if self._stopping is None and not self.draining and not self.of_the_server:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        try:
            await self.drain(self.drain_timeout)
        except Exception:
            logger.exception("the drain failed; the streams end, clients resume by id")
        self.fanout.end_all(EndReason.SHUTDOWN)

    async def close(self) -> None:
        """End every stream and stop. The hub of a server goes on: the server closes it."""
        if self.of_the_server:
            return
        shutdown.unwatch(self.stop_soon)
        if self._stopping is not None:
            await self._stopping
            self._stopping = None
        await super().close()


_of_the_server: Hub | None = None


def every_hub_is(hub: Hub | None) -> None:
    """From here on each `Hub()` of this process is this one; None: each is one of its own."""
    global _of_the_server
    _of_the_server = hub


def hub_of_the_server() -> Hub | None:
    """What `Hub()` is in such a process, but for one that the app did not ask for; None: it is none."""
    if _of_the_server is None:
        return None
    hub = Hub.__new__(Hub)
    hub.__dict__ = _of_the_server.__dict__
    hub.of_the_server, hub.on_join, hub.on_leave = True, None, None
    return hub


def names_of(channels: "Iterable[str | Channel[Any]] | Channel[Any]") -> tuple[str, ...]:
    """Of channels, typed or not."""
    if isinstance(channels, Iterable):
        return tuple(each if isinstance(each, str) else each.channel for each in channels)
    return (channels.channel,)


def check_moment(name: str, given: object) -> None:
    """Raises TypeError or InvalidEvent for what is no number of seconds since 1970; None may be given."""
    if given is None:
        return
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        raise TypeError(f"{name} is a number of seconds since 1970, as time.time(), not {type(given).__name__}")
    if not isfinite(given):
        raise InvalidEvent(f"{name} is a number of seconds since 1970, not {given}")
