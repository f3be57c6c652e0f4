"""The node: publish, subscribe, history, drain, close. One per worker; it owns the log, the fan-out and the pump.

The hub lives on one event loop. It starts by itself at its first use there, so it needs no lifespan to be useful inside
somebody else's app. It knows no HTTP.
"""

import asyncio
import logging
import math
import os
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from threading import get_ident
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from sse_fast._native.fanout.drain import EARLIEST, TIMEOUTS_UNDER_SKIP, UNKNOWN, FanOut, Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import Log
from sse_fast._native.wire.publication import encode_publication
from sse_fast.errors import BatchTooLarge, EndReason, HubClosed
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded, channel_name
from sse_fast.hub import other_workers
from sse_fast.hub.sinks import AsgiSink, Relay, Send

logger = logging.getLogger("sse_fast.hub")

TICK = 0.25  # seconds between looks at heartbeats and at the slow
HEARTBEATS_AT_ONCE = 512
SHED_AT_ONCE = 256
LOOK_AT_MEMORY = 1.0  # seconds
LOOK_ELSEWHERE = 5.0  # seconds, where nobody is blocked and nothing waited at the last look
PUMP_SECONDS = 1.0  # after which a pump that was woken, and has not come, is replaced
PUMP_FAILED = "a drain failed; it goes on"
BATCH_EVENTS = 100_000  # the most that are appended at once: 10 to 25 ms of this loop and of the log's lock
LARGE = 1 / 16  # of the log: who brings what is unread beyond it waits for those who read
AT_ONCE = 1000  # events of a batch that are looked through and appended in one turn of the loop
READERS_SECONDS = 1.0  # the most that it waits
FAULT_IN_AT_ONCE = 256 * 1024  # bytes of the log whose memory is brought in before the loop is given back
LAST_BYTES = 0.25  # seconds that a server's own buffers get for the last frames: nothing tells when they are empty


class Subscription:
    """One stream in the hub, and where it begins. `opened` says so in the stream's first frames."""

    __slots__ = ("_asked", "_hub", "_sink", "resumed", "subscriber")

    def __init__(self, hub: "Hub", subscriber: Subscriber, sink: Sink, asked: str | None) -> None:
        self._hub = hub
        self.subscriber = subscriber
        self._sink = sink
        self._asked = asked
        self.resumed: Literal["live", "complete", "gap"] = "live"
        if asked is not None:
            self.resumed = "gap" if subscriber.lost else "complete"

    @property
    def id(self) -> str:
        """The id of the cursor: what a client that has seen nothing more would resume by."""
        return self._hub.event_id(self.subscriber.position)

    def opening(self) -> bytes:
        """`$connected`, and `$gap` if owed. The last of the two carries the id of the cursor: a drop before the first
        event loses nothing, and one before the gap was told has it told again."""
        connected = b'event: $connected\ndata: {"resume":"%b"}\n' % self.resumed.encode()
        id_line = b"id: %b\n" % self.id.encode()
        if not self.subscriber.lost:
            return connected + id_line + b"\n"
        told = orjson.dumps({"after": self._asked, "until": self.id})
        return connected + b"\nevent: $gap\ndata: %b\n" % told + id_line + b"\n"

    @property
    def blocked(self) -> bool:
        """Whether the last send is still suspended."""
        return isinstance(self._sink, AsgiSink) and self._sink.busy

    def start(self) -> None:
        """The stream may be written to (again)."""
        self._hub.unblock(self.subscriber)

    def close(self) -> None:
        """Leave the hub. Again: nothing happens."""
        self._sink.close()
        self._hub.fanout.unsubscribe(self.subscriber)


def refuse_batch_over(most: int, count: int) -> None:
    if count > most:
        raise BatchTooLarge(f"the batch has more than {most} events; send it in several")


def end_after(send_timeout: float, slow_policy: Literal["disconnect", "skip"]) -> float:
    """Seconds after which a subscriber that takes no byte is ended, even one that is to be skipped ahead."""
    return send_timeout * (TIMEOUTS_UNDER_SKIP if slow_policy == "skip" else 1)


class Elsewhere(NamedTuple):
    """Bytes of kernel memory that wait for clients of connections that the fan-out does not know."""

    for_streams: int = 0
    for_answers: int = 0
    unread: Sequence[tuple[str, int, int]] = ()
    """Of those with no stream, whose clients take nothing: IP address, port, bytes."""


class Peers(Protocol):
    """The other workers over the same log."""

    def arm(self) -> None:
        """Have them ring from here on."""

    def disarm(self) -> None:
        """They need not ring."""

    def notify(self) -> None:
        """There is news in the log: wake those who sleep."""

    @property
    def others_busy(self) -> bool:
        """Whether one of them has not handed out all of the log yet."""

    def hold(self, held: int, for_streams: int) -> None:
        """Tell them how many bytes of kernel memory wait for the clients of this one, and for streams' among them."""

    @property
    def held_by_others(self) -> int:
        """How many for theirs."""

    @property
    def held_for_streams_by_others(self) -> int:
        """And for streams' among them."""


class Hub:
    """A node: channels, their kept events, their subscribers.

    `log` is one that other workers use too, and `peers` are those; without, the hub has a log of its own.
    `log_size`: bytes of events kept for replay, rounded up to a power of two. `keepalive`: seconds of silence until a
    heartbeat. `send_timeout`: seconds a subscriber may take nothing before `slow_policy` meets it: "disconnect" (it
    resumes by id) or "skip" (a `$gap` event, then the newest; after four times as long it is
    ended too). `max_event_size`: bytes of an encoded event. `send_memory`: bytes of kernel memory that may wait for
    clients, over all workers; past it those blocked for longest are ended.
    `max_history`: events, the newest, that follow the `$gap` after an id that this log never gave.
    """

    def __init__(
        self,
        *,
        log_size: int = 64 * 1024 * 1024,
        keepalive: float = 15.0,
        send_timeout: float = 30.0,
        slow_policy: Literal["disconnect", "skip"] = "disconnect",
        max_event_size: int = 64 * 1024,
        send_memory: int | None = None,
        max_history: int = 10_000,
        log: Log | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.log = log if log is not None else Log.private(log_size)
        self._peers = peers
        self._shares_its_log = log is not None
        self.fanout = FanOut(self.log, skip=slow_policy == "skip", unknown=max_history)
        self.max_event_size = min(max_event_size, self.log.largest_record - 512)
        self.keepalive = keepalive
        self.send_timeout = send_timeout
        self._send_memory = send_memory
        self.held = 0  # bytes of kernel memory that wait for clients, when last looked at
        self.held_elsewhere: Callable[[], Awaitable[Elsewhere]] | None = None
        self.reset_elsewhere: Callable[[tuple[str, int | str]], None] | None = None
        """Ends a connection that the fan-out does not know."""
        self.draining = False
        self.published = 0
        self.published_bytes = 0
        self._epoch = self.log.epoch
        self._began = self.log.began
        self._process = os.getpid()
        self._news: asyncio.Event
        self._index = self.fanout.index
        self._share = int(self.log.capacity * LARGE)
        self._all_read = 0  # the log's head when everybody had everything last
        self._backlog_end = self.log.head
        self._taken_in: asyncio.Event
        self.ready = not self.fanout.index.unread
        self._large: asyncio.Lock  # who appends a large batch, or waits to
        self.relay: Relay
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._tasks: list[asyncio.Task[None]] = []  # the pump's, the keeper's, the memory's
        self._turns = self._turns_seen = 0
        self._stuck_since = 0.0
        self._resting: asyncio.TimerHandle | None = None
        self._looked_at_memory = self._look_elsewhere = 0.0
        self._streams_were_over = False
        self._owed = 0.0  # looks at subscribers, for heartbeats

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish(
        self, channel: str | Sequence[str], data: Any, *, event: str | None = None, retry: int | None = None
    ) -> EventId:
        """Publish one event; when this returns it is in the log. `retry` in milliseconds.

        `channel`: a name, or several for one event, at most 32; a stream of more than one of them gets it once.

        `data`: str or bytes as they stand, or what `sse_fast.serialization` takes.

        Raises InvalidEvent (EventTooLarge) or HubClosed; then nothing was published. Where memory is out, MemoryError:
        then it may have been.
        """
        encoded = encode_publication(channel, data, event=event, retry=retry, limit=self.max_event_size)
        (position,) = await self.append([encoded])
        return EventId(self._epoch, position)

    async def append(self, events: list[Encoded]) -> range:
        """Append encoded events in their order, all or none, and return their positions.

        This is the seam: all that is published passes here, and whoever assigns positions does it here. What has to be
        waited for is waited for first, and then all is appended in one step: a batch is out or it is not, whatever
        ends its caller. Raises BatchTooLarge, HubClosed or LogBusy, and then nothing was published; or MemoryError, and
        then it was if `published` says so.
        """
        self._open_for("events")
        if len(events) == 1:
            size = room = len(events[0][1])
            if self._index.unread + size <= self._share:
                return self._append(events, size)
        elif not events:
            return range(0)
        else:
            refuse_batch_over(BATCH_EVENTS, len(events))
            size, room = self.log.measure(events)
            if self._index.unread + room <= self._share and len(events) <= AT_ONCE:
                return self._append(events, size)
        async with self._large:
            return await self._append_in_turn(events, size, room)

    async def _append_in_turn(self, events: list[Encoded], size: int, room: int) -> range:
        """Append when nobody who keeps up is overtaken by it, on other workers neither, or after READERS_SECONDS."""
        if room > self._share or len(events) > AT_ONCE:
            await self._fault_in(room)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READERS_SECONDS
        while True:
            self._open_for("events")
            head = self.log.head  # before the look: others append meanwhile
            late = loop.time() >= deadline
            go = late or not self._busy()
            if go:
                self._all_read = head
            if go or head - self._all_read + room <= self._share:
                limit = None if late else self._all_read + self._share
                if appended := self._append(events, size, limit):
                    return appended
            await asyncio.sleep(0 if self.fanout.busy else 0.001)  # the pump's turns; or other workers'

    def _append(self, events: list[Encoded], size: int, limit: int | None = None) -> range:
        """`limit`: if other workers have brought the head beyond it nothing is appended, and no positions returned."""
        published, published_bytes = self.published + len(events), self.published_bytes + size
        first = self.log.append_many(events) if limit is None else self.log.append_many(events, limit)
        if first:
            self.published, self.published_bytes = published, published_bytes  # for which memory is never out
        try:  # for others' events if not for these
            self._wake()
            if self._peers is not None:
                self._peers.notify()
        except MemoryError:
            pass  # every worker looks for news in its next tick
        return range(first, first + len(events)) if first else range(0)

    async def _fault_in(self, room: int) -> None:
        """Before a large batch, piece by piece, so that the log's lock is not had for long; the batch was looked
        through in this turn of the loop, and is appended in another."""
        for start in range(0, room, FAULT_IN_AT_ONCE):
            self.log.fault_in(start, FAULT_IN_AT_ONCE)
            await asyncio.sleep(0)

    def _busy(self) -> bool:
        return self.fanout.busy or (self._peers is not None and self._peers.others_busy)

    def event_id(self, position: int) -> str:
        return f"{self._epoch}-{position}" if position >= self._began else self.log.event_id(position)

    # ---- subscribing -------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        channels: Iterable[str],
        send: Send,
        ended: Callable[[EndReason, Exception | None], None],
        *,
        last_event_id: str | None = None,
        history: int = 0,
        charge: int = 0,
    ) -> Subscription:
        """A stream of these channels over an ASGI `send`, parked until `Subscription.start`.

        It begins after `last_event_id` ("earliest": all that is kept), else with the newest `history` events, else now.
        `ended` is called if the hub ends the stream. `charge`: bytes of kernel memory that it is taken to hold while
        it is blocked. Raises InvalidEvent or HubClosed.
        """
        self._open_for("streams")
        sink = AsgiSink(send, self.relay, ended)
        sink.charge = charge
        subscription = self.attach(channels, sink, last_event_id=last_event_id, history=history)
        try:
            sink.unblock = subscription.start
        except MemoryError:
            subscription.close()
            raise
        return subscription

    def attach(
        self, channels: Iterable[str], sink: Sink, *, last_event_id: str | None = None, history: int = 0
    ) -> Subscription:
        """`subscribe` for a sink of any kind; it is told of an end by its own `ended`."""
        self._open_for("streams")
        names = list(dict.fromkeys(channel_name(name) for name in channels))
        subscriber = self.fanout.subscribe(names, sink, after=self.cursor(last_event_id), history=history)
        try:
            return Subscription(self, subscriber, sink, last_event_id)
        except MemoryError:
            self.fanout.unsubscribe(subscriber)
            raise

    def _open_for(self, what: str) -> None:
        if self.draining:
            raise HubClosed(f"the hub is shutting down and takes no more {what}")
        if self.log.overwritten:
            raise HubClosed(
                "somebody has overwritten the log while it was served; the server ends, come back in a moment"
            )
        self._start()

    def cursor(self, last_event_id: str | None) -> int | None:
        """Where in this log a client's id stands, as `FanOut.subscribe` wants it."""
        if last_event_id is None:
            return None
        if last_event_id == "earliest":
            return EARLIEST
        parsed = EventId.parse(last_event_id)
        return parsed.position if parsed is not None and self._is_ours(parsed) else UNKNOWN

    def _is_ours(self, id: EventId) -> bool:
        return id.epoch == self._epoch or self.log.has_given(id.epoch, id.position)

    def unblock(self, subscriber: Subscriber) -> None:
        assert self._loop is not None  # whoever has a subscriber has come by `attach`
        if self.fanout.unblock(subscriber, self._loop.time()):
            self._wake()

    def say(self, channel: str, frame: bytes) -> int:
        """Send a frame that is not kept (and has no id) to the subscribers of a channel now. Returns to how many."""
        self._start()
        return self.relay.run(self.fanout.say, channel_name(channel), frame, asyncio.get_running_loop().time())

    def listeners(self, channel: str) -> int:
        """Streams that listen to a channel on this worker."""
        found = self.fanout.index.get(channel_name(channel))
        return found.subscribers if found is not None else 0

    # ---- the pump ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        # The loop that runs in this thread; to ask asyncio for it is a system call up to Python 3.11.
        if get_ident() == self._thread and self._loop is not None and self._loop.is_running():
            return
        loop = asyncio.get_running_loop()
        self._thread = get_ident()
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("a hub lives on one event loop, and this one is in use on another; make one for each")
        if self._process != os.getpid():  # made before a fork, as by `gunicorn --preload`
            self._process = os.getpid()
            self.log.renew_epoch()
            self._epoch, self._began = self.log.epoch, self.log.began
        self._loop = loop
        self._news = asyncio.Event()
        self._taken_in = asyncio.Event()
        if not self.ready:
            self._wake()
        self._large = asyncio.Lock()
        self.relay = Relay()
        self._tasks = [
            loop.create_task(self._for_ever(self._pump, PUMP_FAILED)),
            loop.create_task(self._for_ever(self._keep, "housekeeping failed; it goes on with the next tick")),
            loop.create_task(self._for_ever(self._keep_to_memory, "a look at send_memory failed; it goes on")),
        ]
        if not self._shares_its_log:
            other_workers.watch(self, loop)

    async def take_in(self) -> None:
        """Start, and wait until all that the log had kept before is taken in, a bounded piece of it in each turn of the
        loop; `ready` says so. Streams that are opened before may begin with more than the `history` they asked for."""
        self._start()
        if not self.ready:
            await self._taken_in.wait()

    def _look_whether_ready(self) -> None:
        head = self.log.head  # read first: others append meanwhile
        if head - self.fanout.index.unread >= self._backlog_end:
            self.ready = True
            self._taken_in.set()

    def _wake(self) -> None:
        self._news.set()

    def look(self) -> None:
        """Another worker rang: there may be news in the log. If there is none, it is to ring again at the next."""
        self._start()
        self._wake()

    async def _for_ever(self, step: Callable[[], Coroutine[Any, Any, None]], failed: str) -> None:
        """Take a step over and over, whatever it raises: even if there is no memory left to say so."""
        await self._stepping(step, failed)

    @types.coroutine
    def _stepping(self, step: Callable[[], Coroutine[Any, Any, None]], failed: str) -> Generator[Any, None, None]:
        failure: Exception | None = None
        while True:
            try:
                if failure is not None:
                    yield from asyncio.sleep(TICK).__await__()
                    told, failure = failure, None
                    logger.error(failed, exc_info=told)
                yield from step().__await__()
            except Exception as error:
                failure = error
                yield  # the loop is given back even where there is no memory to sleep; to await anything takes some

    async def _pump(self) -> None:
        """Drain when there is news, until there is no more."""
        loop = asyncio.get_running_loop()
        if self._peers is not None:
            self._peers.arm()
            if self.fanout.index.unread:  # it came before they could see that we sleep
                self._wake()
                await asyncio.sleep(0)
        await self._news.wait()
        self._news.clear()
        self._turns += 1
        try:
            if self._peers is not None:
                self._peers.disarm()
            while self.relay.run(self.fanout.drain, loop.time()):
                self._turns += 1
                if not self.ready:
                    self._look_whether_ready()
                if rest := self.fanout.rest:
                    if self._resting is not None:
                        self._resting.cancel()
                    self._resting = loop.call_later(rest, self._wake)
                    break
                await asyncio.sleep(0)  # the others' turn of the loop
            if not self.ready:
                self._look_whether_ready()
        except Exception:
            self._wake()  # for what it left behind
            raise

    async def _keep(self) -> None:
        """Heartbeats and the slow. Everybody is looked at twice in a heartbeat's interval, so the interval holds."""
        loop = asyncio.get_running_loop()
        half = self.keepalive / 2
        tick = min(TICK, half / 4)
        await asyncio.sleep(tick)
        self._look_after_the_pump(loop)
        self.fanout.expire(loop.time(), self.send_timeout)
        self._owed += self.fanout.connections * tick / half
        while self._owed >= 1:
            count = min(math.floor(self._owed), HEARTBEATS_AT_ONCE)
            self._owed -= count
            self.relay.run(self.fanout.beat, loop.time(), half, count)
            await asyncio.sleep(0)

    def _look_after_the_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Waking it takes memory as well: asyncio may have marked it as woken, and forgotten it."""
        if self.fanout.busy:
            self._wake()
        if not self._news.is_set() or self._turns != self._turns_seen:
            self._turns_seen, self._stuck_since = self._turns, loop.time()
        elif loop.time() - self._stuck_since > PUMP_SECONDS:
            self._tasks[0].cancel()
            self._tasks[0] = loop.create_task(self._for_ever(self._pump, PUMP_FAILED))
            self._stuck_since = loop.time()

    async def _keep_to_memory(self) -> None:
        """Look at what the kernel holds for clients. Past `send_memory` first those lose their connection who read no
        answer; of what streams alone hold too much each worker gives back its share.

        A task of its own: it may wait for a thread, and heartbeats wait for nobody."""
        await asyncio.sleep(LOOK_AT_MEMORY)
        elsewhere = await self._elsewhere()
        others = self._peers
        streams = self.fanout.held + elsewhere.for_streams
        held = streams + elsewhere.for_answers
        if self._send_memory is not None:
            over = held + (others.held_by_others if others is not None else 0) - self._send_memory
            if over > 0:
                held -= self._reset(elsewhere.unread, over)
            of_all = streams + (others.held_for_streams_by_others if others is not None else 0)
            over = of_all - self._send_memory
            if over > 0:
                given = await self._shed(-(-over * streams // of_all))
                held, streams = held - given, streams - given
            self._streams_were_over = over > 0
        self._looked_at_memory = asyncio.get_running_loop().time()
        self.held = held
        if others is not None:
            others.hold(held, streams)

    async def _elsewhere(self) -> Elsewhere:
        now = asyncio.get_running_loop().time()
        if self.held_elsewhere is None or (not self.fanout.blocked and now < self._look_elsewhere):
            return Elsewhere()
        found = await self.held_elsewhere()
        self._look_elsewhere = 0.0 if found.for_streams or found.for_answers else now + LOOK_ELSEWHERE
        return found

    def _reset(self, unread: Sequence[tuple[str, int, int]], owed: int) -> int:
        """Returns how many bytes were given back."""
        given = ended = 0
        for address, port, held in unread:
            if given >= owed or self.reset_elsewhere is None:
                break
            self.reset_elsewhere((address, port))
            given, ended = given + held, ended + 1
        if ended:
            logger.warning(
                "send_memory is used up: connections whose answers nobody reads are ended", extra={"connections": ended}
            )
        return given

    async def _shed(self, owed: int) -> int:
        """Returns how many bytes were given back."""
        # Who took bytes since the last look is spared once; then the memory comes first.
        since = math.inf if self._streams_were_over else self._looked_at_memory
        left, ended = owed, 0
        while left:
            now = asyncio.get_running_loop().time()
            was = left
            left, went = self.fanout.shed(left, SHED_AT_ONCE, now, since)
            ended += went
            if left == was:
                break
            await asyncio.sleep(0)
        if ended:
            logger.warning("send_memory is used up: streams are ended", extra={"streams": ended})
        return owed - left

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> int:
        """Take no more, hand out what there is, say `$closing`, for at most so long. Returns streams still blocked."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Somebody who does not read may use up the time to settle, but not the others' time for their last frames.
        settled = deadline - min(LAST_BYTES, seconds / 2)
        self.draining = True
        other_workers.unwatch(self)
        if self._loop is None:
            return 0
        await self._settle(settled)
        closing = b'event: $closing\ndata: {"reason":"%b"}\n\n' % EndReason.SHUTDOWN.encode()
        at = self.fanout.connections
        while at:
            at = self.relay.run(self.fanout.finish, closing, loop.time(), at, HEARTBEATS_AT_ONCE)
            await asyncio.sleep(0)
        await self._settle(settled)
        await asyncio.sleep(max(0.0, min(LAST_BYTES, deadline - loop.time())))
        return self.fanout.blocked

    async def _settle(self, deadline: float) -> None:
        """Wait until everybody has everything, or until the deadline."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self.log.overwritten:  # of what is none of ours there is no end
            if not self.relay.run(self.fanout.drain, loop.time()) and not self.fanout.blocked:
                return
            # A stream that blocks is unblocked by its own task; nothing needs to be told here, so looking is enough.
            await asyncio.sleep(0.01 if self.fanout.blocked else self.fanout.rest)

    async def close(self) -> None:
        """End every stream and stop. The hub is not used again."""
        self.draining = True
        other_workers.unwatch(self)
        self.fanout.end_all(EndReason.SHUTDOWN)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._loop is not None:
            self._taken_in.set()  # whoever waits for it finds the hub closed
            self.relay.close()
