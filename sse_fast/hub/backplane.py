"""The seam: where what is published gets its ids, and whence it comes back to be read.

    decide -> encode -> backplane.append -> log -> wake -> drain

A hub reads one log, its node's. Who puts the events there, and who gives them their ids, is the backplane's affair: the
log itself (`LogBackplane`: one node, which gives the positions itself), or an engine behind several nodes, whose ids
come back with the events by a follower that appends them to the node's log.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.ring import Log
from sse_fast.errors import InvalidEvent, LogBusy
from sse_fast.event import EventId, EventIds
from sse_fast.event_rules import Encoded
from sse_fast.hub.batches import AT_ONCE, BATCH_EVENTS, LONGEST_WAIT, Line, Turns, refuse_batch_over
from sse_fast.hub.engine import Counts, Told
from sse_fast.hub.idempotency import Keys, digests
from sse_fast.hub.peers import Peers
from sse_fast.hub.recall import Recall

T = TypeVar("T")
U = TypeVar("U")


class Backplane(Protocol):
    """Takes encoded events, and sees to it that every hub reads them. One per hub; it lives on the hub's loop.

    **All or nothing.** `append` puts a batch in as a whole, in its order, with nobody else's events between; whatever
    ends its caller, an exception, a cancellation, a kill, and whichever instruction it is at. What has to be waited for
    is waited for first, and then all is appended in one step.

    **Acknowledged.** When `append` returns, the events are in the log that outlives this process, and their ids are
    final. What it raises says that nothing was published, and whether to come again: BatchTooLarge never, HubClosed
    elsewhere, LogBusy in a moment. With MemoryError it may have been: then `published` has moved.

    **Once.** What is given again under an idempotency key is not appended again, whichever hub it is given to, for as
    long as the key is remembered: to look for the key, to remember it and to append are one step. A repeat gets the
    ids of the first time; so a publisher that got no answer may always repeat.

    **Ids.** `<epoch>-<position>`, rising within one batch and from one append to the next, in any worker. No caller
    may take it that they begin at 1, have no holes, are of the epoch that the last ones were of, or are already in this
    node's log when `append` returns.

    **Cursors.** Those who read stand at a place in the node's log, never in the backplane: an id is looked up there
    (`Hub.cursor`), and what the log no longer holds, or never held, is told as a gap.

    **A lost writer**, dead at whatever instruction, leaves a batch that is whole or not there, and nothing that others
    wait for. Its events have ids that no others get; ids that nobody has may be left.

    **Waking.** What puts events into the node's log wakes those that read it: `wake()` its own hub, `Peers.notify`
    the other workers'. Here that is `append` itself; with an engine it is the follower.
    """

    published: int
    """Events that were published here, and the bytes of their frames: counted in the step that appends, for which no
    memory is needed."""
    published_bytes: int
    repeated: int
    """Events that came again under an idempotency key, where they are counted here."""

    in_place: bool
    """Whether `append_now` and `append_one` ever do anything."""

    @property
    def counts(self) -> Counts | None:
        """What has been asked of the engine behind it, if there is one."""

    recall: Recall | None
    """What reads what the log no longer has, if the backplane has more."""

    @property
    def away(self) -> bool:
        """Whether nothing can be published now."""

    @property
    def behind(self) -> float:
        """Seconds since something was published that this node's log has not yet."""

    def start(self) -> None:
        """The hub begins on the loop that runs, for the first time or again."""

    async def close(self) -> None:
        """It ends there. Again: nothing happens."""

    async def caught_up(self) -> None:
        """Until the log has what had been published when the hub began."""

    def is_ahead(self, id: EventId) -> bool:
        """Whether this may be the id of what was published, and has not come to this node's log yet."""

    async def come_to(self, id: EventId) -> None:
        """Wait until it has, for a while. Raises HubClosed where it does not, and this node is known to be behind."""

    def what_is_wrong(self, *, whole: bool = True) -> str | None:
        """Why clients had better go to others, in one sentence; None: they need not. whole: with what a stranger is not
        to know."""

    async def append(self, events: list[Encoded]) -> Sequence[EventId]:
        """Publish events in their order, all or none. Returns their ids, in that order."""

    def append_now(self, events: list[Encoded]) -> Sequence[EventId] | None:
        """`append` in this turn of the loop. None, and nothing was published: it has to be waited for, so `append`."""

    def append_one(self, event: Encoded) -> str | None:
        """`append_now` of a single event, of whose id nothing but its text is wanted, and which wakes nobody: see
        `tell`."""

    def append_later(self, event: Encoded, told: Told) -> bool:
        """`append` of a single event where it is not `in_place`: `told` is when it is published, in a later turn of the
        loop. False: nothing was done, so `append`."""

    def hand_over(self) -> None:
        """What came by `append_later`, now and not in another turn of the loop."""

    def tell(self) -> None:
        """Wake who reads: others than this hub."""

    async def append_once(self, events: list[Encoded], keys: Keys) -> "Once":
        """`append` those events whose idempotency keys are new.

        Raises InvalidEvent for what is no key, or where none is remembered; KeyReused, and nothing was published, where
        a key was given before with something else. Whatever else it raises, to come again with the same keys is right.
        """

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        """Have nothing of a channel kept any more that was published before, anywhere; `body` is the frame that says
        so, an event of the channel. Raises as `append`."""


class Once(NamedTuple):
    """The ids of all events, those of earlier times included, and how many those are."""

    ids: Sequence[EventId]
    repeated: int


class LogBackplane:
    """The log as its own backplane: positions are given out under its lock, and the events are there at once.

    `wake()` wakes the readers of this worker, `check_open()` raises once nothing is to be appended any more. `keys`:
    where idempotency keys are remembered by all who append to this log; None: none are.
    """

    in_place = True
    counts: Counts | None = None
    recall: Recall | None = None
    away = False
    behind = 0.0
    repeated = 0

    def __init__(
        self,
        log: Log,
        fanout: FanOut,
        peers: Peers | None,
        wake: Callable[[], None],
        check_open: Callable[[], None],
        keys: KeyTable | None = None,
    ) -> None:
        self.published = 0
        self.published_bytes = 0
        self.log = log
        log.longest_wait = LONGEST_WAIT
        self._epoch, self._began = log.epoch, log.began
        self._check_open = check_open
        self._keys = keys
        self._index = fanout.index
        self._peers = peers
        self._wake = wake
        self._line = Line()
        self._turns = Turns(log, fanout, peers, check_open)
        self._share = self._turns.share

    def start(self) -> None:
        self._epoch, self._began = self.log.epoch, self.log.began
        self._line = Line()
        self._turns.start()

    async def close(self) -> None:
        pass

    async def caught_up(self) -> None:
        pass

    def is_ahead(self, id: EventId) -> bool:
        return False

    async def come_to(self, id: EventId) -> None:
        pass

    def what_is_wrong(self, *, whole: bool = True) -> str | None:
        return None

    async def append(self, events: list[Encoded]) -> Sequence[EventId]:
        try:
            ids = self.append_now(events)
            wait = bool(self._line)
        except LogBusy:
            ids, wait = None, True
        if ids is None and wait:
            ids = await self._line.wait(lambda: self._if_open(self._at_once, events))
        if ids is not None:
            return ids
        refuse_batch_over(BATCH_EVENTS, len(events))
        size, room = self.log.measure(events)
        first = await self._turns.take(len(events), room, lambda limit: self._append(events, size, limit) or None)
        return EventIds(self._epoch, range(first, first + len(events)))

    def append_now(self, events: list[Encoded]) -> Sequence[EventId] | None:
        return None if self._line else self._at_once(events)

    def _at_once(self, events: list[Encoded]) -> Sequence[EventId] | None:
        if len(events) == 1:
            size = len(events[0][1])
            if self._index.unread + size > self._share:
                return None
            return [EventId(self._epoch, self._append(events, size))]
        if not events:
            return []
        if len(events) > AT_ONCE:
            return None
        size, room = self.log.measure(events)
        if self._index.unread + room > self._share:
            return None
        first = self._append(events, size)
        return EventIds(self._epoch, range(first, first + len(events)))

    def append_one(self, event: Encoded) -> str | None:
        size = len(event[1])
        if self._line or self._index.unread + size > self._share:
            return None
        published, published_bytes = self.published + 1, self.published_bytes + size
        first = self.log.append(*event)
        self.published, self.published_bytes = published, published_bytes  # for which memory is never out
        return f"{self._epoch}-{first}"

    def append_later(self, event: Encoded, told: Told) -> bool:
        return False

    def hand_over(self) -> None:
        pass

    def _append(self, events: list[Encoded], size: int, limit: int | None = None) -> int:
        """The first position; 0: other workers have brought the head beyond `limit`, and nothing was appended."""
        published, published_bytes = self.published + len(events), self.published_bytes + size
        first = self.log.append_many(events) if limit is None else self.log.append_many(events, limit)
        if first:
            self.published, self.published_bytes = published, published_bytes  # for which memory is never out
        self._tell()
        return first

    async def append_once(self, events: list[Encoded], keys: Keys) -> Once:
        table = self._keys
        if table is None:
            raise InvalidEvent("no idempotency keys are remembered here (the window is 0); leave the key out")
        if not events:
            return Once([], 0)
        refuse_batch_over(BATCH_EVENTS, len(events))
        _, room = self.log.measure(events)
        digested = await digests(events, keys, table.secret)
        self._check_open()  # the loop may have been given back meanwhile

        def append(limit: int | None) -> Once | None:
            answer = table.append_once(self.log, events, digested, limit)
            if answer is None:
                return None
            positions, repeated, size, lowest = answer
            self.published += len(events) - repeated
            self.published_bytes += size
            self._tell()
            return Once(self._ids_of(positions, lowest), repeated)

        if self._index.unread + room <= self._share and len(events) <= AT_ONCE:
            try:
                once = append(None) if not self._line else None
                wait = bool(self._line)
            except LogBusy:
                once, wait = None, True
            if wait:
                once = await self._line.wait(lambda: self._if_open(append, None))
            if once is not None:
                return once
        return await self._turns.take(len(events), room, append)

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        def append(event: tuple[bytes, bytes]) -> EventId:
            position = self.log.forget(*event)
            self._tell()
            return EventId(self._epoch, position)

        try:
            if not self._line:
                return append((channel, body))
        except LogBusy:
            pass
        return await self._line.wait(lambda: self._if_open(append, (channel, body)))

    def _if_open(self, append: Callable[[T], U], what: T) -> U:
        """After the loop was given back."""
        self._check_open()
        return append(what)

    def _tell(self) -> None:
        """There is news in the log."""
        try:  # for others' events if not for these
            self._wake()
            self.tell()
        except MemoryError:
            pass  # every worker looks for news in its next tick

    def tell(self) -> None:
        if self._peers is not None:
            self._peers.notify()

    def _ids_of(self, positions: Sequence[int], lowest: int) -> Sequence[EventId]:
        if lowest >= self._began:
            return EventIds(self._epoch, positions)
        # Some are from before a fork of this process, and keep the epoch that they had.
        return [EventId.parse(self.log.event_id(position)) or EventId(self._epoch, position) for position in positions]
