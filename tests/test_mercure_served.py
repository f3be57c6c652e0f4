"""Mercure at the front and over ASGI: streams, publishing in place, who listens."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import jwt
import orjson
import pytest
from both_ways import BothWays
from front_port import edge_of
from support import PATIENCE, until

from sse_fast.access.matchers import Kind, matcher
from sse_fast.edge import mercure_subscriptions
from sse_fast.edge.app import Edge
from sse_fast.errors import BatchTooLarge, LogBusy
from sse_fast.testing import EventParser
from sse_fast.transports.listening import Subscriber

KEY = "a secret of both roles, of 32 bytes at least"
HUB = "/.well-known/mercure"
ALL = jwt.encode({"mercure": {"publish": ["*"], "subscribe": ["*"]}}, KEY, "HS256")
SETTINGS: dict[str, Any] = {
    "mercure": True,
    "mercure_publisher_key": KEY,
    "mercure_subscriber_key": KEY,
    "mercure_anonymous": True,
    "log_size": 1 << 20,
}


def bearer(token: str = ALL) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Hub:
    """An edge that speaks Mercure, and a client of its front."""

    def __init__(self, edge: Edge, http: httpx.AsyncClient) -> None:
        self.edge, self.http = edge, http

    async def publish(self, *topics: str, token: str = ALL, **fields: str) -> httpx.Response:
        return await self.http.post(HUB, data={"topic": list(topics), **fields}, headers=bearer(token))

    @asynccontextmanager
    async def listening(self, query: str, **headers: str) -> AsyncIterator["Heard"]:
        async with self.http.stream("GET", f"{HUB}?{query}", headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield Heard(answer)


class Heard:
    def __init__(self, answer: httpx.Response) -> None:
        self.headers = answer.headers
        self._pieces = answer.aiter_raw()
        self._parser = EventParser()
        self._events: list[Any] = []

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not self._events:
                self._events += self._parser.feed(await anext(self._pieces))
        return self._events.pop(0)


@asynccontextmanager
async def hub(**settings: Any) -> AsyncIterator[Hub]:
    async with edge_of(**{**SETTINGS, **settings}) as edge:
        assert edge.front is not None
        address = f"http://127.0.0.1:{edge.front.port}"
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as http:
            yield Hub(edge, http)


async def test_what_is_published_reaches_who_listens_with_its_id_type_and_lines() -> None:
    async with hub() as mercure, mercure.listening("match=news") as heard:
        answer = await mercure.publish("news", data="one\r\ntwo\rthree", type="added", retry="5000")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text.startswith("#")
        event = await heard.next()
        assert (event.data, event.event, event.retry) == ("one\ntwo\nthree", "added", 5000)
        assert (await mercure.publish("other", data="no")).status_code == 200
        await mercure.publish("news")
        assert (await heard.next()).data == ""


async def test_a_stream_of_mercure_has_no_events_but_those_that_are_published() -> None:
    async with hub() as mercure, mercure.listening("topic=news") as heard:
        await mercure.publish("news", data="first")
        event = await heard.next()
        assert (event.event, event.data) == ("message", "first")
        assert "mercure-last-event-id" not in heard.headers
        assert "last-event-id" not in heard.headers


async def test_an_app_publishes_by_mercure_and_is_listened_to_by_sse_and_the_other_way_round() -> None:
    async with hub(grant_subscribe=["news"], publish_key="a-key-of-sixteen-letters") as mercure:
        async with mercure.http.stream("GET", "/sse/news") as answer:
            heard = Heard(answer)
            assert (await heard.next()).event == "$connected"
            await mercure.publish("news", data="by mercure")
            assert (await heard.next()).data == "by mercure"
        async with mercure.listening("match=news") as heard:
            key = {"authorization": "Bearer a-key-of-sixteen-letters"}
            assert (await mercure.http.post("/publish/news", content=b"by us", headers=key)).status_code == 200
            assert (await heard.next()).data == "by us"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/publish/%2F.well-known%2Fmercure%2Fsubscriptions%2Fexact%2Fa%2Fb", b"x"),
        ("/publish/news?event=mercure", b"x"),
        ("/publish", b'{"channels": ["news", "https://x/.well-known/%6Dercure/a"], "data": "x"}'),
        ("/publish", b'[{"channel": "news", "data": "x"}, {"channel": "news", "data": "x", "event": "mercure"}]'),
    ],
)
async def test_nobody_publishes_the_hubs_own_updates_by_our_endpoint_neither(target: str, body: bytes) -> None:
    async with hub(publish_key="a-key-of-sixteen-letters") as mercure:
        key = {"authorization": "Bearer a-key-of-sixteen-letters"}
        assert (await mercure.http.post(target, content=body, headers=key)).status_code == 400
        assert mercure.edge.hub.published == 0
        assert (await mercure.http.post("/publish/mercure", content=b"event: mercure", headers=key)).status_code == 200


async def test_a_template_too_many_is_told_to_come_back() -> None:
    async with hub() as mercure, AsyncExitStack() as streams:
        for number in range(43):  # of 1,024 templates one less
            templates = "&".join(f"topic=%7Bx%7D{number}-{each}" for each in range(15 if number == 42 else 24))
            heard = await streams.enter_async_context(mercure.listening(templates))
        assert isinstance(heard, Heard)
        answer = await mercure.http.get(f"{HUB}?topic=%7By%7D&topic=%7Bz%7D", headers={"accept": "application/json"})
        assert answer.status_code == 503
        assert mercure.edge.hub.fanout.connections == 43


async def test_a_publisher_that_is_known_is_answered_as_the_first_time() -> None:
    async with hub() as mercure, mercure.listening("match=news") as heard:
        posts = mercure.edge.front._posts  # type: ignore[union-attr]
        assert posts is not None
        answers = [await mercure.publish("news", data=f"number {number}") for number in range(4)]
        assert [(await heard.next()).data for _ in range(4)] == [f"number {number}" for number in range(4)]
        assert posts.taken == 3
        headers = [{**answer.headers, "date": ""} for answer in answers]
        assert headers == [headers[0]] * 4
        assert len({answer.text for answer in answers}) == 4


@pytest.mark.parametrize(
    ("topic", "status"), [("secret", 403), ("*", 400), (f"{HUB}/subscriptions/a/b", 400), ("", 400)]
)
async def test_a_publisher_that_is_known_is_refused_as_any_other(topic: str, status: int) -> None:
    token = jwt.encode({"mercure": {"publish": ["news"]}}, KEY, "HS256")
    async with hub() as mercure:
        for _ in range(2):
            assert (await mercure.publish("news", token=token, data="x")).status_code == 200
        published = mercure.edge.hub.published
        answer = await mercure.publish(topic, token=token, data="x")
        assert answer.status_code == status
        if status == 403:
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        answer = await mercure.publish("news", topic, token=token, data="x")  # all of its topics, or none
        assert answer.status_code == status
        assert mercure.edge.hub.published == published


async def test_a_token_that_ends_is_known_no_longer_than_it_lasts() -> None:
    async with hub() as mercure:
        token = jwt.encode({"mercure": {"publish": ["*"]}, "exp": int(time.time()) + 3600}, KEY, "HS256")
        for _ in range(2):
            assert (await mercure.publish("news", token=token, data="x")).status_code == 200
        posts = mercure.edge.front._posts  # type: ignore[union-attr]
        assert posts is not None
        taken = posts.taken
        assert taken == 1
        posts.now = time.time() + 7200
        await mercure.publish("news", token=token, data="x")
        assert posts.taken == taken


async def test_a_form_that_is_too_large_is_413_and_one_of_another_kind_400() -> None:
    async with hub(max_event_size=2048) as mercure:
        assert (await mercure.publish("news", data="x" * 4096)).status_code == 413
        assert (await mercure.publish(*[str(number) for number in range(33)], data="x")).status_code == 413
        assert (await mercure.http.post(HUB, json={"topic": "news"}, headers=bearer())).status_code == 400


@pytest.mark.parametrize("way", ["front", "asgi"])
async def test_both_ways_answer_alike(way: str) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    async with BothWays.opened(**{name: value for name, value in SETTINGS.items() if name != "log_size"}) as both:
        said = await both.ask(way, "POST", HUB, {**form, **bearer()}, b"topic=news&data=x")
        assert (said.status, said.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (await both.ask(way, "POST", HUB, form, b"topic=news&data=x")).status == 401
        assert (await both.ask(way, "POST", HUB, {**form, **bearer()}, b"data=x")).status == 400
        said = await both.ask(way, "GET", f"{HUB}?match=news&last_event_id=earliest", {})
        assert (said.status, said.headers["mercure-last-event-id"]) == (200, "earliest")
        assert b"$connected" not in said.body
        assert (await both.ask(way, "GET", HUB, {})).status == 400
        said = await both.ask(way, "GET", "/.well-known/oauth-protected-resource/.well-known/mercure", {})
        assert said.status == 200


# ---- topics, ids, private updates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "match=https%3A%2F%2Fexample.com%2Fbooks%2F1",
        "match_urlpattern=https://example.com/books/:id",
        "match=*",
        "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1",
        "topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D",
        "topic=*",
        "topic=other&match_urlpattern=https://example.com/*",
    ],
)
async def test_a_topic_reaches_all_whose_matcher_has_it_and_nobody_else(query: str) -> None:
    async with hub() as mercure, mercure.listening(query) as heard, mercure.listening("match=no") as none:
        await mercure.publish("https://example.com/books/1", data="x")
        await mercure.publish("no", data="y")
        assert (await heard.next()).data == "x"
        assert (await none.next()).data == "y"


async def test_an_update_of_several_topics_reaches_a_stream_once_by_any_of_them() -> None:
    several = "topic=a&topic=b&topic=c"
    async with hub() as mercure, mercure.listening("match=b") as one, mercure.listening(several) as all_of_them:
        await mercure.publish("a", "b", "c", data="x")
        await mercure.publish("b", data="y")
        for heard in (one, all_of_them):
            assert [(await heard.next()).data, (await heard.next()).data] == ["x", "y"]


async def test_a_publishers_id_is_what_everybody_sees_and_resumes_by() -> None:
    async with hub() as mercure:
        ids = [f'id-["{number}"]' for number in range(3)]
        for id in ids:
            answer = await mercure.publish("news", data=f"data of {id}", id=id)
            assert answer.text == id
        async with mercure.listening("match=news", **{"last-event-id": ids[0]}) as heard:
            assert heard.headers["mercure-last-event-id"] == ids[0]
            assert [(await heard.next()).id for _ in range(2)] == ids[1:]
        async with mercure.listening("topic=news&lastEventID=earliest") as heard:
            assert heard.headers["last-event-id"] == "earliest"
            assert [(await heard.next()).id for _ in range(3)] == ids
        async with mercure.listening("match=news&last_event_id=unknown") as heard:
            assert heard.headers["mercure-last-event-id"] == "earliest"
            assert (await heard.next()).id == ids[0]


async def test_an_id_of_the_hubs_own_is_a_fragment_that_is_resumed_by() -> None:
    async with hub() as mercure:
        first, second = [(await mercure.publish("news", data=data)).text for data in ("first", "second")]
        assert first.startswith("#")
        async with mercure.listening("match=news", **{"last-event-id": first}) as heard:
            assert heard.headers["mercure-last-event-id"] == first
            event = await heard.next()
            assert (event.id, event.data) == (second, "second")


async def test_what_is_private_reaches_who_is_granted_one_of_its_topics_live_and_on_resume() -> None:
    granted = jwt.encode({"mercure": {"subscribe": ["https://example.com/users/{id}"]}}, KEY, "HS256")
    other = jwt.encode({"mercure": {"subscribe": ["elsewhere"]}}, KEY, "HS256")
    query = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D"
    topics = "https://example.com/books/1", "https://example.com/users/42"
    async with hub() as mercure:
        async with (
            mercure.listening(query, **bearer(granted)) as may,
            mercure.listening(query, **bearer(other)) as may_not,
            mercure.listening(query) as nobody,
        ):
            await mercure.publish(*topics, data="private", private="")
            await mercure.publish(topics[0], data="public")
            assert [(await may.next()).data for _ in range(2)] == ["private", "public"]
            assert (await may_not.next()).data == "public"
            assert (await nobody.next()).data == "public"
        async with mercure.listening(f"{query}&lastEventID=earliest", **bearer(granted)) as heard:
            assert [(await heard.next()).data for _ in range(2)] == ["private", "public"]
        async with mercure.listening(f"{query}&lastEventID=earliest", **bearer(other)) as heard:
            assert (await heard.next()).data == "public"


async def test_a_stream_that_ends_with_its_token_says_nothing_of_it() -> None:
    token = jwt.encode({"mercure": {"subscribe": ["*"]}, "exp": int(time.time()) + 2}, KEY, "HS256")
    said = b""
    async with hub() as mercure:
        with suppress(httpx.RemoteProtocolError):  # it ends, one way or the other
            async with (
                asyncio.timeout(PATIENCE),
                mercure.http.stream("GET", f"{HUB}?topic=a", headers=bearer(token)) as answer,
            ):
                async for piece in answer.aiter_raw():
                    said += piece
    assert all(line.startswith((b":", b"retry:")) for line in said.split(b"\n") if line)


async def test_who_listens_is_told_of_by_updates_to_who_is_granted_them() -> None:
    about = "/.well-known/mercure/subscriptions{/type}{/match}{/subscriber}"
    async with hub(mercure_subscriptions=True) as mercure:
        query = httpx.QueryParams({"topic": about})
        async with mercure.listening(str(query), **bearer()) as heard:
            async with mercure.listening("match=https%3A%2F%2Fexample.com%2Fa"):
                came = await told_of(heard, "https://example.com/a")
                assert came.event == "mercure"
                document = came.json()
                assert document["active"] is True
                assert document["type"] == "subscription"
                assert document["match_type"] == "exact"
                assert document["subscriber"].startswith("urn:uuid:")
                name = document["subscriber"].replace(":", "%3A")
                assert document["id"] == f"{HUB}/subscriptions/exact/https%3A%2F%2Fexample.com%2Fa/{name}"
            left = await told_of(heard, "https://example.com/a")
            assert left.json() == {**document, "active": False}


async def test_who_left_is_told_of_though_the_hub_could_not_take_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query = httpx.QueryParams({"topic": "/.well-known/mercure/subscriptions{/type}{/match}{/subscriber}"})
    async with hub(mercure_subscriptions=True) as mercure, mercure.listening(str(query), **bearer()) as heard:
        append, troubles = mercure.edge.hub.append, [LogBusy("later"), LogBusy("later"), BatchTooLarge("fewer")]

        async def refusing(events: list[Any]) -> Any:
            if troubles:
                raise troubles.pop(0)
            return await append(events)

        async with mercure.listening("match=a&match=b"):
            await told_of(heard, "b")
            monkeypatch.setattr(mercure.edge.hub, "append", refusing)
        assert [(await told_of(heard, name)).json()["active"] for name in "ab"] == [False, False]
        assert troubles == []


async def test_what_waits_to_be_told_is_bounded_in_bytes_and_what_is_left_out_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with hub(mercure_subscriptions=True) as mercure:
        subscriptions = mercure.edge._subscriptions
        assert subscriptions is not None
        busy = asyncio.Event()

        async def refusing(events: list[Any]) -> Any:
            busy.set()
            raise LogBusy("later")

        monkeypatch.setattr(mercure_subscriptions, "MAX_WAITING", 10_000)
        with monkeypatch.context() as patched:
            patched.setattr(mercure.edge.hub, "append", refusing)
            subscriber = Subscriber("urn:uuid:1", tuple((matcher(Kind.EXACT, f"m{at}"), None) for at in range(100)))
            subscriptions._told(subscriber, True)
            await busy.wait()
            waiting = subscriptions._waiting
            assert 5 < len(waiting) < 100
            assert sum(len(frame) for _, frame in waiting) < 10_000
            subscriptions._told(subscriber, False)
            assert sum(len(frame) for _, frame in waiting) < 10_000
        await until(lambda: subscriptions._telling is None)
        assert subscriptions._size == 0
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 2


@pytest.mark.parametrize("count", [0, 1, 256, 700])
async def test_a_list_of_many_is_written_in_pieces_of_a_turn_each(count: int) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    documents = [{"id": str(number)} for number in range(count)]
    assert orjson.loads(await mercure_subscriptions.listed(documents)) == documents
    beside.cancel()
    assert turns == max(0, (count - 1) // 256)


async def told_of(heard: Heard, match: str) -> Any:
    while True:
        event = await heard.next()
        if event.json().get("match") == match:
            return event


# ---- who listens -----------------------------------------------------------------------------------------------------


async def test_who_listens_is_listed_while_they_do_with_what_their_tokens_say() -> None:
    detail = {"actions": ["subscribe"], "type": "https://mercure.rocks/authorization-detail"}
    claims = {
        "iss": "https://hub.example", "aud": f"https://hub.example{HUB}", "exp": int(time.time()) + 3600,
        "authorization_details": [
            {**detail, "topics": [{"match": "news"}], "payload": {"of": "news"}},
            {**detail, "topics": [{"match": "*"}], "payload": {"of": "all"}},
        ],
    }  # fmt: skip
    token = jwt.encode(claims, KEY, "HS256", headers={"typ": "at+jwt"})
    more = {"mercure_url": f"https://hub.example{HUB}", "mercure_subscriptions": True, "workers": 1}
    async with BothWays.opened(**{**{k: v for k, v in SETTINGS.items() if k != "log_size"}, **more}) as both:
        assert (await both.ask("front", "GET", f"{HUB}/subscriptions", {})).status == 401
        http = both._http
        query = "match=news&match_urlpattern=https://example.com/:id"
        async with http.stream("GET", f"{HUB}?{query}", headers={"host": "localhost", **bearer(token)}):
            said = await http.get(f"{HUB}/subscriptions", headers={"host": "localhost", **bearer(token)})
            assert said.headers["content-type"] == "application/json"
            assert said.headers["link"].startswith(f'<https://hub.example{HUB}>; rel="mercure"; last-event-id="')
            assert '; type="mercure"; content-type="application/json"' in said.headers["link"]
            collection = said.json()
            assert (collection["id"], collection["type"]) == (f"{HUB}/subscriptions", "subscriptions")
            one, other = collection["subscriptions"]
            assert (one["match_type"], one["match"], one["payload"]) == ("exact", "news", {"of": "news"})
            assert (other["match_type"], other["payload"]) == ("urlpattern", {"of": "all"})
            assert other["id"] == f"{HUB}/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aid/" + other[
                "subscriber"
            ].replace(":", "%3A")
            assert one["subscriber"] == other["subscriber"]
            assert one["active"] is True
            for document in (one, other):
                single = await http.get(document["id"], headers={"host": "localhost", **bearer(token)})
                assert single.json() == document
            of_one = await http.get(f"{HUB}/subscriptions/exact/news", headers={"host": "localhost", **bearer(token)})
            assert of_one.json()["subscriptions"] == [one]
            fresh = {"if-none-match": of_one.headers["etag"], "host": "localhost", **bearer(token)}
            assert (await http.get(f"{HUB}/subscriptions/exact/news", headers=fresh)).status_code == 304

        async def gone() -> bool:
            single = await http.get(one["id"], headers={"host": "localhost", **bearer(token)})
            return single.status_code == 404

        await until(gone)


async def test_draft_07_lists_who_listens_in_its_own_words() -> None:
    more = {"mercure_subscriptions": True}
    async with BothWays.opened(**{**{k: v for k, v in SETTINGS.items() if k != "log_size"}, **more}) as both:
        http, headers = both._http, {"host": "localhost", **bearer()}
        async with http.stream("GET", f"{HUB}?topic=news&topic=https://example.com/%7Bid%7D", headers=headers):
            said = await http.get(f"{HUB}/subscriptions", headers=headers)
            assert said.headers["content-type"] == "application/ld+json"
            collection = said.json()
            assert (collection["@context"], collection["type"]) == ("https://mercure.rocks/", "Subscriptions")
            assert collection["lastEventID"]
            assert [each["topic"] for each in collection["subscriptions"]] == ["news", "https://example.com/{id}"]
            single = (await http.get(collection["subscriptions"][0]["id"], headers=headers)).json()
            assert (single["type"], single["topic"], single["active"]) == ("Subscription", "news", True)
            of_one = await http.get(f"{HUB}/subscriptions/news", headers=headers)
            assert len(of_one.json()["subscriptions"]) == 1


async def test_the_hub_waits_for_nobody_to_be_told_who_listens() -> None:
    async with hub(mercure_subscriptions=True) as mercure:
        async with mercure.listening("match=news"):
            pass
        listeners = mercure.edge._streams.listeners
        assert listeners is not None
        await until(lambda: not listeners.open)
