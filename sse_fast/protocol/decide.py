"""What a request means, and whether it may: the one place that decides, whichever way the request came.

A value in, a value out; nothing is waited for, and nobody's counters are looked at. Each dialect is a function of this
kind; `native` is ours.
"""

from sse_fast.access.asking import NOTHING_FOUND, Found, MustAsk
from sse_fast.access.origins import is_preflight, readable_by
from sse_fast.errors import ForeignHost, ForeignOrigin, SSEFastError
from sse_fast.event_rules import brief
from sse_fast.protocol import mercure, native
from sse_fast.protocol.decision import Answer, Ask, Decision, Elsewhere, Headers, stream_headers
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.problem import problem_of
from sse_fast.protocol.request import Request, below

FOR_ANYBODY = ("/livez", "/readyz")
"""They say one word. Who asks, by whatever name, is mostly a proxy that wants to know where it may send clients."""


def decide(request: Request, policy: Policy, found: Found = NOTHING_FOUND) -> Decision | Ask:
    """`found`: what an `Ask` that was decided before has brought. Never raises, whatever bytes the request has. Every
    answer, and all that becomes one, says who may read it."""
    readable: Headers = ()
    path = request.path
    dialect = policy.mercure is not None and mercure.is_ours(path)
    if policy.path and not dialect:
        ours = below(path, policy.path)
        if ours is None:
            return Elsewhere(ours=False)
        path = ours
        request = request._replace(path=ours, root=policy.path)
    if policy.origins is not None:
        readable = policy.origins.headers_for(request.headers.get(b"origin"))
    if policy.hosts is not None and path not in FOR_ANYBODY and not policy.hosts.allow(request.headers.get(b"host")):
        return problem_of(_foreign_host(request), readable)
    if policy.origins is not None and is_preflight(request.method, request.headers):
        response = policy.origins.preflight(request.headers)
        return Answer(response.status_code, tuple(response.raw_headers), bytes(response.body))
    if dialect:
        return mercure.decide(request, policy, readable, found)
    try:
        if native.is_stream(path):
            return native.stream(request, policy, readable, found)
        if native.is_publish(path):
            return native.publish(request, policy, readable, found)
        return native.elsewhere(request, policy, readable, found)
    except ForeignOrigin as error:
        return problem_of(error, readable_by(request.headers.get(b"origin")))
    except SSEFastError as error:
        return problem_of(error, readable)
    except MustAsk as must:
        stream = native.is_stream(path)
        return Ask(must.what, found, stream, stream_headers(readable), readable, native.reads_json(request))


def _foreign_host(request: Request) -> ForeignHost:
    given = brief(request.header(b"host") or "")
    return ForeignHost(f"{given} is no name of this server; call it localhost, or list that name in allowed_hosts")
