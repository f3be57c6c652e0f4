"""What a token's claims grant: `sse`, ours; else `x-ably-capability`, which is Ably's; or `caps`, Centrifugo's."""

import json
from collections.abc import Mapping
from functools import lru_cache

from sse_fast.access.grants import Grants
from sse_fast.access.patterns import Patterns
from sse_fast.errors import InvalidPattern
from sse_fast.event_rules import brief, kind_of

SSE = ("subscribe", "publish", "history", "operations")
ABLY = "x-ably-capability"
FEW = 8  # patterns of a token, as most have them
_remembered = lru_cache(maxsize=1024)(Patterns.of)  # the tokens of an app grant much the same
NOT_SAID = object()
CLAIMLESS = Grants(claimless=True)


def patterns_of(texts: tuple[str, ...]) -> Patterns:
    return _remembered(texts) if len(texts) <= FEW else Patterns.of(texts)


def claimed(claims: Mapping[str, object]) -> Grants:
    """subscribe, publish, history, operations. Raises InvalidPattern for a claim that cannot be understood: what
    somebody meant to grant must not become less in silence."""
    if (ours := claims.get("sse", NOT_SAID)) is not NOT_SAID:
        return _ours(ours)
    if (ably := claims.get(ABLY, NOT_SAID)) is not NOT_SAID:
        return _ably(ably)
    if (caps := claims.get("caps", NOT_SAID)) is not NOT_SAID:
        return _centrifugo(caps)
    return CLAIMLESS


def _ours(claim: object) -> Grants:
    """`{"subscribe": ["orders:*"], "publish": [], "history": true, "operations": false}`."""
    if not isinstance(claim, dict):
        raise InvalidPattern(f"the claim 'sse' is an object; this is {kind_of(claim)}")
    if unknown := sorted(set(claim) - set(SSE)):
        raise InvalidPattern(f"the claim 'sse' has {brief(unknown[0])}; it takes {', '.join(map(repr, SSE))}")
    history, operations = claim.get("history", True), claim.get("operations", False)
    for name, value in (("history", history), ("operations", operations)):
        if not isinstance(value, bool):
            raise InvalidPattern(f"{name!r} in the claim 'sse' is true or false; this is {kind_of(value)}")
    return Grants(_listed(claim, "subscribe"), _listed(claim, "publish"), history, operations)


def _listed(claim: Mapping[str, object], name: str) -> Patterns:
    given = claim.get(name, [])
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise InvalidPattern(f"{name!r} in the claim 'sse' is an array of patterns")
    return patterns_of(tuple(given))


def _ably(claim: object) -> Grants:
    """JSON in a string: `{"orders:*": ["subscribe", "history"]}`. A `*` at the end is any rest there."""
    try:
        capability = json.loads(claim) if isinstance(claim, str) else claim
    except (ValueError, RecursionError):
        capability = None
    if not isinstance(capability, dict) or not all(_strings(operations) for operations in capability.values()):
        raise InvalidPattern(f'the claim {ABLY!r} is JSON such as {{"orders:*": ["subscribe"]}}')

    def granted(operation: str) -> list[str]:
        return [
            resource
            for resource, may in capability.items()
            if (operation in may or "*" in may) and not resource.startswith("[")  # queues, and what is about channels
        ]

    subscribe = granted("subscribe")
    return Grants(
        patterns_of(tuple(map(_any_rest, subscribe))),
        patterns_of(tuple(map(_any_rest, granted("publish")))),
        history=set(subscribe) <= set(granted("history")),
    )


def _any_rest(resource: str) -> str:
    return f"{resource}*" if resource == "*" or resource.endswith(":*") else resource


def _centrifugo(claim: object) -> Grants:
    """`[{"channels": ["news"], "allow": ["sub", "pub", "hst"]}]`, of channels by name."""
    if not isinstance(claim, list) or not all(
        isinstance(each, dict) and _strings(each.get("channels")) and _strings(each.get("allow")) for each in claim
    ):
        raise InvalidPattern('the claim \'caps\' is an array such as [{"channels": ["news"], "allow": ["sub"]}]')
    for each in claim:
        if each.get("match", "") != "" or any("*" in channel for channel in each["channels"]):
            raise InvalidPattern(
                "the claim 'caps' is taken with channels by name, without 'match'; use the claim 'sse'"
            )

    def granted(operation: str) -> tuple[str, ...]:
        return tuple(channel for each in claim if operation in each["allow"] for channel in each["channels"])

    subscribe = granted("sub")
    return Grants(patterns_of(subscribe), patterns_of(granted("pub")), history=set(subscribe) <= set(granted("hst")))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
