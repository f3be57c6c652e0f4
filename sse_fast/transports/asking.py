"""What cannot be decided at once: it is found out, and decided again. Each transport waits in its own way."""

from collections.abc import Awaitable, Callable

from sse_fast.access.asking import Found
from sse_fast.errors import Undecided
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Ask, Decision
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request

FindOut = Callable[[Ask, str], Awaitable[Found]]
"""What is asked, and the client's address -> what was found out, in bounded time. Raises Undecided."""

TIMES = 3  # a key, a webhook's word, and one more


async def decided_at_last(
    ask: Ask, request: Request, policy: Policy, client: str, find_out: FindOut | None
) -> Decision:
    """Raises Undecided."""
    for _ in range(TIMES):
        if find_out is None:
            break
        decision = decide(request, policy, await find_out(ask, client))
        if not isinstance(decision, Ask):
            return decision
        ask = decision
    raise Undecided("whether this may be cannot be found out here")
