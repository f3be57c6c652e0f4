"""Who may enter, and how many. Every door asks here; no door decides by itself."""

import hmac
import ipaddress
from collections import Counter
from collections.abc import Collection
from urllib.parse import urlsplit

from sse_fast.errors import ForeignOrigin, Overloaded, Unauthorized


class Admission:
    """Counts open streams, in all and per client address, and checks the publish key.

    `None` for a limit is no limit. Without a key anybody may publish; but pages of other origins only if they are of
    `origins`, or if `foreign_pages` says so.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        publish_key: str | None = None,
        origins: Collection[str] = (),
        foreign_pages: bool = False,
    ) -> None:
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_ip
        self._key = publish_key.encode() if publish_key is not None else None
        self._origins = frozenset(origins)
        self._foreign_pages = foreign_pages or "*" in self._origins
        self._by_address: Counter[str] = Counter()
        self.connections = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """Count a stream in. Raises Overloaded, and then it is not counted; else `leave` is owed."""
        if self._max_connections is not None and self.connections >= self._max_connections:
            self.refused["max_connections"] += 1
            raise Overloaded(f"all {self._max_connections} streams that this server allows are in use")
        if self._max_per_address is not None:
            if self._by_address[address] >= self._max_per_address:
                self.refused["max_connections_per_ip"] += 1
                raise Overloaded(f"{address} has all {self._max_per_address} streams open that one address may have")
            self._by_address[address] += 1
        self.connections += 1
        self.accepted += 1

    def leave(self, address: str) -> None:
        """Count a stream out."""
        self.connections -= 1
        if self._max_per_address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

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
