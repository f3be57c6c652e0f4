"""How many streams may be open. Every transport asks here; no transport counts by itself."""

from collections import Counter
from typing import Protocol

from sse_fast.access.addresses import one_client
from sse_fast.errors import Overloaded

LIMITS = ("max_connections", "max_connections_per_ip", "descriptors", "max_subscriptions")
"""What a stream may be refused for: the keys of `Admission.refused`, in the counters too."""


class Tally(Protocol):
    """The streams that are open on the node. `enter…` counts one in and returns how many there are with it."""

    def enter(self) -> int: ...
    def leave(self) -> None: ...
    def enter_from(self, address: str) -> int: ...
    def leave_from(self, address: str) -> None: ...


class Alone:
    """The tally of a process that is the whole node."""

    def __init__(self) -> None:
        self.streams = 0
        self.by_address: Counter[str] = Counter()

    def enter(self) -> int:
        self.streams += 1
        return self.streams

    def leave(self) -> None:
        self.streams -= 1

    def enter_from(self, address: str) -> int:
        self.by_address[address] += 1
        return self.by_address[address]

    def leave_from(self, address: str) -> None:
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


class Admission:
    """Counts open streams, in all and per client address (`one_client`).

    `None` for a limit is no limit. `tally` counts for the whole node, if that is more than this process; then
    `most_here` bounds what this process takes.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        most_here: int | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._most_here = most_here
        self._max_per_address = max_connections_per_ip
        self._tally = tally if tally is not None else Alone()
        self.connections = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """Count a stream in. Raises Overloaded, or what the tally raises: it is not counted then; else `leave` is owed.

        Counted in first and looked at then: of two workers that let somebody in at once, each sees the other one's.
        """
        tally = self._tally
        total = tally.enter()
        if self._max_connections is not None and total > self._max_connections:
            tally.leave()
            self.refused["max_connections"] += 1
            raise Overloaded(f"all {self._max_connections} streams that this server allows are in use")
        if self._most_here is not None and self.connections >= self._most_here:
            tally.leave()
            self.refused["max_connections"] += 1
            raise Overloaded(f"all {self._most_here} streams that one worker has descriptors for are in use")
        if self._max_per_address is not None:
            address = one_client(address)
            try:
                total = tally.enter_from(address)
            except BaseException:
                tally.leave()
                raise
            if total > self._max_per_address:
                tally.leave_from(address)
                tally.leave()
                self.refused["max_connections_per_ip"] += 1
                raise Overloaded(f"{address} has all {self._max_per_address} streams open that one address may have")
        self.connections += 1
        self.accepted += 1

    def leave(self, address: str) -> None:
        """Count a stream out."""
        self.connections -= 1
        self._tally.leave()
        if self._max_per_address is not None:
            self._tally.leave_from(one_client(address))
