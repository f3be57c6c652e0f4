"""Tokens that are none cost CPU, each of them: of an address that has sent too many no further one is verified for a
moment, and whose token is known does not notice."""

import pytest
from front_port import edge_of
from signing import OTHER_SECRET, SECRET, key_set, listen, public, rsa_key
from test_rates import first_events
from test_refusals import client_of
from test_tokens import NOW, tokens_of
from test_wrong_keys import FAR, AtOnce

from sse_fast._native.node.buckets import Limit
from sse_fast.access.asking import NOTHING_FOUND, Found, TokenAsked
from sse_fast.access.keys import key_set_of
from sse_fast.edge.app import Edge
from sse_fast.errors import BadToken
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Ask
from sse_fast.protocol.problem import problem, problem_of
from sse_fast.protocol.request import Request
from sse_fast.transports.guesses import Guesses
from sse_fast.transports.life import Transport

OTHER_ADDRESS = "203.0.113.8"
MOST = 3


def bearer(text: str, address: str = FAR) -> dict[str, str]:
    return {"authorization": f"Bearer {text}", "x-forwarded-for": address}


def guarded(edge: Edge) -> Edge:
    """With a bucket of which nothing comes back while a test runs."""
    edge._streams.guesses = Guesses(AtOnce(MOST), AtOnce(MOST))
    return edge


def verified(edge: Edge) -> int:
    """How often it was found out whether a token is one."""
    assert edge.policy.access.tokens is not None
    return edge.policy.access.tokens.misses


def test_what_an_address_may_send_is_looked_at_before_its_token_is() -> None:
    guesses = Guesses(AtOnce(MOST), AtOnce(MOST))
    bad = problem_of(BadToken("the token is signed with another key than this server has"))
    for _ in range(MOST):
        assert guesses.found_of(FAR) is NOTHING_FOUND
        assert guesses.decided(bad, FAR) == bad
    assert guesses.found_of(FAR).wait == 1.5
    assert guesses.found_of(OTHER_ADDRESS) is NOTHING_FOUND


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "local"])
def test_whom_everybody_may_be_is_not_slowed_down(client: str) -> None:
    guesses = Guesses(AtOnce(MOST), AtOnce(MOST))
    for _ in range(2 * MOST):
        guesses.decided(problem_of(BadToken("no")), client)
    assert guesses.found_of(client) is NOTHING_FOUND


def test_no_credential_and_one_that_does_not_grant_it_are_no_bad_tokens() -> None:
    guesses = Guesses(AtOnce(MOST), AtOnce(MOST))
    for reason in ("unauthorized", "forbidden", "wrong_key", "invalid"):
        for _ in range(2 * MOST):
            guesses.decided(problem(401, "no", (), reason), FAR)
    assert guesses.found_of(FAR) is NOTHING_FOUND


async def test_a_token_that_would_be_verified_is_not_decided_about_while_its_address_waits() -> None:
    async with edge_of(token_secret=SECRET) as edge:
        for text in (listen("a"), listen("a", key=OTHER_SECRET)):
            request = Request("GET", "/sse/a", headers={b"authorization": f"Bearer {text}".encode()})
            asked = decide(request, edge.policy, Found(wait=2.0))
            assert isinstance(asked, Ask)
            assert asked.what == TokenAsked(2.0)
        assert verified(edge) == 2, "of each only its header was read"
        for text in ("no-token", "a.b.c"):
            request = Request("GET", "/sse/a", headers={b"authorization": f"Bearer {text}".encode()})
            assert isinstance(decide(request, edge.policy, Found(wait=2.0)), Answer), "this costs nothing to find out"


@pytest.mark.parametrize("transport", Transport)
async def test_who_sends_forged_tokens_is_answered_429_and_who_is_known_goes_on(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa_key()
    async with (
        edge_of(jwks_url="http://127.0.0.1:9/", trusted_proxies=["127.0.0.1"]) as edge,
        client_of(guarded(edge), transport) as http,
    ):
        tokens = edge.policy.access.tokens
        assert tokens is not None
        tokens.use(key_set_of(key_set(public(key, kid="1"))).keys, "url")
        before, good = (listen("a", key=key, algorithm="RS256", kid="1", seconds=s) for s in (1800, 3600))
        assert (await http.head("/sse/a", headers=bearer(before))).status_code == 200
        forged = [listen("a", key=rsa_key("forged"), algorithm="RS256", kid="1", seconds=s) for s in range(60, 80)]
        for text in forged[:MOST]:
            assert (await http.head("/sse/a", headers=bearer(text))).status_code == 401

        monkeypatch.setattr("sse_fast.access.tokens._signers", refuse_to_look)
        for method, path in (("POST", "/publish/a"), ("GET", "/stats")):
            for text in forged[MOST:]:
                answer = await http.request(method, path, headers=bearer(text))
                assert answer.status_code == 429
                assert answer.headers["retry-after"] == "2"
                assert "too many bad tokens" in answer.json()["detail"]
        programs = {"accept": "application/json"}
        answer = await http.get("/sse/a", headers=bearer(good) | programs)
        assert answer.status_code == 429, "nobody knows whether it is good"
        if transport is Transport.NATIVE:  # what is broken off this client does not take by the other
            _, told = await first_events(http, "/sse/a", **bearer(good))
            assert b"rate_limited" in told, "an EventSource is told when to come back"
        assert (await http.head("/sse/a", headers=bearer(before))).status_code == 200, "it was verified before"
        monkeypatch.undo()
        assert (await http.head("/sse/a", headers=bearer(good, OTHER_ADDRESS))).status_code == 200
        assert (await http.head("/sse/a", headers=bearer(good))).status_code == 200, "by now it is known"
        assert edge.metrics.snapshot()["refused_by"]["unauthorized"] == (
            MOST + 2 * len(forged[MOST:]) + (2 if transport is Transport.NATIVE else 1)
        )


def refuse_to_look(*_: object) -> None:
    raise AssertionError("a signature was looked at")


async def test_the_bucket_of_a_server_lets_honest_clients_be_wrong_now_and_then() -> None:
    async with edge_of(token_secret=SECRET) as edge:
        guesses = edge._streams.guesses
        assert guesses is not None
        assert isinstance(guesses._of_tokens, Limit)
        bad = problem_of(BadToken("the token has expired"))
        for _ in range(50):
            assert guesses.found_of(FAR) is NOTHING_FOUND
            guesses.decided(bad, FAR)
    async with edge_of() as edge:
        assert edge._streams.guesses is not None
        assert edge._streams.guesses._of_tokens is None, "where none are taken nothing is counted"


def test_a_stream_of_a_known_token_is_opened_whatever_its_address_sends() -> None:
    tokens, text = tokens_of(), listen("a")
    known = tokens.grants_of(text, NOW)
    assert tokens.grants_of(text, NOW, Found(wait=9.0)) == known
