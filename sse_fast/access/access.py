"""Who may do what: the credentials of a request become its grants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sse_fast.access.asking import NOTHING_FOUND, Found
from sse_fast.access.grants import OPEN, Grants
from sse_fast.access.publishers import Publishers


@dataclass(frozen=True, slots=True)
class Access:
    """everybody: what needs no credential. publishers: the publish keys, and whose pages may publish without one."""

    everybody: Grants = OPEN
    publishers: Publishers = field(default_factory=Publishers)

    def grants_of(
        self, headers: Mapping[bytes, bytes], query: bytes, now: float, found: Found = NOTHING_FOUND
    ) -> Grants:
        """Of a request for a stream, or to look into the server. Raises Unauthorized for a credential that is none, and
        MustAsk."""
        return self.everybody

    def publishing(
        self, headers: Mapping[bytes, bytes], query: bytes, now: float, found: Found = NOTHING_FOUND
    ) -> Grants:
        """Of a request to publish. Raises Unauthorized, ForeignOrigin, and MustAsk."""
        return self.publishers.authorize(
            _text(headers, b"authorization"), origin=_text(headers, b"origin"), host=_text(headers, b"host")
        )


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return value.decode("latin-1") if value is not None else None
