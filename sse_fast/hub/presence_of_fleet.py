"""Who is there, over all nodes of a fleet: each node says to the engine who comes to it and leaves it, and the engine,
in the same step, who joins and leaves the whole.

Within a node all is as without a fleet (`presence`): its workers agree who is there at any of them, and what they would
publish one of them says, the one that reads the engine. So streams that come and go while their user has others at this
node cost the engine nothing. What is said is numbered: where the engine has another number than this worker thinks (it
lost something, another worker went on, this node was taken for dead), all that it has of the node is read and compared.

A node says every SAY seconds that it is there. One that is not heard for LEASE seconds is dead: those that were there
at it alone leave, said by whichever node the engine asks to. While the engine is away nobody is taken for dead.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from sse_fast.cluster.presence import Change
from sse_fast.errors import InvalidEvent, SSEFastError
from sse_fast.event_rules import Encoded, channel_name
from sse_fast.hub.control import Control
from sse_fast.hub.engine import Members
from sse_fast.hub.presence import JOIN, LEAVE, PREFIX, Here, Member, Presence, event_of

logger = logging.getLogger("sse_fast.hub")

SAY = 2.0  # seconds
LEASE = 8.0  # seconds; another worker reads three after one that hangs
PIECE = 256  # members that are said, or read, at once
MOST_HELD = 65_536  # that wait to be said; more are found by comparing

T = TypeVar("T")


class FleetPresence(Presence):
    """FleetPresence(keeps, members, leads, node, control): in one worker of this node. `members`: the engine's, or what
    raises EngineUnavailable; `leads`: whether it is this worker that speaks for its node."""

    def __init__(
        self,
        keeps: Callable[[str], bool],
        members: Callable[[], Members],
        leads: Callable[[], bool],
        node: str,
        control: Control,
        *,
        grace: float = 5.0,
        pid: int | None = None,
    ) -> None:
        super().__init__(keeps, _nowhere, _nothing, control, grace=grace, pid=pid)
        self._members, self._leads, self._node = members, leads, node
        self._said: int | None = None
        self._led = False
        self._saying = asyncio.Lock()
        self._crowded = False
        self._beats: asyncio.Task[None] | None = None

    def start(self) -> None:
        super().start()
        if self._beats is None:
            self._beats = asyncio.get_running_loop().create_task(self._beat())

    def close(self) -> None:
        super().close()
        if self._beats is not None:
            self._beats.cancel()

    async def who(self, channel: str, limit: int, after: str = "") -> tuple[int, list[Here]]:
        total, users = await self._members().who(channel, after, limit)
        return total, [Here(*user) for user in users]

    # ---- speaking for the node ---------------------------------------------------------------------------------------

    def _due(self, *, heard: bool, oldest: bool) -> float | None:
        if not self._leads():
            self._led = False
            return None
        if not self._led:  # what the one before has said has to be read
            self._led, self._said, self._to_recall = True, None, True
            self._news.set()
        return float("inf")  # what nobody else here has heard the engine has

    async def _publish(self, held_since: float) -> None:
        while waiting := list(islice(self._unpublished.items(), PIECE)):
            changes = [Change(member, held.what == JOIN, event_of(member, held.what)) for member, held in waiting]
            if not await self._say(changes):
                return
            await self._be_published(waiting)

    async def _say(self, changes: list[Change]) -> bool:
        """False: there is something to be compared first."""
        members = self._members()
        async with self._saying:
            if self._said is None:
                self._said, _ = await members.at(self._node, None, 0)
            try:
                said = await members.say(self._node, self._said, LEASE, changes)
            except BaseException:
                self._said = None
                raise
            self._said = said.number if said is not None else None
        if said is None:
            self._to_recall = True
            self._news.set()
            return False
        if said.full and not self._crowded:
            logger.warning("presence: as many users are there as the engine counts for all nodes; more are left out")
        self._crowded = said.full
        if said.dead is not None:
            await self._look_after(said.dead)
        return True

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(SAY)
            try:
                if self._leads():
                    await self._say([])
            except (SSEFastError, OSError):
                self._to_recall = True  # and who looks says what is wrong
            except Exception:
                logger.exception("presence: this node could not say that it is there; it tries again")

    async def _look_after(self, node: str) -> None:
        """Who was there at a node that is dead leaves."""
        members = self._members()
        after: Member | None = None
        while True:
            _, there = await members.at(node, after, PIECE)
            gone = [Change(member, False, event_of(member, LEAVE) if _is_one(member) else None) for member in there]
            if not await members.over(node, LEASE, gone) or len(there) < PIECE:
                return
            after = there[-1]

    # ---- comparing ---------------------------------------------------------------------------------------------------

    def _hold(self, member: Member, what: str) -> None:
        if len(self._unpublished) >= MOST_HELD:
            self._unpublished.clear()
            self._to_recall = True
        super()._hold(member, what)

    async def _look_into_the_log(self) -> None:
        """Compare what the engine has of this node with what this worker knows. Who is not here any more was there by a
        worker that is gone, and may come back."""
        self._to_recall = False
        if not self._leads():
            return
        try:
            told: set[Member] = set()
            async for piece in self._told():
                told.update(piece)
            for piece in pieces(told):
                for member in piece:
                    channel, user = member
                    if member not in self._unpublished and user not in self._present.get(channel, {}):
                        if self.is_kept(channel):
                            self._present.setdefault(channel, {})[user] = time.time()
                            self._look_at(member)
                        else:
                            self._hold(member, LEAVE)
                await asyncio.sleep(0)
            for name in tuple(self._present):
                for users in pieces(tuple(self._present.get(name, ()))):
                    for user in users:
                        member = name, user
                        if member not in told and member not in self._leaving and member not in self._unpublished:
                            self._hold(member, JOIN)
                    await asyncio.sleep(0)
        except BaseException:
            self._to_recall = True
            raise

    async def _told(self) -> AsyncIterator[list[Member]]:
        after: Member | None = None
        while True:
            _, piece = await self._members().at(self._node, after, PIECE)
            yield [member for member in piece if _is_one(member)]
            if len(piece) < PIECE:
                return
            after = piece[-1]


def _is_one(member: Member) -> bool:
    """And nothing that somebody else has put among them, who knows where."""
    channel, user = member
    try:
        return bool(channel and user and channel_name(PREFIX + channel))
    except InvalidEvent:
        return False


def pieces(members: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(members)
    while piece := list(islice(rest, PIECE)):
        yield piece


async def _nowhere(events: list[Encoded]) -> None:
    raise AssertionError("the engine appends them")


async def _nothing() -> AsyncIterator[Iterable[tuple[str, str, str]]]:
    return
    yield
