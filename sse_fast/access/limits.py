"""Who may enter, and how many. Every transport asks here; no transport decides by itself."""

import hmac
import ipaddress
from collections import Counter
from collections.abc import Collection
from typing import Protocol
from urllib.parse import urlsplit

from sse_fast.errors import ForeignOrigin, Overloaded, Unauthorized


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
    """Counts open streams, in all and per client address, and checks the publish key.

    `None` for a limit is no limit. `tally` counts for the whole node, if that is more than this process; then
    `most_here` bounds what this process takes. Without a key anybody may publish; but pages of other origins only if
    they are of `origins`, or if `foreign_pages` says so.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        publish_key: str | None = None,
        origins: Collection[str] = (),
        foreign_pages: bool = False,
        most_here: int | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._most_here = most_here
        self._max_per_address = max_connections_per_ip
        self._key = publish_key.encode() if publish_key is not None else None
        self._origins = frozenset(origins)
        self._foreign_pages = foreign_pages or "*" in self._origins
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
            self._tally.leave_from(address)

    def authorize_publisher(
        self, authorization: str | None, *, origin: str | None = None, host: str | None = None
    ) -> None:
        """Check the headers of a publisher. Raises Unauthorized or ForeignOrigin.

        The key is compared in constant time. Where there is none, "open to this machine" must not mean "open to every
        page that is looked at on this machine": a browser sends the page's origin, and it must be a listed one or ours.
        Ours has a loopback name: a stranger's name can be made to resolve to this machine too (DNS rebinding).
        """
        if self._key is None:
            own = origin is None or (origin.partition("://")[2] == host and is_loopback(host))
            if not (own or self._foreign_pages or origin in self._origins):
                raise ForeignOrigin(
                    f"pages of {str(origin)[:100]} may not publish here; list it in cors_origins, or set a publish_key"
                )
            return
        if authorization is None:
            raise Unauthorized("publishing needs a key; send it as 'Authorization: Bearer KEY'")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            # The header is not shown: without a scheme it may be the key itself.
            raise Unauthorized("the key is sent as 'Authorization: Bearer KEY', not without or with another scheme")
        if not hmac.compare_digest(given.strip().encode(), self._key):
            raise Unauthorized("this is not the publish key of this server")


def is_loopback(host: str | None) -> bool:
    """Whether a Host header names this machine, and nothing that a stranger's DNS could."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:  # no host at all, or a name
        return False
