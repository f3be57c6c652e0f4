"""What each address has of the connections to the app server, so that none has them all.

What it keeps: how many exchanges of an address are counted, and in their order those that wait until it has fewer.
What it drops: an address with the last of its exchanges.
Who is told: nobody; see `relay`.
"""

from collections import Counter
from typing import Generic, Protocol, TypeVar


class Asking(Protocol):
    """An exchange. `address`: whose it is; "": of many, and not counted. `own`: see `Relay.begin`."""

    address: str
    counted: bool
    own: bool


Exchange = TypeVar("Exchange", bound=Asking)


class Parts(Generic[Exchange]):
    """Parts(most, own): an address may have `most` exchanges at once, and of the server's own so many as make it `own`
    in all."""

    def __init__(self, most: int, own: int) -> None:
        self.waiting = 0
        """Exchanges that wait until their address has fewer."""
        self._most, self._own = most, own
        self._counted: Counter[str] = Counter()
        self._waiting: dict[tuple[str, bool], dict[Exchange, None]] = {}

    def enter(self, exchange: Exchange) -> bool:
        """Count it, unless its address has its part already: False."""
        if exchange.address:
            if self._counted[exchange.address] >= (self._own if exchange.own else self._most):
                return False
            self._counted[exchange.address] += 1
            exchange.counted = True
        return True

    def waiting_with(self, exchange: Exchange) -> int:
        """Exchanges of its address and kind that wait."""
        return len(self._waiting.get((exchange.address, exchange.own), ()))

    def wait(self, exchange: Exchange) -> None:
        """Until `leave` returns it."""
        self._waiting.setdefault((exchange.address, exchange.own), {})[exchange] = None
        self.waiting += 1

    def leave(self, exchange: Exchange) -> Exchange | None:
        """It is over. One of its address that waited is counted in its place, if there is one."""
        address = exchange.address
        if not exchange.counted:
            self._wait_no_more(exchange)
            return None
        exchange.counted = False
        self._counted[address] -= 1
        for own in (True, False) if self.waiting else ():
            queue = self._waiting.get((address, own))
            if queue and self.enter(first := next(iter(queue))):
                self._wait_no_more(first)
                return first
        if not self._counted[address]:
            del self._counted[address]
        return None

    def clear(self) -> None:
        """Nobody waits."""
        self._waiting.clear()
        self.waiting = 0

    def _wait_no_more(self, exchange: Exchange) -> None:
        key = exchange.address, exchange.own
        queue = self._waiting.get(key)
        if queue is not None and exchange in queue:
            del queue[exchange]
            self.waiting -= 1
            if not queue:
                del self._waiting[key]
