"""What a worker of a node brings to its edge."""

from collections.abc import Callable
from typing import Protocol

from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.ring import Log
from sse_fast._native.node.buckets import Buckets
from sse_fast._native.node.slots import Slots
from sse_fast.access.limits import Tally
from sse_fast.hub.control import Control
from sse_fast.hub.peers import Peers


class OwnControl(Control, Protocol):
    """How this worker asks the others, and they it: `sse_fast.node.control` has it."""

    async def start(self) -> None:
        """Be there for the others. Again: nothing happens. Raises OSError."""

    def close(self) -> None:
        """Again: nothing happens."""


class WorkerSlot(Peers, Tally, Protocol):
    """The worker's place in a node of several, as the edge uses it: `sse_fast.node.workers` has it."""

    log: Log
    slots: Slots
    keys: KeyTable | None
    buckets: Buckets | None
    history: memoryview | None
    """Memory that all workers have, for `edge.history`."""

    def start(self, wake: Callable[[], None], say: Callable[[], None]) -> None:
        """From now on `wake` is called when there may be news in the log, and `say` to publish the counters."""

    def beat(self) -> None:
        """The loop of this worker turns, and it serves."""

    def wait(self) -> None:
        """The loop of this worker turns, and it waits for something that is not its own until it serves."""

    def close(self) -> None: ...
