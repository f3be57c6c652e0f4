"""Publishing again under an idempotency key, over HTTP: nothing is published twice, and the answer is the first one's.

Statuses and the header's grammar are those of draft-ietf-httpapi-idempotency-key-header.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sse_fast.edge.app import Edge, create_app
from sse_fast.settings import Settings

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


class Publisher(httpx.AsyncClient):
    def __init__(self, edge: Edge) -> None:
        super().__init__(transport=httpx.ASGITransport(edge), base_url="http://localhost")
        self.edge = edge

    @property
    def position(self) -> int:
        """Events that are in the log, as none was dropped."""
        return self.edge.hub.log.position


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    edge = create_app(Settings(idempotency_keys=64))
    async with Publisher(edge) as publisher:
        yield publisher
    await edge.close()


REQUESTS: dict[str, tuple[str, bytes, dict[str, str], int]] = {
    "raw": ("/publish/news?event=e&retry=5", b"hello", {}, 1),
    "an object": ("/publish", b'{"channel":"news","data":"hello"}', JSON, 1),
    "an array": ("/publish", b'[{"channel":"a","data":1},{"channels":["a","b"],"data":2}]', JSON, 2),
    "lines": ("/publish", b'{"channel":"a","data":1}\n\n{"channel":"b","data":2}\n{"channel":"a","data":3}', NDJSON, 3),
}


def assert_first(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert "idempotent-replayed" not in answer.headers


def assert_replayed(answer: httpx.Response, first: httpx.Response) -> None:
    """The same ids, and that says so."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["idempotent-replayed"] == "true"
    body = answer.json()
    if "ids" in body:
        assert body.pop("repeated") == len(body["ids"])
    assert body == first.json()


def assert_problem(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_is_repeated_under_its_key_gets_the_first_ids_and_publishes_nothing(
    publisher: Publisher, request_: tuple[str, bytes, dict[str, str], int]
) -> None:
    path, body, headers, events = request_
    headers = headers | {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    first = await publisher.post(path, content=body, headers=headers)
    assert_first(first)
    for _ in range(2):
        assert_replayed(await publisher.post(path, content=body, headers=headers), first)
    assert publisher.position == events
    assert_first(await publisher.post(path, content=body, headers=headers | {"Idempotency-Key": "another"}))
    assert publisher.position == 2 * events


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_key_with_something_else_is_422_and_publishes_nothing(
    publisher: Publisher, request_: tuple[str, bytes, dict[str, str], int]
) -> None:
    path, body, headers, _ = request_
    headers = headers | {"Idempotency-Key": "k"}
    assert_first(await publisher.post("/publish/first", content=b"of all", headers={"Idempotency-Key": "k"}))
    assert_problem(
        await publisher.post(path, content=body, headers=headers), 422, "this idempotency key was used before"
    )
    assert publisher.position == 1


async def test_one_event_has_one_key_whichever_way_it_comes(publisher: Publisher) -> None:
    first = await publisher.post("/publish/news", content=b"hello", headers={"Idempotency-Key": '"k"'})
    event = {"channel": "news", "data": "hello"}
    for headers in ({}, {"Idempotency-Key": "k"}):
        body = json.dumps(event if headers else event | {"key": "k"})
        assert_replayed(await publisher.post("/publish", content=body, headers=JSON | headers), first)
    line = await publisher.post("/publish", content=json.dumps(event | {"key": "k"}), headers=NDJSON)
    assert line.json() == {"ids": [first.json()["id"]], "repeated": 1}
    assert str(await publisher.edge.hub.publish("news", "hello", key="k")) == first.json()["id"]
    assert publisher.position == 1


@pytest.mark.parametrize("lines", [True, False], ids=["lines", "an array"])
async def test_of_a_batch_only_the_events_whose_keys_are_new_are_published(publisher: Publisher, lines: bool) -> None:
    async def publish(*keys: str | None) -> httpx.Response:
        events = [{"channel": "a", "data": f"of {key}", **({} if key is None else {"key": key})} for key in keys]
        if lines:
            return await publisher.post("/publish", content="\n\n".join(map(json.dumps, events)), headers=NDJSON)
        return await publisher.post("/publish", json=events)

    first = await publish("one", None, "two")
    assert_first(first)
    one, _, two = first.json()["ids"]
    again = await publish("two", "three", None, "one", "three")
    assert_first(again)
    ids = again.json()["ids"]
    assert again.json()["repeated"] == 3
    assert (ids[0], ids[3], ids[4]) == (two, one, ids[1])
    assert publisher.position == 5
    third = await publish("one", "two", "three")
    assert third.headers["idempotent-replayed"] == "true"
    assert third.json() == {"ids": [one, two, ids[1]], "repeated": 3}
    assert publisher.position == 5


async def test_a_batch_with_a_key_of_something_else_is_422_and_none_of_it_is_published(publisher: Publisher) -> None:
    assert_first(await publisher.post("/publish", json={"channel": "a", "data": 1, "key": "k"}))
    events: list[dict[str, Any]] = [{"channel": "a", "data": 2}, {"channel": "a", "data": 3, "key": "k"}]
    assert_problem(
        await publisher.post("/publish", json=events), 422, "event 1 of the array: this idempotency key was used before"
    )
    lines = b"\n\n".join(json.dumps(event).encode() for event in events)
    told = await publisher.post("/publish", content=b"\xef\xbb\xbf" + lines, headers=NDJSON)
    assert_problem(told, 422, "line 3: this idempotency key was used before")
    told = await publisher.post("/publish", json=events[1])
    assert_problem(told, 422, "this idempotency key was used before")
    assert told.json()["detail"].startswith("this")
    assert publisher.position == 1


async def test_a_key_twice_in_one_batch_with_different_events_is_422_and_names_both(publisher: Publisher) -> None:
    events = [{"channel": "a", "data": n, "key": "k" if n else "j"} for n in range(3)]
    told = await publisher.post("/publish", json=events)
    assert_problem(told, 422, "event 2 of the array: this idempotency key is in this batch twice")
    assert "event 1 of the array has it, too" in told.json()["detail"]
    told = await publisher.post("/publish", content="\n \n".join(map(json.dumps, events)), headers=NDJSON)
    assert_problem(told, 422, "line 5: this idempotency key is in this batch twice, with different events: line 3 has")
    assert publisher.position == 0


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("bare", "bare"),
        ("'a:b/c=d'", "'a:b/c=d'"),
        ('"in quotes"', "in quotes"),
        (r'"with \" and \\"', r'with " and ' + "\\"),
        ('"' + "x" * 255 + '"', "x" * 255),
    ],
)
async def test_a_key_is_a_string_of_rfc_8941_or_stands_bare(publisher: Publisher, header: str, key: str) -> None:
    first = await publisher.post("/publish/a", content=b"x", headers={"Idempotency-Key": header})
    assert_first(first)
    assert_replayed(await publisher.post("/publish", json={"channel": "a", "data": "x", "key": key}), first)


@pytest.mark.parametrize(
    "header",
    ["", '""', '"open', 'a"b', "two words", "one, two", "a;b=c", '"a";b', r'"\x"', r"\\", "x" * 256, "ä".encode()],
)
async def test_what_is_no_key_is_400_and_publishes_nothing(publisher: Publisher, header: str | bytes) -> None:
    headers: Any = [(b"Idempotency-Key", header if isinstance(header, bytes) else header.encode())]
    assert_problem(await publisher.post("/publish/a", content=b"x", headers=headers), 400, "dempotency")
    assert publisher.position == 0


async def test_two_keys_of_one_request_are_none(publisher: Publisher) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    assert_problem(await publisher.post("/publish/a", content=b"x", headers=headers), 400, "came twice: 'one, two'")
    quoted = [("Idempotency-Key", '"one"'), ("Idempotency-Key", '"two, three"')]
    assert_problem(await publisher.post("/publish/a", content=b"x", headers=quoted), 400, "came twice")
    both = await publisher.post(
        "/publish", json=[{"channel": "a", "data": 1, "key": "k"}], headers={"Idempotency-Key": "one"}
    )
    assert_problem(both, 400, "give one, or the other")
    assert publisher.position == 0


@pytest.mark.parametrize(
    ("key", "words"), [(7, "must be a string; this is a number"), ("", "1 to 255"), ("é", "1 to 255")]
)
async def test_a_wrong_key_in_a_body_is_refused_with_the_place_of_its_event(
    publisher: Publisher, key: object, words: str
) -> None:
    events = [{"channel": "a", "data": 1}, {"channel": "a", "data": 2, "key": key}]
    assert_problem(await publisher.post("/publish", json=events), 400, "event 1 of the array: an idempotency key")
    body = "\n".join(json.dumps(event) for event in events)
    assert_problem(await publisher.post("/publish", content=body, headers=NDJSON), 400, words)
    assert publisher.position == 0


async def test_a_server_that_remembers_no_keys_says_so_and_publishes_nothing_under_one() -> None:
    edge = create_app(Settings(idempotency_window=0))
    async with Publisher(edge) as publisher:
        answer = await publisher.post("/publish/a", content=b"x", headers={"Idempotency-Key": "k"})
        assert_problem(answer, 400, "no idempotency keys are remembered here")
        assert publisher.position == 0
        assert_first(await publisher.post("/publish/a", content=b"x"))
        assert (await publisher.get("/stats")).json()["idempotency"] == {"window": 0, "capacity": 0, "forgotten": 0}
    await edge.close()


async def test_a_batch_with_more_keys_than_are_remembered_is_413_and_none_of_it_is_published(
    publisher: Publisher,
) -> None:
    events = [{"channel": "a", "data": number, "key": f"{number}"} for number in range(65)]
    answer = await publisher.post("/publish", json=events)
    assert_problem(answer, 413, "65 keys came at once, and 64 are remembered; send them in several")
    assert publisher.position == 0
    assert_first(await publisher.post("/publish", json=events[:64]))


async def test_what_was_repeated_and_what_was_forgotten_too_early_is_counted(publisher: Publisher) -> None:
    for key in [*range(70), 69]:
        await publisher.post("/publish/a", content=b"x", headers={"Idempotency-Key": f"{key}"})
    stats = (await publisher.get("/stats")).json()
    assert (stats["published"], stats["repeated"]) == (70, 1)
    assert stats["idempotency"] == {"window": 120, "capacity": 64, "forgotten": 6}
    exposition = (await publisher.get("/metrics")).text
    told = {sample.name: sample.value for each in text_string_to_metric_families(exposition) for sample in each.samples}
    assert (told["sse_fast_repeated_total"], told["sse_fast_idempotency_keys_forgotten_total"]) == (1, 6)


async def test_a_page_of_an_allowed_origin_may_send_a_key_and_read_that_its_event_was_published_before() -> None:
    edge = create_app(Settings(cors_origins=["https://shop.example"]))
    async with Publisher(edge) as publisher:
        answer = await publisher.options(
            "/publish/a",
            headers={
                "Origin": "https://shop.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "idempotency-key",
            },
        )
        assert answer.status_code == 200
        assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
        for told in (None, "true"):
            answer = await publisher.post(
                "/publish/a", content=b"x", headers={"Origin": "https://shop.example", "Idempotency-Key": "k"}
            )
            assert answer.headers.get("idempotent-replayed") == told
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"Idempotent-Replayed", "Retry-After"} <= set(exposed)
    await edge.close()
