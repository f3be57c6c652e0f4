"""The Mercure protocol as hubs of version 0.x speak it, the draft of version 07: what it says a hub MUST do, shown at
`sse-fast serve --mercure`. MERCURE.md has each MUST with its test here."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from conftest import until
from mercure_hubs import KEY, WELL_KNOWN, serving, token
from mercure_words import SUBSCRIPTIONS, Spoken, bearer, document, here_only, hub_of, unique

FOREIGN = token("another key, of thirty-two bytes at least", publish=["*"], subscribe=["*"])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    yield from hub_of(7, tmp_path_factory.mktemp("hub"))


# ---- Subscription ----------------------------------------------------------------------------------------------------


def test_the_hub_is_at_its_well_known_path_and_answers_with_a_stream(hub: Spoken) -> None:
    assert httpx.URL(hub.url).path == WELL_KNOWN
    answer = hub.get([("topic", unique())])
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert 400 <= hub.get([]).status_code < 500


def test_selectors_are_topics_templates_and_the_star(hub: Spoken) -> None:
    base = unique("")
    exact, template = f"https://example.com/{base}/a{{b}}", f"https://example.com/{base}/books/{{id}}{{?page}}"
    hit = [exact, f"https://example.com/{base}/books/1", f"https://example.com/{base}/books/2?page=3", f"{template}"]
    miss = [f"https://example.com/{base}/books/1/2", f"https://example.com/{base}/b", f"/{base}/books/1"]
    assert hub.heard([("topic", exact), ("topic", template)], *({"topic": topic} for topic in miss + hit)) == hit
    topics = [unique(), unique("urn:")]
    heard = hub.heard([("topic", "*")], *({"topic": topic} for topic in topics))
    assert [topic for topic in heard if topic in topics] == topics


def test_data_and_the_other_properties_come_as_they_were_published(hub: Spoken) -> None:
    topic = unique()
    with hub.listening([("topic", topic)]) as heard:
        id = hub.published(topic, data="a\r\nb\n\nc", type="épuisé", retry="1500", id=unique("urn:uuid:"))
        event = heard.next()
    assert (event.id, event.event, event.data, event.retry) == (id, "épuisé", "a\nb\n\nc", 1500)


# ---- Publication -----------------------------------------------------------------------------------------------------


def test_what_is_no_form_or_has_no_topic_is_refused(hub: Spoken) -> None:
    other = {"Content-Type": "application/json"} | bearer(hub.all)
    assert 400 <= hub.client.post(hub.url, content=b'{"topic": "a", "data": "b"}', headers=other).status_code < 500
    assert hub.client.post(hub.url, data={"data": "b"}, headers=bearer(hub.all)).status_code == 400


def test_an_update_is_for_who_subscribes_to_any_of_its_topics_and_comes_once(hub: Spoken) -> None:
    canonical, alternate = unique(), unique()
    update = {"topics": [canonical, alternate]}
    for params in ([canonical], [alternate], [canonical, alternate]):
        assert hub.heard([("topic", topic) for topic in params], update) == [canonical]


def test_a_private_update_is_for_who_is_granted_one_of_its_topics_whichever_it_listens_to(hub: Spoken) -> None:
    book, user = unique(), unique("https://example.com/users/")
    update = {"topics": [book, user], "private": "on"}
    for granted, expected in (
        ([user], [book]),
        ([book], [book]),
        (["https://example.com/users/{id}"], [book]),
        (["*"], [book]),
        ([unique()], []),
        ([], []),
    ):
        assert hub.heard([("topic", book)], update, to=hub.grant(*granted)) == expected, granted
    assert hub.heard([("topic", book)], update) == []
    assert hub.heard([("topic", book)], update, to=token(publish=["*"])) == []


def test_an_id_does_not_begin_with_a_hash_and_a_missing_one_is_made(hub: Spoken) -> None:
    topic = unique()
    assert hub.publish(topic, data="x", id="#1").status_code == 400
    with hub.listening([("topic", topic)]) as heard:
        answer = hub.publish(topic, data="x")
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == "text/plain"
        assert answer.text
        assert heard.next().id == answer.text


# ---- Authorization ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claims", [{}, {"publish": []}, {"subscribe": ["*"]}])
def test_who_is_not_granted_publishing_publishes_nothing(hub: Spoken, claims: dict[str, Any]) -> None:
    topic = unique()
    last = unique("urn:")
    with hub.listening([("topic", topic), ("topic", last)]) as heard:
        assert hub.publish(topic, data="x", headers=bearer(token(**claims))).status_code in (401, 403)
        assert hub.publish(topic, data="x", headers={}).status_code == 401
        assert hub.publish(topic, data="x", headers=bearer(FOREIGN)).status_code in (401, 403)
        assert hub.publish(topic, data="x", headers=bearer(jwt.encode({}, KEY))).status_code in (401, 403)
        hub.published(last, data=last)
        assert heard.until(last) == []


def test_a_publisher_has_to_be_granted_every_topic_of_an_update(hub: Spoken) -> None:
    mine, other = unique(), unique()
    with hub.listening([("topic", mine), ("topic", other)]) as heard:
        for topics in ((mine, other), (other, mine), (other,)):
            answer = hub.publish(*topics, data="refused", headers=bearer(hub.grant(mine, action="publish")))
            assert answer.status_code == 403
        template = bearer(hub.grant("https://example.com/books/{id}", action="publish"))
        assert hub.publish(mine, other, data="taken", headers=template).status_code == 200
        assert heard.next().data == "taken"


def test_claims_are_found_under_the_name_of_the_namespace_too(hub: Spoken) -> None:
    topic = unique()
    text = jwt.encode({"https://mercure.rocks/": {"publish": [topic]}}, KEY)
    assert hub.publish(topic, data="x", headers=bearer(text)).status_code == 200
    assert hub.publish(unique(), data="x", headers=bearer(text)).status_code == 403


def test_the_header_comes_before_the_query_and_the_query_before_the_cookie(hub: Spoken) -> None:
    topic = unique()

    def secrets(query: str | None = None, cookie: str | None = None, header: str | None = None) -> list[str]:
        last = unique("urn:")
        params = [("topic", topic), ("topic", last), *([("authorization", query)] if query else [])]
        headers = {"Cookie": f"mercureAuthorization={cookie}"} if cookie else {}
        headers |= bearer(header) if header else {}
        with hub.listening(params, headers) as heard:
            hub.published(topic, data="secret", private="on")
            hub.published(last, data=last)
            return [event.data for event in heard.until(last)]

    yes, no = hub.grant(topic), hub.grant(unique())
    assert secrets(query=yes) == secrets(cookie=yes) == secrets(header=yes) == ["secret"]
    assert secrets(query=yes, cookie=no) == secrets(header=yes, query=no, cookie=no) == ["secret"]
    assert secrets(query=no, cookie=yes) == secrets(header=no, query=yes, cookie=yes) == []
    assert secrets(header=yes, query=FOREIGN, cookie=FOREIGN) == ["secret"]
    assert hub.get([("topic", topic)], bearer(FOREIGN)).status_code in (401, 403)


def test_a_cookie_publishes_for_pages_of_listed_origins_alone(hub: Spoken) -> None:
    here_only()
    cookie = {"Cookie": f"mercureAuthorization={hub.all}"}
    assert hub.publish(unique(), data="x", headers=cookie | {"Origin": "https://app.example"}).status_code == 200
    assert hub.publish(unique(), data="x", headers=cookie | {"Origin": "https://evil.example"}).status_code == 403
    assert hub.publish(unique(), data="x", headers=cookie).status_code in (400, 401, 403)


def test_a_stream_ends_when_its_token_does(hub: Spoken) -> None:
    topic = unique()
    text = jwt.encode({"mercure": {"subscribe": [topic]}, "exp": int(time.time()) + 2}, KEY)
    ends = pytest.raises((StopIteration, httpx.RemoteProtocolError))  # after a last chunk, or without
    with hub.listening([("topic", topic)], bearer(text)) as heard, ends:
        heard.next()


# ---- Reconnection ----------------------------------------------------------------------------------------------------


def test_who_comes_back_by_an_id_gets_what_came_after_it_and_is_told_where_it_begins(hub: Spoken) -> None:
    topic = unique()
    ids = [hub.published(topic, data=str(n), id=unique("urn:uuid:")) for n in range(3)]
    for params, headers in (
        ([("lastEventID", ids[0])], {}),
        ([], {"Last-Event-ID": ids[0]}),
        ([("lastEventID", ids[1])], {"Last-Event-ID": ids[0]}),
    ):
        with hub.listening([("topic", topic), *params], headers) as heard:
            assert heard.response.headers["last-event-id"] == ids[0]
            assert [heard.next().id for _ in range(2)] == ids[1:]


def test_who_comes_by_earliest_or_by_an_id_nobody_knows_is_told_so(hub: Spoken) -> None:
    topic = unique()
    ids = [hub.published(topic, data=str(n), id=unique("urn:uuid:")) for n in range(2)]
    with hub.listening([("topic", topic), ("lastEventID", "earliest")]) as heard:
        assert heard.response.headers["last-event-id"] == "earliest"
        assert [heard.next().id for _ in range(2)] == ids
    with hub.listening([("topic", topic)], {"Last-Event-ID": unique("urn:")}) as heard:
        assert heard.response.headers["last-event-id"] == "earliest"


# ---- Subscriptions ---------------------------------------------------------------------------------------------------


def test_a_subscription_that_begins_or_ends_is_told_in_private_to_who_may_know(hub: Spoken) -> None:
    selector = f"https://example.com/{unique('')}/{{id}}"
    path = f"{SUBSCRIPTIONS}/{quote(selector, safe='')}"
    last = unique("urn:")
    watched = [("topic", f"{path}/{{subscriber}}"), ("topic", last)]
    who = token(subscribe=[selector], payload={"name": "Kévin"})
    with hub.listening(watched) as stranger, hub.listening(watched, bearer(hub.all)) as heard:
        with hub.listening([("topic", selector)], bearer(who)):
            begun = json.loads(heard.next().data)
        ended = json.loads(heard.next().data)
        assert begun["id"] == f"{path}/{quote(begun['subscriber'], safe='')}"
        expected = {"@context": "https://mercure.rocks/", "type": "Subscription", "topic": selector, "active": True}
        assert {name: begun[name] for name in expected} == expected
        assert begun["payload"] == {"name": "Kévin"}
        assert ended == begun | {"active": False}
        hub.published(last, data=last)
        assert stranger.until(last) == []


def test_the_subscriptions_api_has_all_those_of_a_selector_and_one(hub: Spoken) -> None:
    selector = f"https://example.com/{unique('')}/{{id}}"
    path = f"{SUBSCRIPTIONS}/{quote(selector, safe='')}"
    root, everything = hub.url.removesuffix(WELL_KNOWN), bearer(hub.all)
    last = hub.published(unique(), data="x", id=unique("urn:uuid:"))
    with hub.listening([("topic", selector)]):
        collection = until(
            lambda: (a := hub.client.get(root + path, headers=everything)).json()["subscriptions"] and a,
            "the subscription",
        )
        (one,) = document(collection)["subscriptions"]
        single, every = (hub.client.get(root + at, headers=everything) for at in (one["id"], SUBSCRIPTIONS))
        assert one["topic"] == selector
        assert one["active"] is True
        assert {name: document(single)[name] for name in one} == one
        assert one["id"] in [each["id"] for each in document(every)["subscriptions"]]
        assert (document(collection)["id"], document(collection)["type"]) == (path, "Subscriptions")
        assert document(every)["id"] == SUBSCRIPTIONS
        for answer in (collection, single, every):
            assert answer.headers["content-type"].partition(";")[0] == "application/ld+json"
            assert document(answer)["lastEventID"]
            assert document(answer)["@context"] == "https://mercure.rocks/"
    assert last
    assert hub.client.get(f"{root}{path}/urn%3Auuid%3Anobody", headers=everything).status_code == 404


def test_before_the_first_event_the_last_one_is_earliest(tmp_path: Path) -> None:
    here_only()
    with serving("sse_fast", tmp_path) as url:
        answer = httpx.get(f"{url}/subscriptions", headers=bearer(token(subscribe=["*"])))
        assert document(answer)["lastEventID"] == "earliest"


def test_the_subscriptions_api_is_for_who_is_granted_its_path(hub: Spoken) -> None:
    path = f"{SUBSCRIPTIONS}/{quote(unique(), safe='')}"
    address = hub.url.removesuffix(WELL_KNOWN) + path
    assert hub.client.get(address).status_code in (401, 403)
    assert hub.client.get(address, headers=bearer(hub.grant(unique()))).status_code in (401, 403)
    assert hub.client.get(address, headers=bearer(hub.grant(path))).status_code == 200
    assert hub.client.get(address, headers=bearer(hub.grant(f"{SUBSCRIPTIONS}/{{topic}}"))).status_code == 200
