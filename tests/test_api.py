"""The HTTP API, in process: what is published, what is refused and in which words, what can be looked at."""

import asyncio
import hmac
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import turns_of_others

from sse_fast import Settings, create_app
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.channels import Channel
from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import Log
from sse_fast._native.wire.publication import from_ndjson
from sse_fast.edge.app import Edge
from sse_fast.edge.listing import CHANNELS_AT_ONCE, WAITING, Listings, TooManyListings
from sse_fast.errors import EndReason, LogBusy

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


class Api(httpx.AsyncClient):
    """A client of an edge in this process, with the edge itself to look into."""

    def __init__(self, **options: Any) -> None:
        self.edge: Edge = create_app(Settings(**options))
        super().__init__(transport=httpx.ASGITransport(self.edge), base_url="http://localhost")

    def kept(self) -> list[tuple[str, str]]:
        """Channel and frame, without its id line, of every event in the log."""
        records = self.edge.hub.log.records()
        return [(record.channel.decode(), record.frame.decode().rpartition("id: ")[0] + "\n") for record in records]

    @property
    def position(self) -> int:
        return self.edge.hub.log.position

    def id(self, position: int) -> str:
        return f"{self.edge.hub.log.epoch}-{position}"

    async def aclose(self) -> None:
        await super().aclose()
        await self.edge.close()


MakeApi = Callable[..., Api]


@pytest.fixture
async def make_api() -> AsyncIterator[MakeApi]:
    made: list[Api] = []

    def make(**options: Any) -> Api:
        made.append(Api(**options))
        return made[-1]

    yield make
    for api in made:
        await api.aclose()


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    """An RFC 9457 answer of this status whose detail has these words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"]


async def raw_request(
    edge: Edge, method: str, path: str, receive: Callable[[], Awaitable[dict[str, Any]]], headers: dict[str, str]
) -> list[dict[str, Any]]:
    """One request with a body as the test wants it; the messages of the answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("edge", 80),
    }
    await edge(scope, receive, send)
    return sent


# ---- publishing a body as it stands ----------------------------------------------------------------------------------


async def test_a_body_is_the_data_and_the_answer_its_id(api: Api) -> None:
    response = await api.post("/publish/news", content="hello")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"id": api.id(1)}
    assert api.kept() == [("news", "data: hello\n\n")]


async def test_two_names_are_one_channel(api: Api) -> None:
    await api.post("/publish/room/42", content="a")
    await api.post("/publish/room:42", content="b")
    assert [channel for channel, _ in api.kept()] == ["room:42", "room:42"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", "x", "application/x-ndjson"])
async def test_a_raw_body_is_never_interpreted(api: Api, content_type: str) -> None:
    await api.post("/publish/c", content='{"a": [1,  2]}', headers={"content-type": content_type})
    assert api.kept() == [("c", 'data: {"a": [1,  2]}\n\n')]


@pytest.mark.parametrize(
    ("body", "frame"),
    [
        (b"", "data:\n\n"),
        (b"\n", "data:\ndata:\n\n"),
        (b"a\nb", "data: a\ndata: b\n\n"),
        (b"a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata:\n\n"),
        (b"\xef\xbb\xbfa", "data: \ufeffa\n\n"),
        ("\u2028 \x0b \x85".encode(), "data: \u2028 \x0b \x85\n\n"),
        (b"\0", "data: \0\n\n"),
    ],
)
async def test_every_line_of_a_body_is_a_line_of_data(api: Api, body: bytes, frame: str) -> None:
    assert (await api.post("/publish/c", content=body)).status_code == 200
    assert api.kept() == [("c", frame)]


async def test_event_and_retry_are_parameters(api: Api) -> None:
    await api.post("/publish/c?event=tick&retry=0", content="x")
    await api.post("/publish/c", params={"event": "caf\u00e9 ol\u00e9+", "retry": "86400000"}, content="x")
    await api.post("/publish/c?event=", content="x")
    assert [frame for _, frame in api.kept()] == [
        "event: tick\nretry: 0\ndata: x\n\n",
        "event: caf\u00e9 ol\u00e9+\nretry: 86400000\ndata: x\n\n",
        "event:\ndata: x\n\n",
    ]


@pytest.mark.parametrize("name", ["caf\u00e9", "a%b", "a+b", "a&b=c", "\U0001f600", "a?b#c", "..:", "~"])
async def test_names_may_be_percent_encoded(api: Api, name: str) -> None:
    await api.post(f"/publish/{quote(name, safe='')}", content="x")
    assert [channel for channel, _ in api.kept()] == [name]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/publish/$stats", ["'$'", "$stats"]),
        ("/publish/%24x/y", ["'$'"]),
        ("/publish/a%20b", ["white space", "at 1"]),
        ("/publish/a%0Ab", ["white space"]),
        ("/publish/%FF", ["UTF-8"]),
        ("/publish/" + "x" * 2049, ["2048 bytes", "2049"]),
        ("/publish/" + "%C3%A9" * 1025, ["2048 bytes", "2050"]),
        ("/publish/c?event=$closing", ["'$'", "$closing"]),
        ("/publish/c?event=a%0Ab", ["event", "index 1"]),
        ("/publish/c?event=" + "x" * 257, ["256 characters", "257"]),
        ("/publish/c?event=%FF", ["query"]),
        ("/publish/c?retry=", ["milliseconds", "''"]),
        ("/publish/c?retry=-1", ["86400000", "'-1'"]),
        ("/publish/c?retry=86400001", ["86400000", "86400001"]),
        ("/publish/c?retry=9999999999999999999999", ["86400000"]),
        ("/publish/c?retry=1.5", ["'1.5'"]),
        ("/publish/c?retry=%D9%A1", ["whole number"]),
        ("/publish/c?evnt=x", ["'evnt'", "'event' and 'retry'"]),
        ("/publish/c?id=x", ["'id'"]),
        ("/publish/c?event=a&event=b", ["'event'", "twice"]),
        ("/publish?event=a", ["'event'", "none"]),
    ],
)
async def test_a_wrong_request_is_told_what_would_be_right(api: Api, path: str, words: list[str]) -> None:
    assert_problem(await api.post(path, content="{}"), 400, *words)
    assert api.position == 0


@pytest.mark.parametrize("body", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xc0\x80"])
async def test_a_body_that_is_not_utf8_is_refused(api: Api, body: bytes) -> None:
    assert_problem(await api.post("/publish/c", content=body), 400, "not valid UTF-8", "at byte")
    assert api.position == 0


# ---- publishing JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ("text", "text"),
        ("", ""),
        ('{"a": 1}', '{"a": 1}'),
        ({"a": 1, "b": [True, None]}, '{"a":1,"b":[true,null]}'),
        ([], "[]"),
        (None, "null"),
        (False, "false"),
        (0, "0"),
        (-1.5, "-1.5"),
        (2**53, "9007199254740992"),
        (2**64 - 1, "18446744073709551615"),
        ("\u00e9\u2028", "\u00e9\u2028"),
        ({"t": "a\nb"}, '{"t":"a\\nb"}'),
    ],
)
async def test_a_json_string_is_text_and_any_other_value_is_compact_json(api: Api, data: Any, sent: str) -> None:
    response = await api.post("/publish", json={"channel": "c", "data": data})
    assert response.json() == {"id": api.id(1)}
    assert api.kept() == [("c", f"data: {sent}\n\n" if sent else "data:\n\n")]


async def test_the_fields_may_be_null_or_left_out(api: Api) -> None:
    await api.post("/publish", json={"channel": "c", "data": "x", "event": None, "retry": None})
    await api.post("/publish", json={"retry": 5, "event": "e", "data": "x", "channel": "c"})
    assert [frame for _, frame in api.kept()] == ["data: x\n\n", "event: e\nretry: 5\ndata: x\n\n"]


async def test_of_a_doubled_key_the_last_counts(api: Api) -> None:
    await api.post("/publish", content='{"channel":"a","channel":"b","data":1,"data":2}')
    assert api.kept() == [("b", "data: 2\n\n")]


@pytest.mark.parametrize(
    "number",
    ["12345678901234567890123", "1.10", "0.1000000000000000055511151231257827", "1E+2", "-0", "1e-400", "-0.0e-0"],
)
async def test_numbers_arrive_digit_for_digit_in_every_form(api: Api, number: str) -> None:
    event = f'{{"channel":"c","data":{number}}}'
    within = f'{{ "data" : {{"a" : [ {number} ,{number}] }} , "channel" : "c" }}'
    await api.post("/publish", content=event)
    await api.post("/publish", content=within)
    await api.post("/publish", content=f"[{event}, {within}]")
    await api.post("/publish", content=f"{event}\n{within}\n", headers=NDJSON)
    twice = [f"data: {number}\n\n", f'data: {{"a":[{number},{number}]}}\n\n']
    assert [frame for _, frame in api.kept()] == twice * 3


async def test_a_number_that_no_double_holds_is_refused_with_its_place(api: Api) -> None:
    event = '{"channel":"c","data":[1,-1e400]}'
    assert_problem(await api.post("/publish", content=event), 400, "number is infinity", "line 1 column 26")
    response = await api.post("/publish", content=f"[{event}]")
    assert_problem(response, 400, "number is infinity", "line 1 column 27")
    response = await api.post("/publish", content=f"\n{event}", headers=NDJSON)
    assert_problem(response, 400, "line 2 is not JSON", "number is infinity", "at column 26")
    assert "line 1" not in response.text
    assert api.position == 0


@pytest.mark.parametrize("content_type", [None, "application/json; charset=utf-8", "application/x-www-form-urlencoded"])
async def test_json_is_what_is_taken_for_granted(api: Api, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await api.post("/publish", content=' {"channel":"c","data":1}\r\n', headers=headers)
    assert response.json() == {"id": api.id(1)}


async def test_an_array_is_answered_with_ids_in_its_order(api: Api) -> None:
    values = [{"channel": f"c{number % 3}", "data": number} for number in range(10)]
    response = await api.post("/publish", json=values)
    assert response.json() == {"ids": [api.id(number) for number in range(1, 11)]}
    assert api.kept() == [(f"c{number % 3}", f"data: {number}\n\n") for number in range(10)]


@pytest.mark.parametrize(("body", "headers"), [(b"[]", JSON), (b"", NDJSON), (b"\n \n\r\n", NDJSON)])
async def test_nothing_published_is_no_ids(api: Api, body: bytes, headers: dict[str, str]) -> None:
    assert (await api.post("/publish", content=body, headers=headers)).json() == {"ids": []}
    assert api.position == 0


@pytest.mark.parametrize(
    "content_type",
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "Application/X-NDJSON; charset=utf-8"],
)
@pytest.mark.parametrize(
    "body",
    [
        b'{"channel":"c","data":1}\n{"channel":"c","data":2}\n',
        b'{"channel":"c","data":1}\n{"channel":"c","data":2}',
        b'{"channel":"c","data":1}\r\n{"channel":"c","data":2}\r\n',
        b'\n\n{"channel":"c","data":1}\n \t\n\r\n{"channel":"c","data":2}\n\n',
        b'\xef\xbb\xbf{"channel":"c","data":1}\n{"channel":"c","data":2}\n',
    ],
)
async def test_ndjson_is_one_event_a_line(api: Api, content_type: str, body: bytes) -> None:
    response = await api.post("/publish", content=body, headers={"content-type": content_type})
    assert response.json() == {"ids": [api.id(1), api.id(2)]}
    assert api.kept() == [("c", "data: 1\n\n"), ("c", "data: 2\n\n")]


async def test_one_line_of_ndjson_is_still_a_list(api: Api) -> None:
    response = await api.post("/publish", content=b'{"channel":"c","data":1}', headers=NDJSON)
    assert response.json() == {"ids": [api.id(1)]}


async def test_a_byte_order_mark_before_json_is_passed_over(api: Api) -> None:
    response = await api.post("/publish", content=b'\xef\xbb\xbf{"channel":"c","data":1}')
    assert response.json() == {"id": api.id(1)}


@pytest.mark.parametrize("form", ["array", "ndjson"])
async def test_five_thousand_events_are_whole_and_others_run_meanwhile(api: Api, form: str) -> None:
    values = [{"channel": "c", "data": number} for number in range(5000)]
    body = orjson.dumps(values) if form == "array" else b"\n".join(map(orjson.dumps, values))
    async with turns_of_others() as turns:
        response = await api.post("/publish", content=body, headers=JSON if form == "array" else NDJSON)
    assert response.json() == {"ids": [api.id(number) for number in range(1, 5001)]}
    assert [frame for _, frame in api.kept()] == [f"data: {number}\n\n" for number in range(5000)]
    assert turns.count >= 5  # after each piece of 1,024


async def test_a_batch_that_cannot_be_one_append_is_413_and_none_of_it_is_published(make_api: MakeApi) -> None:
    api = make_api(log_size=65536, max_event_size=1024)
    line = b'{"channel":"c","data":"%b"}\n' % (b"x" * 900)
    answer = await api.post("/publish", content=in_parts(*[line] * 20), headers=NDJSON)
    assert_problem(answer, 413, "a quarter of the log", "at most 16384", "send it in several")
    line = b'{"channel":"c","data":1}\n'
    answer = await api.post("/publish", content=in_parts(*[line * 1000] * 101), headers=NDJSON)
    assert_problem(answer, 413, "more than 100000 events", "send it in several")
    assert api.position == 0


async def test_a_batch_that_meets_a_busy_log_is_503_and_none_of_it_is_published(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BusyAtTheSecond:
        """The log as it is for somebody whose second append meets a lock that is not given back."""

        def __init__(self, log: Log) -> None:
            self._log = log
            self._appends = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def append_many(self, events: list[tuple[bytes, bytes]], limit: int | None = None) -> int:
            self._appends += 1
            if self._appends > 1:
                raise LogBusy("the log is locked by process 1, which does not go on; try again later")
            return self._log.append_many(events, limit)

    monkeypatch.setattr(api.edge.hub.backplane, "log", BusyAtTheSecond(api.edge.hub.log))
    lines = b"\n".join(b'{"channel":"c","data":%d}' % number for number in range(20_000))
    assert (await api.post("/publish", content=lines, headers=NDJSON)).status_code == 200
    assert_problem(await api.post("/publish", content=lines, headers=NDJSON), 503, "try again later")
    assert api.position == 20_000  # what was answered 503 is not there, and what was answered 200 is


def test_a_few_large_lines_are_taken_in_pieces_too() -> None:
    lines = [b'{"channel":"c","data":"%b"}' % (b"x" * 60_000)] * 20
    pieces = list(from_ndjson(b"\n".join(lines), 65536))
    assert sum(map(len, pieces)) == 20
    assert max(map(len, pieces)) <= 3


WRONG_VALUES: list[tuple[Any, list[str]]] = [
    *((value, ["JSON object", kind]) for value, kind in [(None, "null"), (True, "a boolean"), (1, "a number")]),
    *((value, ["JSON object", kind]) for value, kind in [(1.5, "a number"), ("x", "a string")]),
    ({}, ["'channel' or 'channels' is missing"]),
    ({"data": 1}, ["'channel' or 'channels' is missing"]),
    ({"channel": "c"}, ["'data' is missing"]),
    ({"chanel": "c", "data": 1}, ["unknown field 'chanel'", "'channel'"]),
    ({"channel": "c", "Data": 1}, ["unknown field 'Data'", "'data'"]),
    ({"channel": "c", "data": 1, "ids": "x"}, ["unknown field 'ids'", "'retry'"]),
    ({"channel": "c", "data": 1, "id": "#x"}, ["'id'", "'#'"]),
    ({"channel": "c", "data": 1, "private": "on"}, ["'private' must be true or false"]),
    ({"channel": "c", "data": 1, "Event": "x"}, ["unknown field 'Event'"]),
    *(
        ({"channel": value, "data": 1}, ["'channel' must be a string", kind])
        for value, kind in [(None, "null"), (True, "a boolean"), (1, "a number"), ([], "an array"), ({}, "an object")]
    ),
    *(
        ({"channel": "c", "data": 1, "event": value}, ["'event' must be a string", kind])
        for value, kind in [(False, "a boolean"), (0, "a number"), (1.5, "a number"), ([], "an array"), ({}, "an obj")]
    ),
    *(
        ({"channel": "c", "data": 1, "retry": value}, ["'retry' is a whole number", "86400000"])
        for value in [True, "1", 1.0, -1, 86_400_001, 2**63, 1e300, [], {}]
    ),
    ({"channel": "", "data": 1}, ["at least one character"]),
    ({"channel": "x" * 2049, "data": 1}, ["2048 bytes"]),
    ({"channel": "$stats", "data": 1}, ["'$'"]),
    ({"channel": "c", "data": 1, "event": "$closing"}, ["'$'"]),
    ({"channel": "c", "data": 1, "event": "a\rb"}, ["event", "index 1"]),
    ({"channel": "c", "data": 1, "event": "x" * 257}, ["256 characters"]),
    ({"channel": "c", "data": json.loads("[" * 255 + "]" * 255)}, ["254 deep"]),
]


@pytest.mark.parametrize(("value", "words"), WRONG_VALUES)
async def test_one_wrong_event_is_told_where_and_nothing_is_published(api: Api, value: Any, words: list[str]) -> None:
    good = {"channel": "c", "data": 1}
    if not isinstance(value, list):
        assert_problem(await api.post("/publish", content=json.dumps(value)), 400, *words)
    assert_problem(await api.post("/publish", json=[good] * 1500 + [value]), 400, "event 1500 of the array", *words)
    lines = b"\n".join([*[orjson.dumps(good)] * 1500, b"", json.dumps(value).encode(), orjson.dumps(good)])
    assert_problem(await api.post("/publish", content=lines, headers=NDJSON), 400, "line 1502", *words)
    assert api.position == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"\xff", b"NaN", b'{"channel":"c","data":1e999}', b'"\\ud800"', b"[" * 2000]
)
async def test_what_is_not_json_is_told_so(api: Api, body: bytes) -> None:
    assert_problem(await api.post("/publish", content=body), 400, "the body is not JSON", "application/x-ndjson")
    if body:
        response = await api.post("/publish", content=b'{"channel":"c","data":1}\n' + body, headers=NDJSON)
        assert_problem(response, 400, "line 2 is not JSON")
    assert api.position == 0


# ---- limits ----------------------------------------------------------------------------------------------------------


async def test_the_event_limit_is_exact_in_every_form(make_api: MakeApi) -> None:
    api = make_api(max_event_size=1000)
    text = "x" * (1000 - len("data: \n\n"))
    for path, good, bad, headers in (
        ("/publish/c", text, text + "x", {}),
        (
            "/publish",
            json.dumps({"channel": "c", "data": text}),
            json.dumps({"channel": "c", "data": text + "x"}),
            JSON,
        ),
        (
            "/publish",
            json.dumps([{"channel": "c", "data": text}]),
            json.dumps([{"channel": "c", "data": text + "x"}]),
            JSON,
        ),
        (
            "/publish",
            json.dumps({"channel": "c", "data": text}),
            json.dumps({"channel": "c", "data": text + "x"}),
            NDJSON,
        ),
    ):
        before = api.position
        assert (await api.post(path, content=good, headers=headers)).status_code == 200
        assert_problem(await api.post(path, content=bad, headers=headers), 413, "1001 bytes", "at most 1000")
        assert api.position == before + 1


async def test_line_ends_count_as_they_are_sent(make_api: MakeApi) -> None:
    api = make_api(max_event_size=1000)
    assert_problem(await api.post("/publish/c", content="\n" * 900), 413, "takes", "at most 1000")


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_over_its_limit_is_refused_with_and_without_its_length(make_api: MakeApi) -> None:
    api = make_api(max_event_size=1000, max_body_size=5000)
    for path, limit in (("/publish/c", 1000), ("/publish", 5000)):
        declared = await api.post(path, content=b"x" * (limit + 1))
        assert_problem(declared, 413, f"the body has {limit + 1} bytes", f"at most {limit}")
        chunked = await api.post(path, content=in_parts(*[b"x" * 100] * (limit // 100), b"x"))
        assert_problem(chunked, 413, f"larger than {limit} bytes")
    assert api.position == 0


async def test_a_body_at_its_limit_is_read(make_api: MakeApi) -> None:
    api = make_api(max_event_size=1000, max_body_size=5000)
    body = b'{"channel":"c","data":1}'.ljust(5000)
    assert (await api.post("/publish", content=body)).status_code == 200
    assert (await api.post("/publish", content=in_parts(body[:3], b"", body[3:]))).status_code == 200


async def test_a_declared_length_is_refused_before_the_body_is_read(api: Api) -> None:
    async def receive() -> dict[str, Any]:
        pytest.fail("the body was read")

    head, _ = await raw_request(api.edge, "POST", "/publish/c", receive, {"content-length": "99999999999999999999999"})
    assert head["status"] == 413


async def test_a_compressed_body_is_refused_not_published_as_rubbish(api: Api) -> None:
    response = await api.post("/publish/c", content=b"x", headers={"content-encoding": "gzip"})
    assert_problem(response, 415, "Content-Encoding: gzip")
    assert response.headers["accept-encoding"] == "identity"
    assert (await api.post("/publish/c", content=b"x", headers={"content-encoding": "identity"})).status_code == 200
    assert api.position == 1


async def test_a_client_that_leaves_in_mid_body_publishes_nothing(api: Api) -> None:
    messages = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    await raw_request(api.edge, "POST", "/publish/c", receive, {})
    assert api.position == 0


# ---- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/publish/c", "/publish/a/b", "/publish"])
@pytest.mark.parametrize(
    "authorization", [None, b"", b"Bearer", b"Bearer wrong", b"Basic s3cret", b"s3cret", b"Bearer s3cr\xe9t"]
)
async def test_without_the_key_nothing_is_published(make_api: MakeApi, path: str, authorization: bytes | None) -> None:
    api = make_api(publish_key="s3cret")
    headers = [] if authorization is None else [(b"authorization", authorization)]
    response = await api.post(path, content=b'{"channel":"c","data":1}', headers=headers)
    assert_problem(response, 401)
    challenge, _, error = response.headers["www-authenticate"].partition(" ")
    wrong = authorization is not None and authorization.startswith(b"Bearer")
    assert (challenge, error.partition(",")[0]) == ("Bearer", 'error="invalid_token"' if wrong else "")
    assert "s3cret" not in response.text
    assert api.position == 0


@pytest.mark.parametrize("authorization", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret"])
async def test_with_the_key_it_is_published(make_api: MakeApi, authorization: str) -> None:
    api = make_api(publish_key="s3cret")
    response = await api.post("/publish/c", content=b"x", headers={"authorization": authorization})
    assert response.json() == {"id": api.id(1)}


async def test_who_has_no_key_sends_his_body_in_vain(make_api: MakeApi) -> None:
    async def receive() -> dict[str, Any]:
        pytest.fail("the body was read")

    head, _ = await raw_request(make_api(publish_key="s3cret").edge, "POST", "/publish", receive, {})
    assert head["status"] == 401


async def test_the_key_is_compared_in_constant_time(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    await make_api(publish_key="s3cret").post("/publish/c", headers={"authorization": "Bearer wrong"})
    assert compared == [(b"wrong", b"s3cret")]


async def test_the_key_is_for_publishing_only(make_api: MakeApi) -> None:
    api = make_api(publish_key="s3cret")
    for path in ("/", "/livez", "/readyz", "/healthz", "/stats", "/metrics", "/channels"):
        response = await api.get(path)
        assert response.status_code == 200
        assert "s3cret" not in response.text


# ---- looking ---------------------------------------------------------------------------------------------------------


async def test_health_says_ready_until_it_drains(api: Api) -> None:
    assert (await api.get("/livez")).json() == {"status": "alive"}
    assert (await api.get("/readyz")).json() == {"status": "ready"}
    health = await api.get("/healthz")
    assert health.status_code == 200
    assert health.json().keys() == {"status", "version", "uptime", "connections", "blocked", "channels"}
    assert health.json()["status"] == "ok"

    await api.edge.hub.drain(0)
    assert (await api.get("/livez")).status_code == 200
    for path in ("/readyz", "/healthz"):
        response = await api.get(path)
        assert response.status_code == 503
        assert response.json()["status"] == "draining"


@pytest.mark.parametrize("path", ["/publish/c", "/publish"])
async def test_publishing_while_draining_is_told_to_come_back(api: Api, path: str) -> None:
    await api.edge.hub.drain(0)
    response = await api.post(path, content='{"channel":"c","data":1}')
    assert_problem(response, 503, "shutting down")
    assert response.headers["retry-after"] == "1"
    assert api.position == 0


async def test_a_stream_asked_for_while_draining_is_told_to_come_back_soon(api: Api) -> None:
    await api.edge.hub.drain(0)
    response = await api.get("/sse/c", headers={"accept": "application/json"})
    assert_problem(response, 503, "shutting down")
    assert int(response.headers["retry-after"]) <= 4  # 1.3 times the 3 s of `retry`


async def test_stats_count_what_happened(api: Api) -> None:
    await api.post("/publish/a", content="x")
    await api.post("/publish", json=[{"channel": "b", "data": 1}] * 3)
    stats = (await api.get("/stats")).json()
    assert stats["published"] == 4
    assert stats["published_bytes"] == 4 * len("data: x\n\n")
    assert stats["log"]["position"] == 4
    assert stats["log"]["epoch"] == api.edge.hub.log.epoch
    assert stats["connections"] == stats["accepted"] == stats["refused"] == 0
    assert set(stats["ended"]) == {reason.value for reason in EndReason}


async def published(api: Api, *names: str) -> None:
    for name in names:
        await api.post(f"/publish/{quote(name)}", content="x")
    api.edge.hub.fanout.index.take_in()  # the pump does this too, a turn later


async def test_channels_are_listed_with_what_they_keep(api: Api) -> None:
    await published(api, "b", "a", "b")
    listed = (await api.get("/channels")).json()
    lively = [(channel.pop("rate"), channel.pop("last_time")) for channel in listed["channels"]]
    assert all(rate > 0 and datetime.fromisoformat(last_time).tzinfo for rate, last_time in lively)
    assert listed == {
        "total": 2,
        "pid": os.getpid(),
        "channels": [
            {"name": "a", "subscribers": 0, "kept": 1, "last_id": api.id(2)},
            {"name": "b", "subscribers": 0, "kept": 2, "last_id": api.id(3)},
        ],
        "next": None,
        "silent": [],
    }


async def test_channels_by_prefix_and_limit(api: Api) -> None:
    await published(api, *(f"room:{number}" for number in range(120)), "caf\u00e9", "other")

    async def listed(**query: Any) -> list[str]:
        return [channel["name"] for channel in (await api.get("/channels", params=query)).json()["channels"]]

    assert len(await listed()) == 100
    assert len(await listed(limit=1000)) == 122
    assert await listed(prefix="room:11", limit=3) == ["room:119", "room:118", "room:117"]
    assert await listed(prefix="caf\u00e9") == ["caf\u00e9"]
    assert await listed(prefix="nothing") == []
    assert await listed(limit=1) == ["other"]
    assert await listed(prefix="", limit=5) == await listed(limit=5)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        *((f"limit={value}", ["1 to 1000", value]) for value in ("0", "-1", "1001", "x", "1.5", "99999999999999")),
        ("limit=", ["1 to 1000"]),
        ("limit=" + "1".zfill(9) + "9" * 30, ["1 to 1000"]),
        ("limit=%D9%A1", ["1 to 1000"]),
        ("perfix=x", ["'perfix'", "'prefix' and 'limit' and 'before'"]),
        *((f"before={value}", ["'next'", value]) for value in ("x", "0.5", "5", "1.0", "1.-1", "1.9" + "9" * 18)),
        ("before=1.5", ["worker 1", str(os.getpid()), "begin again"]),
        ("limit=1&limit=2", ["'limit'", "twice"]),
        ("prefix=%FF", ["query"]),
    ],
)
async def test_a_wrong_question_about_channels_is_told_why(api: Api, query: str, words: list[str]) -> None:
    assert_problem(await api.get(f"/channels?{query}"), 400, *words)


async def test_channels_are_listed_page_by_page_while_others_come_and_go(api: Api) -> None:
    stay = [f"stay:{number}" for number in range(150)]
    for number, name in enumerate(stay):
        await published(api, name)
        if number % 3 == 0:
            api.edge.hub.fanout.unsubscribe(api.edge.hub.fanout.subscribe([b"gone:%d" % number], Sink()))
    subscribers = [api.edge.hub.fanout.subscribe([b"go:%d" % number], Sink()) for number in range(150)]
    listed: list[str] = []
    query = {"limit": "40"}
    while True:
        answer = (await api.get("/channels", params=query)).json()
        listed += [channel["name"] for channel in answer["channels"]]
        if answer["next"] is None:
            break
        query["before"] = answer["next"]
        for subscriber in subscribers[:20]:
            api.edge.hub.fanout.unsubscribe(subscriber)
        del subscribers[:20]
        await published(api, f"late:{len(listed)}")
    assert {name for name in listed if name.startswith("stay:")} == set(stay)


async def test_looks_through_all_channels_are_taken_one_at_a_time_and_past_a_few_refused(api: Api) -> None:
    lines = b"\n".join(b'{"channel":"c%d","data":1}' % n for n in range(3 * CHANNELS_AT_ONCE))
    assert (await api.post("/publish", content=lines, headers=NDJSON)).is_success
    while api.edge.hub.fanout.index.take_in():
        pass
    answers = await asyncio.gather(*(api.get("/channels?prefix=nobody") for _ in range(30)))
    taken = [answer for answer in answers if answer.is_success]
    assert len(taken) == WAITING + 1
    for answer in answers:
        if answer not in taken:
            assert_problem(answer, 503, "all channels")
            assert answer.headers["retry-after"] == "1"
    assert (await api.get("/channels?prefix=c1&limit=3")).is_success
    assert (await api.get("/channels?prefix=nobody")).json()["channels"] == []


async def test_a_look_that_is_refused_looks_at_nothing_and_one_that_needs_no_search_is_taken() -> None:
    class Endless:
        """An index in which nothing is found by prefix, and of which there is always more."""

        pages = 0

        def page(self, before: int, prefix: bytes, limit: int, most: int) -> tuple[list[Channel], int]:
            self.pages += 1
            return [], 1 if prefix else 0

    index = Endless()
    listings = Listings(cast("Index", index))
    searching = [asyncio.create_task(listings.look(b"nobody", 1)) for _ in range(WAITING + 1)]
    await asyncio.sleep(0)
    walked = index.pages
    with pytest.raises(TooManyListings):
        await listings.look(b"nobody", 1)
    assert index.pages == walked > 0
    assert await listings.look(b"", 1) == ([], 0)
    for task in searching:
        task.cancel()
    await asyncio.gather(*searching, return_exceptions=True)


async def test_a_look_through_many_channels_gives_the_loop_back() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Long:
        """An index of ten pages, in which nothing is found."""

        def __init__(self) -> None:
            self.seen: list[int] = []  # at which turn each page was

        def page(self, before: int, prefix: bytes, limit: int, most: int) -> tuple[list[Channel], int]:
            assert most == CHANNELS_AT_ONCE
            self.seen.append(turns)
            return [], (before or 10) - 1

    index = Long()
    counting = asyncio.create_task(others())
    assert await Listings(cast("Index", index)).look(b"nobody", 1) == ([], 0)
    counting.cancel()
    assert len(index.seen) == 10
    assert len(set(index.seen)) >= 9, "whether one turn is enough is seen after the first page"


async def test_the_edge_leaves_no_signal_handler_behind(make_api: MakeApi) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    api = make_api()
    await api.get("/livez")
    assert signal.getsignal(signal.SIGINT) is not before[1]
    await api.edge.close()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_the_page_runs_nothing_but_itself(api: Api) -> None:
    response = await api.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


# ---- the manners of HTTP ---------------------------------------------------------------------------------------------

LOOKING = ["/", "/livez", "/readyz", "/healthz", "/stats", "/metrics", "/channels"]
PUBLISHING = ["/publish", "/publish/c", "/publish/a/b"]


@pytest.mark.parametrize("path", LOOKING)
async def test_head_is_answered_like_get(api: Api, path: str) -> None:
    response = await api.head(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == (await api.get(path)).headers["content-type"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/stats", "/channels"])
async def test_what_changes_by_the_second_is_not_stored(api: Api, path: str) -> None:
    assert (await api.get(path)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("methods", "paths", "allow"),
    [(("GET", "PUT", "DELETE"), PUBLISHING, {"POST"}), (("POST", "PUT"), LOOKING, {"GET", "HEAD"})],
)
async def test_the_wrong_method_is_told_the_right_one(
    api: Api, methods: tuple[str, ...], paths: list[str], allow: set[str]
) -> None:
    for path in paths:
        for method in methods:
            response = await api.request(method, path)
            assert_problem(response, 405, method, path)
            assert set(response.headers["allow"].replace(",", " ").split()) == allow


@pytest.mark.parametrize("path", [*PUBLISHING, *LOOKING, "/sse/x", "/sse"])
async def test_options_says_what_is_allowed(api: Api, path: str) -> None:
    response = await api.options(path)
    assert response.status_code == 204
    assert response.headers["allow"]
    assert not response.content


@pytest.mark.parametrize(
    "path", ["/nope", "/publish/", "/publish/a/b/c", "/publish//b", "/publish/a/", "/stats/", "/ssee"]
)
async def test_what_is_not_there_is_told_where_things_are(api: Api, path: str) -> None:
    for method in ("GET", "POST"):
        assert_problem(await api.request(method, path), 404, path, "/publish/CHANNEL", "/sse")


@pytest.mark.parametrize("path", ["", "metrics", "channels", "stats", "livez", "publish", "sse"])
async def test_a_line_end_behind_a_path_makes_another_path(api: Api, path: str) -> None:
    for method in ("GET", "POST"):
        assert (await api.request(method, f"/{path}%0a")).status_code == 404


async def test_a_failure_of_ours_is_a_problem_and_is_raised_for_the_server_to_log(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(events: object) -> list[int]:
        raise TypeError("secret of the house")

    monkeypatch.setattr(api.edge.hub, "append", fails)
    quiet = httpx.AsyncClient(
        transport=httpx.ASGITransport(api.edge, raise_app_exceptions=False), base_url="http://localhost"
    )
    async with quiet:
        response = await quiet.post("/publish/c", content="x")
    assert_problem(response, 500, "its log says why")
    assert "secret" not in response.text
    with pytest.raises(TypeError, match="secret"):
        await api.post("/publish/c", content="x")


# ---- CORS ------------------------------------------------------------------------------------------------------------

HERE = "https://here.example"
ELSEWHERE = "https://elsewhere.example"
CREDENTIALS = "access-control-allow-credentials"
ORIGIN = "access-control-allow-origin"


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization, content-type, last-event-id, cache-control",
    }


async def test_a_listed_origin_may_read_with_credentials(make_api: MakeApi) -> None:
    api = make_api(cors_origins=[HERE, "https://third.example"])
    for response in (
        await api.get("/stats", headers={"origin": HERE}),
        await api.post("/publish/c", content="x", headers={"origin": HERE, "cookie": "a=b"}),
        await api.head("/sse/c", headers={"origin": HERE}),
        await api.get("/nope", headers={"origin": HERE}),
        await api.get("/sse/$nope", headers={"origin": HERE}),
    ):
        assert response.headers[ORIGIN] == HERE
        assert response.headers[CREDENTIALS] == "true"
        assert "origin" in response.headers["vary"].lower()


async def test_an_origin_that_is_not_listed_gets_nothing(make_api: MakeApi) -> None:
    api = make_api(cors_origins=[HERE])
    for origin in (ELSEWHERE, "null", HERE + ".evil.example", HERE.replace("https", "http"), "https://HERE.example"):
        for path in ("/stats", "/sse/$nope"):
            assert ORIGIN not in (await api.get(path, headers={"origin": origin})).headers
        for path in ("/sse/x", "/publish", "/publish/x"):
            refused = await api.options(path, headers=preflight(origin))
            assert refused.status_code == 400
            assert ORIGIN not in refused.headers


@pytest.mark.parametrize(("path", "method"), [("/sse/x", "GET"), ("/publish", "POST"), ("/publish/a/b", "POST")])
async def test_a_preflight_names_the_headers_that_clients_send(make_api: MakeApi, path: str, method: str) -> None:
    response = await make_api(cors_origins=[HERE]).options(path, headers=preflight(HERE, method))
    assert response.status_code == 200
    assert response.headers[ORIGIN] == HERE
    assert response.headers[CREDENTIALS] == "true"
    assert "origin" in response.headers["vary"].lower()
    allowed = {name.strip().lower() for name in response.headers["access-control-allow-headers"].split(",")}
    assert {"last-event-id", "cache-control", "authorization", "content-type"} <= allowed
    assert method in response.headers["access-control-allow-methods"]


async def test_any_origin_means_no_credentials(make_api: MakeApi) -> None:
    api = make_api(cors_origins=["*"])
    for headers in ({"origin": ELSEWHERE}, {"origin": ELSEWHERE, "cookie": "a=b"}):
        response = await api.get("/stats", headers=headers)
        assert response.headers[ORIGIN] in ("*", ELSEWHERE)
        assert CREDENTIALS not in response.headers
    answer = await api.options("/publish", headers=preflight(ELSEWHERE))
    assert answer.headers[ORIGIN] == "*"
    assert CREDENTIALS not in answer.headers


async def test_without_origins_there_is_no_cors(api: Api) -> None:
    assert ORIGIN not in (await api.get("/stats", headers={"origin": HERE})).headers
    assert ORIGIN not in (await api.options("/sse/x", headers=preflight(HERE))).headers


@pytest.mark.parametrize("origins", [[HERE], ["*"]])
async def test_the_head_of_a_stream_has_the_cors_headers(make_api: MakeApi, origins: list[str]) -> None:
    edge = make_api(cors_origins=origins).edge
    sent: list[dict[str, Any]] = []
    opened, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            opened.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/sse/c",
        "query_string": b"",
        "headers": [(b"origin", HERE.encode())],
    }
    stream = asyncio.create_task(edge({**scope, "client": ("127.0.0.1", 1), "root_path": ""}, receive, send))
    await asyncio.wait_for(opened.wait(), 5)
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"access-control-allow-origin"].decode() == origins[0]
    assert (b"access-control-allow-credentials" in headers) == (origins != ["*"])
    gone.set()
    await stream


# ---- whatever else comes in ------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
near_events = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["c", "$c", ""]) | json_values,
        "data": json_values,
        "event": st.sampled_from(["e", "$e"]) | json_values,
        "retry": st.integers(-1, 10) | json_values,
        "x": st.none(),
    },
)
as_json = (near_events | st.lists(near_events, max_size=3) | json_values).map(lambda value: json.dumps(value).encode())
bodies = st.binary(max_size=60) | as_json | st.lists(as_json, max_size=4).map(b"\n".join)
query_bytes = st.binary(max_size=20).map(lambda raw: quote(raw, safe="=&%"))
targets = st.one_of(
    st.just("/publish"),
    st.builds("/publish/{}".format, st.binary(max_size=20).map(lambda raw: quote(raw, safe="/%"))),
    st.builds("/publish/c?{}".format, query_bytes),
    st.builds("/publish/c?{}={}".format, st.sampled_from(["event", "retry"]), query_bytes),
    st.builds("/publish?{}".format, query_bytes),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(targets, bodies, st.sampled_from([JSON, NDJSON, {}]))
def test_nothing_that_is_sent_makes_it_fail_and_only_200_moves_the_log(
    target: str, body: bytes, headers: dict[str, str]
) -> None:
    async def send() -> None:
        api = Api(log_size=64 * 1024, max_event_size=1024, max_body_size=4096)
        try:
            response = await api.post(target, content=body, headers=headers)  # an exception of the app comes out here
            if response.status_code == 200:
                answer = response.json()
                ids = answer["ids"] if "ids" in answer else [answer["id"]]
                assert ids == [api.id(number) for number in range(1, api.position + 1)]
            else:
                assert 400 <= response.status_code < 500
                assert_problem(response, response.status_code)
                assert api.position == 0
        finally:
            await api.aclose()

    asyncio.run(send())


async def test_a_foreign_web_page_may_not_publish_where_no_key_is_asked_for(api: Api) -> None:
    answer = await api.post("/publish/c", content="x", headers={"origin": "https://evil.example"})
    assert_problem(answer, 403, "https://evil.example", "cors_origins")
    assert answer.headers["access-control-allow-origin"] == "https://evil.example", "and it may read why"
    assert api.position == 0


async def test_a_body_that_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_fast.edge.publish.BODY_SECONDS", 0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert_problem(await api.post("/publish/c", content=never()), 408, "0.01 s")
    assert api.position == 0


async def test_json_that_is_parsed_in_one_go_is_smaller_than_a_megabyte(api: Api) -> None:
    events = [{"channel": "c", "data": "x" * 1000}] * 1100
    answer = await api.post("/publish", content=orjson.dumps(events), headers=JSON)
    assert_problem(answer, 413, "JSON", "1048576")
    lines = b"\n".join(orjson.dumps(event) for event in events)
    assert (await api.post("/publish", content=lines, headers=NDJSON)).status_code == 200
    assert api.position == 1100


async def test_a_line_far_longer_than_an_event_may_be_is_not_parsed(make_api: MakeApi) -> None:
    api = make_api(max_event_size=1024)
    lines = b'{"channel":"c","data":1}\n{"channel":"c","data":[' + b"[]," * 5000 + b"1]}"
    assert_problem(await api.post("/publish", content=lines, headers=NDJSON), 413, "line 2", "1024")
    assert api.position == 0
