"""What the webhook is asked about a stream, and what its word adds to grants."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sse_fast.access.asking import HookAsked, HookSaid
from sse_fast.access.grants import Grants
from sse_fast.errors import Forbidden, Unauthorized


def question_of(
    headers: Mapping[bytes, bytes],
    told: Iterable[bytes],
    grants: Grants,
    channels: tuple[str, ...],
    patterns: tuple[str, ...],
) -> HookAsked:
    """About what these grants have not. told: the names of the headers that it gets to see. What they hold may be a
    credential, or the same for all visitors: who somebody is by them, only the webhook can say."""
    shown = tuple((name, headers[name]) for name in told if name in headers)
    return HookAsked(grants.credential, channels, patterns, grants.user, shown)


def with_hook(grants: Grants, asked: HookAsked, said: HookSaid, now: float) -> Grants:
    """What somebody is who has these grants, and about whom that was said. `now`: seconds since 1970. Raises
    Unauthorized or Forbidden, if it refuses, or if what it grants is over."""
    if said.status == 401:
        raise Unauthorized(said.detail)
    if said.status != 200:
        raise Forbidden(said.detail, next(iter((*asked.channels, *asked.patterns)), None))
    if said.until is not None and said.until <= now:
        raise Unauthorized("what the webhook grants is over already")
    ends = [each for each in (grants.until, said.until) if each is not None]
    return replace(
        grants,
        user=said.user if said.user is not None else grants.user,
        until=min(ends, default=None),
        credential=asked.credential or (None if said.user is None else credential_of(said.user)),
    )


def credential_of(user: str) -> str:
    """What somebody counts under who has shown no credential that is known here, but whom the webhook knows."""
    return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8, person=b"user").hexdigest()
