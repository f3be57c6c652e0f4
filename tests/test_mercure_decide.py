"""What a request by Mercure means, and whether it may: both drafts, told apart by parameters and token."""

import gc
import time
from collections.abc import Callable
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openapi_spec_validator import validate

from sse_fast.access.matchers import MOST_KEPT, Kind, Matcher
from sse_fast.access.mercure import may_publish
from sse_fast.edge.configured import policy_of
from sse_fast.edge.openapi import openapi
from sse_fast.errors import Forbidden
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Elsewhere, Form, Publish, Subscribe
from sse_fast.protocol.mercure import KNOWN
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import SLASH, Request
from sse_fast.settings import Settings, refuse_unsafe

PUBLISHER, SUBSCRIBER = "the publishers' key, of 32 bytes at least", "the subscribers' key, of 32 bytes at least"
URL, ISSUER = "https://hub.example/.well-known/mercure", "https://app.example"
METADATA = "https://hub.example/.well-known/oauth-protected-resource/.well-known/mercure"
DETAIL = "https://mercure.rocks/authorization-detail"


def policy(**settings: Any) -> Policy:
    given: dict[str, Any] = {
        "mercure": True,
        "mercure_url": URL,
        "mercure_issuer": ISSUER,
        "mercure_publisher_key": PUBLISHER,
        "mercure_subscriber_key": SUBSCRIBER,
        "mercure_anonymous": True,
    }
    return policy_of(Settings(**{**given, **settings}), 65536)


def token7(key: str = SUBSCRIBER, *, claim: str = "mercure", **claims: Any) -> str:
    return jwt.encode({claim: claims}, key, "HS256")


def token8(key: str = SUBSCRIBER, *details: Any, typ: str = "at+jwt", alg: str = "HS256", **claims: Any) -> str:
    given = {
        "iss": ISSUER, "aud": URL, "exp": int(time.time()) + 60, "iat": int(time.time()),
        "sub": "me", "client_id": "app", "jti": "1", "authorization_details": list(details),
    }  # fmt: skip
    return jwt.encode({k: v for k, v in {**given, **claims}.items() if v is not None}, key, alg, headers={"typ": typ})


def detail(*topics: Any, actions: Any = ("subscribe",), **more: Any) -> dict[str, Any]:
    listed = [{"match": topic} if isinstance(topic, str) else topic for topic in topics]
    return {"type": DETAIL, "actions": list(actions), "topics": listed, **more}


def get(query: str = "", of: Policy | None = None, path: str = "/.well-known/mercure", **headers: str) -> Any:
    return asked("GET", query, of, path, **headers)


def post(of: Policy | None = None, query: str = "", **headers: str) -> Any:
    headers.setdefault("content_type", "application/x-www-form-urlencoded")
    return asked("POST", query, of, "/.well-known/mercure", **headers)


def asked(method: str, query: str, of: Policy | None, path: str, **headers: str) -> Any:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in {"host": "hub", **headers}.items()}
    return decide(Request(method, path, query.encode(), given), of or policy())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def challenge(answer: Any) -> str:
    assert isinstance(answer, Answer)
    return next(value.decode() for name, value in answer.headers if name == b"www-authenticate")


# ---- listening -------------------------------------------------------------------------------------------------------


def test_draft_08_listens_by_match_and_match_urlpattern() -> None:
    wanted = get("match=https%3A%2F%2Fexample.com%2Ffoo&match=bar&match_exact=baz&match_urlpattern=/books/:id")
    assert isinstance(wanted, Subscribe)
    assert [(each.kind, each.text) for each in wanted.matchers] == [
        (Kind.EXACT, "https://example.com/foo"), (Kind.EXACT, "bar"), (Kind.EXACT, "baz"),
        (Kind.URLPATTERN, "/books/:id"),
    ]  # fmt: skip
    assert wanted.matchers[3].matches("https://hub.example/books/1")


def test_draft_07_listens_by_topic_which_may_be_a_template() -> None:
    wanted = get("topic=https%3A%2F%2Fexample.com%2Ffoo&topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D&topic=*")
    assert [each.exact for each in wanted.matchers] == ["https://example.com/foo", None, None]
    assert wanted.matchers[1].matches("https://example.com/books/1")
    assert wanted.matchers[2].everything


def test_the_same_matcher_twice_is_one() -> None:
    assert len(get("match=a&match=a&match_exact=a").matchers) == 1


@pytest.mark.parametrize("query", ["", "foo=bar", "last_event_id=1"])
def test_a_stream_has_one_matcher_at_least(query: str) -> None:
    assert get(query).status == 400


@pytest.mark.parametrize("name", ["match_x", "Match", "MATCH_EXACT", "matcher", "match_URLPattern", "match-exact"])
def test_a_parameter_that_begins_with_match_and_is_none_is_refused(name: str) -> None:
    assert get(f"match=a&{name}=b").status == 400
    assert isinstance(get(f"topic=a&{name}=b", policy(mercure_version="7")), Subscribe)  # no name of draft 07


@pytest.mark.parametrize(
    "value", ["", "a%00", "a%0A", "a%7F", "a%C2%80", "a%E2%80%8B", "%FF", "a" * 2049]
)  # fmt: skip
@pytest.mark.parametrize("name", ["match", "match_urlpattern", "topic"])
def test_a_matcher_with_what_the_drafts_forbid_is_refused(name: str, value: str) -> None:
    assert get(f"{name}={value}").status == 400


def test_a_matcher_that_is_no_url_pattern_is_refused_and_too_many_are() -> None:
    assert get("match_urlpattern=https://example.com/(").status == 400
    assert get("&".join(f"match={number}" for number in range(101))).status == 400
    assert isinstance(get("&".join(f"match={number}" for number in range(100))), Subscribe)


@pytest.mark.parametrize(
    ("name", "one", "most"),
    [
        ("topic", "/{}/%7Bx%7D", 24),
        ("topic", "/{}/%7B%2Ba,b,c%7D%7B%2Ba,b,c%7D%7B%2Ba,b,c%7D%7B%2Ba,b,c%7D", 9),
        ("match_urlpattern", "/{}/:x", 12),
        ("match_urlpattern", "/{}/(%5Cp%7BL%7D)", 2),
        ("match_urlpattern", "/{}/(%5Cp%7BL%7D%7C%5Cp%7BL%7D%7C%5Cp%7BL%7D%7C%5Cp%7BL%7D)*", 1),
    ],
)
def test_a_stream_has_few_matchers_that_cost_something(name: str, one: str, most: int) -> None:
    assert isinstance(get("&".join(f"{name}={one.format(number)}" for number in range(most))), Subscribe)
    refused = get("&".join(f"{name}={one.format(number)}" for number in range(most + 1)))
    assert refused.status == 400
    assert "is one too many" in orjson.loads(refused.body)["detail"]


def test_what_strangers_asked_for_is_not_held_on_to() -> None:
    of = policy()
    for number in range(200):
        topics = "&".join(f"match_urlpattern=/held-{number}/{each}/:id" for each in range(10))
        assert asked("HEAD", topics, of, "/.well-known/mercure").status == 200
    texts = [each.text for each in gc.get_objects() if isinstance(each, Matcher)]
    assert 0 < sum(text.startswith("/held-") for text in texts) <= MOST_KEPT // 4


def test_each_version_alone_takes_its_own_parameters() -> None:
    assert get("topic=a", policy(mercure_version="8")).status == 400
    assert get("match=a", policy(mercure_version="7")).status == 400
    assert len(get("match=a&topic=b").matchers) == 2


@pytest.mark.parametrize("name", ["last_event_id", "lastEventID", "Last-Event-ID"])
def test_a_last_event_id_comes_in_the_query_and_the_header_goes_before_it(name: str) -> None:
    assert get(f"match=a&{name}=urn%3A1").last_event_id == "urn:1"
    assert get(f"match=a&{name}=urn%3A1", last_event_id="urn:2").last_event_id == "urn:2"
    assert get(f"match=a&{name}=urn%3A1", last_event_id="").last_event_id == "urn:1"
    assert get(f"match=a&{name}=earliest").last_event_id == "earliest"


def test_who_says_a_last_event_id_is_told_where_the_stream_begins_in_the_words_of_its_draft() -> None:
    assert get("match=a").mercure.told_by == ()
    assert get("match=a&last_event_id=1").mercure.told_by == (b"mercure-last-event-id",)
    assert get("match=a&last_event_id=").mercure.told_by == (b"mercure-last-event-id",)
    assert get("match=a", last_event_id="").mercure.told_by == (b"mercure-last-event-id",)
    assert get("topic=a&lastEventID=1").mercure.told_by == (b"last-event-id",)


def test_a_hub_is_asked_by_get_head_post_and_options() -> None:
    assert asked("HEAD", "match=a", None, "/.well-known/mercure").status == 200
    assert (b"allow", b"GET, HEAD, POST, OPTIONS") in asked("OPTIONS", "", None, "/.well-known/mercure").headers
    assert asked("PUT", "match=a", None, "/.well-known/mercure").status == 405


# ---- who may listen --------------------------------------------------------------------------------------------------


def test_who_has_no_token_reads_nothing_private() -> None:
    wanted = get("match=*")
    assert not wanted.private
    assert wanted.grants.credential is None


def test_without_anonymous_a_stream_takes_a_token() -> None:
    answer = get("match=a", policy(mercure_anonymous=False))
    assert answer.status == 401
    assert challenge(answer) == f'Bearer resource_metadata="{METADATA}"'  # and no error: none was shown


@pytest.mark.parametrize("claim", ["mercure", "https://mercure.rocks/"])
def test_a_token_of_draft_07_says_what_private_updates_its_holder_reads(claim: str) -> None:
    token = token7(subscribe=["https://example.com/books/{id}", "foo"], claim=claim)
    private = get("topic=*", **bearer(token)).private
    assert private.matches("https://example.com/books/1")
    assert private.matches("foo")
    assert not private.matches("bar")


def test_a_token_of_draft_08_says_what_private_updates_its_holder_reads() -> None:
    given = detail("foo", {"match": "/books/:id", "match_type": "urlpattern"})
    token = token8(SUBSCRIBER, given, detail("no", actions=["publish"]), {"type": "other", "topics": 7})
    wanted = get("match=*", **bearer(token))
    assert wanted.private.matches("https://hub.example/books/1")
    assert wanted.private.matches("foo")
    assert not wanted.private.matches("no")
    assert wanted.grants.until is not None


def test_a_header_goes_before_the_query_and_that_before_a_cookie() -> None:
    first, second, third = (token7(subscribe=[name]) for name in ("first", "second", "third"))
    cookie = f"mercureAuthorization={third}"
    assert get(f"topic=a&authorization={second}", cookie=cookie, **bearer(first)).private.exact == {"first"}
    assert get(f"topic=a&authorization={second}", cookie=cookie).private.exact == {"second"}
    assert get("topic=a", cookie=cookie).private.exact == {"third"}


def test_draft_08_has_no_token_in_a_url_and_a_cookie_of_its_own_name() -> None:
    only8 = policy(mercure_version="8")
    token = token8(SUBSCRIBER, detail("a"))
    assert get(f"match=a&authorization={token}&access_token={token}", only8).grants.credential is None
    assert get("match=a", only8, cookie=f"__Secure-mercure_access_token={token}").private.exact == {"a"}
    assert get("match=a", only8, cookie=f"mercureAuthorization={token}").grants.credential is None
    named = policy(mercure_cookie="hub")
    assert get("match=a", named, cookie=f"hub={token}").private.exact == {"a"}


@pytest.mark.parametrize("value", ["Bearer", "Bearer a b", "Basic abc", "Bearer a.b.c, Bearer a.b.c", "token"])
def test_a_token_that_is_not_sent_as_one_is_a_malformed_request(value: str) -> None:
    answer = get("match=a", authorization=value)
    assert answer.status == 400
    assert 'error="invalid_request"' in challenge(answer)


# ---- tokens of draft 08 ----------------------------------------------------------------------------------------------

BAD: dict[str, Callable[[], str]] = {
    "of another key": lambda: token8(PUBLISHER, detail("a")),
    "not of type at+jwt": lambda: token8(SUBSCRIBER, detail("a"), typ="JWT"),
    "without exp": lambda: token8(SUBSCRIBER, detail("a"), exp=None),
    "of another audience": lambda: token8(SUBSCRIBER, detail("a"), aud="https://other.example"),
    "without audience": lambda: token8(SUBSCRIBER, detail("a"), aud=None),
    "of another issuer": lambda: token8(SUBSCRIBER, detail("a"), iss="https://other.example"),
    "without issuer": lambda: token8(SUBSCRIBER, detail("a"), iss=None),
    "over": lambda: token8(SUBSCRIBER, detail("a"), exp=1),
    "not yet valid": lambda: token8(SUBSCRIBER, detail("a"), nbf=4102444800, exp=4102444801),
    "of another algorithm": lambda: token8(SUBSCRIBER, detail("a"), alg="HS384"),
    "of none": lambda: jwt.encode({"authorization_details": []}, None, "none"),
    "with details that are no array": lambda: token8(SUBSCRIBER, authorization_details={}),
    "with a detail that is no object": lambda: token8(SUBSCRIBER, "a"),
    "without actions": lambda: token8(SUBSCRIBER, {"type": DETAIL, "topics": [{"match": "a"}]}),
    "with empty actions": lambda: token8(SUBSCRIBER, detail("a", actions=[])),
    "with an action that is no string": lambda: token8(SUBSCRIBER, detail("a", actions=["subscribe", 7])),
    "without topics": lambda: token8(SUBSCRIBER, {"type": DETAIL, "actions": ["subscribe"]}),
    "with empty topics": lambda: token8(SUBSCRIBER, detail()),
    "with a topic that is no object": lambda: token8(SUBSCRIBER, {**detail(), "topics": ["a"]}),
    "with a topic that is null": lambda: token8(SUBSCRIBER, {**detail(), "topics": [None]}),
    "with a topic without match": lambda: token8(SUBSCRIBER, detail({"match_type": "exact"})),
    "with an unknown type of match": lambda: token8(SUBSCRIBER, detail({"match": "a", "match_type": "Exact"})),
    "with a URL pattern that is none": lambda: token8(SUBSCRIBER, detail({"match": "(", "match_type": "urlpattern"})),
    "with a bad one beside a good one": lambda: token8(SUBSCRIBER, detail("a"), detail({"match": "a\n"})),
    "with a payload that is no object": lambda: token8(SUBSCRIBER, detail("a", payload="x")),
    "with too many details": lambda: token8(
        SUBSCRIBER, *[{"type": DETAIL, "actions": ["x"], "topics": [{"match": "a"}]}] * 101
    ),
    "not a token": lambda: "abc",
}


@pytest.mark.parametrize("which", BAD)
def test_a_token_that_fails_is_an_invalid_one_and_never_nobodys(which: str) -> None:
    token = BAD[which]()
    if which == "with too many details":  # it would be too long for a token of the usual bounds
        assert len(token) > 8192
    answer = get("match=a", **bearer(token))
    assert answer.status == 401
    assert 'error="invalid_token"' in challenge(answer)
    assert f'resource_metadata="{METADATA}"' in challenge(answer)


def test_an_action_that_nobody_knows_grants_nothing_and_invalidates_nothing() -> None:
    token = token8(SUBSCRIBER, detail("a", actions=["dance"]), detail("b", actions=["dance", "subscribe"]))
    assert get("match=*", **bearer(token)).private.exact == {"b"}


def test_a_type_of_token_is_written_in_any_case_and_with_its_prefix() -> None:
    token = token8(SUBSCRIBER, detail("a"), typ="application/AT+JWT", aud=["https://other.example", URL])
    assert get("match=a", **bearer(token)).private.exact == {"a"}


def test_version_8_alone_takes_no_token_of_draft_07() -> None:
    assert get("match=a", policy(mercure_version="8"), **bearer(token7(subscribe=["*"]))).status == 401


# ---- publishing ------------------------------------------------------------------------------------------------------


def publishes(wanted: Any, *topics: str) -> bool:
    assert isinstance(wanted, Publish)
    assert wanted.form is Form.UPDATE
    return all(may_publish(wanted.grants, topic) for topic in topics)


def test_publishing_takes_a_token_of_the_publishers_key() -> None:
    answer = post()
    assert answer.status == 401
    assert "error" not in challenge(answer)
    assert post(**bearer(token7(SUBSCRIBER, publish=["*"]))).status == 401
    assert publishes(post(**bearer(token7(PUBLISHER, publish=["*"]))), "a", "https://example.com/b")
    assert publishes(post(**bearer(token8(PUBLISHER, detail("*", actions=["publish"])))), "a")


def test_a_publisher_may_what_is_granted_to_publish_and_nothing_else() -> None:
    wanted = post(**bearer(token8(PUBLISHER, detail("a", actions=["publish"]), detail("b"))))
    assert publishes(wanted, "a")
    assert not publishes(wanted, "b")
    wanted = post(**bearer(token7(PUBLISHER, publish=["https://example.com/{id}"], subscribe=["b"])))
    assert publishes(wanted, "https://example.com/1")
    assert not publishes(wanted, "b")
    assert not publishes(post(**bearer(token7(PUBLISHER, publish=[]))), "a")


def test_a_page_publishes_by_a_cookie_only_where_it_is_ours_or_listed() -> None:
    cookie = {"cookie": f"mercureAuthorization={token7(PUBLISHER, publish=['*'])}"}
    listed = policy(cors_origins=["https://app.example"])
    assert post(listed, **cookie).status == 403  # neither Origin nor Referer
    assert post(listed, **cookie, origin="https://evil.example").status == 403
    assert post(listed, **cookie, referer="https://evil.example/page").status == 403
    assert publishes(post(listed, **cookie, origin="https://app.example"), "a")
    assert publishes(post(listed, **cookie, referer="https://app.example/page"), "a")
    assert publishes(post(listed, **cookie, origin="http://hub"), "a")


def test_an_update_is_a_form_of_bounded_size() -> None:
    token = bearer(token7(PUBLISHER, publish=["*"]))
    assert post(content_type="application/json", **token).status == 400
    assert isinstance(post(content_type="application/x-www-form-urlencoded; charset=utf-8", **token), Publish)
    assert post(content_length="100000000", **token).status == 413


def test_without_any_key_all_may_publish_who_may_by_our_own_endpoint() -> None:
    free = policy_of(Settings(mercure=True), 65536)
    assert publishes(post(free), "a")
    assert post(free, origin="https://evil.example").status == 403
    keyed = policy_of(Settings(mercure=True, publish_key="of sixteen letters or more".replace(" ", "-")), 65536)
    assert post(keyed).status == 401
    assert publishes(post(keyed, **bearer("of-sixteen-letters-or-more")), "a")


# ---- our own tokens, and our own endpoints ---------------------------------------------------------------------------


def test_a_token_of_our_own_claims_holds_by_mercure_too() -> None:
    ours = policy_of(Settings(mercure=True, token_secret=SUBSCRIBER), 65536)
    claims = {"sse": {"subscribe": ["orders:*", "news"], "publish": ["news"]}, "exp": int(time.time()) + 60}
    token = bearer(jwt.encode(claims, SUBSCRIBER, "HS256"))
    assert get("topic=news&topic=orders:7", ours, **token).private.matches("orders:7")
    assert publishes(post(ours, **token), "news")
    assert not publishes(post(ours, **token), "other")


def test_where_listening_is_closed_by_our_own_settings_mercure_opens_nothing() -> None:
    ours = policy_of(Settings(mercure=True, token_secret=SUBSCRIBER, grant_subscribe=["open"]), 65536)
    token = bearer(jwt.encode({"mercure": {"subscribe": ["a"]}, "exp": int(time.time()) + 60}, SUBSCRIBER, "HS256"))
    assert get("topic=open", ours).status == 401
    assert isinstance(get("topic=a&topic=open", ours, **token), Subscribe)
    assert get("topic=b", ours, **token).status == 403
    assert get("topic=*", ours, **token).status == 403


def test_a_token_of_mercure_holds_at_our_own_endpoints_for_topics_that_are_channels() -> None:
    token = bearer(token7(SUBSCRIBER, subscribe=["news"]))
    assert isinstance(get(path="/sse/news", **token), Subscribe)
    assert get(path="/sse/other", **token).status == 403
    assert get(path="/sse/news").status == 401  # what is private there is not for everybody
    headers = bearer(token7(PUBLISHER, publish=["*"]))
    assert isinstance(asked("POST", "", None, "/publish/news", **headers), Publish)
    assert asked("POST", "", None, "/publish/news", **token).status == 401


def test_without_the_setting_nobody_speaks_mercure() -> None:
    assert isinstance(get("match=a", policy_of(Settings(), 65536)), Elsewhere)


# ---- beside them -----------------------------------------------------------------------------------------------------


def test_the_hub_says_what_it_is() -> None:
    path = "/.well-known/oauth-protected-resource/.well-known/mercure"
    answer = get(path=path)
    assert (b"content-type", b"application/json") in answer.headers
    assert orjson.loads(answer.body) == {
        "resource": URL,
        "authorization_details_types_supported": [DETAIL],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": "__Secure-mercure_access_token",
        "mercure_matcher_types_supported": ["exact", "urlpattern"],
    }
    assert get(path=path, of=policy(mercure_version="7")).status == 404
    named = orjson.loads(get(path=path, of=policy(mercure_url=None), host="b.example", x_forwarded_proto="https").body)
    assert named["resource"] == "https://b.example/.well-known/mercure"


def test_who_listens_is_told_to_who_may_listen_there() -> None:
    path = "/.well-known/mercure/subscriptions"
    told = policy(mercure_subscriptions=True)
    assert get(path=path).status == 404  # it is not set
    assert get(path=path, of=told).status == 401
    assert get(path=path, of=told, **bearer(token8(SUBSCRIBER, detail("a")))).status == 403
    assert isinstance(get(path=path, of=told, **bearer(token8(SUBSCRIBER, detail(path)))), Elsewhere)
    pattern = {"match": "/.well-known/mercure/subscriptions/exact/:topic/:subscriber", "match_type": "urlpattern"}
    one = f"{path}/exact/https:{SLASH}{SLASH}example.com{SLASH}a/urn:uuid:1"
    assert isinstance(get(path=one, of=told, **bearer(token8(SUBSCRIBER, detail(pattern)))), Elsewhere)
    topic = f"{path}/exact/https%3A%2F%2Fexample.com%2Fa/urn%3Auuid%3A1"
    assert isinstance(get(path=one, of=told, **bearer(token8(SUBSCRIBER, detail(topic)))), Elsewhere)


def test_pages_of_listed_origins_read_with_cookies_and_no_others() -> None:
    listed = policy(cors_origins=["https://app.example"])
    wanted = get("match=a", listed, origin="https://app.example")
    assert (b"access-control-allow-origin", b"https://app.example") in wanted.headers
    assert (b"access-control-allow-credentials", b"true") in wanted.headers
    others = [name for name, _ in get("match=a", listed, origin="https://evil.example").headers]
    assert b"access-control-allow-origin" not in others


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_key_may_be_a_public_one_in_pem(alg: str) -> None:
    private: Any = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[alg]()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    of = policy(mercure_subscriber_key=pem, mercure_subscriber_alg=alg)
    token = jwt.encode({"mercure": {"subscribe": ["a"]}}, private, alg)
    assert get("topic=a", of, **bearer(token)).private.exact == {"a"}
    forged = jwt.encode({"mercure": {"subscribe": ["a"]}}, "x" * 64, "HS256")
    assert get("topic=a", of, **bearer(forged)).status == 401


@pytest.mark.parametrize("where", [{"host": "0.0.0.0"}, {"uds": "/tmp/hub"}, {"trusted_proxies": "127.0.0.1"}])
def test_a_hub_that_tokens_are_for_does_not_take_its_name_from_who_asks(where: dict[str, Any]) -> None:
    given: dict[str, Any] = {"mercure": True, "mercure_publisher_key": PUBLISHER, **where}
    with pytest.raises(ValueError, match="Set mercure_url"):
        refuse_unsafe(Settings(**given))
    for named in ({"mercure_url": URL}, {"allowed_hosts": "hub.example"}, {"mercure_version": "7"}):
        refuse_unsafe(Settings(**given, **named))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mercure_publisher_key": "short"}, "mercure_publisher_key: a token secret has at least 32 bytes"),
        ({"mercure_subscriber_key": "x" * 64, "mercure_subscriber_alg": "RS256"}, "it is a public key in PEM"),
        (
            {"mercure_publisher_key": "-----BEGIN PUBLIC KEY-----\nx", "mercure_publisher_alg": "ES256"},
            "PEM key of ES256",
        ),
    ],
)
def test_a_key_that_is_none_starts_no_server(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refuse_unsafe(Settings(mercure=True, **settings))
    with pytest.raises(ValueError, match="mercure_url does nothing without"):
        refuse_unsafe(Settings(mercure_url=URL))


def test_what_a_publisher_is_refused_names_the_topic() -> None:
    from sse_fast.access.mercure import refuse_not_granted

    wanted = post(**bearer(token7(PUBLISHER, publish=["a"])))
    with pytest.raises(Forbidden, match="to publish to 'b'"):
        refuse_not_granted(wanted.grants, ("a", "b"))


@pytest.mark.parametrize("version", ["3.1", "3.2"])
def test_the_description_of_the_edge_has_mercures_endpoints_where_it_is_spoken(version: str) -> None:
    given = {"mercure": True, "mercure_subscriptions": True, "mercure_publisher_key": PUBLISHER}
    settings = Settings(**given)  # type: ignore[arg-type]
    made = openapi(settings, policy_of(settings, 65536), None, version, "/edge")
    if version == "3.1":
        validate(made)
    mercure = made["paths"]["/.well-known/mercure"]
    assert mercure["servers"] == [{"url": "/"}]
    names = [each["name"] for each in mercure["get"]["parameters"]]
    assert names == ["match", "match_urlpattern", "last_event_id", "topic", "lastEventID"]
    assert "application/x-www-form-urlencoded" in mercure["post"]["requestBody"]["content"]
    assert "/.well-known/mercure/subscriptions" in made["paths"]
    plain = Settings()
    assert "/.well-known/mercure" not in openapi(plain, policy_of(plain, 65536), None, version, "")["paths"]


def test_a_query_with_a_secret_does_not_stay_in_memory() -> None:
    token = token7(subscribe=["a"])
    of, at = policy(), time.time()
    assert isinstance(get(f"topic=a&lastEventID={at}", of), Subscribe)
    assert isinstance(get(f"topic=a&authorization={token}&x={at}", of), Subscribe)
    assert isinstance(get(f"topic=a&%61uthorization={token}&x={at}", of), Subscribe | Answer)
    queries = [query for query, *_ in KNOWN]
    assert any(str(at).encode() in query for query in queries)
    assert not any(token.encode() in query for query in queries)
