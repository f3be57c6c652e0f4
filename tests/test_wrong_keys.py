"""Wrong publish keys are seen, and get nobody anywhere: thousands a second are counted, have a few lines, hold no place
and keep nobody else from publishing."""

import asyncio
import logging
from collections import Counter
from pathlib import Path

import httpx
import pytest
from front_port import by_asgi, edge_of
from hypothesis import given
from hypothesis import strategies as st
from test_refusals import client_of, told

from sse_fast.access.grants import Grants
from sse_fast.access.patterns import EVERYTHING
from sse_fast.access.publish_keys import PublishKeys
from sse_fast.protocol.decision import Answer, Form, Publish, Subscribe
from sse_fast.protocol.problem import problem
from sse_fast.transports.guesses import REMEMBERED, WRONG_KEYS, Guesses
from sse_fast.transports.life import Transport
from sse_fast.transports.refusals import LINES

KEY = "the-right-one"
RIGHT, WRONG = {"authorization": f"Bearer {KEY}"}, {"authorization": "Bearer a-wrong-one"}
FAR = "203.0.113.7"
ORIGIN = (b"access-control-allow-origin", b"https://shop.example")


class AtOnce:
    """So many of each name, and none come in again."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used: Counter[bytes] = Counter()

    def spend(self, name: bytes, cost: int = 1) -> float:
        if self.used[name] + cost > self.most:
            return 1.5
        self.used[name] += cost
        return 0.0

    def give_back(self, name: bytes, cost: int = 1) -> None:
        self.used[name] -= cost


def wrong() -> Answer:
    return problem(401, "this is not the publish key of this server", (ORIGIN,), "wrong_key")


def right(key: str = "publish-key") -> Publish:
    return Publish(Form.DATA, 10, "a", headers=(ORIGIN,), grants=Grants(EVERYTHING, EVERYTHING, credential=key))


def assert_too_often(decision: object) -> None:
    assert isinstance(decision, Answer)
    assert (decision.status, decision.refused) == (429, "wrong_key")
    headers = dict(decision.headers)
    assert headers[b"retry-after"] == b"2"
    assert headers[ORIGIN[0]] == ORIGIN[1], "who could read the 401 can read this"
    assert b"www-authenticate" not in headers


def test_beyond_so_many_wrong_keys_an_address_is_told_no_more_which_are_wrong() -> None:
    guesses = Guesses(AtOnce(3))
    for _ in range(3):
        assert guesses.decided(wrong(), FAR) == wrong()
    assert_too_often(guesses.decided(wrong(), FAR))
    assert_too_often(guesses.decided(right(), FAR))
    assert guesses.decided(right(), "203.0.113.8") == right(), "others are not meant"


def test_a_right_key_uses_nothing_up() -> None:
    guesses = Guesses(AtOnce(3))
    for number in range(100):
        assert guesses.decided(right(f"key:{number}"), FAR) == right(f"key:{number}")
    assert guesses.decided(wrong(), FAR) == wrong()


def test_who_has_published_from_there_goes_on() -> None:
    guesses = Guesses(AtOnce(1))
    guesses.decided(right(), FAR)
    for _ in range(3):
        guesses.decided(wrong(), FAR)
    assert guesses.decided(right(), FAR) == right()
    assert_too_often(guesses.decided(right("key:another"), FAR))


def test_a_token_is_no_guess_whoever_guesses_keys_from_there() -> None:
    guesses = Guesses(AtOnce(1))
    for _ in range(3):
        guesses.decided(wrong(), FAR)
    assert_too_often(guesses.decided(right(), FAR))
    for token in ("0123456789abcdef", "c0ffee0000000000"):
        assert guesses.decided(right(token), FAR) == right(token)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "local"])
def test_a_right_key_of_this_machine_is_always_taken(client: str) -> None:
    guesses = Guesses(AtOnce(1))
    for _ in range(3):
        guesses.decided(wrong(), client)
    assert_too_often(guesses.decided(wrong(), client))
    assert guesses.decided(right(), client) == right()


def test_one_host_has_no_more_for_all_its_addresses() -> None:
    guesses = Guesses(AtOnce(2))
    for number in range(2):
        assert guesses.decided(wrong(), f"2001:db8::{number}") == wrong()
    assert_too_often(guesses.decided(wrong(), "2001:db8::99"))


@given(st.lists(st.integers(0, 3000), max_size=50))
def test_of_those_who_published_not_more_than_so_many_are_remembered(keys: list[int]) -> None:
    guesses = Guesses(AtOnce(1))
    for key in (*range(REMEMBERED), *keys):
        guesses.decided(right(f"key:{key}"), FAR)
    assert len(guesses._right) <= REMEMBERED


def test_what_needs_no_key_is_not_looked_at() -> None:
    guesses = Guesses(AtOnce(0))
    for decision in (Subscribe(("a",)), Publish(Form.DATA, 10, "a"), problem(403, "no", (), "forbidden")):
        assert guesses.decided(decision, FAR) == decision


# ---- by both transports ----------------------------------------------------------------------------------------------


async def post(http: httpx.AsyncClient, headers: dict[str, str], **more: str) -> httpx.Response:
    return await http.post("/publish/a", headers=headers | {name.replace("_", "-"): more[name] for name in more})


@pytest.mark.parametrize("transport", Transport)
async def test_who_guesses_is_answered_429_and_nobody_else_is(transport: Transport) -> None:
    async with edge_of(publish_key=KEY, trusted_proxies=["127.0.0.1"]) as edge, client_of(edge, transport) as http:
        assert (await post(http, RIGHT, x_forwarded_for="203.0.113.1")).status_code == 200
        for _ in range(WRONG_KEYS.burst):
            assert (await post(http, WRONG, x_forwarded_for=FAR)).status_code == 401
        for headers in (WRONG, RIGHT):
            answer = await post(http, headers, x_forwarded_for=FAR)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) in (1, 2)
            assert "too many wrong publish keys" in answer.json()["detail"]
        assert (await post(http, RIGHT, x_forwarded_for="203.0.113.1")).status_code == 200
        assert (await post(http, RIGHT)).status_code == 200
        assert edge.metrics.snapshot()["refused_by"]["wrong_key"] == WRONG_KEYS.burst + 2


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("path", ["/stats", "/sse/a", "/sse/$stats"])
async def test_guessing_a_key_that_looks_or_listens_is_no_better(
    transport: Transport, path: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[ops]\nkey = "{KEY * 2}"\noperations = true\nsubscribe = ["**"]\n')
    right = {"authorization": f"Bearer {KEY * 2}"}
    async with (
        edge_of(publish_keys=keys, trusted_proxies=["127.0.0.1"]) as edge,
        client_of(edge, transport) as http,
    ):
        edge.policy.access.publishers.use(PublishKeys.parse(keys.read_bytes()))
        for _ in range(WRONG_KEYS.burst):
            assert (await http.get(path, headers=WRONG | {"x-forwarded-for": FAR})).status_code == 401
        for headers in (WRONG, right):
            answer = await http.get(path, headers=headers | {"x-forwarded-for": FAR})
            assert answer.status_code == 429
        assert edge.metrics.snapshot()["refused_by"]["wrong_key"] == WRONG_KEYS.burst + 2
        if transport is Transport.NATIVE and path != "/stats":  # the others end, or have nobody behind them here
            async with http.stream("GET", path, headers=right | {"x-forwarded-for": "203.0.113.1"}) as answer:
                assert answer.status_code == 200


async def test_thousands_of_wrong_keys_are_counted_have_few_lines_and_hold_no_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sse_fast.refused")
    async with edge_of(publish_key=KEY) as edge:
        assert edge.front is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
        got: Counter[bytes] = Counter()
        for start in range(0, 3000, 100):
            for number in range(start, start + 100):
                key = f"guess-{number}"
                writer.write(
                    f"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
                )
            for _ in range(100):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                got[head.split(b" ")[1]] += 1
            if start % 1000 == 0:
                assert (await by_asgi(edge).post("/publish/a", content="x", headers=RIGHT)).status_code == 200
        writer.close()
        assert got == {b"401": WRONG_KEYS.burst, b"429": 3000 - WRONG_KEYS.burst} or got[b"429"] > 2900
        assert edge.metrics.snapshot()["refused_by"]["wrong_key"] == 3000
        edge._streams.refusals.tell(last=True)
        said = told(caplog)
        assert len(said) < 60 * (LINES + 1)
        assert sum(line.get("left_out", 1) for line in said) == 3000, "each has a line, or is counted in one"
        assert "guess-" not in caplog.text
