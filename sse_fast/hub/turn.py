"""Which worker of a node reads the engine into the log that all of them share: one, from whom the others take it over
when it is gone, or has not been seen for a while. To take it over needs nothing of the one before: what that appends
when it goes on is refused (`_native.log.outside`)."""

import os
from contextlib import suppress

from sse_fast._native.log.outside import end_turn, keep_turn, reader_of, take_turn
from sse_fast._native.log.ring import Log
from sse_fast.errors import LogBusy
from sse_fast.hub.peers import Peers

HANGS = 2.0  # seconds without a sign of it, after which another worker reads


class Turn:
    """Turn(log, peers): of one worker. What raises LogBusy is to be called again."""

    def __init__(self, log: Log, peers: Peers) -> None:
        self._log, self._peers = log, peers
        self._suspect: tuple[int, float] | None = None

    def take(self) -> bool:
        """Whether it is this worker's from here on. To be called again and again; a reader that seems to hang is looked
        at twice, as a machine that was asleep gives nobody a sign. Raises LogBusy."""
        if keep_turn(self._log):
            return True
        turn, process, silent = reader_of(self._log)
        if process and process != os.getpid() and self._peers.is_there(process):
            before, self._suspect = self._suspect, (turn, silent)
            if silent < HANGS or before is None or before[0] != turn or not HANGS <= before[1] <= silent:
                return False
        self._suspect = None
        return take_turn(self._log, turn, os.getpid())

    def keep(self) -> bool:
        """Say that it is there. Whether it is this worker's still."""
        return keep_turn(self._log)

    def end(self) -> None:
        """Another one may take it at once."""
        with suppress(LogBusy):  # they see that it is gone
            end_turn(self._log)
