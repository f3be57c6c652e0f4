"""What somebody may by Mercure: a value."""

from dataclasses import dataclass, field
from typing import Any

from sse_fast.access.matchers import NO_MATCHERS, Matchers

V7, V8 = 7, 8
BOTH = frozenset((V7, V8))
EXACT_BYTES, TRIED_BYTES = 256, 32 * 1024  # of memory, about, of a topic, and of what topics are tried by


@dataclass(frozen=True, slots=True)
class MercureGrants:
    """publish, subscribe: on which topics; `subscribe` is of private updates. payloads: what is told of a subscription
    whose matcher is among these, the first that has it; None: of each. version: of the draft whose claims they are.
    audience: of draft 08, whom the token is for, and issuer, whose it is where its key does not say."""

    publish: Matchers = NO_MATCHERS
    subscribe: Matchers = NO_MATCHERS
    payloads: tuple[tuple[Matchers | None, Any], ...] = field(default=(), compare=False)
    version: int = V7
    audience: tuple[str, ...] = ()
    issuer: str | None = None

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about, beside its payloads."""
        tried = len(self.publish.others) + len(self.subscribe.others)
        return EXACT_BYTES * (len(self.publish.exact) + len(self.subscribe.exact)) + TRIED_BYTES * tried

    def payload_for(self, text: str) -> Any:
        """Of the subscription with this matcher; None: there is none."""
        return next(
            (payload for matchers, payload in self.payloads if matchers is None or matchers.matches(text)), None
        )
