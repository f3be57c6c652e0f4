"""What cannot be decided at once: it is found out, and decided again. Each transport waits in its own way."""

from collections.abc import Awaitable, Callable

from sse_fast.access.asking import Found, KeyAsked, TokenAsked
from sse_fast.errors import RateLimited, Undecided
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Ask, Decision, Subscribe, stream_headers
from sse_fast.protocol.native import is_stream, reads_json
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request, below
from sse_fast.transports.guesses import not_looked_at
from sse_fast.transports.streams import Streams

FindOut = Callable[[Ask, str], Awaitable[Found]]
"""What is asked, and the client's address -> what was found out, in bounded time. Raises Undecided."""

TIMES = 3  # a key, a webhook's word, and one more


REFUSED = ("unauthorized", "forbidden")


def tried(decision: Decision | Ask, request: Request, policy: Policy, client: str, streams: Streams) -> Decision | Ask:
    """What becomes of a decision that lets nobody in, at once or at all: asking for a stream, or for its head, counts
    as opening one, so that who tries is slowed down as who opens. Whose token is not looked at now is told when."""
    if isinstance(decision, Ask) and isinstance(decision.what, TokenAsked):
        return streams.undecided(not_looked_at(decision.what), decision)._replace(refused="unauthorized")
    if streams.rates is None:
        return decision
    if isinstance(decision, Answer) and (decision.refused in REFUSED or request.method == "HEAD"):
        ask = _refused_stream(request, policy)
    else:
        ask = decision if isinstance(decision, Ask) and decision.stream else None
    if ask is not None:
        try:
            streams.rates.asking(client)
        except RateLimited as error:
            return streams.undecided(error, ask)
    return decision


def _refused_stream(request: Request, policy: Policy) -> Ask | None:
    """As if it had yet to be decided. None: it is for something else. HEAD is no EventSource's."""
    path = below(request.path, policy.path)
    if path is None or not is_stream(path):
        return None
    origins = policy.origins
    readable = origins.headers_for(request.headers.get(b"origin")) if origins is not None else ()
    json = reads_json(request) or request.method == "HEAD"
    return Ask(KeyAsked(None), headers=stream_headers(readable), readable=readable, reads_json=json)


async def found_out(
    ask: Ask, request: Request, policy: Policy, client: str, streams: Streams, find_out: FindOut | None
) -> Decision:
    """What is decided in the end about what was `tried`."""
    try:
        decision = await decided_at_last(ask, request, policy, client, find_out)
    except (Undecided, RateLimited) as error:
        if streams.rates is not None and ask.stream:
            streams.rates.not_opened(client)
        return streams.undecided(error, ask)
    return decision._replace(asked=True) if isinstance(decision, Subscribe) else decision


async def decided_at_last(
    ask: Ask, request: Request, policy: Policy, client: str, find_out: FindOut | None
) -> Decision:
    """Raises Undecided or RateLimited."""
    for _ in range(TIMES):
        if find_out is None:
            break
        decision = decide(request, policy, await find_out(ask, client))
        if not isinstance(decision, Ask):
            return decision
        if isinstance(decision.what, TokenAsked):
            raise not_looked_at(decision.what)
        ask = decision
    raise Undecided("whether this may be cannot be found out here")
