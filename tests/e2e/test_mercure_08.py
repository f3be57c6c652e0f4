"""The Mercure protocol as the draft of version 08 has it: what it says a hub MUST do, at `sse-fast serve --mercure`.
MERCURE.md has each MUST with its test here."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from conftest import until
from cryptography.hazmat.primitives.asymmetric import ec
from mercure_hubs import DETAIL, KEY, RESOURCE, access_token
from mercure_words import (
    EVERYTHING,
    SUBSCRIPTIONS,
    Spoken,
    bearer,
    claims,
    document,
    here_only,
    hub_of,
    refusal,
    signed,
    unique,
)

NOT_TEXT = ("%00", "a%0Ab", "%1F", "%7F", "%C2%85", "%E2%80%8B", "%E2%80%AE", "%FF", "%C3")
INVALID = (401, "invalid_token")
FOREIGN = jwt.encode(claims(exp=4_000_000_000), "another key, of thirty-two bytes at least", headers={"typ": "at+jwt"})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    yield from hub_of(8, tmp_path_factory.mktemp("hub"))


def detail(*topics: Any, actions: Any = ("subscribe",), **more: Any) -> dict[str, Any]:
    return {"type": DETAIL, "actions": list(actions), "topics": list(topics)} | more


# ---- Subscription ----------------------------------------------------------------------------------------------------


def test_a_get_opens_a_stream_of_events(hub: Spoken) -> None:
    answer = hub.get([("match", unique())])
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"


def test_parameters_in_a_body_are_a_union_with_the_querys_or_the_method_is_not_offered(hub: Spoken) -> None:
    asked, carried, last = unique(), unique(), unique()
    request = hub.client.build_request("QUERY", hub.address([("match", asked)]), data={"match": [carried, last]})
    answer = hub.client.send(request, stream=True)
    try:
        if answer.status_code in (405, 501):
            return  # a hub may leave it out
        assert answer.status_code == 200
        lines = answer.iter_lines()
        for topic in (asked, carried, last):
            hub.published(topic, data=topic)
        got = [next(line for line in lines if line.startswith("data:")).removeprefix("data:").strip() for _ in range(3)]
        assert got == [asked, carried, last]
    finally:
        answer.close()


@pytest.mark.parametrize(
    "name", ["Match", "MATCH", "matches", "match_", "match_URLPattern", "match_uritemplate", "match_Exact"]
)
def test_a_name_in_the_namespace_of_match_that_is_no_matcher_type_is_400(hub: Spoken, name: str) -> None:
    assert hub.get([("match", unique()), (name, "x")]).status_code == 400


def test_the_query_is_parsed_as_a_form(hub: Spoken) -> None:
    plus, amp = unique("a+"), unique("a&b=%41;")
    query = f"match={plus.replace('+', '%2B')}&match={quote(amp, safe='')}&match_exact={quote(unique())}"
    with hub.listening(query) as heard:
        for topic in (plus, amp):
            hub.published(topic, data=topic)
        assert [heard.next().data for _ in range(2)] == [plus, amp]


@pytest.mark.parametrize("value", NOT_TEXT)
def test_matchers_with_controls_format_characters_or_no_text_are_400(hub: Spoken, value: str) -> None:
    assert hub.get(f"match={value}").status_code == 400
    assert hub.get(f"match_urlpattern=https://example.com/{value}").status_code == 400


def test_a_pattern_that_is_none_is_400(hub: Spoken) -> None:
    assert hub.get([("match_urlpattern", "https://example.com/(")]).status_code == 400


def test_more_matchers_than_a_hub_takes_are_400(hub: Spoken) -> None:
    assert hub.get([("match", f"t{n}") for n in range(1000)]).status_code == 400


def test_pages_of_listed_origins_may_read_with_credentials_and_no_others(hub: Spoken) -> None:
    here_only()
    listed = hub.get([("match", unique())], {"Origin": "https://app.example"})
    assert listed.headers["access-control-allow-origin"] == "https://app.example"
    assert listed.headers["access-control-allow-credentials"] == "true"
    other = hub.get([("match", unique())], {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


# ---- Matcher types ---------------------------------------------------------------------------------------------------


def test_exact_is_byte_for_byte(hub: Spoken) -> None:
    base = unique("")
    topics = [f"https://example.com/{base}/é", f"/{base}", f"https://example.com/{base}/x"]
    near = [f"https://example.com/{base}/e\u0301", f"{RESOURCE[:17]}/{base}", f"https://EXAMPLE.com/{base}/x"]
    near += [f"https://example.com/{base}/X", f"https://example.com/{base}/%78", f"https://example.com/{base}/x/"]
    params = [("match", topic) for topic in topics]
    assert hub.heard(params, *({"topic": topic} for topic in near + topics)) == topics


def test_url_patterns_are_matched_case_sensitively_and_relative_ones_against_the_hub(hub: Spoken) -> None:
    base = unique("")
    params = [("match_urlpattern", f"https://example.com/{base}/:id"), ("match_urlpattern", f"/{base}/:room")]
    hit = [
        f"https://example.com/{base}/1",
        f"https://EXAMPLE.com/{base}/2",
        f"/{base}/3",
        f"https://localhost/{base}/4",
    ]
    miss = [f"https://example.com/{base}/1/2", f"https://example.com/{base.upper()}x/1", f"http://example.com/{base}/1"]
    miss += [f"http://[{base}/1"]  # no URL at all
    assert hub.heard(params, *({"topic": topic} for topic in miss + hit)) == hit


def test_a_hostile_pattern_is_not_matched_and_holds_up_nobody(hub: Spoken) -> None:
    base = unique("")
    other, topic = f"https://example.com/{base}-other", f"https://example.com/{base}/" + "a" * 200
    patterns = [f"https://example.com/{base}/({hostile})" for hostile in ("(?:a|a)*)*b", "(?:a+)+b")]
    taken = [each for each in patterns if hub.get([("match_urlpattern", each)]).status_code != 400]
    assert patterns[1] in taken
    with hub.listening([("match_urlpattern", each) for each in taken]):
        params = [*(("match_urlpattern", each) for each in taken), ("match", other)]
        assert hub.heard(params, {"topic": topic}, {"topic": other}) == [other]


def test_a_star_matches_everything_whatever_the_type(hub: Spoken) -> None:
    for name in ("match", "match_exact", "match_urlpattern"):
        topics = [unique(), unique("urn:uuid:")]
        heard = hub.heard([(name, "*")], *({"topic": topic} for topic in topics))
        assert [topic for topic in heard if topic in topics] == topics


# ---- Publication -----------------------------------------------------------------------------------------------------


def test_what_is_no_form_or_no_utf8_or_has_no_topic_is_refused(hub: Spoken) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"} | bearer(hub.all)
    other = {"Content-Type": "application/json"} | bearer(hub.all)
    assert 400 <= hub.client.post(hub.url, content=b'{"topic": "a", "data": "b"}', headers=other).status_code < 500
    for body in (b"topic=a&data=%FF", b"topic=%FF&data=a", b"data=a", b""):
        assert hub.client.post(hub.url, content=body, headers=form).status_code == 400, body


@pytest.mark.parametrize("value", NOT_TEXT)
@pytest.mark.parametrize("field", ["topic", "id", "type"])
def test_topics_ids_and_types_with_controls_or_format_characters_are_400(hub: Spoken, field: str, value: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"} | bearer(hub.all)
    others = "" if field == "topic" else "topic=https://example.com/a&"
    body = f"{others}{field}=a{value}&data=b"
    assert hub.client.post(hub.url, content=body.encode(), headers=form).status_code == 400


@pytest.mark.parametrize(
    "topic",
    [
        "*",
        "/.well-known/mercure",
        "/.well-known/mercure/anything",
        f"https://localhost{SUBSCRIPTIONS}/exact/a/b",
        f"http://elsewhere.example:81{SUBSCRIPTIONS}",
        "/.well-known/%6Dercure/a",
        "/.well-known/mercure/../mercure/a",
        "/a/../.well-known/./mercure",
    ],
)
def test_the_star_and_the_hubs_own_names_are_no_topics_to_publish(hub: Spoken, topic: str) -> None:
    assert hub.publish(topic, data="x").status_code == 400
    assert hub.publish(unique(), topic, data="x").status_code == 400


def test_names_beside_the_hubs_own_are_topics(hub: Spoken) -> None:
    topics = [
        unique("/.well-known/mercure-"),
        unique("/.well-known/x"),
        unique("https://example.com/.well-known/mercurex/"),
    ]
    assert hub.heard([("match", topic) for topic in topics], *({"topic": topic} for topic in topics)) == topics


def test_data_is_one_field_for_each_line_however_lines_end(hub: Spoken) -> None:
    topic = unique()
    with hub.client.stream("GET", hub.address([("match", topic)])) as stream:
        hub.published(topic, data="a\rb\r\nc\n\nid: forged\nevent: x", id=unique("urn:"))
        lines = stream.iter_lines()
        found = [next(line for line in lines if line.startswith("data:"))]
        while line := next(lines):
            found.append(line)
    data = [line for line in found if not line.startswith(("id:", "event:", "retry:"))]
    assert [line.removeprefix("data:").lstrip() for line in data] == ["a", "b", "c", "", "id: forged", "event: x"]


@pytest.mark.parametrize("value", ["on", "", "off", "false", "0"])
def test_private_is_private_whatever_its_value(hub: Spoken, value: str) -> None:
    topic = unique()
    update = {"topic": topic, "private": value}
    assert hub.heard([("match", topic)], update) == []
    assert hub.heard([("match", topic)], update, to=hub.grant(unique())) == []
    assert hub.heard([("match", topic)], update, to=hub.grant(topic)) == [topic]


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "#1"), ("id", "earliest"), ("type", "mercure"), ("retry", "1s"), ("retry", "-1"), ("retry", "\uff11")],
)
def test_reserved_ids_and_types_and_retries_that_are_no_number_are_400(hub: Spoken, field: str, value: str) -> None:
    assert hub.publish(unique(), data="x", **{field: value}).status_code == 400


def test_the_answer_is_200_with_the_id_as_text(hub: Spoken) -> None:
    topic = unique()
    with hub.listening([("match", topic)]) as heard:
        answer = hub.publish(topic, data="x", unknown="field", another="")
        assert answer.status_code == 200
        assert answer.headers["content-type"].replace(" ", "").lower() == "text/plain;charset=utf-8"
        assert answer.text.startswith("#") or ":" in answer.text  # a fragment, or an IRI
        assert heard.next().id == answer.text


def test_a_body_that_is_too_large_is_413(hub: Spoken) -> None:
    answer = hub.publish(unique(), data="x" * (17 * 1024 * 1024))
    assert answer.status_code == 413


# ---- Authorization ---------------------------------------------------------------------------------------------------


def test_publishing_without_a_token_is_401_with_a_challenge_and_no_error_code(hub: Spoken) -> None:
    assert refusal(hub.publish(unique(), data="x", headers={})) == (401, "")


def test_a_token_that_does_not_grant_it_is_403(hub: Spoken) -> None:
    topic = unique()
    for text in (hub.grant(topic), hub.grant(unique(), action="publish"), signed({"authorization_details": None})):
        assert refusal(hub.publish(topic, data="x", headers=bearer(text))) == (403, "insufficient_scope")


BAD = {
    "another type": {"typ": "JWT"},
    "no issuer": {"iss": None},
    "another issuer": {"iss": "https://evil.example"},
    "no audience": {"aud": None},
    "another audience": {"aud": "https://localhost/"},
    "no end": {"exp": None},
    "over": {"exp": 1_700_000_000},
    "not yet": {"nbf": 4_000_000_000},
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_is_not_for_this_hub_or_not_for_now_is_invalid(hub: Spoken, case: str) -> None:
    change = dict(BAD[case])
    header = {"typ": change.pop("typ")} if "typ" in change else {}
    text = signed(change, **header)
    assert refusal(hub.publish(unique(), data="x", headers=bearer(text))) == INVALID
    assert refusal(hub.get([("match", unique())], bearer(text))) == INVALID


def test_a_token_signed_otherwise_than_it_was_agreed_is_invalid(hub: Spoken) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    header = {"typ": "at+jwt"}
    for text in (
        FOREIGN,
        signed({}, KEY, "HS512"),
        jwt.encode(claims(), "", "none", headers=header),
        jwt.encode(claims(), own, "ES256", headers=header | {"jwk": jwk}),
        signed({}).rpartition(".")[0] + ".",
    ):
        assert refusal(hub.publish(unique(), data="x", headers=bearer(text))) == INVALID


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_type_of_a_token_is_that_of_rfc_9068(hub: Spoken, typ: str) -> None:
    assert hub.publish(unique(), data="x", headers=bearer(signed({}, typ=typ))).status_code == 200


@pytest.mark.parametrize(
    "details",
    [
        [{"type": DETAIL, "topics": [EVERYTHING]}],
        [detail(EVERYTHING, actions=())],
        [detail(EVERYTHING, actions=("publish", 1))],
        [{"type": DETAIL, "actions": ["publish"]}],
        [detail(actions=("publish",))],
        [detail("*", actions=("publish",))],
        [detail({"match_type": "exact"}, actions=("publish",))],
        [detail({"match": "a", "match_type": "regexp"}, actions=("publish",))],
        [detail({"match": "a", "match_type": "Exact"}, actions=("publish",))],
        [detail({"match": "https://example.com/(", "match_type": "urlpattern"}, actions=("publish",))],
        [detail(EVERYTHING, actions=("publish",)), detail({"match": 1})],
        [detail(*({"match": f"t{n}"} for n in range(20_000)), actions=("publish",))],
    ],
    ids=str,
)
def test_one_wrong_authorization_detail_makes_the_whole_token_invalid(hub: Spoken, details: list[Any]) -> None:
    answer = hub.publish(unique(), data="x", headers=bearer(signed({"authorization_details": details})))
    assert refusal(answer) == INVALID or (len(str(details)) > 100_000 and answer.status_code in (400, 431))


def test_what_a_hub_does_not_know_of_a_detail_grants_nothing_and_harms_nothing(hub: Spoken) -> None:
    details = [
        {"type": "https://example.com/another", "actions": 1},
        detail(EVERYTHING, actions=("fly",)),
        detail({"match": "https://example.com/a"}, actions=("fly", "publish")),
    ]
    headers = bearer(signed({"authorization_details": details}))
    assert hub.publish("https://example.com/a", data="x", headers=headers).status_code == 200
    assert refusal(hub.publish("https://example.com/b", data="x", headers=headers)) == (403, "insufficient_scope")


def test_a_publisher_has_to_be_granted_every_topic_of_an_update(hub: Spoken) -> None:
    mine, other = unique(), unique()
    pattern = {"match": "https://example.com/books/:id", "match_type": "urlpattern"}
    headers = bearer(hub.grant(mine, action="publish"))
    with hub.listening([("match", mine), ("match", other)]) as heard:
        for topics in ((mine, other), (other, mine)):
            answer = hub.publish(*topics, data="refused", headers=headers)
            assert refusal(answer) == (403, "insufficient_scope")
        both = bearer(access_token(publish=[pattern]))
        assert hub.publish(mine, other, data="taken", headers=both).status_code == 200
        assert heard.next().data == "taken"


def test_a_private_update_is_for_who_is_granted_one_of_its_topics_whichever_it_listens_to(hub: Spoken) -> None:
    book, user = unique(), unique("https://example.com/users/")
    update = {"topics": [book, user], "private": "on"}
    assert hub.heard([("match", book)], update, to=hub.grant(user)) == [book]
    assert hub.heard([("match", user)], update, to=hub.grant(book)) == [book]
    assert hub.heard([("match", book)], update, to=hub.grant(unique())) == []
    assert hub.heard([("match", book)], update) == []


def test_the_header_is_taken_and_the_cookie_beside_it_is_not_looked_at(hub: Spoken) -> None:
    topic = unique()
    name = "__Secure-mercure_access_token"
    update = {"topic": topic, "private": "on"}

    def heard_with(headers: dict[str, str]) -> list[str]:
        last = unique("urn:")
        with hub.listening([("match", topic), ("match", last)], headers) as heard:
            hub.published(topic, data="secret", private="on")
            hub.published(last, data=last)
            return [event.data for event in heard.until(last)]

    granted = {"Cookie": f"{name}={hub.grant(topic)}"}
    assert heard_with(granted) == ["secret"]
    assert heard_with(granted | bearer(hub.grant(unique()))) == []
    assert refusal(hub.get([("match", topic)], granted | bearer(FOREIGN))) == INVALID
    assert heard_with({"Cookie": f"{name}={FOREIGN}"} | bearer(hub.grant(topic))) == ["secret"]
    assert heard_with({"Authorization": f"bEARER {hub.grant(topic)}"}) == ["secret"]
    assert hub.heard([("match", topic), ("access_token", hub.grant(topic))], update) == []


def test_a_cookie_publishes_for_pages_of_listed_origins_alone(hub: Spoken) -> None:
    here_only()
    cookie = {"Cookie": f"__Secure-mercure_access_token={hub.all}"}
    assert hub.publish(unique(), data="x", headers=cookie | {"Origin": "https://app.example"}).status_code == 200
    assert hub.publish(unique(), data="x", headers=cookie | {"Origin": "https://evil.example"}).status_code == 403
    assert hub.publish(unique(), data="x", headers=cookie).status_code in (400, 401, 403)


def test_a_header_that_holds_no_token_is_400_and_said_so(hub: Spoken) -> None:
    assert refusal(hub.publish(unique(), data="x", headers={"Authorization": "Bearer"})) == (400, "invalid_request")


def test_a_stream_ends_when_its_token_does(hub: Spoken) -> None:
    topic = unique()
    ends = pytest.raises((StopIteration, httpx.RemoteProtocolError))  # after a last chunk, or without
    with hub.listening([("match", topic)], bearer(hub.grant(topic, exp=time.time() + 2))) as heard, ends:
        heard.next()


# ---- Reconnection ----------------------------------------------------------------------------------------------------


def test_who_comes_back_by_an_id_gets_what_came_after_it_and_is_told_where_it_begins(hub: Spoken) -> None:
    topic = unique()
    ids = [hub.published(topic, data=str(n), id=unique("urn:uuid:")) for n in range(3)]
    for params, headers in (
        ([("last_event_id", ids[0])], {}),
        ([], {"Last-Event-ID": ids[0]}),
        ([("last_event_id", ids[1])], {"Last-Event-ID": ids[0]}),
    ):
        with hub.listening([("match", topic), *params], headers) as heard:
            assert heard.response.headers["mercure-last-event-id"] == ids[0]
            assert [heard.next().id for _ in range(2)] == ids[1:]


def test_the_hubs_own_ids_resume_as_well(hub: Spoken) -> None:
    topic = unique()
    ids = [hub.published(topic, data=str(n)) for n in range(2)]
    with hub.listening([("match", topic), ("last_event_id", ids[0])]) as heard:
        assert heard.response.headers["mercure-last-event-id"] == ids[0]
        assert heard.next().id == ids[1]


def test_who_comes_by_earliest_or_by_an_id_nobody_knows_gets_all_and_is_told(hub: Spoken) -> None:
    topic = unique()
    ids = [hub.published(topic, data=str(n), id=unique("urn:uuid:")) for n in range(2)]
    for given in ("earliest", unique("urn:uuid:")):
        with hub.listening([("match", topic)], {"Last-Event-ID": given}) as heard:
            assert heard.response.headers["mercure-last-event-id"] == "earliest"
            if given == "earliest":
                assert [heard.next().id for _ in range(2)] == ids
    with hub.listening([("match", topic)]) as heard:
        assert "mercure-last-event-id" not in heard.response.headers


def test_an_id_used_twice_is_that_of_its_first_update(hub: Spoken) -> None:
    topic, twice = unique(), unique("urn:uuid:")
    for number in range(4):
        hub.published(topic, data=str(number), id=twice if number in (0, 2) else unique("urn:"))
    with hub.listening([("match", topic)], {"Last-Event-ID": twice}) as heard:
        assert [heard.next().data for _ in range(3)] == ["1", "2", "3"]


def test_what_is_replayed_is_decided_by_the_token_of_now(hub: Spoken) -> None:
    topic = unique()
    first = hub.published(topic, data="first", id=unique("urn:"))
    hub.published(topic, data="private", private="on")
    hub.published(topic, data="last")
    for text, expected in ((None, ["last"]), (hub.grant(unique()), ["last"]), (hub.grant(topic), ["private", "last"])):
        headers = {"Last-Event-ID": first} | (bearer(text) if text else {})
        with hub.listening([("match", topic)], headers) as heard:
            assert [event.data for event in heard.until("last")] == expected[:-1]


# ---- Subscriptions ---------------------------------------------------------------------------------------------------


def subscriptions_of(matcher: str, type: str = "exact") -> str:
    return f"{SUBSCRIPTIONS}/{type}/{quote(matcher, safe='')}"


def test_a_subscription_that_begins_or_ends_is_told_in_private_to_who_may_know(hub: Spoken) -> None:
    matcher = f"https://example.com/{unique('')}/:id"
    path = subscriptions_of(matcher, "urlpattern")
    payload = {"name": "Kévin"}
    details = [
        detail({"match": "https://example.com/other"}, payload={"not": "this"}),
        detail({"match": matcher, "match_type": "urlpattern"}, payload=payload),
        detail(EVERYTHING, payload={"nor": "this"}),
    ]
    last = unique("urn:")
    watched = [("match_urlpattern", f"{path}/:subscriber"), ("match", last)]
    with hub.listening(watched) as stranger, hub.listening(watched, bearer(hub.all)) as heard:
        who = bearer(signed({"authorization_details": details}))
        for _ in range(2):
            with hub.listening([("match_urlpattern", matcher)], who):
                begun = heard.next()
            ended = heard.next()
            one = json.loads(begun.data)
            assert (begun.event, ended.event) == ("mercure", "mercure")
            assert begun.id
            assert one["id"] == f"{path}/{quote(one['subscriber'], safe='')}"
            expected = {"type": "subscription", "match_type": "urlpattern", "match": matcher, "payload": payload}
            assert {name: one[name] for name in expected} == expected
            assert one["active"] is True
            assert json.loads(ended.data) == one | {"active": False}
        hub.published(last, data=last)
        assert stranger.until(last) == []


def test_subscribers_are_told_apart_and_choose_no_name_themselves(hub: Spoken) -> None:
    topic = unique()
    claimed = [("match", topic), ("subscriber", "urn:me")]
    headers = bearer(hub.grant(topic)) | {"Subscriber": "urn:me"}
    with hub.listening(claimed, headers), hub.listening(claimed, headers):
        answer = hub.client.get(
            hub.url.replace("/.well-known/mercure", subscriptions_of(topic)), headers=bearer(hub.all)
        )
        names = [one["subscriber"] for one in document(answer)["subscriptions"]]
    assert len(set(names)) == 2
    assert "urn:me" not in names


def test_the_subscriptions_api_has_all_those_of_a_matcher_and_one(hub: Spoken) -> None:
    topic = unique()
    root = hub.url.removesuffix("/.well-known/mercure")
    last = hub.published(unique(), data="x", id=unique("urn:uuid:"))
    everything = bearer(hub.all)
    with hub.listening([("match", topic)]):
        collection = until(
            lambda: (
                (a := hub.client.get(root + subscriptions_of(topic), headers=everything)).json()["subscriptions"] and a
            ),
            "the subscription",
        )
        (one,) = document(collection)["subscriptions"]
        single = hub.client.get(root + one["id"], headers=everything)
        every = hub.client.get(root + SUBSCRIPTIONS, headers=everything)
        assert document(single) == one
        assert one in document(every)["subscriptions"]
        assert (document(collection)["id"], document(collection)["type"]) == (subscriptions_of(topic), "subscriptions")
        assert (document(every)["id"], document(every)["type"]) == (SUBSCRIPTIONS, "subscriptions")
        for answer in (collection, single, every):
            assert answer.headers["content-type"].partition(";")[0] == "application/json"
            links = answer.headers["link"]
            assert 'rel="mercure"' in links
            assert "last-event-id=" in links
    assert last
    missing = hub.client.get(f"{root}{subscriptions_of(topic)}/urn%3Auuid%3Anobody", headers=everything)
    assert missing.status_code == 404


def test_the_subscriptions_api_is_for_who_is_granted_its_path(hub: Spoken) -> None:
    topic = unique()
    path = subscriptions_of(topic)
    address = hub.url.replace("/.well-known/mercure", path)
    assert refusal(hub.client.get(address)) == (401, "")
    assert refusal(hub.client.get(address, headers=bearer(hub.grant(topic)))) == (403, "insufficient_scope")
    assert hub.client.get(f"{address}?a=b", headers=bearer(hub.grant(path))).status_code == 200
    pattern = {"match": f"{SUBSCRIPTIONS}/:type/:match", "match_type": "urlpattern"}
    assert hub.client.get(address, headers=bearer(access_token(subscribe=[pattern]))).status_code == 200


def test_pages_of_listed_origins_may_read_the_link_of_the_subscriptions_api(hub: Spoken) -> None:
    here_only()
    address = hub.url.replace("/.well-known/mercure", SUBSCRIPTIONS)
    answer = hub.client.get(address, headers=bearer(hub.all) | {"Origin": "https://app.example"})
    assert "link" in answer.headers["access-control-expose-headers"].lower()


# ---- Discovery -------------------------------------------------------------------------------------------------------


def test_the_metadata_of_the_resource_name_it(hub: Spoken) -> None:
    root = hub.url.removesuffix("/.well-known/mercure")
    answer = hub.client.get(f"{root}/.well-known/oauth-protected-resource/.well-known/mercure")
    assert document(answer)["resource"] == RESOURCE
