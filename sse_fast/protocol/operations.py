"""Looking into the server, and changing what is there: which requests do, where they may be asked, and by whom.

By whose grants say so, from anywhere. Who is on this machine itself, see `access.local`, may look without; a change
takes more than what a proxy here can make of anybody, but for a port of operations. What a head shows of that is
decided here, and who carries a decision out looks where its connection is from.
"""

import re

from sse_fast.access.grants import Grants
from sse_fast.errors import Forbidden, InvalidEvent, Unauthorized
from sse_fast.protocol.decision import Answer, Decision, Elsewhere, Headers, Subscribe
from sse_fast.protocol.policy import Operations, Policy
from sse_fast.protocol.problem import problem, problem_of
from sse_fast.protocol.request import Request

ROUTES = re.compile(r"/(?:stats(?:/history)?|metrics|(?:channels|streams|presence)(?:/.*)?)", re.DOTALL)
DESCRIBING = ("/schema.json", "/openapi.json", "/openapi-3.1.json", "/asyncapi.json")
BESIDE = ("/", "/livez", "/readyz", "/healthz")  # the page, and whether the server is well: what anybody may ask for
STATS = "$stats"
LOOKING = (
    "{} is for who operates this server: ask on this machine, for the host localhost and by no proxy, or with a "
    "credential that grants operations"
)
CHANGING = (
    "this is for who operates this server: it takes a credential that grants operations, or --operations-port; to be "
    "on this machine is not enough"
)


def elsewhere(request: Request, policy: Policy, readable: Headers, grants: Grants) -> Decision:
    """Of a request that is for no stream and publishes nothing."""
    path = request.path
    operations = ROUTES.fullmatch(path) is not None or (policy.private_schema and path in DESCRIBING)
    if operations and policy.operations is Operations.APART:
        return nothing_at(request, readable, "it is at the port of operations" if grants.operations else "")
    if not operations and policy.operations is Operations.ALONE and path not in BESIDE:
        return nothing_at(request, readable, "this is the port of operations, and the public one has the rest")
    refused = None
    if operations and not grants.operations:
        if request.method == "DELETE" and policy.operations is not Operations.ALONE:
            return _refused(policy, grants, CHANGING, readable)
        refused = _refused(policy, grants, LOOKING.format("this"), readable)
    return Elsewhere(readable, operations=operations, grants=grants, from_outside=refused)


def of_stream(wanted: Subscribe, policy: Policy, allowed_only: bool = False) -> Decision:
    """Of one that was decided about but for `$stats`. `allowed_only`: what is not granted is left out. Raises
    InvalidEvent."""
    if policy.operations is Operations.ALONE and (wanted.channels != (STATS,) or wanted.patterns):
        raise InvalidEvent(f"this is the port of operations: it has the channel {STATS} and no others")
    if STATS not in wanted.channels:
        return wanted
    if policy.operations is Operations.APART:
        raise InvalidEvent(f"the channel {STATS} is at the port of operations, and not here")
    subscribe = wanted.grants.subscribe
    if wanted.grants.operations or (subscribe.matches(STATS) and not subscribe.everything):
        return wanted
    others = tuple(channel for channel in wanted.channels if channel != STATS)
    if allowed_only and (others or wanted.patterns):
        return wanted._replace(from_outside=wanted._replace(channels=others, left_out=(*wanted.left_out, STATS)))
    return wanted._replace(
        from_outside=_refused(policy, wanted.grants, LOOKING.format(f"the channel {STATS}"), wanted.readable)
    )


def nothing_at(request: Request, readable: Headers, where: str = "") -> Answer:
    """There is no such route."""
    root = request.root
    where = where or f"streams are under {root}/sse, publishing is POST {root}/publish/CHANNEL"
    return problem(404, f"there is nothing at {root}{request.path}; {where}", readable)


def _refused(policy: Policy, grants: Grants, sentence: str, readable: Headers) -> Answer:
    anonymous = policy.access.tokens is not None and grants.credential is None
    return problem_of(Unauthorized(sentence) if anonymous else Forbidden(sentence), readable)
