"""The server says whom it refuses, and why: each is counted, each has a line, and no flood of them fills the log."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from front_port import by_asgi, edge_of
from signing import SECRET, listen

from sse_fast.edge.app import Edge
from sse_fast.edge.metrics import WHY_REFUSED
from sse_fast.logs import TextFormatter
from sse_fast.protocol.decision import Subscribe
from sse_fast.protocol.request import Request
from sse_fast.transports.life import Transport
from sse_fast.transports.refusals import LINES, Refusals, shown

KEY = "the-right-one"
WRONG = {"authorization": "Bearer a-wrong-one"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of each line, and how it begins."""
    names = ("reason", "client", "channel", "transport", "left_out", "seconds")
    lines = [record for record in caplog.records if record.name == "sse_fast.refused"]
    assert all(line.levelno == logging.INFO and line.getMessage().startswith("refused: ") for line in lines)
    return [{name: vars(line)[name] for name in names if name in vars(line)} for line in lines]


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sse_fast.refused")


# ---- bounded ---------------------------------------------------------------------------------------------------------


def test_of_each_reason_there_are_so_many_lines_a_second_and_one_that_says_how_many_have_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(1000):
        refusals.note("wrong_key", "1.2.3.4", Transport.NATIVE, None)
    refusals.note("invalid", "1.2.3.4", Transport.NATIVE, None)
    assert [line["reason"] for line in told(caplog)] == ["wrong_key"] * LINES + ["invalid"]
    caplog.clear()
    refusals.tell()
    assert told(caplog) == [], "the second is not over"
    clock.now += 1
    refusals.tell()
    assert told(caplog) == [{"reason": "wrong_key", "left_out": 1000 - LINES, "seconds": 1.0}]
    assert caplog.messages == [f"refused: {1000 - LINES} more: wrong_key"]
    caplog.clear()
    refusals.tell()
    assert told(caplog) == [], "nobody is told of twice"
    assert (refusals.counts["wrong_key"], refusals.counts["invalid"]) == (1000, 1), "all are counted"


def test_who_comes_in_the_next_second_has_a_line_behind_the_one_that_tells_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(LINES + 1):
        refusals.note("forbidden", "a", Transport.ASGI, None)
    clock.now += 3
    refusals.note("forbidden", "b", Transport.ASGI, None)
    assert told(caplog)[LINES:] == [
        {"reason": "forbidden", "left_out": 1, "seconds": 3.0},
        {"reason": "forbidden", "client": "b", "transport": "asgi"},
    ]


def test_at_the_end_it_is_said_how_many_had_no_line(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Clock())
    for _ in range(LINES + 2):
        refusals.note("invalid", "a", Transport.ASGI, None)
    refusals.tell(last=True)
    assert told(caplog)[-1]["left_out"] == 2


def test_what_nobody_reads_is_counted_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sse_fast.refused")
    refusals = Refusals(Clock())
    refusals.note("invalid", "a", Transport.ASGI, None)
    refusals.note("", "a", Transport.ASGI, None)
    assert (told(caplog), refusals.counts.total()) == ([], 1)


@pytest.mark.parametrize(
    ("asked", "channel"),
    [
        (None, ""),
        (Subscribe(("a", "b")), "a, b"),
        (Subscribe(("a", "b", "c", "d")), "a, b, c, …"),
        (Subscribe(("a",), patterns=("orders:*",)), "a, orders:*"),
        (Request("POST", "/publish"), ""),
        (Request("POST", "/publish/a/b"), "a:b"),
        (Request("GET", "/edge/sse/a/b"), "a:b"),
        (Request("GET", "/sse", b"channel=a%3Ab&access_token=t0ken&channel=c"), "a:b, c"),
        (Request("GET", "/sse", b"access_token=channel=x&xchannel=y"), ""),
        (Request("GET", "/sse/" + "x" * 1000), "x" * 64),
        (Request("GET", "/stats"), ""),
    ],
)
def test_a_line_says_for_which_channels_and_nothing_else_of_a_query(asked: Any, channel: str) -> None:
    assert shown(asked) == channel


# ---- by both transports ----------------------------------------------------------------------------------------------


def client_of(edge: Edge, transport: Transport) -> httpx.AsyncClient:
    if transport is Transport.ASGI:
        return by_asgi(edge)
    assert edge.front is not None
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.front.port}")


Ask = Callable[[httpx.AsyncClient], Any]
REFUSED: list[tuple[dict[str, Any], Ask, int, str, str]] = [
    ({}, lambda http: http.get("/sse/a?histroy=1"), 400, "invalid", "a"),
    ({}, lambda http: http.delete("/sse/a"), 405, "invalid", "a"),
    ({}, lambda http: http.post("/publish/a", content="x" * 2000), 413, "too_large", "a"),
    ({}, lambda http: http.post("/publish", content="{"), 400, "invalid", ""),
    ({}, lambda http: http.post("/publish/a?retry=x", content="x"), 400, "invalid", "a"),
    ({"publish_key": KEY}, lambda http: http.post("/publish/a", content="x"), 401, "unauthorized", "a"),
    ({"publish_key": KEY}, lambda http: http.post("/publish/a/b", content="x", headers=WRONG), 401, "wrong_key", "a:b"),
    (
        {},
        lambda http: http.post("/publish/a", content="x", headers={"origin": "https://evil.example"}),
        403,
        "foreign_origin",
        "a",
    ),
    (
        {"token_secret": SECRET},
        lambda http: http.get("/sse?pattern=a:*&channel=b&history=1"),
        401,
        "unauthorized",
        "a:*, b",
    ),
    (
        {"allowed_hosts": ["shop.example"]},
        lambda http: http.get("/sse/a", headers={"host": "evil.test"}),
        421,
        "foreign_host",
        "a",
    ),
    (
        {"max_subscriptions": 1},
        lambda http: http.get("/sse?channel=a&channel=b", headers={"accept": "application/json"}),
        503,
        "max_subscriptions",
        "a, b",
    ),
]


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize(("settings", "ask", "status", "reason", "channel"), REFUSED)
async def test_who_is_refused_has_a_line_and_is_counted(
    settings: dict[str, Any],
    ask: Ask,
    status: int,
    reason: str,
    channel: str,
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with edge_of(max_event_size=1000, **settings) as edge, client_of(edge, transport) as http:
        assert (await ask(http)).status_code == status
        line = {"reason": reason, "client": "127.0.0.1", "channel": channel, "transport": transport}
        assert told(caplog) == [{name: what for name, what in line.items() if what}]
        stats = edge.metrics.snapshot()
        assert stats["refused_by"] == dict.fromkeys(WHY_REFUSED, 0) | {reason: 1}
        assert stats["refused"] == 1
        exposed = edge.metrics.exposition()[0].decode()
        assert f'sse_fast_refused_total{{reason="{reason}"}} 1.0' in exposed


@pytest.mark.parametrize("transport", Transport)
async def test_who_is_not_refused_has_no_line(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    async with edge_of(publish_key=KEY) as edge, client_of(edge, transport) as http:
        for _ in range(3):
            published = await http.post("/publish/a", content="x", headers={"authorization": f"Bearer {KEY}"})
            assert published.status_code == 200
        assert (await http.head("/sse/a")).status_code == 200
        assert (await http.options("/sse/a")).status_code == 204
    assert told(caplog) == []


async def test_what_is_no_request_has_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    async with edge_of() as edge, client_of(edge, Transport.NATIVE) as http:
        assert (await http.get("/sse/a", headers={"host": "no host"})).status_code == 400
        assert told(caplog) == [{"reason": "invalid", "client": "127.0.0.1", "transport": "native"}]


async def test_the_address_is_the_client_s_that_a_trusted_proxy_names(caplog: pytest.LogCaptureFixture) -> None:
    async with edge_of(trusted_proxies=["127.0.0.1"]) as edge:
        for transport in Transport:
            async with client_of(edge, transport) as http:
                await http.get("/sse/a?history=x", headers={"x-forwarded-for": "203.0.113.7"})
    assert [line["client"] for line in told(caplog)] == ["203.0.113.7"] * 2


def test_what_a_stranger_writes_makes_no_second_line() -> None:
    record = logging.makeLogRecord(
        {"msg": "refused: invalid", "channel": shown(Request("GET", "/sse/a\nrefused: b\x1b[2J")), "name": "x"}
    )
    line = TextFormatter().format(record)
    assert "\n" not in line
    assert "\x1b" not in line


@pytest.mark.parametrize("transport", Transport)
async def test_of_who_is_refused_for_a_credential_it_is_said_why_and_where(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        ("/sse/a", listen("a", seconds=-3600), "has expired", None),
        ("/stats", "n0nsense", "this is no token", "/stats"),
    ]
    bad += [("/sse/a", listen("b"), "does not grant to subscribe to 'a'", None)]
    async with edge_of(token_secret=SECRET) as edge, client_of(edge, transport) as http:
        for target, credential, why, path in bad:
            caplog.clear()
            await http.get(target, headers={"authorization": f"Bearer {credential}"})
            (line,) = [record for record in caplog.records if record.name == "sse_fast.refused"]
            assert why in vars(line)["detail"]
            assert vars(line).get("path") == path
            assert credential not in str(vars(line))
        caplog.clear()
        await http.get("/sse/a?histroy=s3cret")
        said = [vars(record) for record in caplog.records if record.name.startswith("sse_fast")]  # the client's are not
        assert said
        assert "s3cret" not in str(said)
