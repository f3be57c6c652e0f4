"""Who may publish: clients that have the key; where there is no key, all but pages of other origins."""

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from sse_fast.access.grants import OPEN, Grants
from sse_fast.access.patterns import EVERYTHING
from sse_fast.errors import ForeignOrigin, Unauthorized

WITH_THE_KEY = Grants(EVERYTHING, EVERYTHING, credential="publish-key")


class Publishers:
    """Without a key anybody may publish; but pages of other origins only if they are of `origins`, or if
    `foreign_pages` says so."""

    def __init__(self, key: str | None = None, *, origins: Collection[str] = (), foreign_pages: bool = False) -> None:
        self._key = key.encode() if key is not None else None
        self._origins = frozenset(origins)
        self._foreign_pages = foreign_pages or "*" in self._origins

    def authorize(self, authorization: str | None, *, origin: str | None = None, host: str | None = None) -> Grants:
        """What the headers of a publisher give. Raises Unauthorized or ForeignOrigin.

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
            return OPEN
        if authorization is None:
            raise Unauthorized("publishing needs a key; send it as 'Authorization: Bearer KEY'")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            # The header is not shown: without a scheme it may be the key itself.
            raise Unauthorized("the key is sent as 'Authorization: Bearer KEY', not without or with another scheme")
        if not hmac.compare_digest(given.strip().encode(), self._key):
            raise Unauthorized("this is not the publish key of this server")
        return WITH_THE_KEY


def is_loopback(host: str | None) -> bool:
    """Whether a Host header names this machine, and nothing that a stranger's DNS could."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:  # no host at all, or a name
        return False
