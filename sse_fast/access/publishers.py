"""Publish keys, and whose pages may publish by nothing that they know: where no key is asked for, or by a cookie."""

import hmac
from collections.abc import Collection

from sse_fast.access.changes import Changes
from sse_fast.access.grants import Grants
from sse_fast.access.origins import Listed
from sse_fast.access.patterns import EVERYTHING
from sse_fast.access.publish_keys import PublishKeys
from sse_fast.errors import ForeignOrigin

WITH_THE_KEY = Grants(publish=EVERYTHING, credential="publish-key")


def of_a_key(grants: Grants) -> bool:
    """Whether they are somebody's who came with a publish key."""
    credential = grants.credential
    return credential is not None and (credential == WITH_THE_KEY.credential or credential.startswith("key:"))


class Publishers:
    """`key`: for all channels. `keys`: those of a file, each for its own; None: there is no such file. `origins`: whose
    pages may publish beside ours; `foreign_pages`: all others too, where nothing is asked for."""

    def __init__(
        self,
        key: str | None = None,
        *,
        keys: PublishKeys | None = None,
        origins: Collection[str] = (),
        foreign_pages: bool = False,
    ) -> None:
        self._key = key.encode() if key is not None else None
        self.keys = keys
        self._origins = Listed(origins)
        self.changes = Changes()
        """Of the keys."""
        self._foreign_pages = foreign_pages or "*" in self._origins

    def use(self, keys: PublishKeys) -> frozenset[bytes]:
        """These are the keys of the file from here on. Returns the digests of those whose streams end with that."""
        before, self.keys = self.keys, keys
        self.changes.happened()
        return before.lost_to(keys) if before is not None else frozenset()

    @property
    def keyed(self) -> bool:
        return self._key is not None or self.keys is not None

    def holder(self, given: str, now: float) -> Grants | None:
        """What the holder of this may; None: it is no publish key, or one whose time is over. `now`: seconds since
        1970. It is compared in constant time, or looked up by its digest."""
        if self._key is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._key):
            return WITH_THE_KEY
        granted = self.keys.find(given) if self.keys is not None else None
        return None if granted is not None and granted.until is not None and granted.until <= now else granted

    def refuse_foreign(self, origin: str | None, own: bool) -> None:
        """Raise ForeignOrigin for a page that may not publish without a credential. `own`: it is of this server.

        "Open to this machine" must not mean "open to every page that is looked at on this machine": a browser sends the
        page's origin, and it must be a listed one or ours. Ours has a loopback name: a stranger's name can be made to
        resolve to this machine too (DNS rebinding).
        """
        if not (origin is None or own or self._foreign_pages or origin in self._origins):
            raise ForeignOrigin(
                f"pages of {str(origin)[:100]} may not publish here; list it in cors_origins, or set a publish_key"
            )

    def refuse_forged(self, origin: str | None, own: bool) -> None:
        """Raise ForeignOrigin for a page that may not publish by a cookie, which a browser sends for any page (CSRF):
        all but ours, of the name that the cookie is for, and listed ones. `own`: it is one of ours."""
        if origin is None:
            raise ForeignOrigin(
                "what publishes by a cookie says whose page it is, in the header Origin; a program sends "
                "'Authorization: Bearer TOKEN'"
            )
        if not own and origin not in self._origins:
            raise ForeignOrigin(
                f"pages of {origin[:100]} may not publish here by a cookie; list it in cors_origins, and let a proxy "
                "that takes TLS off say so by X-Forwarded-Proto"
            )
