"""A backplane over an engine behind several nodes: what is published goes there, and comes back by a follower.

Nothing is appended here, and nothing buffered: an event is published when the engine has it, and until it answers its
publisher waits. While the engine is away every publish fails at once, streams stay, and what they have is the log's.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from sse_fast._native.log.ring import Log
from sse_fast.errors import Behind, EngineUnavailable, LogBusy, Superseded
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded
from sse_fast.hub.ahead import Ahead, in_order
from sse_fast.hub.backplane import Once
from sse_fast.hub.batches import BATCH_EVENTS, refuse_batch_over
from sse_fast.hub.engine import Counts, Engine, Soon, Told
from sse_fast.hub.follower import Follower, PastReturned, newest_of
from sse_fast.hub.idempotency import Keys
from sse_fast.hub.peers import Peers
from sse_fast.hub.recall import Recall
from sse_fast.hub.turn import Turn

logger = logging.getLogger("sse_fast.hub")

LOOK = 0.02  # seconds between two looks whether the window is filled
FILLED = "backplane: the window is filled"  # what those workers know who have seen it
CATCH_UP = 5.0  # seconds that a stream waits for a log that is behind what it has seen at another node
BEYOND = 10_000_000  # positions; no engine gives so many between two looks at it
TOMORROW = 24 * 3600  # seconds from now on, in which no engine has begun an epoch, whatever its clock says
LATELY = 3600  # seconds since which a primary may have been named that this node does not hear of
DOUBT = 60.0  # seconds in which an id of a later epoch may be of a primary that this node is about to hear of
DOUBTED = 1024  # of those epochs
LONGEST_PAUSE = 10.0  # seconds between two tries to follow what comes back to a past
TICK = 0.25  # seconds between two tries to be the one that follows, and two signs of whoever it is
ASK = 1.0  # seconds between two looks whether the log keeps up
PATIENCE = 5.0  # seconds that the engine may be away, or ahead of the log, until this worker is not ready


class OverEngine:
    """OverEngine(connect, log, peers, wake): `connect` makes the engine, for the loop that runs; `wake()` wakes the
    readers of this worker.

    Over a log that others share, `peers`, one of them all follows; a log of its own this worker fills itself.
    """

    in_place = False

    def __init__(
        self,
        connect: Callable[[], Engine],
        log: Log,
        peers: Peers | None,
        wake: Callable[[], None],
    ) -> None:
        self.published = self.published_bytes = self.repeated = 0
        self.log = log
        self._connect = connect
        self._peers, self._wake = peers, wake
        self._turn = Turn(log, peers) if peers is not None else None
        self.engine: Engine
        self._soon: Soon | None = None
        self.recall: Recall | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.follows = False
        """Whether it is this worker that reads."""
        self._owed: tuple[EventId, float] | None = None  # what the engine had then, and the log has not yet
        self._filled = False
        self._stuck: str | None = None  # why following would not go on by itself
        self._ahead = Ahead(self._newest)
        self._here: EventId | None = None  # what the log had come to when it was asked last
        self._busy, self._ask_again = False, 0.0
        self._doubted: dict[str, float] = {}  # epochs of which this node has not heard: since when they are asked for

    # ---- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._filled, self._owed = False, None
        self.engine = self._connect()
        self._soon = self.engine if isinstance(self.engine, Soon) else None
        self.recall = Recall(self.engine)
        follower = Follower(self.log, self.engine, self.tell)
        self._tasks = [loop.create_task(self._follow(follower)), loop.create_task(self._watch(self.engine))]

    async def close(self) -> None:
        """Again: nothing happens."""
        if self._tasks:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ahead.close()
            if self._turn is not None and self.follows:
                self._turn.end()
            self.follows = False
            await self.engine.close()

    async def _follow(self, follower: Follower) -> None:
        pause = TICK
        while True:
            try:
                self.follows = self._turn is None or self._turn.take()
                if self.follows:
                    await self._read(follower)
            except PastReturned as error:
                pause = min(2 * pause, LONGEST_PAUSE) if self._stuck is not None else TICK
                if self._stuck != str(error):
                    self._stuck = str(error)
                    logger.error("the backplane cannot be followed: %s", error)
                await asyncio.sleep(pause)
            except (EngineUnavailable, LogBusy) as error:
                logger.debug("the backplane cannot be followed now: %s", error)  # the engine itself has said why
            except Superseded:
                self.follows = False
                logger.warning("another worker follows the backplane now: this one had not been seen for a while")
            except Exception:
                logger.exception("following the backplane failed; it is tried again")
            await asyncio.sleep(TICK)

    async def _read(self, follower: Follower) -> None:
        """For ever. Raises Superseded when another worker does, and as `Follower.follow`."""
        reading = asyncio.ensure_future(follower.follow())
        try:
            while not reading.done():
                await asyncio.wait((reading,), timeout=TICK)
                if self._turn is not None and not self._turn.keep():
                    raise Superseded("another worker reads what comes")
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _watch(self, engine: Engine) -> None:
        """Whether the log keeps up with the engine."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._see((await engine.open()).last, loop.time())
                break
            except EngineUnavailable:
                if self._peers is not None and self._peers.is_known(FILLED):
                    self._be_filled()
                await asyncio.sleep(TICK)
        while self._owed is not None:
            await asyncio.sleep(LOOK)
            self._see(None, loop.time())
        self._be_filled()
        while True:
            await asyncio.sleep(ASK)
            look = engine.look_of_late
            self._see(look.last if look is not None else None, loop.time())

    def _see(self, last: EventId | None, now: float) -> None:
        """The log has come to where the engine was at the last look, or it is behind. last: where it is."""
        if self._owed is not None and self._has(self._owed[0]):
            self._owed = None
        if self._owed is None and last is not None:
            self._owed = None if self._has(last) else (last, now)

    def _be_filled(self) -> None:
        if not self._filled and self._peers is not None:
            self._peers.know(FILLED)
        self._filled = True

    def is_ahead(self, id: EventId) -> bool:
        return id.epoch.isdigit() and not self._has(id)

    async def come_to(self, id: EventId) -> None:
        if self._is_beyond(id):
            return
        try:
            async with asyncio.timeout(CATCH_UP):
                await self._ahead.come_to(id)
        except TimeoutError:
            if self.away or self.behind > ASK or self._busy or self._is_of_another(id):
                raise Behind(
                    "this node is behind what you have seen at another; come back in a moment, or there"
                ) from None

    def _is_beyond(self, id: EventId) -> bool:
        """Whether the engine cannot have given it, as it was a moment ago."""
        look = self.engine.look_of_late
        if self.away or look is None or look.last is None:
            return False
        if id.epoch == look.last.epoch:
            return id.position > look.last.position + BEYOND
        return int(id.epoch) > 1000 * (time.time() + TOMORROW)

    def _is_of_another(self, id: EventId) -> bool:
        """Whether it may be of a primary that was named lately, and of which this node has not heard. It is cut off
        with the old one, whose events are before those that this client has seen. Where that is answered for a minute,
        and nothing has come of that epoch, no primary has given the id, or none that this client will find here."""
        here = self._newest()
        later = here is None or int(id.epoch) > int(here.epoch)
        if not later or int(id.epoch) <= 1000 * (time.time() - LATELY):
            return False
        now = asyncio.get_running_loop().time()
        if id.epoch not in self._doubted and len(self._doubted) >= DOUBTED:
            del self._doubted[next(iter(self._doubted))]
        return now - self._doubted.setdefault(id.epoch, now) < DOUBT

    def _has(self, id: EventId) -> bool:
        here = self._newest()
        return here is not None and in_order(here) >= in_order(id)

    def _newest(self) -> EventId | None:
        """What the log has come to; or had a moment ago, while another process holds its lock."""
        now = time.monotonic()
        if not self._busy or now >= self._ask_again:
            try:
                self._here, self._busy = newest_of(self.log), False
            except LogBusy:
                self._busy, self._ask_again = True, time.monotonic() + TICK
        return self._here

    async def caught_up(self) -> None:
        """Until the log has what the engine had when this worker came."""
        while not self._filled:  # noqa: ASYNC110 - at the start alone
            await asyncio.sleep(LOOK)

    def what_is_wrong(self, *, whole: bool = True) -> str | None:
        if self._stuck is not None:
            return f"the backplane cannot be followed: {self._stuck}" if whole else "the backplane cannot be followed"
        now = asyncio.get_running_loop().time()
        trouble, behind = self.engine.trouble, self._behind(now)
        if trouble is not None and now - self.engine.since >= PATIENCE:
            return f"the backplane takes no events: {trouble}" if whole else "the backplane takes no events"
        if behind >= PATIENCE:
            return f"what the backplane had {behind:.0f} s ago has not come"
        return None

    def _behind(self, now: float) -> float:
        return now - self._owed[1] if self._owed is not None else 0.0

    @property
    def started(self) -> bool:
        return bool(self._tasks)

    @property
    def leads(self) -> bool:
        """Whether it is this worker, of all of its node, that reads, and nobody has taken that over."""
        return self.follows and (self._turn is None or self._turn.keep())

    @property
    def counts(self) -> Counts | None:
        return self.engine.counts if self._tasks else None

    @property
    def away(self) -> bool:
        """Whether the engine takes no events."""
        return not self._tasks or self.engine.trouble is not None

    @property
    def behind(self) -> float:
        """Seconds since the engine had what this node's log has not yet, as far as was looked."""
        return self._behind(asyncio.get_running_loop().time())

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def append(self, events: list[Encoded]) -> Sequence[EventId]:
        return (await self._publish(events, None)).ids

    def append_now(self, events: list[Encoded]) -> None:
        return None

    def append_one(self, event: Encoded) -> None:
        return None

    def append_later(self, event: Encoded, told: Told) -> bool:
        soon = self._soon
        if soon is None or not self._tasks:
            return False
        size, _ = self.log.measure([event])
        return soon.publish_soon(event, told, partial(self._count_one, size))

    def hand_over(self) -> None:
        if self._soon is not None:
            self._soon.fly()

    def _count_one(self, size: int) -> None:
        self.published += 1
        self.published_bytes += size

    async def append_once(self, events: list[Encoded], keys: Keys) -> Once:
        return await self._publish(events, keys)

    async def _publish(self, events: list[Encoded], keys: Keys | None) -> Once:
        if not events:
            return Once([], 0)
        refuse_batch_over(BATCH_EVENTS, len(events))
        size, _ = self.log.measure(events)  # what a node's log cannot take, none is given
        published = await self.engine.publish(events, keys)
        self.published += len(events) - published.repeated
        self.published_bytes += size if not published.repeated else 0
        self.repeated += published.repeated
        return Once(published.ids, published.repeated)

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        return await self.engine.forget(channel, body)

    def tell(self) -> None:
        """There is news in the log."""
        self._stuck = None
        try:
            self._wake()
            if self._peers is not None:
                self._peers.notify()
        except MemoryError:
            pass  # every worker looks for news in its next tick
