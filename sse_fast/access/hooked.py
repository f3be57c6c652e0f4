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
    """About what these grants have not. told: the names of the headers that it gets to see. What they hold is as good
    as a credential, and goes by a digest where there is no other."""
    shown = tuple((name, headers[name]) for name in told if name in headers)
    credential = grants.credential
    if credential is None and shown:
        credential = hashlib.blake2b(repr(shown).encode(), digest_size=8).hexdigest()
    return HookAsked(credential, channels, patterns, grants.user, shown)


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
        credential=asked.credential,
    )
