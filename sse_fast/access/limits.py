"""How many streams may be open. Every transport asks here; no transport counts by itself."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from sse_fast.access.addresses import one_client
from sse_fast.access.namespaces import NO_NAMESPACES, Namespaces
from sse_fast.access.patterns import has_wildcard
from sse_fast.errors import Overloaded

LIMITS = (
    "max_connections",
    "max_connections_per_ip",
    "max_connections_per_channel",
    "max_connections_per_token",
    "descriptors",
    "max_subscriptions",
    "max_patterns",
    "rate_open",
    "rate_replay",
)
"""What a stream may be refused for: the keys of `Admission.refused`, in the counters too."""


class Tally(Protocol):
    """The streams that are open on the node, in all and for each of many keys. `enter…` counts one in and returns how
    many there are with it; Overloaded: there is no room for another key."""

    def enter(self) -> int: ...
    def leave(self) -> None: ...
    def enter_from(self, key: str) -> int: ...
    def leave_from(self, key: str) -> None: ...


class Counted(NamedTuple):
    """What a stream counts under, beside all: its client's address, its channels, and its patterns by their own text,
    and the credential that was shown; and the user who is there by it, in those channels whose presence is kept."""

    address: str
    channels: tuple[str, ...] = ()
    credential: str | None = None
    user: str = ""
    shown_in: tuple[str, ...] = ()


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
    """Counts open streams, in all and per client address (`one_client`), channel and credential.

    `None` for a limit is no limit. `tally` counts for the whole node, if that is more than this process; then
    `most_here` bounds what this process takes. What one of `namespaces` says of its channels holds in place of
    `max_connections_per_channel`.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        max_connections_per_channel: int | None = None,
        max_connections_per_token: int | None = None,
        most_here: int | None = None,
        tally: Tally | None = None,
        namespaces: Namespaces = NO_NAMESPACES,
    ) -> None:
        self._max_connections = max_connections
        self._most_here = most_here
        self._max_per_address = max_connections_per_ip
        self._max_per_channel = max_connections_per_channel
        self._max_per_token = max_connections_per_token
        self._namespaces = namespaces
        self._by_channel = max_connections_per_channel is not None or namespaces.limit_streams
        self._has_keys = self._by_channel or (max_connections_per_ip, max_connections_per_token) != (None, None)
        self._tally = tally if tally is not None else Alone()
        self.connections = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()

    def counted(self, address: str, channels: tuple[str, ...] = (), credential: str | None = None) -> str | Counted:
        """What `enter` and `leave` are to be given for such a stream: no more than what it counts under."""
        if not self._by_channel and self._max_per_token is None:
            return address
        return Counted(address, channels, credential)

    def enter(self, counted: str | Counted) -> None:
        """Count a stream in. Raises Overloaded, or what the tally raises: it is not counted then; else `leave` is owed.

        Counted in first and looked at then: of two workers that let somebody in at once, each sees the other one's.
        """
        tally = self._tally
        total = tally.enter()
        if self._max_connections is not None and total > self._max_connections:
            tally.leave()
            self.refused["max_connections"] += 1
            raise Overloaded(
                f"all {self._max_connections} streams that this server allows are in use", "max_connections"
            )
        if self._most_here is not None and self.connections >= self._most_here:
            tally.leave()
            self.refused["max_connections"] += 1
            raise Overloaded(
                f"all {self._most_here} streams that one worker has descriptors for are in use", "max_connections"
            )
        if self._has_keys:
            try:
                self._enter_keys(counted)
            except BaseException:
                tally.leave()
                raise
        self.connections += 1
        self.accepted += 1

    def _enter_keys(self, counted: str | Counted) -> None:
        entered: list[str] = []
        try:
            for limit, key, most in self._keys_of(counted):
                total = self._tally.enter_from(key)
                entered.append(key)
                if total > most:
                    self.refused[limit] += 1
                    raise Overloaded(FULL[limit].format(key, most), limit)
        except BaseException:
            for key in entered:
                self._tally.leave_from(key)
            raise

    def leave(self, counted: str | Counted) -> None:
        """Count a stream out."""
        self.connections -= 1
        self._tally.leave()
        if self._has_keys:
            for _, key, _ in self._keys_of(counted):
                self._tally.leave_from(key)

    def _keys_of(self, counted: str | Counted) -> Iterator[tuple[str, str, int]]:
        """Limits, each with what it counts and how many streams that may have. Each key once: a stream names no channel
        twice."""
        if isinstance(counted, str):
            counted = Counted(counted)
        if self._max_per_address is not None:
            yield "max_connections_per_ip", one_client(counted.address), self._max_per_address
        if self._max_per_token is not None and counted.credential is not None:
            yield "max_connections_per_token", f"credential {counted.credential}", self._max_per_token
        if self._by_channel:
            for channel in counted.channels:
                ruled = None if has_wildcard(channel) else self._namespaces.most_streams(channel)
                most = ruled or self._max_per_channel
                if most is not None:
                    yield "max_connections_per_channel", f"channel {channel}", most


FULL = {
    "max_connections_per_ip": "{} has all {} streams open that one address may have",
    "max_connections_per_token": "this credential has all {1} streams open that one may have",
    "max_connections_per_channel": "{} has all {} streams that one channel may have",
}


def address_of_counted(counted: str | Counted) -> str:
    """The client's address."""
    return counted if isinstance(counted, str) else counted.address
