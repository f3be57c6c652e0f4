"""The kernel's memory that waits for clients, of one worker and of all: looked at, and taken back past a bound."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from sse_fast._native.fanout.drain import FanOut
from sse_fast.hub.peers import Peers

logger = logging.getLogger("sse_fast.hub")

SHED_AT_ONCE = 256
LOOK_ELSEWHERE = 5.0  # seconds, where nobody is blocked and nothing waited at the last look


class HeldElsewhere(NamedTuple):
    """Bytes of kernel memory that wait for clients of connections that the fan-out does not know."""

    for_streams: int = 0
    for_answers: int = 0
    unread: Sequence[tuple[str, int, int]] = ()
    """Of those with no stream, whose clients take nothing: IP address, port, bytes."""


class SendMemory:
    """What waits for the clients of a hub. `most`: bytes that may, over all workers; None: nobody is ended for it."""

    def __init__(self, most: int | None, fanout: FanOut, peers: Peers | None) -> None:
        self.most = most
        self.held = 0  # bytes of kernel memory that wait for clients, when last looked at
        self.looked_at = 0.0  # the loop's time
        self.elsewhere: Callable[[], Awaitable[HeldElsewhere]] | None = None
        self.reset_elsewhere: Callable[[tuple[str, int | str]], None] | None = None
        """Ends a connection that the fan-out does not know."""
        self._fanout = fanout
        self._peers = peers
        self._look_elsewhere = 0.0
        self._streams_were_over = False

    async def look(self) -> None:
        """What the kernel holds for clients now; past `most` some of them lose their connection.

        First those who read no answer; of what streams alone hold too much each worker gives back its share."""
        elsewhere = await self._elsewhere()
        others = self._peers
        streams = self._fanout.held + elsewhere.for_streams
        held = streams + elsewhere.for_answers
        if self.most is not None:
            over = held + (others.held_by_others if others is not None else 0) - self.most
            if over > 0:
                held -= self._reset(elsewhere.unread, over)
            of_all = streams + (others.held_for_streams_by_others if others is not None else 0)
            over = of_all - self.most
            if over > 0:
                given = await self._shed(-(-over * streams // of_all))
                held, streams = held - given, streams - given
            self._streams_were_over = over > 0
        self.looked_at = asyncio.get_running_loop().time()
        self.held = held
        if others is not None:
            others.hold(held, streams)

    async def _elsewhere(self) -> HeldElsewhere:
        now = asyncio.get_running_loop().time()
        if self.elsewhere is None or (not self._fanout.blocked and now < self._look_elsewhere):
            return HeldElsewhere()
        found = await self.elsewhere()
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
        since = math.inf if self._streams_were_over else self.looked_at
        left, ended = owed, 0
        while left:
            now = asyncio.get_running_loop().time()
            was = left
            left, went = self._fanout.shed(left, SHED_AT_ONCE, now, since)
            ended += went
            if left == was:
                break
            await asyncio.sleep(0)
        if ended:
            logger.warning("send_memory is used up: streams are ended", extra={"streams": ended})
        return owed - left
