"""The browser client as the edge serves it: at /client.js, by a name that never changes; and its types."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import httpx
import pytest

from sse_fast import js
from sse_fast.edge.app import create_app
from sse_fast.edge.page import HEADERS
from sse_fast.settings import Settings

pytestmark = pytest.mark.asyncio
NEWEST, TYPES, NAMED = "/client.js", "/client.d.ts", f"/{js.NAME}"


@asynccontextmanager
async def client(**settings: object) -> AsyncIterator[httpx.AsyncClient]:
    edge = create_app(Settings(**settings))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as asking:
        yield asking
    await edge.close()


@pytest.mark.parametrize("path", [NEWEST, NAMED])
async def test_it_is_a_script_with_a_digest(nothing_set: None, path: str) -> None:
    async with client() as edge:
        answer = await edge.get(path)
        head = await edge.head(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(sha256(answer.content).digest()).decode()}:"
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])


async def test_who_has_it_does_not_get_it_again(nothing_set: None) -> None:
    async with client() as edge:
        for path in (NEWEST, TYPES, NAMED):
            tag = (await edge.get(path)).headers["etag"]
            for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                again = await edge.get(path, headers={"if-none-match": held})
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert (await edge.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_the_name_with_its_hash_is_kept_for_ever_and_the_other_is_asked_for_anew(nothing_set: None) -> None:
    async with client() as edge:
        newest = await edge.get(NEWEST)
        assert newest.headers["cache-control"] == "no-cache"
        named = await edge.get(newest.headers["content-location"])
        assert named.content == newest.content
        assert "immutable" in named.headers["cache-control"]
        assert re.fullmatch(r"client\.[0-9a-f]{16}\.js", js.NAME)
        assert (await edge.get("/client.0123456789abcdef.js")).status_code == 404


async def test_pages_that_may_listen_may_load_it(nothing_set: None) -> None:
    origin = "https://shop.example"
    async with client(cors_origins=origin) as edge:
        for path in (NEWEST, TYPES, NAMED):
            assert (await edge.get(path, headers={"origin": origin})).headers["access-control-allow-origin"] == origin
            refused = await edge.get(path, headers={"origin": "https://other.example"})
            assert "access-control-allow-origin" not in refused.headers


async def test_it_is_for_everybody_also_where_listening_takes_a_token(nothing_set: None) -> None:
    async with client(token_secret="x" * 32) as edge:
        assert (await edge.get("/sse/a")).status_code == 401
        assert (await edge.get(NEWEST)).status_code == 200


async def test_the_policy_of_the_live_page_lets_it_run() -> None:
    assert f"'{js.INTEGRITY}'" in HEADERS["Content-Security-Policy"].split("style-src")[0]
