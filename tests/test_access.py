"""Who may do what, as it is decided: with a credential, without one, with two; and in which words it is refused."""

import json
import re
import subprocess
import sys
import time
from typing import Any

import jwt
import pytest
from documentation import TEXT
from hypothesis import given
from hypothesis import strategies as st
from signing import SECRET, key_set, listen, public, rsa_key, token

from sse_fast.access.access import Access
from sse_fast.access.algorithms import BadKeys
from sse_fast.access.asking import Found, KeyAsked
from sse_fast.access.grants import Grants
from sse_fast.access.keys import key_of_secret, key_set_of
from sse_fast.access.origins import Origins
from sse_fast.access.patterns import EVERYTHING, NOTHING, Patterns
from sse_fast.access.publishers import Publishers
from sse_fast.access.tokens import Tokens
from sse_fast.edge.configured import access_of
from sse_fast.errors import Forbidden, Unauthorized
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Ask, Decision, Elsewhere, Publish, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.problem import challenge
from sse_fast.protocol.request import Request
from sse_fast.settings import Settings, refuse_unsafe

PAGE, HOST = "https://app.example", "events.example"


def policy_of(everybody: Grants | None = None, *, key: str | None = None, **options: Any) -> Policy:
    tokens = Tokens(everybody=everybody or Grants())
    tokens.use([key_of_secret(SECRET.encode())])
    return Policy(access=Access(publishers=Publishers(key, origins=[PAGE]), tokens=tokens, **options))


TOKENS = policy_of()


def asked(head: str, policy: Policy = TOKENS, credential: str | None = None, /, **headers: str) -> Decision | Ask:
    """What is decided about `METHOD TARGET`; in names of headers `_` is `-`."""
    method, target = head.split(" ")
    if credential is not None:
        headers["authorization"] = f"Bearer {credential}"
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return decide(Request.from_head(method, target.encode(), given, "1.1"), policy)


def refused(decision: object, status: int, *words: str) -> str:
    """The challenge of an answer with this status and these words."""
    assert isinstance(decision, Answer), decision
    detail = json.loads(decision.body)["detail"]
    assert decision.status == status, detail
    assert all(word in detail for word in words), detail
    return dict(decision.headers).get(b"www-authenticate", b"").decode()


def subscribed(decision: object) -> Subscribe:
    assert isinstance(decision, Subscribe), decision
    return decision


# ---- streams ----


def test_a_stream_of_what_is_granted_says_by_what_grants() -> None:
    stream = subscribed(
        asked("GET /sse/orders/1?channel=news", policy_of(Grants(Patterns.of(["news"]))), listen("orders:*", sub="42"))
    )
    assert stream.channels == ("orders:1", "news")
    assert stream.grants.user == "42"
    assert stream.grants.until is not None
    assert stream.grants.until > time.time()


def test_without_a_credential_it_is_401_and_nothing_is_said_of_an_error() -> None:
    assert refused(asked("GET /sse/a"), 401, "to subscribe to 'a'") == "Bearer"
    assert refused(asked("HEAD /sse/a"), 401) == "Bearer"


def test_a_good_credential_that_does_not_grant_it_is_403_that_names_the_channel_on_the_whole_request() -> None:
    said = refused(asked("GET /sse?channel=a:1&channel=b", TOKENS, listen("a:*")), 403, "'b'")
    assert said.startswith('Bearer error="insufficient_scope"')


@pytest.mark.parametrize("claims", [{}, {"mercure": {"subscribe": ["*"]}}, {"channels": ["a"]}])
def test_of_a_token_that_does_not_say_what_it_grants_that_is_said(claims: dict[str, Any]) -> None:
    for head in ("GET /sse/a", "POST /publish/a"):
        refused(asked(head, TOKENS, token(**claims)), 403, "'a'", "has no claim 'sse'")
        assert "claim" not in json.loads(asked(head, TOKENS, listen("b")).body)["detail"]  # type: ignore[union-attr]


def test_what_is_granted_may_be_taken_alone() -> None:
    stream = subscribed(asked("GET /sse?channel=a&channel=b&channel=c&allowed=only", TOKENS, listen("b")))
    assert (stream.channels, stream.left_out) == (("b",), ("a", "c"))
    assert subscribed(asked("GET /sse/b?allowed=only", TOKENS, listen("b"))).left_out == ()
    refused(asked("GET /sse/a?allowed=only", TOKENS, listen("b")), 403, "'a'")
    refused(asked("GET /sse/a?allowed=only"), 401, "'a'")
    refused(asked("GET /sse/a?allowed=all", TOKENS, listen("a")), 400, "'only'")
    refused(asked("GET /sse/a?alowed=only", TOKENS, listen("a")), 400, "did you mean 'allowed'")
    assert subscribed(asked("GET /sse/a?allowed=only", Policy())).channels == ("a",)


def test_who_is_granted_no_history_resumes_and_no_more() -> None:
    none = token({"subscribe": ["a"], "history": False})
    for head in ("GET /sse/a?history=1", "GET /sse/a?last_event_id=earliest"):
        refused(asked(head, TOKENS, none), 403, "no history")
    refused(asked("GET /sse/a", TOKENS, none, last_event_id="earliest"), 403)
    assert subscribed(asked("GET /sse/a", TOKENS, none, last_event_id="e-7")).last_event_id == "e-7"
    assert subscribed(asked("GET /sse/a?history=0", TOKENS, none)).history == 0


def test_the_server_s_own_channels_are_written_out_in_a_grant_or_come_with_operations() -> None:
    elsewhere = subscribed(asked("GET /sse/$stats", TOKENS, listen("**"))).from_outside
    refused(elsewhere, 403, "$stats", "operations")
    for good in (listen("$stats"), token({"operations": True})):
        assert subscribed(asked("GET /sse/$stats", TOKENS, good)).from_outside is None


def test_a_bad_credential_is_an_error_where_everybody_may_everything() -> None:
    policy = policy_of(Grants(EVERYTHING, EVERYTHING))
    assert subscribed(asked("GET /sse/a", policy)).grants.credential is None
    for head in ("GET /sse/a", "POST /publish/a", "GET /stats", "GET /nothing"):
        assert 'error="invalid_token"' in refused(asked(head, policy, "x.y.z"), 401)


# ---- publishing ----


def test_publishing_by_a_token_is_to_the_channels_that_it_grants() -> None:
    good = token({"publish": ["orders:*"]})
    published = asked("POST /publish/orders/1", TOKENS, good)
    assert isinstance(published, Publish)
    refused(asked("POST /publish/news", TOKENS, good), 403, "to publish to 'news'")
    several = asked("POST /publish", TOKENS, good)
    assert isinstance(several, Publish)
    assert several.grants.publish == Patterns.of(["orders:*"]), "whoever reads the body looks at its channels"
    assert refused(asked("POST /publish/orders/1"), 401, "needs a token") == "Bearer"


def test_a_publish_key_and_tokens_go_together() -> None:
    policy = policy_of(key="s3cret")
    assert isinstance(asked("POST /publish/a", policy, "s3cret"), Publish)
    assert isinstance(asked("POST /publish/a", policy, token({"publish": ["a"]})), Publish)
    refused(asked("POST /publish/a", policy, "s3cre"), 401, "no token")
    refused(asked("POST /publish/a", policy), 401, "a token or a key")
    refused(asked("GET /sse/a", policy, "s3cret"), 403, "'a'")


def test_without_tokens_who_listens_is_not_asked_for_a_credential_and_none_is_looked_at() -> None:
    policy = Policy(access=Access(publishers=Publishers("s3cret")))
    for credential in (None, "nonsense", "s3cret"):
        assert subscribed(asked("GET /sse/a", policy, credential)).grants.credential is None
    refused(asked("POST /publish/a", policy), 401)
    refused(asked("POST /publish/a", policy, "nonsense"), 401)


BY_COOKIE = policy_of(cookie="sse")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"http://{HOST}"}, 200),
        ({"origin": PAGE}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
        ({"origin": f"http://{HOST}.evil.example"}, 403),
    ],
)
def test_by_a_cookie_only_pages_of_ours_and_listed_ones_publish(headers: dict[str, str], status: int) -> None:
    cookie = f"sse={token({'publish': ['a'], 'subscribe': ['a']})}"
    decision = asked("POST /publish/a", BY_COOKIE, host=HOST, cookie=cookie, **headers)
    if status == 200:
        assert isinstance(decision, Publish)
    else:
        refused(decision, status, "by a cookie")
    assert subscribed(asked("GET /sse/a", BY_COOKIE, host=HOST, cookie=cookie, **headers)).channels == ("a",)


@pytest.mark.parametrize(
    ("scheme", "headers", "origin", "status"),
    [
        ("http", {}, "http", 200),
        ("http", {}, "https", 403),
        ("https", {}, "https", 200),
        ("https", {}, "http", 403),
        ("http", {"x-forwarded-proto": "https"}, "https", 200),
        ("http", {"x-forwarded-proto": "HTTPS "}, "https", 200),
        ("http", {"x-forwarded-proto": "https"}, "http", 403),
        ("http", {"x-forwarded-proto": "https, http"}, "https", 200),
        ("http", {"x-forwarded-proto": "https, http"}, "http", 403),
        ("http", {"x-forwarded-proto": "http", "x-forwarded-for": "192.0.2.1"}, "https", 403),
        ("http", {"x-forwarded-for": "192.0.2.1"}, "https", 200),
        ("http", {"via": "1.1 proxy"}, "http", 200),
    ],
)
def test_a_page_of_the_other_scheme_is_another_origin(
    scheme: str, headers: dict[str, str], origin: str, status: int
) -> None:
    cookie = f"sse={token({'publish': ['a']})}"
    given = {"host": HOST, "cookie": cookie, "origin": f"{origin}://{HOST}"} | headers
    raw = {name.encode(): value.encode() for name, value in given.items()}
    decision = decide(Request("POST", "/publish/a", headers=raw, scheme=scheme), BY_COOKIE)
    if status == 200:
        assert isinstance(decision, Publish)
    else:
        refused(decision, status, "by a cookie", "X-Forwarded-Proto")


def test_proxies_that_append_a_line_and_those_that_append_to_a_list_say_the_same() -> None:
    cookie = f"sse={token({'publish': ['a']})}".encode()
    lines = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http"), (b"cookie", cookie)]

    def by_a_page_of(scheme: str) -> object:
        given = [(b"host", HOST.encode()), (b"origin", f"{scheme}://{HOST}".encode()), *lines]
        return decide(Request.from_head("POST", b"/publish/a", given, "1.1"), BY_COOKIE)

    assert isinstance(by_a_page_of("https"), Publish)
    refused(by_a_page_of("http"), 403, "by a cookie")


def test_by_any_origin_no_page_publishes_by_a_cookie() -> None:
    cookie = f"sse={token({'publish': ['a']})}"
    tokens = TOKENS.access.tokens
    access = Access(publishers=Publishers(origins=["*"]), tokens=tokens, cookie="sse")
    decision = asked("POST /publish/a", Policy(access=access), host=HOST, cookie=cookie, origin="https://evil.example")
    refused(decision, 403, "by a cookie")


def test_where_everybody_may_publish_pages_of_strangers_may_not() -> None:
    policy = policy_of(Grants(publish=Patterns.of(["chat"])))
    assert isinstance(asked("POST /publish/chat", policy), Publish)
    assert isinstance(asked("POST /publish/chat", policy, origin=PAGE, host=HOST), Publish)
    refused(asked("POST /publish/chat", policy, origin="https://evil.example", host=HOST), 403, "cors_origins")
    refused(asked("POST /publish/news", policy), 401, "'news'")


# ---- where a token is ----


def test_a_token_in_the_query_is_taken_only_where_that_is_said_and_else_no_secret_of_nobody() -> None:
    said = refused(asked(f"GET /sse/a?access_token={listen('a')}"), 400, "not taken from the query")
    assert 'error="invalid_request"' in said
    policy = policy_of(in_query=True)
    assert subscribed(asked(f"GET /sse/a?access_token={listen('a')}", policy)).channels == ("a",)
    assert isinstance(asked(f"POST /publish/a?retry=7&access_token={token({'publish': ['a']})}", policy), Publish)
    assert subscribed(asked("GET /sse/a?access_token=whatever", Policy())).channels == ("a",)


@pytest.mark.parametrize(
    "name", ["access_token", "access%5Ftoken", "access%5ftoken", "%61ccess_token", "acces%73_token"]
)
@pytest.mark.parametrize("more", ["", "history=1&", "x=%3D&"])
def test_it_is_seen_however_its_name_is_written(name: str, more: str) -> None:
    anybodys = Grants(Patterns.of(["a"]), Patterns.of(["a"]))
    for head in ("GET /sse/a", "GET /stats", "POST /publish/a"):
        for value in ("=nonsense", "=", ""):
            wanted = f"{head}?{more}{name}{value}"
            refused(asked(wanted, policy_of(anybodys, in_query=True)), 401)
            refused(asked(wanted, policy_of(anybodys)), 400, "not taken from the query")
    given = asked(f"GET /sse/b?{more}{name}={listen('b')}", policy_of(in_query=True))
    assert subscribed(given).channels == ("b",)


def test_a_cookie_is_looked_at_only_where_it_is_named() -> None:
    cookie = f"sse={listen('a')}"
    refused(asked("GET /sse/a", TOKENS, cookie=cookie), 401)
    for several in (cookie, f"x=y;{cookie}", f'x="sse=7"; {cookie} ; z', f'sse="{listen("a")}"'):
        assert subscribed(asked("GET /sse/a", BY_COOKIE, cookie=several)).channels == ("a",)
    for none in ("", "sse", "sse=", "SSE=x.y.z", "xsse=x.y.z", "x=sse=7"):
        refused(asked("GET /sse/a", BY_COOKIE, cookie=none), 401, "takes a credential")


def test_cookies_that_came_apart_are_one_list() -> None:
    given = [(b"cookie", b"x=y"), (b"cookie", f"sse={listen('a')}".encode())]
    assert subscribed(decide(Request.from_head("GET", b"/sse/a", given, "2"), BY_COOKIE)).channels == ("a",)


def test_two_headers_are_no_choice() -> None:
    good = f"Bearer {listen('a')}".encode()
    given = [(b"authorization", good), (b"authorization", good)]
    refused(decide(Request.from_head("GET", b"/sse/a", given, "1.1"), TOKENS), 400, "more than one credential")


# ---- everything else ----


def test_who_looks_into_the_server_is_known_by_what_they_may() -> None:
    looks = asked("GET /stats", TOKENS, token({"operations": True}, sub="root"))
    assert isinstance(looks, Elsewhere)
    assert (looks.operations, looks.grants.operations, looks.grants.user) == (True, True, "root")
    alone = asked("GET /stats")
    assert isinstance(alone, Elsewhere)
    assert (alone.operations, alone.grants.operations) == (True, False)


def test_the_app_s_own_credentials_are_the_app_s() -> None:
    policy = Policy(access=BY_COOKIE.access, path="/edge")
    for headers in ({"authorization": "Basic eA=="}, {"cookie": "sse=nonsense"}, {"authorization": "Bearer x"}):
        assert asked("GET /orders?access_token=7", policy, **headers) == Elsewhere(ours=False)
    refused(asked("GET /edge/sse/a", policy, "nonsense"), 401)


def test_a_preflight_comes_without_credentials_and_a_401_can_be_read() -> None:
    policy = Policy(access=TOKENS.access, origins=Origins([PAGE]))
    preflight = asked("OPTIONS /sse/a", policy, origin=PAGE, access_control_request_method="GET")
    assert isinstance(preflight, Answer)
    assert preflight.status == 200
    answer = asked("GET /sse/a", policy, origin=PAGE)
    assert isinstance(answer, Answer)
    assert answer.status == 401
    assert dict(answer.headers)[b"access-control-allow-origin"] == PAGE.encode()
    assert b"WWW-Authenticate" in dict(answer.headers)[b"access-control-expose-headers"]


def test_what_has_to_be_asked_is_asked_and_decided_again() -> None:
    tokens = Tokens(asks=True)
    tokens.use(key_set_of(key_set(public(rsa_key(), kid="1"))).keys)
    policy = Policy(access=Access(tokens=tokens), origins=Origins([PAGE]))
    wanted = listen("a", key=rsa_key("new"), algorithm="RS256", kid="new")
    given = [(b"authorization", f"Bearer {wanted}".encode()), (b"origin", PAGE.encode())]
    for head, stream in (("GET /sse/a", True), ("POST /publish/a", False), ("GET /stats", False)):
        method, target = head.split(" ")
        request = Request.from_head(method, target.encode(), given, "1.1")
        ask = decide(request, policy)
        assert isinstance(ask, Ask)
        assert (ask.what, ask.stream) == (KeyAsked("new"), stream)
        assert (b"access-control-allow-origin", PAGE.encode()) in ask.readable
        refused(decide(request, policy, Found(keys=True)), 401, "'new'")
    tokens.use(key_set_of(key_set(public(rsa_key("new"), kid="new"))).keys, "url")
    assert subscribed(decide(Request.from_head("GET", b"/sse/a", given, "1.1"), policy)).channels == ("a",)


def test_the_claim_of_the_documentation_grants_what_it_says() -> None:
    (line,) = [line for line in TEXT.splitlines() if line.startswith('{"sub": ') and '"sse": ' in line]
    claims = json.loads(line) | {"exp": int(time.time()) + 60}
    stream = subscribed(asked("GET /sse/orders/1?channel=user:42:a:b&history=7", TOKENS, jwt.encode(claims, SECRET)))
    assert (stream.grants.user, stream.history) == (claims["sub"], 7)
    assert isinstance(asked("POST /publish/chat/lobby", TOKENS, jwt.encode(claims, SECRET)), Publish)


# ---- settings ----


@pytest.mark.parametrize(
    ("settings", "subscribe", "publish"),
    [
        ({}, EVERYTHING, EVERYTHING),
        ({"open": True}, EVERYTHING, EVERYTHING),
        ({"publish_key": "k"}, EVERYTHING, NOTHING),
        ({"publish_key": "k", "open": True}, EVERYTHING, NOTHING),
        ({"publish_key": "k", "grant_publish": "chat"}, EVERYTHING, Patterns.of(["chat"])),
        ({"grant_subscribe": "a,b:*"}, Patterns.of(["a", "b:*"]), EVERYTHING),
        ({"token_secret": SECRET}, NOTHING, NOTHING),
        ({"token_secret": SECRET, "grant_subscribe": "a"}, Patterns.of(["a"]), NOTHING),
        ({"token_secret": SECRET, "open": True}, NOTHING, EVERYTHING),
    ],
)
def test_everybody_may_what_the_settings_say(settings: dict[str, Any], subscribe: Patterns, publish: Patterns) -> None:
    assert access_of(Settings(**settings)).everybody == Grants(subscribe, publish)


def test_where_no_credentials_are_taken_nobody_is_asked_for_one() -> None:
    policy = Policy(access=access_of(Settings(grant_subscribe="a", grant_publish="a")))  # type: ignore[arg-type]
    for head in ("GET /sse/b", "POST /publish/b"):
        refused(asked(head, policy), 403, "nobody may", "to 'b' here", "no credentials are taken")
    assert subscribed(asked("GET /sse/a", policy)).channels == ("a",)


def test_nor_for_one_that_no_publish_key_is() -> None:
    """A publish key lets nobody listen, unless it is in a file that says so."""
    policy = Policy(access=access_of(Settings(publish_key="k" * 16, grant_subscribe="a")))  # type: ignore[arg-type]
    refused(asked("GET /sse/b", policy), 403, "nobody may subscribe to 'b' here", "no credentials are taken")
    refused(asked("POST /publish/b", policy), 401, "needs a key")
    in_a_file = Settings(publish_keys="keys.toml", grant_subscribe="a")  # type: ignore[arg-type]
    refused(asked("GET /sse/b", Policy(access=access_of(in_a_file))), 401, "takes a credential that grants it")


def test_with_tokens_or_grants_a_server_may_listen_anywhere() -> None:
    for said in ({"token_secret": SECRET}, {"grant_publish": "chat"}, {"open": True}, {"publish_key": "k" * 16}):
        refuse_unsafe(Settings(host="0.0.0.0", **said))
    with pytest.raises(ValueError, match="--token-secret"):
        refuse_unsafe(Settings(host="0.0.0.0"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"token_secret": "change-me-this-is-only-an-example"}, "the example, which anybody knows"),
        ({"token_secret": "short"}, "at least 32 bytes, this has 5"),
        ({"token_algorithms": "none"}, "'none' is none that tokens are taken with"),
        ({"grant_subscribe": "ord*"}, "within a segment"),
        ({"token_cookie": "a b"}, "no cookie's name"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Settings(**settings)


def test_no_secret_shows_itself() -> None:
    assert SECRET not in repr(Settings(token_secret=SECRET))
    assert SECRET not in repr(access_of(Settings(token_secret=SECRET)))
    with pytest.raises(BadKeys) as refusal:
        key_of_secret(b"too short a secret")
    assert "too short a secret" not in str(refusal.value)


def test_what_checks_tokens_is_loaded_only_where_there_are_any() -> None:
    program = """
import sys
from sse_fast import Settings, create_app
create_app(Settings(publish_key="k", grant_subscribe="a"))
assert "jwt" not in sys.modules and "cryptography" not in sys.modules
create_app(Settings(token_secret="x" * 32))
assert "jwt" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@given(st.text())
def test_a_challenge_has_only_what_rfc_6750_lets_it_have(sentence: str) -> None:
    for error in (Unauthorized(sentence, "invalid_token"), Forbidden(sentence)):
        said = challenge(error).decode()
        assert re.fullmatch(r'Bearer error="[a-z_]+", error_description="[\x20\x21\x23-\x5b\x5d-\x7e]*"', said)
