"""The node: publish, subscribe, history, drain, close. One per worker; it owns the log, the fan-out and the pump.

The hub lives on one event loop. It starts by itself at its first use there, so it needs no lifespan to be useful inside
somebody else's app. It knows no HTTP.
"""

import asyncio
import contextlib
import functools
import logging
import math
import os
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context, copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, overload

from sse_fast._native.fanout.drain import EARLIEST, TIMEOUTS_UNDER_SKIP, UNKNOWN, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.ring import Log
from sse_fast._native.log.rules import ChannelRule, Rules
from sse_fast._native.wire.control import closing, forgotten
from sse_fast._native.wire.publication import encode_publication
from sse_fast._native.wire.templates import TypedChannels
from sse_fast.ends import ENDS
from sse_fast.errors import EndReason, HubClosed, InvalidEvent
from sse_fast.event import EventId
from sse_fast.event_rules import EARLIEST as EARLIEST_ID
from sse_fast.event_rules import FRAGMENT, Encoded, Matcher, PrivateGrants, channel_name
from sse_fast.hub import other_workers
from sse_fast.hub.backplane import Backplane, LogBackplane, Once
from sse_fast.hub.engine import Engine, Told
from sse_fast.hub.idempotency import Keys, check_bounds
from sse_fast.hub.lifetime import end_of
from sse_fast.hub.listening import listening
from sse_fast.hub.memory import SendMemory
from sse_fast.hub.open_streams import ENDED_AT_ONCE, OpenStreams
from sse_fast.hub.over_engine import OverEngine
from sse_fast.hub.peers import Peers
from sse_fast.hub.recall import Recalled, Wants
from sse_fast.hub.stepper import Stepper
from sse_fast.hub.subscription import Subscription

if TYPE_CHECKING:
    from sse_fast.schema.definitions import Channel

logger = logging.getLogger("sse_fast.hub")

TICK = 0.25  # seconds between looks at heartbeats, at the slow and at those whose end has come
HEARTBEATS_AT_ONCE = 512
LOOK_AT_MEMORY = 1.0  # seconds
LOG_SIZE = 64 * 1024 * 1024
PUMP_SECONDS = 1.0  # after which a pump that was woken, and has not come, is replaced
PUMP_FAILED = "a drain failed; it goes on"
STARTING = 10.0  # seconds that a stream waits for a hub that takes in its log
LAST_BYTES = 0.25  # seconds that a server's own buffers get for the last frames: nothing tells when they are empty

NOWHERE = Sink()  # of a stream that is only asked where it would begin
E = TypeVar("E")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def own_id(text: str) -> EventId | None:
    """An id of this server's, also as a relative reference; None: it is of another form."""
    return EventId.parse(text.removeprefix(FRAGMENT))


def end_after(send_timeout: float, slow_policy: Literal["disconnect", "skip"]) -> float:
    """Seconds after which a subscriber that takes no byte is ended, even one that is to be skipped ahead."""
    return send_timeout * (TIMEOUTS_UNDER_SKIP if slow_policy == "skip" else 1)


class Hub:
    """A node: channels, their kept events, their subscribers.

    `log` is one that other workers use too, and `peers` are those; without, the hub has a log of its own.
    `log_size`: bytes of events kept for replay, rounded up to a power of two. `keepalive`: seconds of silence until a
    heartbeat. `send_timeout`: seconds a subscriber may take nothing before `slow_policy` meets it: "disconnect" (it
    resumes by id) or "skip" (a `$gap` event, then the newest; after four times as long it is
    ended too). `max_event_size`: bytes of an encoded event. `send_memory`: bytes of kernel memory that may wait for
    clients, over all workers; past it those blocked for longest are ended.
    `max_history`: events, the newest, that follow the `$gap` after an id that this log never gave.
    `max_stream_age`: seconds after which a stream ends, and its client resumes, or up to a fifth less; None: never.
    `compress_min`: bytes of a piece, from which on it is deflated for streams that are gzip.
    `idempotency_window`: seconds that an idempotency key is remembered, up to a day, 0: none is taken;
    `idempotency_keys`: how many, 16 to 2**26, 80 bytes each, rounded up to a power of two. Raises ValueError
    for others. Over a `log` of others: `keys`, where all of them remember them. `rules`: what holds for the channels of
    patterns, see `_native.log.rules`. `reserves`: of a log of its own, see `_native.log.ring.Log`. `engine`: makes what
    holds the log of several nodes, of which this one's is a window.
    """

    def __init__(
        self,
        *,
        log_size: int = LOG_SIZE,
        keepalive: float = 15.0,
        send_timeout: float = 30.0,
        slow_policy: Literal["disconnect", "skip"] = "disconnect",
        max_event_size: int = 64 * 1024,
        send_memory: int | None = None,
        max_history: int = 10_000,
        max_stream_age: float | None = None,
        compress_min: int = 256,
        idempotency_window: float = 120.0,
        idempotency_keys: int = 131_072,
        log: Log | None = None,
        peers: Peers | None = None,
        keys: KeyTable | None = None,
        rules: Iterable[ChannelRule] = (),
        engine: Callable[[], Engine] | None = None,
        reserves: Sequence[tuple[bytes, int]] = (),
    ) -> None:
        check_bounds(idempotency_window, idempotency_keys)
        self.log = log if log is not None else Log.private(log_size, reserves=reserves)
        rules = list(rules)
        self._peers = peers
        self._shares_its_log = log is not None
        self.fanout = FanOut(
            self.log, skip=slow_policy == "skip", unknown=max_history, compress=compress_min, rules=rules
        )
        self._rules = Rules(rules)
        self.max_event_size = min(max_event_size, self.log.largest_record - 512)
        self.keepalive = keepalive
        self.send_timeout = send_timeout
        self.max_stream_age = max_stream_age
        self.open_streams = OpenStreams(self)
        self.memory = SendMemory(send_memory, self.fanout, peers)
        self.keys = keys
        self.backplane: Backplane
        if engine is not None:
            self.keys = None
            self.backplane = OverEngine(engine, self.log, peers, self._wake)
        else:
            if keys is None and log is None and idempotency_window:
                self.keys = KeyTable.private(idempotency_keys, max(1, int(1000 * idempotency_window)))
            self.backplane = LogBackplane(self.log, self.fanout, peers, self._wake, self._open_for_events, self.keys)
        self.typed: TypedChannels | None = None  # whose events have to fit, whichever way they come
        self.draining = False
        self._process = os.getpid()
        self._awake = False  # the pump runs in the next turn of the loop
        self._closed = False
        self._context: Context
        self._now: Callable[[], float]
        self._backlog_end = self.log.head
        self._caught_up = engine is None
        self._taken_in: asyncio.Event
        self.ready = engine is None and not self.fanout.index.unread
        self.stepper = Stepper()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._tasks: list[asyncio.Task[None]] = []  # the keeper's, the memory's, the ends'
        self._turns = self._turns_seen = 0
        self._stuck_since = 0.0
        self._resting: asyncio.TimerHandle | None = None
        self._owed = 0.0  # looks at subscribers, for heartbeats
        self._leads: set[str] = set()  # of what one worker does for all, what this one does

    # ---- publishing --------------------------------------------------------------------------------------------------

    @overload
    async def publish(
        self,
        channel: "Channel[E] | Sequence[Channel[E]]",
        data: E,
        *,
        retry: int | None = ...,
        key: str | None = ...,
        conflate_key: str | None = ...,
        id: str | None = ...,
        private: bool = ...,
    ) -> EventId: ...
    @overload
    async def publish(
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
    ) -> EventId: ...
    async def publish(
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
    ) -> EventId:
        """Publish one event; when this returns it is in the log. `retry` in milliseconds.

        `channel`: a name, or several for one event, at most 32; a stream of more than one of them gets it once. Of a
        typed channel, as `Comments(item_id="7")`, `data` is an event that it carries, whose class says its type.

        `data`: str or bytes as they stand, or what `sse_fast.serialization` takes.

        `key`: an idempotency key. Within `idempotency_window` the same event under the same key is not published again,
        and has the id of the first time; another event raises KeyReused.

        `conflate_key`: what this is the newest value of. On a channel whose namespace conflates, who lags or comes back
        is not handed an event when there is a newer one with the same key.

        `id`: one of the publisher's own, 1 to 512 bytes, by which readers know the event and resume behind it. What
        this returns is the hub's, which stands for the same place. An id given twice is that of its first event.

        `private`: of Mercure's subscribers those get it whose token grants them one of its channels. Streams of ours
        that listen to one of them get it as any event: what they listen to is granted already.

        Raises InvalidEvent (EventTooLarge) or HubClosed; then nothing was published. Where memory is out, MemoryError:
        then it may have been.
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
        self._open_for_events()
        if key is not None:
            (made,), _ = await self.backplane.append_once([encoded], key)
            return made
        (made,) = await self.backplane.append([encoded])
        return made

    async def append(self, events: list[Encoded]) -> Sequence[EventId]:
        """Publish encoded events in their order, all or none, and return their ids.

        Raises BatchTooLarge, HubClosed or LogBusy, and then nothing was published; or MemoryError, and then it was if
        `published` says so.
        """
        self._open_for_events()
        return await self.backplane.append(events)

    def append_now(self, events: list[Encoded]) -> Sequence[EventId] | None:
        """`append` in this turn of the loop. None, and nothing was published: it has to be waited for, so `append`."""
        self._open_for_events()
        return self.backplane.append_now(events)

    def append_one(self, event: Encoded) -> str | None:
        """`append_now` of a single event, of whose id nothing but its text is wanted, on a hub that has started. It is
        handed out by `hand_out`, which is called in the same turn of the loop."""
        if self._closed or self.log.overwritten:
            self._open_for_events()
        return self.backplane.append_one(event)

    def append_later(self, event: Encoded, told: Told) -> bool:
        """`append` of a single event, on a hub that has started over an engine. `told` is, within a later turn of the
        loop. False: it has to be waited for, so `append`."""
        if self._closed or self.log.overwritten:
            self._open_for_events()
        return self.backplane.append_later(event, told)

    def hand_out(self) -> None:
        """What came by `append_one`, now and not in another turn of the loop."""
        with contextlib.suppress(MemoryError):  # every worker looks for news in its next tick
            self.backplane.tell()
        self._pump()

    async def append_once(self, events: list[Encoded], keys: Keys) -> Once:
        """`append` those events whose idempotency keys are new; the ids of all, and how many had been published before.

        `keys`: of all events together, or by their places the keys of single ones. Further raises KeyReused, and then
        nothing was published.
        """
        self._open_for_events()
        return await self.backplane.append_once(events, keys)

    async def forget(self, channel: "str | Channel[Any]") -> EventId:
        """Have nothing of a channel kept any more that was published before, on any worker, now or later.

        Its subscribers are told by an event of the channel, `$forgotten`, whose id this returns; who comes back from
        before what they have not seen is told of a gap. Raises InvalidEvent, HubClosed or LogBusy.
        """
        channel = str(channel)
        name = channel_name(channel)
        if channel.startswith("$"):
            raise InvalidEvent(f"channels that begin with '$' are the server's own, and {channel!r} keeps nothing")
        self._open_for_events()
        return await self.backplane.forget(name, forgotten(channel))

    @property
    def published(self) -> int:
        """Events that were published here."""
        return self.backplane.published

    def event_id(self, position: int) -> str:
        return self.log.event_id(position)

    # ---- subscribing -------------------------------------------------------------------------------------------------

    def attach(
        self,
        channels: Iterable[str],
        sink: Sink,
        *,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int = 0,
        envelope: bool = False,
        since: int | None = None,
        until: float | None = None,
        user: str | None = None,
        address: str = "",
        kept: bool = True,
        recalled: Recalled | None = None,
        matchers: Iterable[Matcher] = (),
        private: PrivateGrants | None = None,
        quiet: bool = False,
    ) -> Subscription:
        """A stream of these channels, and of those that `patterns` (well-formed ones) have, over a sink, parked until
        `Subscription.start`.

        It begins after `last_event_id` ("earliest": all that is kept), else with the newest `history` events, else now.
        `envelope`: the data of each event says its channel and its time too, in JSON (see `wire.envelope`).
        `since`: a position of the log, of a moment ago, which stands for now.
        `until`: when its credential ends, in seconds since 1970: it is told so by `$expiring`, and ends ahead of it.
        `user` and `address`: whose it is, as `open_streams` finds it.
        `kept`: whether the newest kept events follow an id that this log never gave, behind the gap.
        `recalled`: what `recall` has found for it.
        `matchers`: what else it listens to, of which it gets public events, and such private ones as `private` lets it
        see: those with a topic that one of the matchers has and a topic, that one or another, that is granted. Of
        `channels` and `patterns` it gets all.
        `quiet`: it is sent events alone, and ends where it would be told of a gap.
        The sink is told by its own `ended` if the hub ends the stream. Raises InvalidEvent or HubClosed.
        """
        if self.draining:
            raise HubClosed("the hub is shutting down and takes no more streams")
        self._open()
        names = list(dict.fromkeys(map(channel_name, channels)))
        source = None
        if matchers:
            further, source = listening(matchers, private)
            names = list(dict.fromkeys((*names, *further)))
        after = None if last_event_id is None else self.cursor(last_event_id)
        if recalled is not None:
            if self._lacks(names, patterns, recalled.until) or self._has_forgotten(recalled):  # since it was read
                recalled = None
            else:
                after = self.cursor(str(recalled.until))
        end, aged = None, False
        if until is not None or self.max_stream_age is not None:
            end, aged = end_of(time.time(), until, self.max_stream_age)
        subscriber = self.fanout.subscribe(
            names,
            sink,
            patterns=[pattern.encode() for pattern in patterns] if patterns else (),
            after=after,
            history=history,
            enveloped=envelope,
            since=since,
            until=end,
            aged=aged,
            user=user,
            address=address,
            kept=kept,
            source=source,
        )
        subscriber.quiet = quiet
        try:
            return Subscription(self, subscriber, sink, last_event_id, recalled)
        except MemoryError:
            self.fanout.unsubscribe(subscriber)
            raise

    def recalls(
        self,
        channels: Iterable[str],
        patterns: Iterable[str],
        last_event_id: str | None,
        matchers: Iterable[Matcher] = (),
    ) -> bool:
        """Whether a stream of these would begin with a gap, and what is missing here may be had: the backplane may have
        it still, or it is on its way."""
        if self.backplane.recall is None or last_event_id is None or self.draining or tuple(matchers):
            return False
        id = self._own_id(last_event_id)
        if id is None:
            return False
        if self.backplane.is_ahead(id):
            return True
        names = list(map(channel_name, channels))
        # What a namespace shows of who comes back is the newest, and the log's to know.
        return self._rules.shows_all(names, map(str.encode, patterns)) and self._lacks(names, patterns, id)

    async def recall(self, channels: Iterable[str], patterns: Iterable[str], id: str, wants: Wants) -> Recalled | None:
        """What it would miss here, where `recalls` says that it would; None: it cannot be had, or has come by now.
        `wants`: whether one of the patterns has a channel; the same for the same patterns. Raises HubClosed where it
        would miss what it gets elsewhere."""
        parsed, recall = self._own_id(id), self.backplane.recall
        names = list(map(channel_name, channels))
        if parsed is None or recall is None:
            return None
        if self.backplane.is_ahead(parsed):
            await self.backplane.come_to(parsed)
            return None
        is_here = functools.partial(self._has_behind, names, patterns)
        wanted = tuple(sorted(patterns))
        found = await recall.behind(parsed, is_here, frozenset(names), wants if wanted else None, wanted)
        return None if found is not None and found.more and self._has_forgotten(found) else found

    def _has_behind(self, names: list[bytes], patterns: Iterable[str], id: EventId) -> bool:
        return not self._lacks(names, patterns, id)

    def _lacks(self, names: list[bytes], patterns: Iterable[str], id: EventId) -> bool:
        """Whether the log has lost something of these behind an id."""
        own = self.log.cursor(id.epoch, id.position)
        if own is None:
            return True
        subscriber = self.fanout.subscribe(names, NOWHERE, patterns=[each.encode() for each in patterns], after=own)
        try:
            return subscriber.lost
        finally:
            self.fanout.unsubscribe(subscriber)

    def _has_forgotten(self, recalled: Recalled) -> bool:
        """Whether something of what was read has been forgotten since, as far as the log says: also by a channel of
        which it had nothing."""
        looked = self.log.cursor(recalled.looked.epoch, recalled.looked.position)
        forgot = self.fanout.index.forgot_after(looked) if looked is not None else None
        return forgot is None or any(map(recalled.wants, forgot))

    def _open_for_events(self) -> None:
        """A drain is no end of them: who is still being answered publishes, and others read the log."""
        if self._closed:
            raise HubClosed("the hub is closed and takes no more events")
        self._open()

    def _open(self) -> None:
        if self.log.overwritten:
            raise HubClosed(
                "somebody has overwritten the log while it was served; the server ends, come back in a moment"
            )
        self._start()

    def cursor(self, last_event_id: str | None) -> int | None:
        """Where in this log a client's id stands, as `FanOut.subscribe` wants it."""
        if last_event_id is None:
            return None
        if last_event_id == EARLIEST_ID:
            return EARLIEST
        parsed = own_id(last_event_id)
        if parsed is not None and self.backplane.is_ahead(parsed):
            return self.fanout.position_of_id(last_event_id.encode()) or UNKNOWN
        position = self.log.cursor(parsed.epoch, parsed.position) if parsed is not None else None
        if position is None:
            return self.fanout.position_of_id(last_event_id.encode()) or UNKNOWN
        return position

    def _own_id(self, last_event_id: str) -> EventId | None:
        """The id of this server's that stands behind one; None: it is unknown."""
        parsed = own_id(last_event_id)
        known = parsed is not None and self.log.cursor(parsed.epoch, parsed.position) is not None
        if not known and (position := self.fanout.position_of_id(last_event_id.encode())):
            return EventId.parse(self.log.event_id(position))
        return parsed

    def to_replay(
        self,
        channels: Iterable[str],
        last_event_id: str | None = None,
        history: int = 0,
        patterns: Iterable[str] = (),
        kept: bool = True,
        matchers: Iterable[Matcher] = (),
    ) -> int:
        """About how many bytes of kept events a stream would begin with that is attached so. Raises InvalidEvent."""
        names = [channel_name(name) for name in channels]
        wild = [pattern.encode() for pattern in patterns] or [b"**" for _ in matchers]
        after = self.cursor(last_event_id)
        return self.fanout.to_replay(names, patterns=wild, after=after, history=history, kept=kept)

    def unblock(self, subscriber: Subscriber) -> None:
        assert self._loop is not None  # a hub with a subscriber has been through `attach`
        if self.fanout.unblock(subscriber, self._loop.time()):
            self._wake()

    def say(self, channel: str, frame: bytes) -> int:
        """Send a frame that is not kept (and has no id) to the subscribers of a channel now. Returns to how many."""
        self._start()
        return self._run(self.fanout.say, channel_name(channel), frame, self._now())

    def listeners(self, channel: "str | Channel[Any]") -> int:
        """Streams that listen to a channel on this worker."""
        found = self.fanout.index.get(channel_name(str(channel)))
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
            if self.backplane.in_place:
                self.log.renew_epoch()
        self._loop = loop
        self._now = loop.time
        self._context = copy_context()
        self._awake = self._closed = False
        self._taken_in = asyncio.Event()
        self._wake()  # for what is there already, and to sleep where others see it
        self.backplane.start()
        self.stepper.start()
        self._tasks = [
            loop.create_task(self._for_ever(self._keep, "housekeeping failed; it goes on with the next tick")),
            loop.create_task(self._for_ever(self._keep_to_memory, "a look at send_memory failed; it goes on")),
            loop.create_task(self._for_ever(self._end_in_time, "streams could not be ended; it goes on")),
        ]
        if not self.backplane.in_place:
            self._tasks.append(loop.create_task(self.take_in()))
        elif not self._shares_its_log:
            other_workers.watch(self, loop)

    async def take_in(self) -> None:
        """Start, and wait until all that the log had kept before is taken in, a bounded piece of it in each turn of the
        loop; `ready` says so. Streams that are opened before may begin with more than the `history` they asked for."""
        self._start()
        if not self.ready:
            await self.backplane.caught_up()
            self._backlog_end = self.log.head
            self._caught_up = True
            self._wake()
            await self._taken_in.wait()

    async def be_ready(self) -> None:
        """`take_in`, for who cannot wait for ever. Raises HubClosed."""
        if not self.ready:
            try:
                async with asyncio.timeout(STARTING):
                    await self.take_in()
            except TimeoutError:
                raise HubClosed("the server has not read its log yet; come back in a moment") from None

    def _look_whether_ready(self) -> None:
        if not self._caught_up:
            return
        head = self.log.head  # read first: others append meanwhile
        if head - self.fanout.index.unread >= self._backlog_end:
            self.ready = True
            self._taken_in.set()

    def _wake(self) -> None:
        """Have the pump run in the loop's next turn."""
        if not self._awake:
            assert self._loop is not None  # nothing is published, and nobody subscribes, before the start
            self._loop.call_soon(self._pump, context=self._context)
            self._awake = True

    def look(self) -> None:
        """Another worker has notified this one: there may be news in the log. If there is none, it may do so again."""
        self._start()
        self._wake()

    def _pump(self) -> None:
        """A slice of the drain: what is left, or comes meanwhile, is for the next turn of the loop. A plain callback: a
        task costs several times what publishing does."""
        if self._closed:
            return
        self._awake = False  # who wakes it from here on wakes it again
        self._turns += 1
        try:
            if self._peers is not None:
                self._peers.disarm()
            if self._run(self.fanout.drain, self._now()):
                if rest := self.fanout.rest:
                    self._rest(rest)
                else:
                    self._wake()
            if not self.ready:
                self._look_whether_ready()
            if self._peers is not None and not self._awake:
                self._peers.arm()
                if self.fanout.index.unread:  # it came before they could see that we sleep
                    self._wake()
        except Exception as error:
            self._go_on_later(error)

    def _run(self, step: Callable[[*Ts], T], *args: *Ts) -> T:
        """A step that hands out. In a task's name where there is a sink to which it may matter: that costs more than
        the step."""
        return self.stepper.run(step, *args) if self.fanout.stepped else step(*args)

    def _rest(self, seconds: float) -> None:
        if self._resting is not None:
            self._resting.cancel()
        assert self._loop is not None
        self._resting = self._loop.call_later(seconds, self._wake)

    def _go_on_later(self, error: Exception) -> None:
        """A drain has failed, and left something behind."""
        assert self._loop is not None
        try:
            self._loop.call_later(TICK, self._go_on, error)
        except MemoryError:  # then without a word
            with contextlib.suppress(MemoryError):  # or the housekeeping finds what is left, and wakes it
                self._wake()

    def _go_on(self, error: Exception) -> None:
        self._wake()
        logger.error(PUMP_FAILED, exc_info=error)

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
            self._run(self.fanout.beat, loop.time(), half, count)
            await asyncio.sleep(0)

    def _look_after_the_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Waking it takes memory as well: a loop may have been asked to run it, and have forgotten it."""
        if self.fanout.busy:
            self._wake()
        if not self._awake or self._turns != self._turns_seen:
            self._turns_seen, self._stuck_since = self._turns, loop.time()
        elif loop.time() - self._stuck_since > PUMP_SECONDS:
            self._awake = False
            self._wake()
            self._stuck_since = loop.time()

    async def _keep_to_memory(self) -> None:
        """A task of its own: it may wait for a thread, and heartbeats wait for nobody."""
        await asyncio.sleep(LOOK_AT_MEMORY)
        await self.memory.look()

    async def _end_in_time(self) -> None:
        """End those whose time has come: thousands may within a second, so some in each turn."""
        await asyncio.sleep(TICK)
        while self._run(self.fanout.end_due, time.time(), self._now(), ENDED_AT_ONCE):  # noqa: ASYNC110 - others' turns
            await asyncio.sleep(0)

    # ---- what one worker does for all --------------------------------------------------------------------------------

    def lead(self, what: str) -> bool:
        """Whether it is this one, of all that ask on this worker and on others over the same log, from here on."""
        if what in self._leads or (self._peers is not None and not self._peers.lead(what)):
            return False
        self._leads.add(what)
        return True

    def lead_no_more(self, what: str) -> None:
        self._leads.discard(what)
        if self._peers is not None:
            self._peers.lead_no_more(what)

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> int:
        """Take no more streams, hand out what there is, say `$closing`, for at most so long. Returns streams still
        blocked. Events are taken until `close`: streams that were told get them where they resume."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Somebody who does not read may use up the time to settle, but not the others' time for their last frames.
        settled = deadline - min(LAST_BYTES, seconds / 2)
        self.draining = True
        other_workers.unwatch(self)
        if self._loop is None:
            return 0
        await self._settle(settled)
        last_words = closing(ENDS[EndReason.SHUTDOWN].told)
        at = self.fanout.connections
        while at:
            at = self._run(self.fanout.finish, last_words, loop.time(), at, HEARTBEATS_AT_ONCE)
            await asyncio.sleep(0)
        await self._settle(settled)
        await asyncio.sleep(max(0.0, min(LAST_BYTES, deadline - loop.time())))
        return self.fanout.blocked

    async def _settle(self, deadline: float) -> None:
        """Wait until everybody has everything, or until the deadline."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self.log.overwritten:  # of what is none of ours there is no end
            if not self._run(self.fanout.drain, loop.time()) and not self.fanout.blocked:
                return
            # A stream that blocks is unblocked by its own task; nothing needs to be told here, so looking is enough.
            await asyncio.sleep(0.01 if self.fanout.blocked else self.fanout.rest)

    async def close(self) -> None:
        """End every stream and stop. The hub is not used again."""
        self.draining = True
        self._closed = True
        other_workers.unwatch(self)
        self.fanout.end_all(EndReason.SHUTDOWN)
        running = [task for task in self._tasks if not task.done()]  # none, where its loop is gone
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks = []
        if self._loop is not None:
            self._taken_in.set()  # callers that wait for it find the hub closed
            await self.backplane.close()
            self.stepper.close()
