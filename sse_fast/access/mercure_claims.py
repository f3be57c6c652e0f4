"""What a token's claims grant by Mercure: `authorization_details` (draft 08; RFC 9396), or `mercure`, also under the
name `https://mercure.rocks/` (draft 07)."""

from collections.abc import Iterator, Mapping
from typing import Any

from sse_fast.access.claims import claimed, patterns_of
from sse_fast.access.grants import Grants
from sse_fast.access.matchers import NOWHERE, Kind, Matcher, Matchers, matcher
from sse_fast.access.mercure_grants import BOTH, V7, V8, MercureGrants
from sse_fast.access.patterns import Patterns
from sse_fast.errors import BadToken, InvalidEvent, InvalidPattern
from sse_fast.event_rules import brief, channel_name, kind_of

DETAILS = "authorization_details"
DETAIL_TYPE = "https://mercure.rocks/authorization-detail"
OURS = "sse"
CLAIM, CLAIM_URL = "mercure", "https://mercure.rocks/"
MOST_DETAILS = 100
MOST_MATCHERS = 1000  # of a token
MOST_TRIED = 100  # of those that are not exact
TOKEN_TYPE = "at+jwt"  # RFC 9068, section 2.1


def mercure_claimed(
    claims: Mapping[str, object],
    kind: str | None,
    key_issuer: str | None = None,
    *,
    versions: frozenset[int] = BOTH,
    hub: str | None = None,
    audience: str | None = None,
    alone: bool = True,
) -> Grants:
    """kind: the token's `typ`. key_issuer: that of its key; None: it is anybody's. hub: its URL, if that is one for
    all. audience: that other tokens than those of draft 08 must be for. alone: the key is Mercure's own, and its tokens
    need not be for anybody in particular. Raises BadToken, or InvalidPattern.

    Which draft a token is of its claims say, and its type: one of draft 08 is held to all that RFC 9068 asks for. Our
    own claims are taken where the key is not Mercure's."""
    modern = DETAILS in claims or (_is_access_token(kind) and not _has_claim(claims) and OURS not in claims)
    if V8 in versions and (modern or (V7 not in versions and (alone or _has_claim(claims)))):
        granted = _modern(claims, kind, key_issuer, hub or NOWHERE)
        if hub is None or hub not in granted.audience:  # whoever knows the hub's URL looks whether it is for that
            return Grants(mercure=granted)
    else:
        _refuse_audience(claims, audience, alone)
        if V7 not in versions or not _has_claim(claims):
            return claimed(claims)
        granted = _earlier(claims, hub or NOWHERE)
    return Grants(_names(granted.subscribe), _names(granted.publish), mercure=granted)


def _names(matchers: Matchers) -> Patterns:
    """What of these our own patterns can say: the topics that are names of channels as they stand, and all."""
    if matchers.everything:
        return patterns_of(("**",))
    return patterns_of(tuple(sorted(topic for topic in matchers.exact if "*" not in topic and is_channel(topic))))


def _refuse_audience(claims: Mapping[str, object], audience: str | None, alone: bool) -> None:
    """As PyJWT looks at it. Raises BadToken."""
    given = claims.get("aud")
    if audience is None and (alone or given is None):
        return
    if audience not in (given if isinstance(given, list) else [given]):
        raise BadToken("the token is for another audience")


def is_channel(topic: str) -> bool:
    """Whether it is a channel's name as it stands."""
    try:
        return bool(channel_name(topic))
    except InvalidEvent:
        return False


def _has_claim(claims: Mapping[str, object]) -> bool:
    return CLAIM in claims or CLAIM_URL in claims


def _is_access_token(kind: str | None) -> bool:
    """RFC 7515, section 4.1.9."""
    return kind is not None and kind.lower().removeprefix("application/") == TOKEN_TYPE


# ---- draft 08 --------------------------------------------------------------------------------------------------------


def _modern(claims: Mapping[str, object], kind: str | None, key_issuer: str | None, hub: str) -> MercureGrants:
    if not _is_access_token(kind):
        raise BadToken(f"the token's 'typ' is {TOKEN_TYPE!r}, that of access tokens (RFC 9068)")
    if claims.get("exp") is None:
        raise BadToken("the token has no 'exp'")
    given = claims.get("aud")
    audience = tuple(each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str))
    if not audience:
        raise BadToken("the token has no 'aud', the hub's resource identifier")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise BadToken("the token has no 'iss'")
    publish: list[Matcher] = []
    subscribe: list[Matcher] = []
    payloads: list[tuple[Matchers | None, Any]] = []
    for matchers, actions, payload in _details(claims.get(DETAILS, []), hub):
        if "publish" in actions:
            publish += matchers
        if "subscribe" in actions:
            subscribe += matchers
            if payload is not None:
                payloads.append((Matchers(matchers), payload))
    refuse_many([*publish, *subscribe])
    bound = issuer if key_issuer is None else None
    return MercureGrants(Matchers(publish), Matchers(subscribe), tuple(payloads), V8, audience, bound)


def _details(given: object, hub: str) -> Iterator[tuple[list[Matcher], list[str], Any]]:
    """Those of Mercure's type: matchers, actions, payload."""
    if not isinstance(given, list):
        raise BadToken(f"the claim {DETAILS!r} is an array of objects")
    found = 0
    for detail in given:
        if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
            raise BadToken(f"the claim {DETAILS!r} is an array of objects with a 'type'")
        if detail["type"] != DETAIL_TYPE:
            continue
        found += 1
        if found > MOST_DETAILS:
            raise BadToken(f"the token has more than {MOST_DETAILS} authorization details of Mercure")
        actions, topics, payload = detail.get("actions"), detail.get("topics"), detail.get("payload")
        if not isinstance(actions, list) or not actions or not all(isinstance(each, str) for each in actions):
            raise BadToken("'actions' of an authorization detail is an array of strings, and not empty")
        if not isinstance(topics, list) or not topics:
            raise BadToken("'topics' of an authorization detail is an array of topic matchers, and not empty")
        if len(topics) > MOST_MATCHERS:
            raise BadToken(f"the token has more than {MOST_MATCHERS} topic matchers")
        if not isinstance(payload, dict | None):
            raise BadToken(f"'payload' of an authorization detail is an object, not {kind_of(payload)}")
        yield [_listed(topic, hub) for topic in topics], actions, payload


def _listed(topic: object, hub: str) -> Matcher:
    """A topic matcher object."""
    match = topic.get("match") if isinstance(topic, dict) else None
    if not isinstance(topic, dict) or not isinstance(match, str):
        raise BadToken("a topic matcher is an object with a 'match'")
    kind = topic.get("match_type", Kind.EXACT)
    if kind not in (Kind.EXACT, Kind.URLPATTERN):
        raise BadToken(f"'match_type' is 'exact' or 'urlpattern', not {brief(kind)}")
    return matcher(Kind(kind), match, hub)


# ---- draft 07 --------------------------------------------------------------------------------------------------------


def _earlier(claims: Mapping[str, object], hub: str) -> MercureGrants:
    given = claims.get(CLAIM_URL, claims.get(CLAIM))
    if not isinstance(given, dict):
        raise BadToken(f"the claim {CLAIM!r} is an object with 'publish' and 'subscribe'")
    publish, subscribe = (_selectors(given, name, hub) for name in ("publish", "subscribe"))
    payload = given.get("payload")
    own = [(Matchers([each]), payload) for each, payload in subscribe if payload is not None]
    payloads = own if payload is None else [*own, (None, payload)]
    listed = [each for each, _ in publish], [each for each, _ in subscribe]
    refuse_many([*listed[0], *listed[1]])
    return MercureGrants(Matchers(listed[0]), Matchers(listed[1]), tuple(payloads), V7)


def _selectors(given: Mapping[str, object], name: str, hub: str) -> list[tuple[Matcher, Any]]:
    """Topic selectors, or as some hubs between the drafts took them, topic matchers with a payload each."""
    listed = given.get(name)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise BadToken(f"{name!r} in the claim {CLAIM!r} is an array of topic selectors")
    if len(listed) > MOST_MATCHERS:
        raise BadToken(f"the token has more than {MOST_MATCHERS} topic selectors")
    return [
        (matcher(Kind.TEMPLATE, each, hub), None)
        if isinstance(each, str)
        else (_listed(each, hub), each.get("payload") if isinstance(each, dict) else None)
        for each in listed
    ]


def refuse_many(matchers: list[Matcher]) -> None:
    """Raise InvalidPattern where a token has more than are tried."""
    distinct = dict.fromkeys(matchers)
    if len(distinct) > MOST_MATCHERS or sum(each.exact is None for each in distinct) > MOST_TRIED:
        raise InvalidPattern(
            f"a token has at most {MOST_MATCHERS} topic matchers, of which {MOST_TRIED} are patterns or templates"
        )
