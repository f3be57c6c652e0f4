"""The relay: what was committed is published, in order and once.

    read -> publish, with the batch's mark -> delete

**In order**: one relay at a time, by a lock of the database; one batch at a time, in the order of the queue.

**Once**: a batch is deleted when it was acknowledged, and until then it comes again, each event under its own key.
Where the answer to one is not known, and at every start, the newest mark that the log has says whether the batch is in
it; so it does not matter whether the server still remembers the keys. What is left is told in docs/app/outbox.md.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from sse_fast.client.attempts import Attempts
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.outbox.mark import Mark, channel_of
from sse_fast.outbox.queue import NoOutbox, Place, Queue, Row, conninfo_of, first_line
from sse_fast.outbox.suspects import Suspects
from sse_fast.outbox.target import Failing, NoMarks, Rejected, Target

logger = logging.getLogger("sse_fast.outbox")

POLL = 1.0  # seconds
GLANCE = 0.005  # seconds until who commits right now is looked for again
CLOSING_SECONDS = 10.0  # that a batch under way has
UNREADABLE = "its data is larger than the 16 MiB that a relay reads"


@dataclass
class RelayStats:
    """published: events. repeated: of those, and of the marks, what the server had already. parked: kept aside with
    their error, as they were rejected, or nothing but failures came of them. batches; failures: attempts that came to
    nothing; settled: batches that the log had, as their mark said. leading: whether this is the relay that publishes,
    or one that stands by. lag: how old the oldest event was that was published last, in seconds."""

    published: int = 0
    repeated: int = 0
    parked: int = 0
    batches: int = 0
    failures: int = 0
    settled: int = 0
    leading: bool = False
    lag: float = 0.0

    def __str__(self) -> str:
        return (
            f"published {self.published:,} events in {self.batches:,} batches, {self.parked:,} kept aside; "
            f"the oldest of the last one was {self.lag:.3f} s old"
        )


class Relay:
    """`run` it, on one loop; `close` ends it behind the batch that is under way.

    dsn: of the database, as `conninfo_of` takes it. target: is made once it is known which channel the marks of this
    outbox are in. poll: seconds after which is looked for events, whether or not there was a notification. progress: is
    called behind every batch.
    """

    def __init__(
        self,
        dsn: str,
        target: Callable[[str], Target],
        *,
        poll: float = POLL,
        progress: Callable[[RelayStats], None] = lambda stats: None,
    ) -> None:
        if not 0 < poll <= 3600:
            raise ValueError(f"poll is a number of seconds, up to 3600; this is {poll!r}")
        self._conninfo = conninfo_of(dsn)
        self._make_target = target
        self._poll = poll
        self._progress = progress
        self.stats = RelayStats()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None
        self._target: Target | None = None
        self._marks = True  # whether the target has them
        self._suspects = Suspects()
        self._unknown = True  # what became of the last batch
        self._published: list[Row] = []  # acknowledged, and perhaps still in the queue
        self._attempts = Attempts(logger)

    async def run(self, *, until_empty: bool = False, give_up: bool = True) -> None:
        """Raises NoOutbox, and `client.failures.Refused`, where trying again would meet the same; not so if it is not
        to `give_up`: then it tries again all the same."""
        try:
            while not self._closing.is_set():
                try:
                    queue = await self._connected()
                    if queue is None:
                        return
                    try:
                        await self._relay(queue, until_empty)
                        if until_empty:
                            return
                    finally:
                        self.stats.leading = False
                        with contextlib.suppress(psycopg.Error, OSError):
                            await queue.close()
                except (psycopg.Error, TimeoutError, OSError) as error:
                    await self._failed(f"the database: {first_line(error)}")
                except (NoOutbox, Refused) as error:
                    if give_up:
                        raise
                    await self._failed(str(error))
                except Exception as error:
                    if give_up:
                        raise
                    logger.exception("the relay failed")
                    await self._failed(str(error))
        finally:
            if self._target is not None:
                await self._target.close()
            self._ended.set()

    async def close(self) -> None:
        """What is published meanwhile is finished, within CLOSING_SECONDS; the rest waits for the next relay."""
        self._closing.set()
        if self._waiting is not None:
            self._waiting.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), CLOSING_SECONDS)

    # ---- the database ------------------------------------------------------------------------------------------------

    async def _connected(self) -> Queue | None:
        connecting: list[Queue] = []

        async def connect() -> None:
            connecting.append(await Queue.connect(self._conninfo))

        return connecting[0] if await self._wait(connect) else None

    async def _relay(self, queue: Queue, until_empty: bool) -> None:
        """As long as the connection lasts."""
        if self._target is None:
            self._target = self._make_target(channel_of(queue.name))
        if not await self._lead(queue):
            return
        self._unknown = True  # of another relay's batch, perhaps
        if self._published:
            await queue.done(self._published)
            self._published = []
        glance = GLANCE
        while not self._closing.is_set():
            rows = await queue.read(self._suspects.most)
            if rows:
                await queue.wake()
                glance = GLANCE
                await self._pass_on(queue, self._target, rows)
            elif until_empty:
                return
            elif queue.asleep:
                await self._wait(lambda: queue.wait(self._poll))
                self._attempts.over()
            elif not await queue.sleep():
                await self._pause(glance)
                glance = min(2 * glance, self._poll)

    async def _lead(self, queue: Queue) -> bool:
        """Once no other relay does. False: this one is to end."""
        told = False
        while not await queue.lead():
            if not told:
                logger.info("another relay publishes what is in this outbox; standing by")
                told = True
            await self._pause(min(self._poll, 1.0))
            if self._closing.is_set():
                return False
        self.stats.leading = True
        logger.info("publishing what is in the outbox%s", " from here on" if told else "")
        return True

    # ---- a batch -----------------------------------------------------------------------------------------------------

    async def _pass_on(self, queue: Queue, target: Target, rows: list[Row]) -> None:
        unreadable = next((place for place, row in enumerate(rows) if row.data is None), None)
        if unreadable == 0:
            await self._park(queue, rows[0], UNREADABLE)
            return
        rows = rows[:unreadable]
        try:
            if self._unknown:
                await self._settle(queue, target)
                self._unknown = False
                return  # and read again: what was settled is not there any more
            if self._suspects.is_it(rows):
                await self._park(queue, rows[0], self._suspects.why)
                self._suspects.passed(rows)
                self._attempts.over()
                return
            self._unknown = True
            repeated = await target.publish(rows, Mark.of(rows) if self._marks else None)
        except Failing as error:
            if self._suspects.failed(rows, str(error)):
                self._attempts.over()
            await self._failed(str(error), error.retry_after)
            return
        except Unavailable as error:
            await self._failed(str(error), error.retry_after)
            return
        except Rejected as error:
            self._unknown = False
            if len(rows) == 1:
                await self._park(queue, rows[0], str(error))
            self._suspects.halve(rows)
            return
        self._unknown = False
        self._published = rows
        await queue.done(rows)
        self._published = []
        self._suspects.passed(rows)
        self._tell(rows, repeated)

    async def _settle(self, queue: Queue, target: Target) -> None:
        """Take out of the queue what the log has by its newest mark. Raises Unavailable for a target that fails at
        whatever it is given."""
        if not self._marks:
            if self._suspects.any:
                await target.probe()
            return
        try:
            mark = await target.newest_mark()
        except NoMarks as error:
            self._marks = False
            logger.warning(
                "this relay may not publish to, and listen to, its own channel; an event whose publishing breaks off "
                "may come twice, where the server is restarted or its idempotency window passes: %s",
                error,
            )
            return
        if mark is None:
            return
        found: Sequence[Place] = await queue.find(mark.positions)
        if found and Mark.of(found) == mark:
            await queue.done(found)
            self.stats.settled += 1
            self.stats.published += len(found)
            logger.info("%d events had been published already, as the server's log says", len(found))

    async def _park(self, queue: Queue, row: Row, error: str) -> None:
        await queue.park(row, error)
        self.stats.parked += 1
        logger.error("event %d, of channel %r, is kept aside: %s", row.id, row.channel, error)

    def _tell(self, rows: list[Row], repeated: int) -> None:
        stats = self.stats
        stats.batches += 1
        stats.published += len(rows)
        stats.repeated += repeated
        stats.lag = max(row.age for row in rows)
        if count := self._attempts.over():
            logger.info("publishing again, after %d attempts", count)
        self._progress(stats)

    # ---- waiting -----------------------------------------------------------------------------------------------------

    async def _failed(self, reason: str, asked_for: float = 0.0) -> None:
        """Tell it, and wait until it is tried again."""
        self.stats.failures += 1
        await self._pause(self._attempts.failed(reason, asked_for))

    async def _pause(self, seconds: float) -> None:
        await self._wait(lambda: asyncio.sleep(seconds))

    async def _wait(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """For something that `close` need not wait for. False: it was broken off by that."""
        if self._closing.is_set():
            return False
        self._waiting = asyncio.ensure_future(wait())
        try:
            await asyncio.wait((self._waiting,))
            if self._waiting.cancelled():
                return False
            self._waiting.result()
            return True
        finally:
            self._waiting.cancel()
            self._waiting = None
