"""What was decided about heads with a credential in them, by a digest of them: nobody's credential stays in memory for
it."""

import os
from collections.abc import Callable

from sse_fast._native.base.siphash import siphash
from sse_fast.protocol.decision import Subscribe
from sse_fast.protocol.request import Request
from sse_fast.transports.head import Head, Known

REMEMBERED_BYTES, REMEMBERED = 2048, 1024  # of a head, and how many: of two kilobytes each
START = b"GET "
NEEDED = frozenset((b"x-forwarded-for",))  # of headers, when the stream is opened: who asks
FOREVER = float("inf")
NOTHING: tuple[float, Known | None] = (0.0, None)


class RememberedCredentials:
    """Streams whose grants have a credential. One holds until it ends by the clock `now`, in seconds since 1970; where
    keys change, `forget`."""

    def __init__(self, now: Callable[[], float], most: int = REMEMBERED) -> None:
        self._now, self._most = now, most
        self._key = os.urandom(16)
        self._known: dict[bytes, tuple[float, Known]] = {}
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def forget(self) -> None:
        self._known.clear()

    def get(self, data: bytes) -> Known | None:
        if not self._known or len(data) > REMEMBERED_BYTES or not data.startswith(START):
            return None
        digest = siphash(self._key, data)
        until, known = self._known.get(digest, NOTHING)
        if known is not None and self._now() >= until:
            del self._known[digest]
            return None
        self.hits += known is not None
        return known

    def keep(self, data: bytes, known: Known) -> None:
        """`data`: the head, as it came. Not one that resumes: with the same credential nobody says the same again;
        nor one for which its other headers count when it is carried out."""
        decision = known.decision
        if (
            isinstance(decision, Subscribe)
            and decision.grants.credential
            and decision.last_event_id is None
            and decision.from_outside is None
            and len(data) <= REMEMBERED_BYTES
        ):
            if len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            until = decision.grants.until
            kept = FOREVER if until is None else until, without_secrets(known)
            self._known[siphash(self._key, data)] = kept


def without_secrets(known: Known) -> Known:
    """As much of a stream's request as is needed for opening it."""
    head, request, decision = known
    plain = Head()
    plain.method, plain.minor, plain.keep_alive = head.method, head.minor, head.keep_alive
    headers = {name: value for name, value in request.headers.items() if name in NEEDED}
    return Known(plain, Request(request.method, request.path, headers=headers, version=request.version), decision)
