"""Who is there: the users that have streams of a channel whose presence is kept, over all workers of the node.

What it keeps: in each worker, who is there in any of them. A worker says to the others who came to it first, and who
left it last; so all know the same, a moment apart, and come to the same conclusions: whoever is in no worker any more
leaves when `grace` is over, and one that is back before has neither left nor joined.
What it drops: with a worker that is gone, those that were there. Past MOST_BYTES of names a worker keeps no more, and
its log says so.
Who is told: those who listen to `$presence:{channel}`, by events of the log. The oldest worker publishes them, when
another one knows what they are about, and tells the others which it has published. If it dies between the two, or
hangs, another one publishes those again: whichever worker dies, who reads all events knows in the end who is there; but
some may come twice, and of somebody who came and left at once the last alone.

Each worker numbers what it says. Who has missed something, or is new, asks for all of it, a piece at a time; what is
said meanwhile waits. What a worker that is gone has published, and no other one heard of, is in the log: who is new, or
has lost another, looks there for those who have joined and not left, and whom nobody has.
What it may take: the event loop is given back after AT_ONCE members, however many are there.
"""

import asyncio
import contextlib
import heapq
import logging
import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any, NamedTuple

import orjson

from sse_fast._native.wire.frame import encode
from sse_fast.errors import SSEFastError
from sse_fast.event_rules import MAX_CHANNEL_BYTES, Encoded, channel_name
from sse_fast.hub.control import Control

logger = logging.getLogger("sse_fast.hub")

PREFIX = "$presence:"
JOIN, LEAVE = "join", "leave"
LONGEST_CHANNEL = MAX_CHANNEL_BYTES - len(PREFIX)  # bytes
LONGEST_USER = 256  # bytes, in JSON
MOST_BYTES = 3 * 1024 * 1024  # of the names of one worker's members
TICK = 0.5  # seconds
PATIENCE = 3.0  # seconds, after which another worker than the oldest publishes, and the log is looked into once more
AT_ONCE = 1024  # members that are told, published or looked at together
HANDED_OVER = 4096  # of those under way, to a worker that is new
WAITING = 256  # of what a worker says while it is asked for all
CHANGED, STATE, PUBLISHED = "presence.changed", "presence.state", "presence.published"

Member = tuple[str, str]
"""A channel, and a user."""
Recall = Callable[[], AsyncIterator[Iterable[tuple[str, str, str]]]]
"""What the log has kept of presence, in its order and a piece of it at a time: channel, user, and JOIN or LEAVE."""


class Here(NamedTuple):
    """A user who is there, since that many seconds since 1970."""

    user: str
    since: float


class Unpublished(NamedTuple):
    """since: of the monotonic clock."""

    what: str
    since: float


class State(NamedTuple):
    """What a worker knew when it was asked for all, as long as it is being told."""

    name: int
    number: int
    here: tuple[Member, ...]
    leaving: tuple[tuple[Member, float], ...]
    unpublished: tuple[tuple[Member, Unpublished], ...]


class Worker:
    """What another worker has said. born: of a clock that all share."""

    __slots__ = ("born", "heard", "later", "members", "missed", "number", "owed", "pid")

    def __init__(self, pid: int, born: float) -> None:
        self.pid, self.born = pid, born
        self.number = 0
        self.members: set[Member] = set()
        self.missed, self.heard = True, False
        self.later: deque[Mapping[str, Any]] = deque(maxlen=WAITING)  # said since something was missed
        self.owed: dict[Member, str] = {}  # what was published, and it has not heard of


class Presence:
    """Presence(keeps, append, recall, control): in one worker. `keeps`: whether presence in a channel is kept. `append`
    publishes encoded events. `grace`: seconds."""

    def __init__(
        self,
        keeps: Callable[[str], bool],
        append: Callable[[list[Encoded]], Awaitable[object]],
        recall: Recall,
        control: Control,
        *,
        grace: float = 5.0,
        pid: int | None = None,
    ) -> None:
        self._keeps, self._append, self._recall, self._control = keeps, append, recall, control
        self._grace = grace
        self._born = time.monotonic()
        self._pid = pid if pid is not None else os.getpid()
        self._streams: Counter[Member] = Counter()
        self._own: set[Member] = set()
        self._bytes = 0
        self._full = False
        self._changed: dict[Member, bool] = {}  # here, and not said to the others: whether it is there
        self._number = 0
        self._heard = False  # by all of the others
        self._to_recall = True
        self._recall_from = 0.0  # by the monotonic clock: it is tried again now and then
        self._joined: dict[Member, None] = {}  # and not left, as far as the log was looked into
        self._workers: dict[int, Worker] = {}  # the others
        self._present: dict[str, dict[str, float]] = {}
        self._leaving: dict[Member, float] = {}  # when, by the monotonic clock; the first to leave first
        self._unpublished: dict[Member, Unpublished] = {}  # who has waited longest first
        self._unseen: deque[Iterator[Member]] = deque()  # to be looked at
        self._states: dict[int, State] = {}  # by the slot of who asked
        self._named = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        control.on(CHANGED, self._on_changed)
        control.on(STATE, self._on_state)
        control.on(PUBLISHED, self._on_published)

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # ---- streams of this worker --------------------------------------------------------------------------------------

    def is_kept(self, channel: str) -> bool:
        return self._keeps(channel) and len(channel.encode()) <= LONGEST_CHANNEL

    def shown_in(self, channels: Iterable[str], user: str | None) -> tuple[str, ...]:
        """Those of these channels in which a stream of this user shows that it is there."""
        if not user or len(orjson.dumps(user)) > LONGEST_USER:
            return ()
        return tuple(name for name in channels if self.is_kept(name))

    def enter(self, channels: Iterable[str], user: str) -> None:
        """A stream of this user begins, that shows it in these channels."""
        for channel in channels:
            member = channel, user
            self._streams[member] += 1
            if self._streams[member] == 1 and self._has_room(member):
                self._own.add(member)
                self._change(member, True)

    def leave(self, channels: Iterable[str], user: str) -> None:
        """One that `enter` was told of has ended."""
        for channel in channels:
            member = channel, user
            self._streams[member] -= 1
            if not self._streams[member]:
                del self._streams[member]
                if member in self._own:
                    self._own.discard(member)
                    self._bytes -= size_of(member)
                    self._change(member, False)

    def _has_room(self, member: Member) -> bool:
        size = size_of(member)
        if self._bytes + size <= MOST_BYTES:
            self._bytes += size
            return True
        if not self._full:
            self._full = True
            logger.warning(
                "presence: the names of those who are there take %d bytes in one worker; more are left out", MOST_BYTES
            )
        return False

    def _change(self, member: Member, here: bool) -> None:
        self._changed[member] = here
        self._look_at(member)
        self._news.set()

    # ---- who is there ------------------------------------------------------------------------------------------------

    def members(self, channel: str, limit: int, after: str = "") -> tuple[int, list[Here]]:
        """How many are there; and, in the order of their names, the first behind `after`, so many at most."""
        present = self._present.get(channel, {})
        listed = heapq.nsmallest(limit, (user for user in present if user > after))
        return len(present), [Here(user, present[user]) for user in listed]

    async def who(self, channel: str, limit: int, after: str = "") -> tuple[int, list[Here]]:
        """`members`, of all nodes."""
        return self.members(channel, limit, after)

    def _look_at(self, member: Member) -> None:
        """It came to a worker, or left one."""
        channel, user = member
        present = self._present.get(channel, {})
        if member in self._own or any(member in worker.members for worker in self._workers.values()):
            self._leaving.pop(member, None)
            if user not in present:
                present[user] = time.time()
                self._present[channel] = present
                self._hold(member, JOIN)
        elif user in present and member not in self._leaving:
            self._leaving[member] = time.monotonic() + self._grace

    async def _look_at_unseen(self) -> None:
        while self._unseen:
            piece = list(islice(self._unseen[0], AT_ONCE))
            for member in piece:
                self._look_at(member)
            if len(piece) < AT_ONCE:
                self._unseen.popleft()
            await asyncio.sleep(0)

    def _hold(self, member: Member, what: str) -> None:
        """Until it is published."""
        self._unpublished.pop(member, None)
        self._unpublished[member] = Unpublished(what, time.monotonic())

    def _since(self, member: Member) -> float:
        channel, user = member
        return self._present.get(channel, {}).get(user, time.time())

    def _remove(self, member: Member) -> None:
        channel, user = member
        self._leaving.pop(member, None)
        present = self._present.get(channel, {})
        present.pop(user, None)
        if not present:
            self._present.pop(channel, None)

    # ---- what the other workers say ----------------------------------------------------------------------------------

    def _on_changed(self, said: Mapping[str, Any]) -> None:
        """`by`, `pid`, `born`: who says it; `number`: what it says; `here`, `gone`: members."""
        if said["by"] == self._control.slot:
            return
        worker = self._workers.get(said["by"])
        if worker is None or worker.pid != said["pid"]:
            self._drop(said["by"])
            worker = self._workers[said["by"]] = Worker(said["pid"], said["born"])
        if worker.missed:
            worker.later.append(said)
        else:
            self._take(worker, said)
        self._news.set()

    def _take(self, worker: Worker, said: Mapping[str, Any]) -> None:
        """What it says next; where something is missing before it, it waits for that."""
        if said["number"] == worker.number + 1:
            worker.number += 1
            for channel, user in said["here"]:
                worker.members.add((channel, user))
                self._look_at((channel, user))
            for channel, user in said["gone"]:
                worker.members.discard((channel, user))
                self._look_at((channel, user))
        elif said["number"] > worker.number:
            worker.missed = True
            worker.later.append(said)

    def _on_state(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """All that this worker has said, and what it knows that nobody else may know. `by`: who asks; `name`: of the
        state of which piece `piece` is asked for; the first piece is of a new one."""
        piece = asked["piece"]
        state = self._state_for(asked["by"]) if not piece else self._states.get(asked["by"])
        if state is None or (piece and state.name != asked["name"]):
            raise SSEFastError("this state is told no more; ask for another")
        now = time.monotonic()
        first, end = piece * AT_ONCE, (piece + 1) * AT_ONCE
        further = end < max(map(len, (state.here, state.leaving, state.unpublished)))
        if not further:
            del self._states[asked["by"]]
        return {
            "pid": self._pid,
            "born": self._born,
            "number": state.number,
            "name": state.name,
            "further": further,
            "here": [(*member, self._since(member)) for member in state.here[first:end]],
            "leaving": [
                (*member, due - now, self._since(member))
                for member, due in state.leaving[first:end]
                if self._leaving.get(member) == due
            ],
            "unpublished": [
                (*member, held.what)
                for member, held in state.unpublished[first:end]
                if self._unpublished.get(member) is held
            ],
        }

    def _state_for(self, slot: int) -> State:
        self._named += 1
        leaving = tuple(islice(self._leaving.items(), HANDED_OVER))
        unpublished = tuple(islice(self._unpublished.items(), HANDED_OVER))
        state = State(self._named, self._number, tuple(self._own), leaving, unpublished)
        self._states[slot] = state
        return state

    async def _ask(self, slot: int) -> None:
        """All that another worker has said. Raises SSEFastError or LookupError."""
        said = await self._ask_for(slot, 0)
        worker = self._workers.get(slot)
        if worker is None or worker.pid != said["pid"]:
            self._drop(slot)
            worker = self._workers[slot] = Worker(said["pid"], said["born"])
        here: list[Member] = []
        members: set[Member] = set()
        try:
            for piece in count(1):
                come = [(channel, user) for channel, user, _ in said["here"]]
                here += come
                members.update(come)
                if not worker.heard and worker.born < self._born:
                    self._inherit(said)
                if not said["further"]:
                    break
                said = await self._ask_for(slot, piece, said["name"])
                if self._workers.get(slot) is not worker or worker.pid != said["pid"]:
                    raise LookupError(slot)
            self._unseen.append(iter(worker.members))
            worker.members, worker.number, worker.heard = members, said["number"], True
            while worker.later and worker.later[0]["number"] <= worker.number + 1:
                self._take(worker, worker.later.popleft())
                await asyncio.sleep(0)
                if self._workers.get(slot) is not worker:
                    raise LookupError(slot)
            worker.missed = bool(worker.later)
        finally:
            self._unseen.extend((iter(here), iter(tuple(self._leaving))))

    async def _ask_for(self, slot: int, piece: int, name: int | None = None) -> Mapping[str, Any]:
        said: Mapping[str, Any] = await self._control.ask(slot, STATE, by=self._control.slot, piece=piece, name=name)
        return said

    def _inherit(self, said: Mapping[str, Any]) -> None:
        """They were there before this worker was, and that was published, or the other one has not done so yet."""
        for channel, user, since in said["here"]:
            self._present.setdefault(channel, {}).setdefault(user, since)
        for channel, user, left, since in said["leaving"]:
            self._present.setdefault(channel, {}).setdefault(user, since)
            self._leaving.setdefault((channel, user), time.monotonic() + left)
        for channel, user, what in said["unpublished"]:
            if (channel, user) not in self._unpublished:
                self._hold((channel, user), what)

    def _on_published(self, said: Mapping[str, Any]) -> None:
        """`events`: what worker `by` has published."""
        if said["by"] == self._control.slot:
            return
        for channel, user, what in said["events"]:
            member = channel, user
            self._unpublished.pop(member, None)
            if what == JOIN:
                self._present.setdefault(channel, {}).setdefault(user, time.time())
            else:
                self._remove(member)
                self._joined.pop(member, None)
            self._look_at(member)

    def _drop(self, slot: int) -> None:
        """A worker is gone, and with it its streams."""
        worker = self._workers.pop(slot, None)
        if worker is not None:
            self._to_recall = True
            self._unseen.append(iter(worker.members))
            self._news.set()

    # ---- the loop ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failed = False
        while True:
            self._news.clear()
            try:
                await self._turn()
                failed = False
            except Exception as error:
                if not failed:
                    expected = isinstance(error, (SSEFastError, OSError))
                    logger.warning("presence: %s; it is tried again", error, exc_info=None if expected else error)
                failed = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._news.wait()

    async def _turn(self) -> None:
        living = [slot for slot in self._control.workers if slot != self._control.slot]
        for slot in self._workers.keys() - set(living):
            self._drop(slot)
        for slot in self._states.keys() - set(living):
            del self._states[slot]
        lacking = [slot for slot in living if (worker := self._workers.get(slot)) is None or worker.missed]
        said = await asyncio.gather(*map(self._hear, lacking))
        unread: Exception | None = None
        if self._to_recall and all(said) and time.monotonic() >= self._recall_from:
            # Only if all have said it, else those of who is silent would be taken for gone.
            try:
                await self._look_into_the_log()
            except (SSEFastError, OSError) as error:  # nothing else waits for it
                unread = error
                self._recall_from = time.monotonic() + PATIENCE
        await self._look_at_unseen()
        if not living:
            self._changed.clear()
        heard = True
        if living and not self._heard:
            heard = await self._tell()
        while living and self._changed:
            heard = await self._tell()
        await self._say_published()
        self._let_leave()
        oldest = all((worker.born, slot) > (self._born, self._control.slot) for slot, worker in self._workers.items())
        if (held_since := self._due(heard=heard, oldest=oldest)) is not None:
            await self._publish(held_since)
        if unread is not None:
            raise unread

    async def _hear(self, slot: int) -> bool:
        """False: it is silent, and who is there by it nobody knows."""
        try:
            await self._ask(slot)
        except (SSEFastError, LookupError, OSError) as error:  # it is asked again
            logger.debug("presence: worker %d does not say who is there: %s", slot, error)
            return isinstance(error, LookupError)  # it has not begun to serve, or is gone
        return True

    async def _look_into_the_log(self) -> None:
        """Who has joined there, and not left, was by a worker that is gone, unless somebody has them."""
        self._to_recall = False
        joined = self._joined = {}
        try:
            async for piece in self._recall():
                for channel, user, what in piece:
                    if what == JOIN:
                        joined[channel, user] = None
                    else:
                        joined.pop((channel, user), None)
            while joined:
                for member in list(islice(joined, AT_ONCE)):
                    del joined[member]
                    channel, user = member
                    known = member in self._unpublished or user in self._present.get(channel, {})
                    if not known and self.is_kept(channel):
                        self._present.setdefault(channel, {})[user] = time.time()
                        self._look_at(member)
                await asyncio.sleep(0)
        except BaseException:
            self._to_recall = True
            raise

    async def _tell(self) -> bool:
        """Whether anybody has heard it, or nobody else serves."""
        changed = dict(islice(self._changed.items(), AT_ONCE))
        for member in changed:
            del self._changed[member]
        self._number += 1
        answers = await self._control.ask_all(
            CHANGED,
            by=self._control.slot,
            pid=self._pid,
            born=self._born,
            number=self._number,
            here=[member for member, here in changed.items() if here],
            gone=[member for member, here in changed.items() if not here],
        )
        self._heard = not answers.silent  # who was not there hears by the next number that it has missed one
        return self._heard or len(answers.told) > 1

    def _let_leave(self) -> None:
        now = time.monotonic()
        for member, due in list(islice(self._leaving.items(), AT_ONCE)):
            if due > now:
                return
            self._remove(member)
            self._hold(member, LEAVE)
        if self._leaving:
            self._news.set()

    def _due(self, *, heard: bool, oldest: bool) -> float | None:
        """What has waited since when is for this worker to publish; None: nothing is."""
        return time.monotonic() - (0 if oldest else PATIENCE) if heard else None

    async def _publish(self, held_since: float) -> None:
        """What has waited since then, or longer."""
        while waiting := [
            (member, held) for member, held in islice(self._unpublished.items(), AT_ONCE) if held.since <= held_since
        ]:
            await self._append([event_of(member, held.what) for member, held in waiting])
            await self._be_published(waiting)

    async def _be_published(self, waiting: list[tuple[Member, Unpublished]]) -> None:
        for member, held in waiting:
            if self._unpublished.get(member) is held:
                del self._unpublished[member]
        for worker in self._workers.values():
            worker.owed.update((member, held.what) for member, held in waiting)
        await self._say_published()
        await asyncio.sleep(0)

    async def _say_published(self) -> None:
        """To those who have not heard it."""
        await asyncio.gather(*(self._say_to(slot, worker) for slot, worker in self._workers.items() if worker.owed))

    async def _say_to(self, slot: int, worker: Worker) -> None:
        owed = dict(islice(worker.owed.items(), AT_ONCE))
        told = [(*member, what) for member, what in owed.items()]
        try:
            await self._control.ask(slot, PUBLISHED, by=self._control.slot, events=told)
        except (SSEFastError, LookupError, OSError) as error:  # it is told again
            logger.debug("presence: worker %d does not hear what was published: %s", slot, error)
            return
        for member, what in owed.items():
            if worker.owed.get(member) == what:
                del worker.owed[member]


def size_of(member: Member) -> int:
    """Bytes that it takes among others, in JSON."""
    return len(orjson.dumps(member)) + 32


def event_of(member: Member, what: str) -> Encoded:
    channel, user = member
    return channel_name(PREFIX + channel), encode(orjson.dumps({"channel": channel, "user": user}), event=what)
