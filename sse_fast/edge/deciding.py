"""What is decided about a request that came by ASGI, and noted of it."""

from sse_fast.asgi import Scope
from sse_fast.edge.operations import OPERATOR
from sse_fast.edge.sources import Sources
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Ask, Decision, Elsewhere, Publish, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request
from sse_fast.transports.asgi import PEER, client_address
from sse_fast.transports.asking import found_out, tried
from sse_fast.transports.behind import IS_LOCAL
from sse_fast.transports.life import Transport
from sse_fast.transports.streams import Streams


class Deciding:
    """By one policy. The scope tells from there on who the client is; of the request nothing else stays."""

    def __init__(self, streams: Streams, policy: Policy, sources: Sources) -> None:
        self.policy = policy
        self._streams, self._sources = streams, sources

    def decided(self, scope: Scope) -> Decision | Ask:
        """What is to be done."""
        request = Request.from_scope(scope, self.policy.read)
        peer = scope[PEER] = scope.get("client")
        if self.policy.proxies is not None:
            address = peer[0] if peer else ""
            if (client := self.policy.client_of(request, address)) != address:
                scope["client"] = (client, 0)
        client = client_address(scope)
        decision = decide(request, self.policy, self._streams.found_of(client))
        decision = tried(decision, request, self.policy, client, self._streams)
        return decision if isinstance(decision, Ask) else self._looked_at(decision, scope, request)

    def decided_of_an_operator(self, scope: Scope) -> Decision | Ask:
        """What is to be done for who asks at the port of operations."""
        request = Request.from_scope(scope, self.policy.read)
        scope[PEER] = scope.get("client")
        decision = decide(request, self.policy)
        return decision if isinstance(decision, Ask) else self._looked_at(decision, scope, request)

    async def found_out(self, ask: Ask, scope: Scope) -> Decision:
        """What is to be done, once that is known of which it depends."""
        request = Request.from_scope(scope, self.policy.read)
        client = client_address(scope)
        decision = await found_out(ask, request, self.policy, client, self._streams, self._sources.find_out)
        return self._looked_at(decision, scope, request)

    def note(self, answer: Answer, scope: Scope, asked: Request | Publish) -> None:
        """Count and log an answer that refuses somebody."""
        self._streams.refusals.note(answer.refused, client_address(scope), Transport.ASGI, asked, answer.detail)

    def _looked_at(self, decision: Decision, scope: Scope, request: Request) -> Decision:
        """The decision, or what becomes of it for who comes from there. Who is refused is noted."""
        decision = self._seen_from_there(decision, scope, request)
        if self._streams.guesses is not None:
            decision = self._streams.guesses.decided(decision, client_address(scope))
        if isinstance(decision, Answer):
            self.note(decision, scope, request)
        return decision

    def _seen_from_there(self, decision: Decision, scope: Scope, request: Request) -> Decision:
        """What it becomes if it is for this machine's own requests only, and this is none."""
        if isinstance(decision, Publish) or (
            isinstance(decision, Answer | Subscribe) and decision.from_outside is None
        ):
            return decision
        local = scope.get(IS_LOCAL)  # a relay knows better
        if local is None:
            local = self.policy.is_local(request, (scope[PEER] or ("",))[0])
        if isinstance(decision, Elsewhere):
            scope[OPERATOR] = local or decision.grants.operations
        return decision if local or decision.from_outside is None else decision.from_outside
