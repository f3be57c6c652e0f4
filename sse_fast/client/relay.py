"""The relay: what a source says is published to a channel, in its order, each event once.

    source -> waiting (bounded) -> transform -> publish, with the batch's mark

**Once**: where the source is resumed stands in the log that is published to, in the same batch as the events (see
`relay_mark`). So whoever dies, and at whatever moment, what was published is not fetched again, and what was not is.

**Told**: what the source says is gone, what nobody knows of as it gives no ids, and what could not be published, is
a `$gap` in the channel, in its place.

**One**: of several relays of the same name the one that came last publishes, and the others stand by: a mark is
written at least every RENEW seconds, and where none came for LEASE seconds the next one takes over.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from hashlib import blake2b
from inspect import isawaitable
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any, Literal, NamedTuple

from sse_fast._native.wire.control import GAP
from sse_fast._native.wire.event_parser import ReceivedEvent
from sse_fast.client.attempts import Attempts, Seldom
from sse_fast.client.errors import Forbidden
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.relay_mark import LONGEST_ID, Mark, Rejected, Superseded, Target, can_be_sent, check_name, cut
from sse_fast.client.relay_source import Item, Source, Waiting
from sse_fast.client.relay_state import StateFile
from sse_fast.errors import InvalidEvent, SSEFastError
from sse_fast.event import Event

logger = logging.getLogger("sse_fast.relay")

Transform = Callable[[ReceivedEvent], Any]
OnError = Literal["gap", "stop"]

BATCH_EVENTS = 256  # of the source, in one request
BATCH_BYTES = 256 * 1024
MOST_OF_ONE = 1000  # events that a transform may make of one
RENEW = 20.0  # seconds
LEASE = 60.0
LOOK_AGAIN = 1.0  # whether this one leads now, of those that share a log
LONGEST_REASON = 300  # characters of what others have written, in a line of the log
OWN_IDS = 4096  # that are remembered, to find what comes round


@dataclass
class RelayStats:
    """received: events of the source. published: events that came of them. dropped: by the transform, or as none of
    the types that are relayed. failed: that the transform failed at, or the target will never take. gaps: that were
    told, theirs among them. batches; failures: attempts to publish that came to nothing; connections: to the source.
    leading: whether this is the relay that publishes, or one that stands by. id: the source's, up to which all is
    published."""

    received: int = 0
    published: int = 0
    dropped: int = 0
    failed: int = 0
    gaps: int = 0
    batches: int = 0
    failures: int = 0
    connections: int = 0
    leading: bool = False
    id: str = ""

    def __str__(self) -> str:
        return (
            f"published {self.published:,} events in {self.batches:,} batches, dropped {self.dropped:,}, left out "
            f"{self.failed:,}, told of {self.gaps:,} gaps; the last one is {self.id or 'without an id'}"
        )


class TransformFailed(SSEFastError):
    """At an event, and so it is to stop there."""


class Made(NamedTuple):
    """What is published of one item of the source; id: where it is resumed behind that."""

    prepared: list[object]
    id: str
    size: int
    what: str = "a gap"


class Relay:
    """`run` it, on one loop; to cancel that ends it, at any moment.

    name: of the relay, which has its marks by it. transform: is given each event, and returns what is published in its
    place: None (nothing), data, an `Event` with data and type, or a list of those; it may be a coroutine function.
    events: the types that are relayed at all; none: all. on_error: what becomes of an event that the transform fails
    at, or that the target will never take: "gap" tells the subscribers that one is missing, "stop" ends the relay in
    front of it. since: where to begin, if neither the target nor `state`, a file, knows: an id, "earliest" for an
    edge; None: now. Raises ValueError.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        name: str,
        *,
        transform: Transform | None = None,
        events: Collection[str] = (),
        on_error: OnError = "gap",
        since: str | None = None,
        state: Path | None = None,
        progress: Callable[[RelayStats], None] = lambda stats: None,
        renew: float = RENEW,
        lease: float = LEASE,
    ) -> None:
        check_name(name)
        if since is not None and not can_be_sent(since):
            raise ValueError(f"an id to begin behind is up to {LONGEST_ID} characters that a header can carry")
        if on_error not in ("gap", "stop"):
            raise ValueError(f'on_error is "gap" or "stop"; this is {on_error!r}')
        self._source, self._target, self._name = source, target, name
        self._transform, self._events = transform, frozenset(events)
        self._stops = on_error == "stop"
        self._since = since
        self._state = StateFile(state, name) if state is not None else None
        self._progress = progress
        self._renew, self._lease = renew, lease
        self.stats = RelayStats()
        self._id: str | None = None  # up to which all is published
        self._newest: str | None = None  # the batch whose mark is the newest, as far as is known
        self._in_doubt = True  # what became of the last batch
        self._sure_at = 0.0  # when the target last said what its newest mark is
        self._aside = ""
        self._unsaid = False  # what was dropped has no mark yet
        self._attempts = Attempts(logger)
        self._told = Seldom(logger)
        self._own: deque[str] = deque(maxlen=OWN_IDS)
        self._own_ids: set[str] = set()

    async def run(self, *, give_up: bool = True) -> None:
        """Until the source says that there is nothing more. Raises `client.failures.Refused`, where trying again would
        meet the same; if it is not to `give_up`, for Forbidden alone, and else it tries again. And TransformFailed."""
        try:
            while True:
                try:
                    await self._lead()
                    await self._follow()
                    return
                except Superseded:
                    await self._stand_by()
                except TransformFailed:
                    raise
                except Refused as error:
                    if give_up or isinstance(error, Forbidden):
                        raise
                    await self._failed(str(error))
                except Exception as error:
                    if give_up:
                        raise
                    logger.exception("the relay failed")
                    await self._failed(str(error))
        finally:
            self.stats.leading = False
            await self._source.close()
            await self._target.close()

    # ---- who relays, and from where ----------------------------------------------------------------------------------

    async def _lead(self) -> None:
        told = False
        while not await self._target.lead():
            if not told:
                logger.info("another worker relays %s; standing by", self._source.name)
                told = True
            await asyncio.sleep(LOOK_AGAIN)
        mark = await self._newest_mark()
        if mark is not None:
            self._id, self._newest = mark.id, mark.batch
        else:
            self._newest = None
            if self._id is None and self._state is not None:
                self._id = self._state.read()
            if self._id is None:
                self._id = self._since
        self._in_doubt = False
        await self._put([], Mark(self._id, token_hex(16)))
        self.stats.leading = True
        logger.info("relaying %s to %s%s", self._source.name, self._target.name, " from here on" if told else "")

    async def _stand_by(self) -> None:
        """While another relay of this name writes marks."""
        self.stats.leading = False
        logger.info("another relay of the name %r has begun; standing by", self._name)
        seen = await self._newest_mark()
        while True:
            await asyncio.sleep(self._lease * random.uniform(1.0, 1.3))
            newest = await self._newest_mark()
            if newest is None or newest == seen:
                return
            seen = newest

    async def _newest_mark(self) -> Mark | None:
        while True:
            try:
                mark = await self._target.newest_mark()
            except Unavailable as error:
                await self._failed(str(error), error.retry_after)
                continue
            self._sure_at = monotonic()
            return mark

    # ---- following ---------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """From where all is published, until the source ends."""
        waiting = Waiting()
        self._source.cursor = self._id
        reading = asyncio.create_task(self._read(waiting))
        try:
            while True:
                idle = monotonic() - self._sure_at
                items = await waiting.take(BATCH_EVENTS, BATCH_BYTES, max(0.0, self._renew - idle))
                if items is None:
                    if self._unsaid:
                        await self._put([], Mark(self._id, token_hex(16)))
                    return
                await self._pass_on(items)
                if monotonic() - self._sure_at >= self._renew:
                    await self._put([], Mark(self._id, token_hex(16)))
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self, waiting: Waiting) -> None:
        try:
            async with aclosing(self._source.items()) as items:
                async for item in items:
                    await waiting.put(item)
            await waiting.end()
        except Exception as error:
            await waiting.end(error)

    async def _pass_on(self, items: list[Item]) -> None:
        self.stats.connections = self._source.stats.connections
        made: list[Made] = []
        size = events = 0
        begun = self._id is not None
        for item in items:
            if item.id in self._own_ids and item.event is not None:
                raise Refused(
                    f"{self._source.name} has what this relay publishes: it would go round for ever. Relay to another "
                    "channel, or from one"
                )
            try:
                making = self._made(item)
                if self._transform is not None:
                    making = self._in_time(making, made)
                of_it = await making
            except TransformFailed:
                await self._publish(made)  # what is before it
                raise
            if of_it.prepared:
                made.append(of_it)
                size, events = size + of_it.size, events + len(of_it.prepared)
            elif made:
                made[-1] = made[-1]._replace(id=item.id)
            else:
                self._id = item.id
                self._unsaid = True
            if size > BATCH_BYTES or events > BATCH_EVENTS:
                await self._publish(made)
                made, size, events = [], 0, 0
        await self._publish(made)
        if not begun and self._unsaid:  # or who comes next would begin with what is new then
            await self._put([], Mark(self._id, token_hex(16)))

    async def _in_time(self, making: Coroutine[Any, Any, Made], made: list[Made]) -> Made:
        """What is made so far is published when the time for a mark has come, or others would take over."""
        task = asyncio.ensure_future(making)
        try:
            while True:
                done, _ = await asyncio.wait((task,), timeout=max(0.0, self._sure_at + self._renew - monotonic()))
                if monotonic() - self._sure_at >= self._renew:
                    waiting = made.copy()
                    made.clear()
                    await self._publish(waiting)
                    if not waiting:
                        await self._put([], Mark(self._id, token_hex(16)))
                if done:
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    # ---- an event ----------------------------------------------------------------------------------------------------

    async def _made(self, item: Item) -> Made:
        """Raises TransformFailed, where that ends the relay."""
        if item.lost:
            self.stats.gaps += 1
            self._told.say(logging.WARNING, f"{self._source.name}: events are missing before {cut(item.id) or 'here'}")
            return self._gap(item.id)
        event = item.event
        if event is None:
            return Made([], item.id, 0)
        self.stats.received += 1
        if self._events and event.event not in self._events:
            self.stats.dropped += 1
            return Made([], item.id, 0)
        what = f"the event {cut(event.event)} {cut(event.id)}".rstrip()
        try:
            prepared = [self._target.prepare(data, type) for data, type in await self._transformed(event)]
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fails(what, f"{type(error).__name__}, and nobody has cancelled it")
            return self._gap(item.id)
        except Exception as error:
            # The first traceback of what somebody else has written; an event that is none needs no more than words.
            first = not isinstance(error, InvalidEvent) and not self.stats.failed
            self._fails(what, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, trace=first)
            return self._gap(item.id)
        self.stats.dropped += not prepared
        return Made(prepared, item.id, item.size, what)

    async def _transformed(self, event: ReceivedEvent) -> list[tuple[object, str | None]]:
        if self._transform is None:
            return [in_fields(event)]
        given = self._transform(event)
        if isawaitable(given):
            given = await given
        if given is None:
            return []
        several = given if isinstance(given, list) else [given]
        if len(several) > MOST_OF_ONE:
            raise InvalidEvent(f"transform returned {len(several)} events for one; at most {MOST_OF_ONE} are published")
        named = None if event.event == "message" else event.event
        return [in_fields(each) if isinstance(each, Event | ReceivedEvent) else (each, named) for each in several]

    def _fails(self, what: str, why: str, *, trace: bool = False) -> None:
        """Of this event nothing comes. Raises TransformFailed."""
        self.stats.failed += 1
        why = cut(why, LONGEST_REASON)
        if self._stops:
            raise TransformFailed(f"{what} of {self._source.name}: {why}")
        self.stats.gaps += 1
        self._told.say(logging.ERROR, f"{what} of {self._source.name} is left out: {why}", trace=trace)

    def _gap(self, id: str) -> Made:
        return Made([self._target.prepare({"after": None, "until": None}, GAP)], id, 0)

    # ---- a batch -----------------------------------------------------------------------------------------------------

    async def _publish(self, made: list[Made]) -> None:
        if not made:
            return
        prepared = [each for of_one in made for each in of_one.prepared]
        try:
            await self._put(prepared, Mark(made[-1].id, token_hex(16)))
        except Rejected as error:
            if len(made) > 1:
                half = len(made) // 2
                await self._publish(made[:half])
                await self._publish(made[half:])
                return
            (one,) = made
            gap = self._gap(one.id)
            if one.what == gap.what:
                raise Refused(f"{self._target.name} takes no gap: {error}") from None
            self._fails(one.what, str(error))
            await self._publish([gap])
            return
        gaps = sum(each.what == "a gap" for each in made)
        self.stats.published += len(prepared) - gaps
        self._progress(self.stats)

    async def _put(self, prepared: list[object], mark: Mark) -> None:
        """Publish, behind the newest mark. Raises Rejected, Refused, Superseded."""
        while True:
            if self._in_doubt or monotonic() - self._sure_at > self._lease:
                newest = await self._newest_mark()
                self._in_doubt = False
                if newest is not None and newest.batch == mark.batch:
                    self._published(mark, ())
                    return
                if newest is not None and newest.batch != self._newest:
                    raise Superseded(f"a relay of the name {self._name!r} publishes as well")
                if newest is None:
                    self._newest = None
            self._in_doubt = True
            try:
                key = f"relay:{self._name}:{self._newest or 'first'}{self._aside}"
                ids = await self._target.publish(prepared, mark, key)
            except Superseded as error:
                # By whom, is seen next. Where nobody is found, the log has lost what the keys still know.
                newest = await self._newest_mark()
                if newest is None or newest.batch == self._newest:
                    self._aside = f":{token_hex(8)}"
                    await self._failed(str(error))
            except Rejected as error:
                self._in_doubt = False
                if not prepared:
                    raise Refused(f"{self._target.name} takes no mark: {error}") from None
                raise
            except Unavailable as error:
                await self._failed(str(error), error.retry_after)
            else:
                self._published(mark, ids)
                return

    def _published(self, mark: Mark, ids: Collection[str]) -> None:
        self._newest, self._id = mark.batch, mark.id
        self._in_doubt = self._unsaid = False
        self._aside = ""
        self._sure_at = monotonic()
        self.stats.batches += 1
        self.stats.id = mark.id or ""
        for id in ids:
            if len(self._own) == OWN_IDS:
                self._own_ids.discard(self._own[0])
            self._own.append(id)
            self._own_ids.add(id)
        if self._state is not None:
            self._state.write(mark.id)
        if count := self._attempts.over():
            logger.info("publishing to %s again, after %d attempts", self._target.name, count)

    async def _failed(self, reason: str, asked_for: float = 0.0) -> None:
        """Tell it, and wait until it is tried again."""
        self.stats.failures += 1
        await asyncio.sleep(self._attempts.failed(reason, asked_for))


def in_fields(event: Event | ReceivedEvent) -> tuple[object, str | None]:
    """The data and the type; ids are given where it is published."""
    return event.data, None if event.event == "message" else event.event


def name_of(url: str, channel: str) -> str:
    """Of a relay that was given none."""
    return blake2b(f"{url}\n{channel}".encode(), digest_size=8).hexdigest()
