"""Our own dialect: streams under /sse, publishing under /publish. What their requests mean, as far as the head says.

The grammar is the same at every transport, as is what is refused and in which words.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from sse_fast.access.asking import NOTHING_FOUND, Found, HookSaid, MustAsk
from sse_fast.access.credentials import IN_QUERY
from sse_fast.access.grants import Grants, refusal
from sse_fast.access.hooked import question_of, with_hook
from sse_fast.access.patterns import has_wildcard, is_name
from sse_fast.errors import Forbidden, InvalidEvent
from sse_fast.event_rules import (
    EARLIEST,
    MAX_ID_BYTES,
    RETRY,
    WholeNumber,
    brief,
    channel_name,
    idempotency_key,
)
from sse_fast.protocol import operations
from sse_fast.protocol.decision import (
    Answer,
    Decision,
    Elsewhere,
    Form,
    Headers,
    Publish,
    Subscribe,
    in_order,
    stream_headers,
)
from sse_fast.protocol.policy import HISTORY, Operations, Policy
from sse_fast.protocol.problem import NotPlain, TooMuch, problem
from sse_fast.protocol.request import Request, named

QUOTED_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
BARE_KEY = re.compile(r'[^\x00-\x20\x7f-\xff",;\\]+')
KEYS = re.compile(rf"(?:{QUOTED_KEY.pattern}|{BARE_KEY.pattern})(?:, (?:{QUOTED_KEY.pattern}|{BARE_KEY.pattern}))+")
ESCAPED = re.compile(r"\\(.)")
PARAMETERS = ("channel", "pattern", "history", "last_event_id", "envelope", "allowed")
UNKNOWN_COMPARED = 8  # of parameters that nobody here knows, with the known ones: each comparison costs 20 us
LETTERS_A_SLIP = 5  # one edit of "history" is a slip, "story" and "historyId" are names of somebody else's
SYNONYMS = {
    "chan": "channel",
    "hist": "history",
    "histories": "history",
    "lastid": "last_event_id",
    "since": "last_event_id",  # what `sse-fast listen` calls it
}
PLAIN_QUERY = re.compile(rb"(?:(?:channel|pattern|history|last_?event_?id|envelope|allowed)=[^&]*(?:&|\Z))*", re.I)
OF_AN_EVENT = ("event", "retry", "conflate_key")
NAMED_BY_PATH = re.compile(r"/(?:sse|publish)/([^/]+(?:/[^/]+)?)")
NAMED_BY_QUERY = re.compile(rb"(?:\A|&)(?:channel|pattern)=([^&]*)")
STREAM_METHODS = "GET, HEAD, OPTIONS"
NDJSON = frozenset(("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"))
PRESENCE = "$presence:"  # before a channel's name: who comes and goes there
SYSTEM_CHANNELS = frozenset(("$stats",))
MOST_PATTERNS = 16  # of one stream: each is looked for by itself, where it was not listened to before
MOST_PARAMETERS = 1024  # in a query string, beside the channels
MOST_OTHER_PARAMETERS = 64  # in one of anything else
REMEMBERED_LENGTH = 256  # characters of a path and query whose meaning is remembered


# ---- streams ---------------------------------------------------------------------------------------------------------


def is_stream(path: str) -> bool:
    return path == "/sse" or path.startswith("/sse/")


class Asked(NamedTuple):
    """What a stream's request asks for: see `Subscribe`."""

    channels: tuple[str, ...]
    last_event_id: str | None = None
    history: int = 0
    envelope: bool = False
    patterns: tuple[str, ...] = ()
    allowed_only: bool = False


def stream(request: Request, policy: Policy, readable: Headers, found: Found = NOTHING_FOUND) -> Decision:
    """Of a request under /sse; `readable`: who may read the answer. Raises InvalidEvent, Unauthorized, Forbidden, or
    MustAsk."""
    method = request.method
    if method not in ("GET", "HEAD"):
        return _methods(method, STREAM_METHODS, f"streams are read with GET, not {method}", readable)
    grants = policy.access.grants_of(request.headers, request.query, policy.now(), found, hooked=True)
    asked = subscription(
        request.path[5:],
        request.query,
        request.header(b"last-event-id"),
        policy.max_channels,
        policy.max_history,
        request.root,
    )
    _refuse_untold(asked, policy)
    beside = NOTHING_ASKED
    if policy.access.hook is not None:
        asked, grants, beside = _hooked(asked, grants, request, policy, found.hook)
    granted, left_out = _granted(asked, grants, beside)
    headers = stream_headers(readable)
    wanted = Subscribe(
        granted.channels,
        asked.last_event_id,
        asked.history,
        asked.envelope,
        headers,
        readable,
        reads_json(request),
        patterns=granted.patterns,
        grants=grants,
        left_out=left_out,
    )
    if policy.compress:
        wanted = wanted.negotiated(request.headers.get(b"accept-encoding"))
    decision = operations.of_stream(wanted, policy, asked.allowed_only)
    if method == "HEAD" and isinstance(decision, Subscribe):
        outside = decision.from_outside
        return Answer(200, decision.opening_headers, from_outside=outside if isinstance(outside, Answer) else None)
    return decision


def _refuse_untold(asked: Asked, policy: Policy) -> None:
    """Raise InvalidEvent for the presence in a channel where it is not kept."""
    for channel in asked.channels:
        if channel.startswith(PRESENCE) and not policy.keeps_presence(channel.removeprefix(PRESENCE)):
            raise InvalidEvent(
                f"the presence in channel {channel.removeprefix(PRESENCE)!r} is not kept; see --presence-channels"
            )


NOTHING_ASKED = Asked(())


def _granted(asked: Asked, grants: Grants, beside: Asked = NOTHING_ASKED) -> tuple[Asked, tuple[str, ...]]:
    """What of that is granted, and what was left out: nothing, if it was not said that something may be. `beside`: what
    is granted by somebody's word for just this. Raises Unauthorized or Forbidden."""
    if grants.subscribe.everything and grants.history:
        return asked, ()
    lacks = _not_granted(asked, grants)
    channels = tuple(channel for channel in lacks.channels if channel not in beside.channels)
    patterns = tuple(pattern for pattern in lacks.patterns if pattern not in beside.patterns)
    refused = (*channels, *patterns)
    if refused:
        if not asked.allowed_only or len(refused) == len(asked.channels) + len(asked.patterns):
            raise refusal(grants, "subscribe", refused, looked_at=beside is not NOTHING_ASKED)
        asked = asked._replace(
            channels=tuple(channel for channel in asked.channels if channel not in channels),
            patterns=tuple(pattern for pattern in asked.patterns if pattern not in patterns),
        )
    if not grants.history and (asked.history or asked.last_event_id == EARLIEST):
        raise Forbidden("this credential grants no history; leave out 'history', or resume by an id that was received")
    return asked, refused


def _not_granted(asked: Asked, grants: Grants) -> Asked:
    """The channels and patterns of it that are not."""
    return Asked(
        tuple([channel for channel in asked.channels if not _may_listen(grants, channel)]),
        patterns=tuple([pattern for pattern in asked.patterns if not grants.subscribe.covers(pattern)]),
    )


def _hooked(
    asked: Asked, grants: Grants, request: Request, policy: Policy, said: HookSaid | None
) -> tuple[Asked, Grants, Asked]:
    """What is asked for and who asks, by the word of the webhook, if that was asked about what the grants have not; and
    what of that it grants. Where it grants less, the rest is left out. Raises MustAsk, Unauthorized or Forbidden."""
    lacks = _not_granted(asked, grants)
    channels = tuple(channel for channel in lacks.channels if channel not in SYSTEM_CHANNELS)
    if not channels and not lacks.patterns:
        return asked, grants, NOTHING_ASKED
    question = question_of(request.headers, policy.access.hook or (), grants, channels, lacks.patterns)
    if said is None:
        raise MustAsk(question)
    grants = with_hook(grants, question, said, policy.now())
    beside = Asked(
        channels if said.channels is None else said.channels,
        patterns=lacks.patterns if said.patterns is None else said.patterns,
    )
    whole = set(channels).issubset(beside.channels) and set(lacks.patterns).issubset(beside.patterns)
    return asked if whole else asked._replace(allowed_only=True), grants, beside


def _may_listen(grants: Grants, channel: str) -> bool:
    return channel == operations.STATS or grants.subscribe.matches(channel)


def reads_json(request: Request) -> bool:
    return b"application/json" in request.headers.get(b"accept", b"")


def subscription(
    path: str,
    query: bytes,
    last_event_id: str | None,
    max_channels: int,
    max_history: int = HISTORY.most,
    root: str = "",
) -> Asked:
    """What a stream's request asks for. Given: `path` below /sse, the query string, the header Last-Event-ID. Raises
    InvalidEvent."""
    if len(path) + len(query) <= REMEMBERED_LENGTH and query_is_plain(query):
        asked = _remembered(path, query, max_channels, max_history, root)
    else:
        asked = _parsed(path, query, max_channels, max_history, root)
    resumed = resume_id(last_event_id, asked.last_event_id)
    return asked if resumed == asked.last_event_id else asked._replace(last_event_id=resumed)


def _parsed(path: str, query: bytes, max_channels: int, max_history: int, root: str) -> Asked:
    """With the id in the query."""
    parameters = _parameters(query, max_channels + MOST_PARAMETERS)
    _refuse_slips(key for key, _ in parameters)
    parts = path.split("/") if path else []
    if len(parts) > 2 or "" in parts:
        raise InvalidEvent(
            f"a stream's path is {root}/sse/CHANNEL or {root}/sse/STREAM/NAME, no deeper and with no slash behind"
        )
    channels = [named(parts)] if parts else []
    channels += [value for key, value in parameters if key == "channel"]
    patterns = list(dict.fromkeys(value for key, value in parameters if key == "pattern"))
    channels += [pattern for pattern in patterns if is_name(pattern)]
    patterns = [pattern for pattern in patterns if not is_name(pattern)]
    if not channels and not patterns:
        raise InvalidEvent(
            f"name a channel: {root}/sse/CHANNEL or {root}/sse?channel=A&channel=B; or a pattern, as in "
            f"{root}/sse?pattern=A:*"
        )
    channels = list(dict.fromkeys(channels))
    if len(channels) > max_channels:
        raise InvalidEvent(f"a stream names at most {max_channels} channels; this one names {len(channels)}")
    if len(patterns) > MOST_PATTERNS:
        raise InvalidEvent(f"a stream has at most {MOST_PATTERNS} patterns; this one has {len(patterns)}")
    for channel in channels:
        channel_name(channel)
        if channel[0] == "$" and channel not in SYSTEM_CHANNELS and not channel.startswith(PRESENCE):
            known = ", ".join((*sorted(SYSTEM_CHANNELS), f"{PRESENCE}CHANNEL"))
            raise InvalidEvent(f"there is no system channel {channel!r}; there is {known}")
        if has_wildcard(channel):
            raise InvalidEvent(
                f"{brief(channel)} is a pattern, and no channel to listen to: {root}/sse?pattern={channel[:64]} "
                "listens to all channels that it matches"
            )
    id_in_query = _id_among(parameters)
    history, *others = [value for key, value in parameters if key == "history"] or ["0"]
    if others:
        raise InvalidEvent("the parameter 'history' is given twice")
    kept = WholeNumber("history", max_history).read(history)
    enveloped, allowed_only = _is_enveloped(parameters), _is_allowed_only(parameters)
    return Asked(tuple(channels), id_in_query, kept, enveloped, tuple(patterns), allowed_only)


# Thousands come with the same words, after a cut all at once.
_remembered = lru_cache(maxsize=4096)(_parsed)


def _parameters(query: bytes, most: int, errors: Literal["strict", "replace"] = "strict") -> list[tuple[str, str]]:
    """Of a query string; `errors`: what becomes of text that is no UTF-8. Raises InvalidEvent."""
    try:
        text = query.decode("ascii", errors)
        return parse_qsl(text, keep_blank_values=True, errors=errors, max_num_fields=most)
    except ValueError as error:
        raise InvalidEvent(f"the query string cannot be read: {error}") from None


def query_is_plain(query: bytes) -> bool:
    """Whether it has none but parameters of ours. A secret would be another one, and may not be remembered."""
    return not query or PLAIN_QUERY.fullmatch(query) is not None


def _spelling(parameter: str) -> str:
    return parameter.lower().replace("_", "").replace("-", "")


def _edits(one: str, other: str) -> int:
    """Letters to put in, leave out, change, or swap with their neighbour (the optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, others in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != others)))
            if last and j > 1 and (letter, one[i - 2]) == (other[j - 2], others):
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def _meant(parameter: str) -> str | None:
    """The parameter of ours that another one must be a slip for."""
    spelling = _spelling(parameter).removesuffix("[]")
    for known in PARAMETERS:
        right = _spelling(known)
        most = len(right) // LETTERS_A_SLIP
        if abs(len(spelling) - len(right)) <= most and _edits(spelling, right) <= most:
            return known
    return SYNONYMS.get(spelling)


def _is_id(parameter: str) -> bool:
    """`last_event_id` as polyfills spell it: lastEventId, Last-Event-ID, evs_last_event_id."""
    return _spelling(parameter).removeprefix("evs") == "lasteventid"


def _id_among(parameters: list[tuple[str, str]]) -> str | None:
    """The last one that says anything: a polyfill appends its own behind what is in the page's URL already."""
    return next((value for key, value in reversed(parameters) if value and _is_id(key)), None)


def _is_enveloped(parameters: list[tuple[str, str]]) -> bool:
    forms = [value for key, value in parameters if key == "envelope"]
    if len(forms) > 1:
        raise InvalidEvent("the parameter 'envelope' is given twice")
    if forms and forms[0] != "json":
        raise InvalidEvent(f"'envelope' must be 'json', the one that there is; this is {brief(forms[0])}")
    return bool(forms)


def _is_allowed_only(parameters: list[tuple[str, str]]) -> bool:
    given = [value for key, value in parameters if key == "allowed"]
    if len(given) > 1:
        raise InvalidEvent("the parameter 'allowed' is given twice")
    if given and given[0] != "only":
        raise InvalidEvent(f"'allowed' must be 'only': what is not granted is left out; this is {brief(given[0])}")
    return bool(given)


def _refuse_slips(names: Iterable[str]) -> None:
    """Raise InvalidEvent for a parameter that must have been meant for one of ours. Others are nobody's business here:
    proxies, cache busters and polyfills have their own."""
    unknown = (name for name in names if name not in PARAMETERS and name != IN_QUERY and not _is_id(name))
    for name in islice(unknown, UNKNOWN_COMPARED):
        if meant := _meant(name):
            raise InvalidEvent(f"unknown parameter {brief(name)}; did you mean {meant!r}?")


def resume_id(in_header: str | None, in_query: str | None) -> str | None:
    """What a client says it has seen last; the header wins. Raises InvalidEvent."""
    if in_header is not None and not in_header.isascii():  # a publisher's id, which clients send as UTF-8
        in_header = in_header.encode("latin-1", "replace").decode("utf-8", "replace")
    given = in_query if in_header is None else in_header
    if given is not None and len(given) > MAX_ID_BYTES:
        raise InvalidEvent(f"a Last-Event-ID has at most {MAX_ID_BYTES} characters; this has {len(given)}")
    # An empty header is what a browser that has seen no id sends: nothing to resume.
    return given or None


def asked_id(request: Request) -> str | None:
    """`resume_id` of a request, whatever else it asks. Raises InvalidEvent."""
    header, query = request.header(b"last-event-id"), request.query
    if header is not None or not query:
        return resume_id(header, None)
    return resume_id(None, _id_among(_parameters(query, MOST_PARAMETERS, errors="replace")))


# ---- publishing ------------------------------------------------------------------------------------------------------


def is_publish(path: str) -> bool:
    return path == "/publish" or path.startswith("/publish/")


def publish(request: Request, policy: Policy, readable: Headers, found: Found = NOTHING_FOUND) -> Decision:
    """Of a request under /publish. Raises InvalidEvent, Unauthorized, Forbidden, ForeignOrigin, NotPlain, TooMuch, or
    MustAsk."""
    path, method = request.path, request.method
    if policy.operations is Operations.ALONE:
        return operations.elsewhere(request, policy, readable, policy.access.everybody)
    names = path.split("/")[2:]
    if len(names) > 2 or "" in names:
        return Elsewhere(readable)  # nobody has that
    if method != "POST":
        return _methods(method, "POST", f"{method} is not for {request.root}{path}; it takes POST", readable)
    grants = policy.access.publishing(request.headers, request.query, policy.now(), found, scheme=request.scheme)
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if names:
        form, most = Form.DATA, policy.max_event_size
    elif media_type in NDJSON:
        form, most = Form.LINES, policy.max_body_size
    else:
        form, most = Form.JSON, policy.max_json_size
    if names:
        if not grants.publish.matches(channel := named(names)):
            raise refusal(grants, "publish", [channel])
        policy.namespaces.refuse_publisher(grants, channel)
    options = parameters_of(request.query, request.root + path, *(OF_AN_EVENT if names else ()))
    retry = _retry(options.get("retry"))
    refuse_body(request, form, most)
    key = idempotency_key_of(request.header(b"idempotency-key"))
    to, conflates = named(names) if names else None, options.get("conflate_key")
    return Publish(form, most, to, options.get("event"), retry, readable, key, grants, conflates)


# ---- everything else -------------------------------------------------------------------------------------------------


def elsewhere(request: Request, policy: Policy, readable: Headers, found: Found = NOTHING_FOUND) -> Decision:
    """Of any other request to the edge. Raises Unauthorized, or MustAsk."""
    grants = policy.access.grants_of(request.headers, request.query, policy.now(), found)
    return operations.elsewhere(request, policy, readable, grants)


def channels_named(request: Request) -> Iterator[str]:
    """The channels and patterns that a request names, right or wrong: by its path, and in the query by `channel` and
    `pattern`. Who is told of these has no business with anything else there."""
    if found := NAMED_BY_PATH.search(request.path):
        yield named(found[1].split("/"))
    for each in NAMED_BY_QUERY.finditer(request.query):
        yield unquote_plus(each[1].decode("latin-1"), errors="replace")


# ---- what they have in common ----------------------------------------------------------------------------------------


def idempotency_key_of(header: str | None) -> str | None:
    """The key in the header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a string of RFC 8941, which is
    in quotes; one without is taken too, as most clients send it. Raises InvalidEvent."""
    if header is None:
        return None
    if (quoted := QUOTED_KEY.fullmatch(header)) is not None:
        return idempotency_key(ESCAPED.sub(r"\1", quoted[1]))
    if KEYS.fullmatch(header) is not None:
        raise InvalidEvent(f"the header Idempotency-Key came twice: {brief(header)}; a request has one")
    if BARE_KEY.fullmatch(header) is None:
        raise InvalidEvent(
            f"the Idempotency-Key {brief(header)} is none; write 1 to 255 printable ASCII characters in quotes, "
            'those that are \\ or " behind a \\'
        )
    return idempotency_key(header)


def parameters_of(query: bytes, path: str, *known: str) -> dict[str, str]:
    """Of a query, each at most once. Raises InvalidEvent for any that is not known: a typing error must not pass. A
    credential was looked at before."""
    taken: dict[str, str] = {}
    for name, value in _parameters(query, MOST_OTHER_PARAMETERS):
        if name == IN_QUERY:
            continue
        if name not in known:
            takes = " and ".join(repr(name) for name in known) or "none"
            raise InvalidEvent(f"unknown parameter {brief(name)}; {path} takes {takes}")
        if name in taken:
            raise InvalidEvent(f"the parameter {name!r} is given twice")
        taken[name] = value
    return taken


def _retry(given: str | None) -> int | None:
    return None if given is None else RETRY.read(given)


def refuse_body(request: Request, form: Form, most: int) -> None:
    """Raise NotPlain or TooMuch for a body of which the head says that it can't be taken."""
    encoding = request.header(b"content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise NotPlain(f"bodies are taken as they stand, not with 'Content-Encoding: {encoding[:40]}'")
    length = request.header(b"content-length") or "0"
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise TooMuch(f"the body has {length[:20]} bytes; {form.words} has at most {most}")


def _methods(method: str, right: str, detail: str, readable: Headers) -> Answer:
    """To a method that is none of the right ones; OPTIONS asks for them."""
    allow = (b"allow", right.encode())
    return (
        Answer(204, in_order(allow, *readable))
        if method == "OPTIONS"
        else problem(405, detail, (allow, *readable), "invalid")
    )
