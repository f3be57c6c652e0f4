"""Builds the objects and joins them: the ASGI app, its lifespan, and the edge that `sse-fast serve` runs."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sse_fast._native.wire.frame import encode
from sse_fast.access.limits import Admission
from sse_fast.access.namespaces import Namespaces
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.base import shutdown
from sse_fast.base.descriptors import budget, raise_descriptor_limit
from sse_fast.edge.configured import guesses_of, hub_of, policy_of, presence_of, rates_of
from sse_fast.edge.deciding import Deciding
from sse_fast.edge.description import Description
from sse_fast.edge.fleet import Fleet, name_of_node
from sse_fast.edge.history import History
from sse_fast.edge.mercure_subscriptions import MercureSubscriptions
from sse_fast.edge.metrics import Metrics
from sse_fast.edge.operations import Operations
from sse_fast.edge.publish import Publishing
from sse_fast.edge.requests import Requests
from sse_fast.edge.slot import OwnControl, WorkerSlot
from sse_fast.edge.sources import Sources
from sse_fast.embed.hub import every_hub_is, hub_of_the_server
from sse_fast.errors import HubClosed
from sse_fast.hub.control import Alone, Control
from sse_fast.hub.over_engine import OverEngine
from sse_fast.protocol import mercure
from sse_fast.protocol.decision import Answer, Ask, Elsewhere, Publish, Subscribe
from sse_fast.protocol.policy import Operations as Where
from sse_fast.protocol.policy import Policy
from sse_fast.settings import Settings, is_loopback_host
from sse_fast.transports.access_log import AccessLog
from sse_fast.transports.asgi import PEER, Stream
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.hold import Holds
from sse_fast.transports.streams import Streams
from sse_fast.transports.watching import STATS

if TYPE_CHECKING:  # what needs Linux is loaded where it is used
    from sse_fast.schema.shape import Document
    from sse_fast.transports.front import Front
    from sse_fast.transports.quiet import QuietConnections
    from sse_fast.transports.relay import Relay

logger = logging.getLogger("sse_fast.edge")

NO_LIMIT = 2**30  # more connections than there can be descriptors
WAIT = 1.0  # seconds between two words of a worker that it waits
STATS_EVERY = 1.0  # seconds
OPERATORS = 16  # connections at once to the port of operations


class Edge:
    """The edge as an ASGI app: each request is decided about, and what was decided carried out. Serve it, or mount it
    under a path."""

    def __init__(
        self,
        settings: Settings,
        *,
        slot: WorkerSlot | None = None,
        entrance: Entrance | None = None,
        operations: socket.socket | None = None,
        control: OwnControl | None = None,
        on_startup: Callable[["Edge"], None] | None = None,
    ) -> None:
        """`entrance`: clients meet a front of this app, which listens there, and the ASGI server stands behind it.
        `operations`: bound, and where who operates the server asks it, and nowhere else. `control`: how it asks the
        other workers of its node."""
        beside = hub_of_the_server()
        if beside is not None and _of_the_server is not None:
            settings = _with_those_of(_of_the_server, settings)
        self.settings = settings
        self.hub = beside or hub_of(settings, slot)
        if settings.schema is not None and self.hub.schema is None:
            self.hub.use_schema(settings.schema)
        # What this worker has descriptors for. In somebody else's server nobody knows.
        self._budget = budget(
            raise_descriptor_limit() if slot is not None else NO_LIMIT,
            settings.max_connections,
            app=settings.relays_to_app,
        )
        namespaces = Namespaces(settings.namespace)
        self._admission = Admission(
            max_connections=settings.max_connections,
            max_connections_per_ip=settings.max_connections_per_ip,
            max_connections_per_channel=settings.max_connections_per_channel,
            max_connections_per_token=settings.max_connections_per_token,
            most_here=self._budget.streams,
            tally=slot,
            namespaces=namespaces,
        )
        self._streams = Streams(
            self.hub,
            self._admission,
            retry=settings.retry,
            max_subscriptions=-(-settings.max_subscriptions // (settings.workers if slot is not None else 1)),
            rates=rates_of(settings, slot.buckets if slot is not None else None),
            guesses=guesses_of(settings),
            access_log=AccessLog() if settings.access_log else None,
            max_patterns=-(-settings.max_patterns // (settings.workers if slot is not None else 1)),
        )
        self.at_close = contextlib.ExitStack()
        # The server's own sockets, where nothing of ours is before it: see supervisor.py.
        server_s = slot is not None and entrance is None and settings.uds is None
        self.quiet = self._quiet_connections() if server_s else None
        # A route of somebody's own that answers with `hub.response` is under the same limits and counters.
        if beside is None:
            self.hub.admission, self.hub.streams = self._admission, self._streams
        else:
            self._admission, self._streams = beside.admission, beside.streams
        apart = settings.operations_port is not None and (operations is not None or beside is not None)
        policy = replace(
            policy_of(settings, self.hub.max_event_size),
            namespaces=namespaces,
            operations=Where.APART if apart else Where.HERE,
        )
        self.sources = Sources(settings, policy.access, self._end_of_keys)
        self.deciding = Deciding(self._streams, policy, self.sources)
        for_operations = replace(
            policy,
            operations=Where.ALONE,
            anybody_operates=not is_loopback_host(settings.operations_host),
            hosts=None,  # who calls it by which name is looked at there
        )
        self._for_operations = Deciding(self._streams, for_operations, self.sources)
        history = History(slot.history) if slot is not None and slot.history is not None else None
        slots = slot.slots if slot is not None else None
        self.metrics = Metrics(self.hub, self._admission, self._streams, slots, history)
        self.requests = Requests()
        self._publishing = Publishing(
            self.hub,
            self.requests,
            self._streams.rates,
            self.deciding.note,
            namespaces,
            speaks_mercure=settings.mercure,
        )
        shared = _control_of_the_server if beside is not None else None
        self.control: Control = shared or control or Alone()
        """What the workers of this node ask each other."""
        self._own_control = control
        if beside is None and settings.keeps_presence:
            self._streams.presence = presence_of(
                settings, self.hub, self.control, name_of_node(several=slot is not None)
            )
        self.presence = self._streams.presence
        described = Description(settings, lambda: self.policy, self._document)
        self.fleet: Fleet | None = None
        if beside is None and isinstance(self.hub.backplane, OverEngine):
            self.fleet = Fleet(self.hub, self.hub.backplane, name_of_node(several=slot is not None))
        self._operations = Operations(
            self.hub, self.metrics, self.requests, self.control, described, self.presence, self.fleet
        )
        self._subscriptions: MercureSubscriptions | None = None
        if beside is None and policy.mercure is not None and policy.mercure.subscriptions:
            self._subscriptions = MercureSubscriptions(self.hub, self.control, policy.mercure)
            self._streams.listeners = self._subscriptions.listeners
            self._subscriptions.answer_others()
        if shared is None:
            self._operations.answer_others()
        self._ending: set[asyncio.Task[int]] = set()
        self.metrics.tokens, self.metrics.hook = policy.access.tokens, self.sources.hook
        self.operations = operations
        self.operations_front: Front | None = None
        self._slot = slot
        self.entrance = entrance
        self._on_startup = on_startup
        self._answered = False
        self._stats: asyncio.Task[None] | None = None
        self.front: Front | None = None
        self.holds: Holds | None = None
        """Where a front is before this app: the exchanges that it may answer with a hold."""

    def _quiet_connections(self) -> "QuietConnections":
        """Of the ASGI server, from here on looked at by the kernel's means."""
        from sse_fast.transports.kernel import ServerConnections, bounds_of
        from sse_fast.transports.quiet import LastDescriptors, QuietConnections

        connections = ServerConnections(self.settings.port, bounds_of(self.settings))
        self._streams.connections, self.hub.memory.elsewhere = connections, connections.held
        self.hub.memory.reset_elsewhere = connections.reset
        self.at_close.callback(connections.close)
        has = self._budget
        last = LastDescriptors(self.settings.port, has.all, has.held_back)
        quiet = QuietConnections(connections, has.without_relay - has.relayed, last)
        self.at_close.callback(quiet.close)
        return quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not self._answered:
                self._answered = True
                if self._slot is not None:
                    self._slot.beat()  # who answers serves: from here on it is noticed if it hangs
            if self._stats is None:
                self._start_up()  # mounted in another app, it is told of no lifespan
            decision, since = self.deciding.decided(scope), None
            if isinstance(decision, Subscribe | Ask) and not self.hub.ready:
                with contextlib.suppress(HubClosed):  # who opens the stream says so
                    await self.hub.be_ready()
                if isinstance(decision, Subscribe):  # its key may have been taken away meanwhile
                    scope["client"] = scope[PEER]
                    decision = self.deciding.decided(scope)
            if isinstance(decision, Ask):
                since = self.hub.log.position  # what is published meanwhile is not missed
                decision = await self.deciding.found_out(decision, scope)
            if isinstance(decision, Subscribe):
                await Stream(self._streams, scope, receive, send).answer(decision, since=since)
            else:
                await self._answer_beside(decision, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    @property
    def policy(self) -> Policy:
        """What is decided by."""
        return self.deciding.policy

    def _document(self) -> "Document | None":
        """Of the typed events, if there are some."""
        return None if self.hub.schema is None else self.hub.schema.document

    async def _operate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request to the port of operations, but for a stream."""
        decision = self._for_operations.decided_of_an_operator(scope)
        if isinstance(decision, Ask):
            decision = await self._for_operations.found_out(decision, scope)
        assert isinstance(decision, Answer | Elsewhere)  # it publishes nothing there, and the front has the streams
        await self._answer_beside(decision, scope, receive, send)

    async def _answer_beside(
        self, decision: Publish | Answer | Elsewhere, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """With something else than a stream."""
        send = self.requests.headed(send, scope, decision.headers if isinstance(decision, Elsewhere) else ())
        match decision:
            case Publish():
                answering = self._publishing(decision, scope, receive, send)
            case Answer():
                answering = Stream(self._streams, scope, receive, send).refuse(decision)
            case Elsewhere() if self._subscriptions is not None and mercure.is_ours(scope["path"]):
                answering = self._subscriptions.answer(decision, scope, receive, send)
            case Elsewhere():
                answering = self._operations(scope, receive, send)
        return await self.requests.answered(answering)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.prepare()
                    self._start_up()
                except Exception as error:
                    logger.debug("the start failed", exc_info=True)
                    await send({"type": "lifespan.startup.failed", "message": f"sse_fast cannot start: {error}"})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def prepare(self) -> None:
        """Have a hub that can be used; nobody comes in before the edge's startup is complete."""
        self._watch_signals()  # before anything that takes its time
        if self._own_control is not None:
            await self._own_control.start()
            self.at_close.callback(self._own_control.close)
        waiting = asyncio.get_running_loop().create_task(self._wait())
        try:
            await self.hub.take_in()
        finally:
            waiting.cancel()

    async def _wait(self) -> None:
        """Until the hub has what the backplane has: say that this worker is alive, and what it waits for."""
        told = None
        while not self.hub.backplane.in_place:
            await asyncio.sleep(WAIT)
            if self._slot is not None:
                self._slot.wait()
            wrong = self.hub.backplane.what_is_wrong()
            if wrong is not None and wrong != told:
                logger.warning("this worker is not ready, and waits: %s", wrong)
                told = wrong

    def _start_up(self) -> None:
        """Again: nothing happens. Raises OSError where nobody can listen."""
        if self._stats is None:
            if self.front is None and self.entrance is not None:
                self.front = self._open_front(self.entrance)
            if self.operations_front is None and self.operations is not None:
                self.operations_front = self._open_operations(self.operations)
            if self._slot is not None:
                self._slot.start(self.hub.look, self.metrics.say)
                self.at_close.callback(self._slot.close)
            if self.quiet is not None:
                self.quiet.watch()
            self._stats = asyncio.get_running_loop().create_task(self._publish_stats())
            self.metrics.lag.start()
            self.sources.start()
            if self.presence is not None:
                self.presence.start()
            if self.fleet is not None:
                self.fleet.start()
            self._watch_signals()
            self.hub.look()  # at what the log has kept

    def _watch_signals(self) -> None:
        if self._on_startup is not None:
            on_startup, self._on_startup = self._on_startup, None
            on_startup(self)

    def _end_of_keys(self, keys: frozenset[bytes]) -> None:
        """End the streams that the publish keys of these digests have opened."""
        task = asyncio.get_running_loop().create_task(self._streams.keyed.end(keys))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def leave(self) -> None:
        """Begin to stop: nothing more is taken to be published, and every answer is its connection's last."""
        self.requests.closing = True
        for front in self.fronts:
            front.leave()

    @property
    def fronts(self) -> "list[Front]":
        return [front for front in (self.front, self.operations_front) if front is not None]

    async def finish_relayed(self, deadline: float) -> None:
        """Wait until the app behind the front has answered everything, at most until then, of the loop's clock."""
        if self.front is not None:
            await self.front.finish(max(0.0, deadline - asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """End every stream and stop."""
        if self._stats is not None:
            self._stats.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._stats
        await self.sources.close()
        self.metrics.lag.stop()
        self._streams.refusals.tell(last=True)
        if self.presence is not None:
            self.presence.close()
        if self.fleet is not None:
            self.fleet.close()
        await self.hub.close()
        if self._subscriptions is not None:
            await self._subscriptions.close()
        for front in self.fronts:
            front.close()
        self.at_close.close()  # last: streams that end are counted out of the slot

    def _open_front(self, entrance: Entrance) -> "Front":
        from sse_fast.transports.front import Front

        front = Front(
            self._streams,
            replace(self.policy, path=self.settings.edge_path if self.settings.app is not None else ""),
            most=self._budget.connections,
            streams_each=self.settings.max_connections_per_ip,
            publish=self._publishing.publish,
            publish_form=self._publishing.publish_form,
            find_out=self.sources.find_out,
            relay=lambda front: self._relay_to(front, entrance.behind),
        )
        front.open(entrance.listening)
        self.metrics.front = front
        self.requests.at_the_front = lambda: len(front.exchanges)
        self.hub.memory.elsewhere, self.hub.memory.reset_elsewhere = front.unread, front.reset
        return front

    def _open_operations(self, listening: socket.socket) -> "Front":
        from sse_fast.transports.direct import Direct
        from sse_fast.transports.front import Front

        front = Front(
            self._streams,
            self._for_operations.policy,
            most=OPERATORS,
            find_out=self.sources.find_out,
            relay=lambda front: Direct(front, self._operate),
        )
        front.open(listening)
        return front

    def _relay_to(self, front: "Front", behind: Path) -> "Relay":
        from sse_fast.transports.relay import Relay

        relay = Relay(front, str(behind), most=self._budget.relayed, timeout=self.settings.relay_timeout)
        if self.settings.app is not None:
            relay.hold = self.holds = Holds(front, lambda: self.hub.log.position)
        return relay

    async def _publish_stats(self) -> None:
        """Once a second, to those who listen; not kept, so an idle server's log stays as it is."""
        while not self.hub.of_the_server:  # whose edge does
            try:
                self._streams.refusals.tell()
                self.metrics.remember()
                if self.hub.listeners(STATS):
                    frame = encode(orjson.dumps(self.metrics.snapshot()), event="stats")
                    said = self.hub.say(STATS, frame)
                    self.metrics.said += said
                    self.metrics.said_bytes += said * len(frame)
            except Exception:
                logger.exception("the stats could not be published; they are again in a second")
            await asyncio.sleep(STATS_EVERY)


def create_app(settings: Settings | None = None) -> Edge:
    """The whole edge as an ASGI app; settings default to the environment and sse-fast.toml. In an app of
    `sse-fast serve --app` what they do not say is as the server has it, and how many streams may be open is the
    server's to say."""
    return Edge(settings if settings is not None else Settings(), on_startup=end_streams_on_signals)


_of_the_server: Settings | None = None
_control_of_the_server: Control | None = None


def every_app_has(edge: Edge | None) -> None:
    """From here on each hub that is made in this process is this edge's, and each further edge is under its settings;
    None: each is one of its own."""
    global _of_the_server, _control_of_the_server
    every_hub_is(None if edge is None else edge.hub)
    _of_the_server = None if edge is None else edge.settings
    _control_of_the_server = None if edge is None else edge.control


def _with_those_of(server: Settings, settings: Settings) -> Settings:
    unsaid = type(settings).model_fields.keys() - settings.model_fields_set
    return settings.model_copy(update={name: getattr(server, name) for name in unsaid})


def end_streams_on_signals(app: Edge) -> None:
    """End the streams at SIGTERM and SIGINT, in a server that has handlers of its own."""
    begin = once(lambda: _drain_and_close(app))
    shutdown.watch(begin)
    app.at_close.callback(shutdown.unwatch, begin)


def once(start: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """What starts a task on this loop when it is called first, from a signal handler too."""
    loop = asyncio.get_running_loop()
    started: list[asyncio.Task[None]] = []

    def begin() -> None:
        if not started:
            started.append(loop.create_task(start()))

    def signalled() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(begin)

    return signalled


async def _finish_publishing(app: Edge) -> None:
    """Take no more to be published; what is under way is answered first, while the hub takes it."""
    app.leave()
    await app.requests.finish(app.settings.drain_timeout / 2)


async def drain(app: Edge) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + app.settings.drain_timeout
    streams = app.hub.open_streams.count
    logger.info("draining", extra={"streams": streams, "at_most_seconds": app.settings.drain_timeout})
    try:
        await _finish_publishing(app)
        blocked = await app.hub.drain(max(0.0, deadline - loop.time()))
        took = round(loop.time() - deadline + app.settings.drain_timeout, 2)
        logger.info("drained", extra={"streams": streams, "still_blocked": blocked, "seconds": took})
    except Exception:
        logger.exception("the drain failed; the streams end, clients resume by id")


async def _drain_and_close(app: Edge) -> None:
    await _finish_publishing(app)
    await app.hub.stop()  # not `drain`: for streams of `hub.response` the hub may have begun by itself
    await app.close()
