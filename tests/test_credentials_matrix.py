"""Every way to carry a credential, good and bad in every way, at every route, by both transports."""

import base64
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import orjson
import pytest
import pytest_asyncio
from both_ways import HOST, BothWays, Said
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from signing import SECRET, key_set, public, rsa_key, signed_by_hs256, token

from sse_fast.access.keys import key_set_of
from sse_fast.access.tokens import Tokens

ISSUER, AUDIENCE = "https://id.example", "edge"
ALL = {"subscribe": ["a"], "publish": ["a"], "operations": True}
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "42"}
RSA: dict[str, Any] = {"key": rsa_key(), "algorithm": "RS256", "kid": "1"}
PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def made(**options: Any) -> str:
    return token(ALL, **RSA | CLAIMS | options)


def confused(key: bytes) -> str:
    claims = CLAIMS | {"sse": ALL, "exp": int(time.time()) + 3600}
    return signed_by_hs256(claims, key, kid="1")


GOOD = {"by a key of a set": made(), "by the secret": token(ALL, **CLAIMS)}
BAD = {
    "expired": made(seconds=-3600),
    "not yet": made(nbf=time.time() + 3600),
    "of another issuer": made(iss="https://evil.example"),
    "of no issuer": token(ALL, **RSA, aud=AUDIENCE),
    "for another audience": made(aud="shop"),
    "for nobody": token(ALL, **RSA, iss=ISSUER),
    "without an end": made(seconds=None),
    "signed by none": jwt.encode(CLAIMS | {"sse": ALL, "exp": time.time() + 3600}, None, "none"),
    "signed by None": ".".join([base64.urlsafe_b64encode(b'{"alg":"None"}').decode(), *made().split(".")[1:2], ""]),
    "signed by HS256 with the public key": confused(PEM),
    "signed by HS256 with the key set": confused(orjson.dumps(public(rsa_key(), kid="1"))),
    "of an unknown key": made(kid="2"),
    "signed with another key": made(key=rsa_key("another")),
    "truncated": made()[:-20],
    "without a signature": made().rpartition(".")[0] + ".",
    "no token": "s3cret",
    "granting what cannot be": token({"subscribe": ["a*"]}, **RSA, **CLAIMS),
    "64 KiB long": made(padding="x" * 49_000),
}
assert len(BAD["64 KiB long"]) > 64 * 1024
WAYS = ("header", "cookie", "query")
ROUTES = [
    ("GET", "/sse/a", b"", {}),
    ("HEAD", "/sse/a", b"", {}),
    ("GET", "/sse?channel=a&history=3", b"", {}),
    ("POST", "/publish/a", b"x", {}),
    ("POST", "/publish", b'{"channel":"a","data":"x"}', {}),
    ("POST", "/publish", b'{"channel":"a","data":"x"}\n', {"content-type": "application/x-ndjson"}),
    *(("GET", path, b"", {}) for path in ("/", "/stats", "/metrics", "/channels", "/livez", "/readyz", "/healthz")),
]


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[BothWays]:
    async with BothWays.opened(
        token_secret=SECRET,
        token_issuer=ISSUER,
        token_audience=AUDIENCE,
        token_cookie="sse",
        token_in_query=True,
        grant_subscribe="a,public:**",
        grant_publish="a",
    ) as edge:
        tokens = edge.edge.policy.access.tokens
        assert isinstance(tokens, Tokens)
        tokens.use(key_set_of(key_set(public(rsa_key(), kid="1")), issuer=ISSUER).keys, "of this test")
        yield edge


async def ask(edge: BothWays, transport: str, way: str, text: str, route: tuple[Any, ...]) -> Said:
    """At this route, with the credential carried that way."""
    method, target, body, headers = route
    headers = headers | {"origin": f"http://{HOST}"}  # as a page of ours: a cookie publishes by nothing else
    if way == "header":
        headers["authorization"] = f"Bearer {text}"
    elif way == "cookie":
        headers["cookie"] = f"theme=dark; sse={text}; x=y"
    else:
        target += f"{'&' if '?' in target else '?'}access_token={text}"
    return await edge.ask(transport, method, target, headers, body)


@pytest.mark.parametrize("transport", ["front", "asgi"])
async def test_a_bad_credential_is_an_error_at_every_route_though_everybody_may(
    edge: BothWays, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sse_fast")
    wrong = []
    for name, text in BAD.items():
        for way in WAYS:
            for route in ROUTES:
                said = await ask(edge, transport, way, text, route)
                if transport == "front" and name == "64 KiB long":
                    right = said.status == 431
                else:
                    right = said.status == 401 and 'Bearer error="invalid_token"' in said.headers["www-authenticate"]
                shown = text in f"{said.headers}{said.body!r}"
                if not right or shown:
                    wrong.append((name, way, *route[:2], said.status))
    assert wrong == []
    assert not any(text in caplog.text for text in BAD.values() if len(text) > 20)


@pytest.mark.parametrize("transport", ["front", "asgi"])
async def test_a_good_credential_is_taken_at_every_route_and_in_every_way(edge: BothWays, transport: str) -> None:
    wrong = []
    for name, text in GOOD.items():
        for way in WAYS:
            for route in ROUTES:
                for _ in range(2):  # the second time it is known
                    said = await ask(edge, transport, way, text, route)
                    if said.status != 200:
                        wrong.append((name, way, *route[:2], said.status, said.body))
    assert wrong == []


@pytest.mark.parametrize("transport", ["front", "asgi"])
async def test_two_credentials_are_none_and_a_cookie_yields_to_what_the_request_says(
    edge: BothWays, transport: str
) -> None:
    good, bad = made(), BAD["expired"]
    for route in ROUTES:
        method, target, body, headers = route
        query = f"{target}{'&' if '?' in target else '?'}access_token={good}"
        for given, asked, status in (
            ({"authorization": f"Bearer {good}"}, query, 400),
            ({}, f"{query}&access_token={good}", 400),
            ({"cookie": f"sse={good}; sse={bad}"}, target, 400),
            ({"authorization": f"Bearer {good}, Bearer {good}"}, target, 400),
            ({"authorization": f"Basic {good}"}, target, 401),
            ({"authorization": good}, target, 401),
            ({"authorization": f"Bearer {good}", "cookie": f"sse={bad}"}, target, 200),
            ({"cookie": f"sse={bad}"}, query, 200),
            ({"authorization": f"Bearer {bad}", "cookie": f"sse={good}"}, target, 401),
        ):
            said = await edge.ask(transport, method, asked, headers | {"origin": f"http://{HOST}"} | given, body)
            assert said.status == status, (route, sorted(given), said)
            assert good not in f"{said.headers}{said.body!r}"
            if status == 400:
                assert 'error="invalid_request"' in said.headers["www-authenticate"]


@pytest.mark.parametrize("transport", ["front", "asgi"])
async def test_without_a_credential_everybody_may_what_is_granted_to_everybody(edge: BothWays, transport: str) -> None:
    ours = {"origin": f"http://{HOST}"}
    for method, target, body, headers in ROUTES[:6]:
        assert (await edge.ask(transport, method, target, headers | ours, body)).status == 200
    for method, target, body in (
        ("GET", "/sse/b", b""),
        ("GET", "/sse?channel=a&channel=b", b""),
        ("POST", "/publish/b", b"x"),
        ("POST", "/publish", b'[{"channel":"a","data":"x"},{"channel":"b","data":"x"}]'),
    ):
        said = await edge.ask(transport, method, target, {}, body)
        assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
        assert b"'b'" in said.body
        good = {"authorization": f"Bearer {made()}"}
        said = await edge.ask(transport, method, target, good, body)
        assert said.status == 403
        assert said.headers["www-authenticate"].startswith('Bearer error="insufficient_scope"')
        assert b"'b'" in said.body
    assert edge.edge.hub.published == 3, "of those that were refused nothing was published"
