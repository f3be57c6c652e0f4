"""Mercure's dialect, of drafts 07 and 08: what a request to the hub's URL means. Which draft it speaks it says by its
parameters, and by its token."""

from collections.abc import Iterator
from urllib.parse import quote

import orjson

from sse_fast._native.wire.form import parse_form
from sse_fast.access.asking import NOTHING_FOUND, Found, MustAsk
from sse_fast.access.grants import Grants
from sse_fast.access.matchers import Kind, Matcher, Matchers, bad_character, matcher, weight_of
from sse_fast.access.mercure import (
    METADATA_PATH,
    PATH,
    Identity,
    MercureAccess,
    matchers_of_patterns,
    private_of,
)
from sse_fast.access.mercure_claims import DETAIL_TYPE
from sse_fast.access.mercure_grants import V7, V8
from sse_fast.errors import Forbidden, ForeignOrigin, InvalidEvent, SSEFastError, Unauthorized
from sse_fast.event_rules import brief
from sse_fast.protocol.decision import (
    Answer,
    Ask,
    Decision,
    Elsewhere,
    Form,
    Headers,
    MercureStream,
    Publish,
    Subscribe,
    in_order,
    stream_headers,
)
from sse_fast.protocol.mercure_form import EARLIEST, MAX_ID
from sse_fast.protocol.native import idempotency_key_of, reads_json, refuse_body
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.problem import problem, problem_of
from sse_fast.protocol.request import SLASH, Request

METHODS = "GET, HEAD, POST, OPTIONS"
MOST_MATCHERS = 100  # of one stream
MOST_WEIGHT = 48  # of those of one stream that are tried: a dozen plain URL patterns, or two dozen plain templates
MOST_PARAMETERS = 256
MOST_KNOWN = 256  # queries whose meaning is kept
MAX_KNOWN = 1024  # bytes of one of them
SUBSCRIPTIONS = f"{PATH}/subscriptions"
FORM = "application/x-www-form-urlencoded"
KINDS = {b"match": Kind.EXACT, b"match_exact": Kind.EXACT, b"match_urlpattern": Kind.URLPATTERN}
LAST_IDS = {b"last_event_id": V8, b"lastEventID": V7, b"Last-Event-ID": V7}
TOLD_BY = {V7: b"last-event-id", V8: b"mercure-last-event-id"}
"""The response field that says behind which event a stream begins."""


def is_ours(path: str) -> bool:
    return path in (PATH, METADATA_PATH) or path.startswith(SUBSCRIPTIONS)


def decide(request: Request, policy: Policy, readable: Headers, found: Found = NOTHING_FOUND) -> Decision | Ask:
    """Of a request for what `is_ours`. Never raises."""
    access = policy.mercure
    assert access is not None
    identity = access.identity_for(request.headers, request.scheme)
    is_stream = request.path == PATH and request.method != "POST"
    try:
        if request.path == METADATA_PATH:
            return _metadata(request, access, identity, readable)
        if request.path != PATH:
            return _subscriptions(request, policy, access, identity, readable, found)
        if request.method == "POST":
            return publish(request, policy, access, identity, readable, found)
        return stream(request, policy, access, identity, readable, found)
    except SSEFastError as error:
        return refused(error, readable, identity)
    except MustAsk as must:
        return Ask(must.what, found, is_stream, stream_headers(readable), readable, reads_json(request))


def refused(error: SSEFastError, readable: Headers, identity: Identity) -> Answer:
    """RFC 6750, section 3, and where the hub's metadata are (RFC 9728, section 5.1)."""
    answer = problem_of(error, readable)
    if not isinstance(error, Unauthorized | Forbidden | ForeignOrigin):
        return answer
    where = b'resource_metadata="%b"' % identity.metadata.encode("ascii", "replace")
    headers = []
    for name, value in answer.headers:
        if name == b"www-authenticate":
            value += (b" " if value == b"Bearer" else b", ") + where
        headers.append((name, value))
    return answer._replace(headers=tuple(headers))


# ---- listening -------------------------------------------------------------------------------------------------------


def stream(
    request: Request,
    policy: Policy,
    access: MercureAccess,
    identity: Identity,
    readable: Headers,
    found: Found = NOTHING_FOUND,
) -> Decision:
    """Raises InvalidEvent, Unauthorized, Forbidden, or MustAsk."""
    method = request.method
    if method not in ("GET", "HEAD"):
        allow = (b"allow", METHODS.encode())
        if method == "OPTIONS":
            return Answer(204, in_order(allow, *readable))
        return problem(405, f"{method} is not for {PATH}; it takes {METHODS}", (allow, *readable), "invalid")
    grants = access.subscribing(request.headers, request.query, policy.now(), identity, found)
    hub = access.identity.url if access.identity is not None else ""
    matchers, last_event_id, versions = asked(request.query, access.versions, hub)
    said = request.headers.get(b"last-event-id")
    if said or last_event_id is None:
        last_event_id = said
    private = private_of(grants)
    if access.strict:
        matchers = _granted(matchers, private | matchers_of_patterns(grants.subscribe), grants)
    wanted = Subscribe(
        (),
        _resume_id(last_event_id) if last_event_id else None,
        headers=stream_headers(readable),
        readable=readable,
        reads_json=reads_json(request),
        grants=grants,
        matchers=matchers,
        private=private,
        mercure=MercureStream(tuple(TOLD_BY[each] for each in versions) if last_event_id is not None else ()),
    )
    if policy.compress:
        wanted = wanted.negotiated(request.headers.get(b"accept-encoding"))
    return Answer(200, wanted.opening_headers) if method == "HEAD" else wanted


Asked = tuple[tuple[Matcher, ...], bytes | None, tuple[int, ...]]
KNOWN: dict[tuple[bytes, frozenset[int], str], Asked] = {}


def asked(query: bytes, versions: frozenset[int], hub: str = "") -> Asked:
    """Of a query string: its matchers, each once; the last event id, if one is said; whose parameters there are. hub:
    its URL, if it is known. Raises InvalidEvent.

    Thousands come with the same words, after a cut all at once: what is short, and has neither a matcher that weighs
    anything nor somebody's token, is kept."""
    found = KNOWN.get((query, versions, hub))
    if found is not None:
        return found
    try:
        parameters = parse_form(query, MOST_PARAMETERS)
    except ValueError as error:
        raise InvalidEvent(f"the query cannot be read: {error}") from None
    found = _read(parameters, versions, hub)
    if (
        len(query) <= MAX_KNOWN
        and not any(each.weight for each in found[0])
        and all(name in KINDS or name in LAST_IDS or name == b"topic" for name, _ in parameters)
    ):
        if len(KNOWN) >= MOST_KNOWN:
            KNOWN.clear()
        KNOWN[query, versions, hub] = found
    return found


def _read(parameters: list[tuple[bytes, bytes]], versions: frozenset[int], hub: str) -> Asked:
    found: dict[Matcher, None] = {}
    ids: list[bytes] = []
    spoken: dict[int, None] = {}
    weight = 0
    for number, (name, value) in enumerate(_matching(parameters, versions), 1):
        if number > MOST_MATCHERS:
            raise InvalidEvent(f"a stream has at most {MOST_MATCHERS} topic matchers")
        kind = KINDS.get(name, Kind.TEMPLATE)
        spoken[V7 if kind is Kind.TEMPLATE else V8] = None
        text = _text(name, value)
        weight += weight_of(kind, text)
        if weight > MOST_WEIGHT:
            raise InvalidEvent(
                "a stream has a dozen URL patterns or two dozen URI templates at most, fewer of those that are "
                f"complicated; {brief(text)} is one too many"
            )
        found[matcher(kind, text, hub) if hub else matcher(kind, text)] = None
    for name, value in parameters:
        if LAST_IDS.get(name) in versions:
            ids.append(value)
    if not found:
        wanted = " or ".join(repr("topic" if version == V7 else "match") for version in sorted(versions))
        raise InvalidEvent(f"the parameter {wanted} is missing: a stream has one topic matcher at least")
    last = next((id for id in ids if id), ids[0] if ids else None)
    return tuple(found), last, tuple(spoken)


def _matching(parameters: list[tuple[bytes, bytes]], versions: frozenset[int]) -> Iterator[tuple[bytes, bytes]]:
    """Those that are matchers. Raises InvalidEvent for a name that draft 08 reserves, and nobody knows."""
    for name, value in parameters:
        if V8 in versions and name[:5].lower() == b"match":
            if name not in KINDS:
                raise InvalidEvent(
                    f"there is no parameter {brief(name.decode('utf-8', 'replace'))}; topic matchers are "
                    "'match', 'match_exact' and 'match_urlpattern'"
                )
            yield name, value
        elif V7 in versions and name == b"topic":
            yield name, value


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"the parameter {name.decode()!r} is no UTF-8") from None


def _granted(matchers: tuple[Matcher, ...], granted: Matchers, grants: Grants) -> tuple[Matcher, ...]:
    """Of these, what is granted, where nobody may listen to anything else. Raises Forbidden."""
    if granted.everything:
        return matchers
    lacks = [each for each in matchers if each.exact is None or not granted.matches(each.exact)]
    lacks = [each for each in lacks if each not in granted.others]
    if lacks:
        sentence = f"this credential does not grant to listen to {brief(lacks[0].text)}"
        raise Unauthorized(sentence) if grants.credential is None else Forbidden(sentence, lacks[0].text)
    return matchers


def _resume_id(given: bytes) -> str:
    """Raises InvalidEvent."""
    if len(given) > MAX_ID:
        raise InvalidEvent(f"a last event id has at most {MAX_ID} bytes; this has {len(given)}")
    text = given.decode("utf-8", "replace")
    return text if bad_character(text) is None else EARLIEST


# ---- publishing ------------------------------------------------------------------------------------------------------


def publish(
    request: Request,
    policy: Policy,
    access: MercureAccess,
    identity: Identity,
    readable: Headers,
    found: Found = NOTHING_FOUND,
) -> Publish:
    """Raises InvalidEvent, Unauthorized, ForeignOrigin, NotPlain, TooMuch, or MustAsk."""
    grants = access.publishing(request.headers, request.query, policy.now(), identity, found, scheme=request.scheme)
    given = (request.header(b"content-type") or FORM).partition(";")[0].strip().lower()
    if given != FORM:
        raise InvalidEvent(f"an update is published as {FORM}, not as {brief(given)}")
    most = min(3 * policy.max_event_size + 64 * 1024, policy.max_body_size)
    refuse_body(request, Form.UPDATE, most)
    key = idempotency_key_of(request.header(b"idempotency-key"))
    return Publish(Form.UPDATE, most, headers=readable, key=key, grants=grants, identity=identity)


# ---- who listens, and what the hub is --------------------------------------------------------------------------------


def _subscriptions(
    request: Request,
    policy: Policy,
    access: MercureAccess,
    identity: Identity,
    readable: Headers,
    found: Found,
) -> Decision:
    """Raises Unauthorized, Forbidden, or MustAsk."""
    path = request.path
    if not access.subscriptions or (path != SUBSCRIPTIONS and not path.startswith(f"{SUBSCRIPTIONS}/")):
        return problem(404, f"there is nothing at {path}; who listens is listed with --mercure-subscriptions", readable)
    if request.method not in ("GET", "HEAD"):
        allow = (b"allow", b"GET, HEAD, OPTIONS")
        if request.method == "OPTIONS":
            return Answer(204, in_order(allow, *readable))
        return problem(405, f"{request.method} is not for {path}; it takes GET", (allow, *readable), "invalid")
    grants = access.subscribing(request.headers, request.query, policy.now(), identity, found)
    if access.subscribers is not None:
        topic = expanded(path)
        if grants.credential is None:
            raise Unauthorized("who listens is told to who has a token that grants it")
        if not private_of(grants).matches(topic):
            raise Forbidden(f"this credential does not grant to listen to {brief(topic)}", topic)
    return Elsewhere(readable, grants=grants)


def expanded(path: str) -> str:
    """A decoded path, with all in its segments escaped that RFC 6570 escapes: the topic of what is there."""
    return "/".join([quote(segment.replace(SLASH, "/"), safe="", errors="replace") for segment in path.split("/")])


def _metadata(request: Request, access: MercureAccess, identity: Identity, readable: Headers) -> Answer:
    """Protected resource metadata (RFC 9728)."""
    if V8 not in access.versions:
        return problem(404, "this hub speaks draft 07, which has no metadata", readable)
    if request.method not in ("GET", "HEAD"):
        allow = (b"allow", b"GET, HEAD")
        return problem(405, f"{request.method} is not for {METADATA_PATH}", (allow, *readable), "invalid")
    document: dict[str, object] = {
        "resource": identity.url,
        "authorization_details_types_supported": [DETAIL_TYPE],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": access.cookies[0].decode(),
        "mercure_matcher_types_supported": ["exact", "urlpattern"],
    }
    if access.subscriptions:
        document["mercure_subscriptions"] = True
    body = orjson.dumps(document)
    length = (b"content-length", b"%d" % len(body))
    return Answer(200, in_order((b"content-type", b"application/json"), *readable, length), body)
