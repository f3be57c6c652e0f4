"""What is remembered of requests with credentials: it holds as long as they do, for what they grant, and has none."""

import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from both_ways import BothWays, Said
from signing import SECRET, token
from support import until

from sse_fast._native.front.posts import Posts
from sse_fast.access.access import Access
from sse_fast.access.keys import key_of_secret
from sse_fast.access.tokens import Tokens
from sse_fast.protocol.decide import decide
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request
from sse_fast.transports.front import Front
from sse_fast.transports.head import Known, parsed
from sse_fast.transports.remembered import RememberedCredentials

GRANTED = {"subscribe": ["a", "orders:*"], "publish": ["a", "orders:*"]}


class Clock:
    """Time that stands still, but for what it is told."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def edge(clock: Clock) -> AsyncIterator[BothWays]:
    async with BothWays.opened(clock, token_secret=SECRET, token_leeway=0) as edge:
        yield edge


def front_of(edge: BothWays) -> Front:
    assert edge.edge.front is not None
    return edge.edge.front


def tokens_of(edge: BothWays) -> Tokens:
    tokens = edge.edge.policy.access.tokens
    assert isinstance(tokens, Tokens)
    return tokens


def bearing(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def listen(edge: BothWays, text: str, target: str = "/sse/a") -> Said:
    return await edge.ask("front", "GET", target, bearing(text))


async def test_a_stream_whose_head_is_known_is_opened_without_a_look_at_its_token(
    edge: BothWays, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = token(GRANTED)
    first = await listen(edge, text)
    monkeypatch.setattr(Tokens, "grants_of", None)
    again = await listen(edge, text)
    assert (first.status, again.status) == (200, 200)
    assert b"$connected" in again.body


async def test_it_is_not_known_any_more_when_the_token_has_ended(edge: BothWays, clock: Clock) -> None:
    text = token(GRANTED, seconds=600)
    assert (await listen(edge, text)).status == 200
    clock.ahead = 590
    assert (await listen(edge, text)).status == 200
    clock.ahead = 600
    assert (await listen(edge, text)).status == 401
    assert (await listen(edge, text)).status == 401


async def test_other_keys_end_what_is_known_at_once(edge: BothWays) -> None:
    text = token(GRANTED)
    assert (await listen(edge, text)).status == 200
    async with publisher(edge, text) as http:
        assert [(await http.post("/publish/a", content=b"x")).status_code for _ in range(3)] == [200] * 3
        tokens_of(edge).use([key_of_secret(b"a new secret, of more than 32 bytes, for all")], "secret")
        assert (await listen(edge, text)).status == 401
        assert (await http.post("/publish/a", content=b"x")).status_code == 401


async def test_of_what_is_not_a_stream_or_resumes_nothing_is_known(edge: BothWays) -> None:
    bad = token({"subscribe": ["b"]})
    assert (await listen(edge, token(GRANTED), "/sse/a?last_event_id=e-7")).status == 200
    for _ in range(2):  # from this machine itself, which its headers say
        assert (await listen(edge, token(GRANTED), "/sse/$stats")).status == 200
        proxied = bearing(token(GRANTED)) | {"x-real-ip": "192.0.2.7"}
        assert (await edge.ask("front", "GET", "/sse/$stats", proxied)).status == 403
    for _ in range(2):
        assert (await listen(edge, bad)).status == 403
        assert (await listen(edge, "x.y.z")).status == 401
    assert len(front_of(edge)._with_credentials) == 0


def test_so_many_are_known_and_the_oldest_goes() -> None:
    tokens = Tokens()
    tokens.use([key_of_secret(SECRET.encode())])
    policy = Policy(access=Access(tokens=tokens))
    remembered = RememberedCredentials(policy.now, most=3)
    heads = []
    for number in range(5):
        line = f"GET /sse/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token(GRANTED, sub=str(number))}\r\n\r\n"
        head = parsed(line.encode())
        request = Request.from_head(head.method, head.target, head.headers, head.minor)
        remembered.keep(head.data, Known(head, request, decide(request, policy)))  # type: ignore[arg-type]
        heads.append(head.data)
    assert [remembered.get(data) is not None for data in heads] == [False, False, True, True, True]
    assert remembered.get(heads[4][:-4] + b"\r\nX: y\r\n\r\n") is None


async def test_no_token_stays_in_the_memory_of_the_server(edge: BothWays) -> None:
    text = token(GRANTED, sub="a name for the test of what stays")
    for target in ("/sse/a", f"/sse/a?x={'y' * 300}"):
        assert (await listen(edge, text, target)).status == 200
    async with publisher(edge, text) as http:
        for _ in range(3):
            assert (await http.post("/publish/a", content=b"x")).status_code == 200
    signature = text.rpartition(".")[2].encode()
    seen: set[int] = set()

    def holds(thing: Any) -> bool:
        if id(thing) in seen:
            return False
        seen.add(id(thing))
        if isinstance(thing, bytes | bytearray):
            return signature in thing
        if isinstance(thing, str):
            return signature.decode() in thing
        if isinstance(thing, type) or not type(thing).__module__.startswith(("sse_fast", "builtins")):
            return False
        return any(holds(each) for each in gc.get_referents(thing))

    front = front_of(edge)
    assert len(front._with_credentials) == 2
    assert not any(holds(thing) for thing in (front._with_credentials, front._remembered, tokens_of(edge)._known))


# ---- what is published ----


def publisher(edge: BothWays, text: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.port}", headers=bearing(text))


def posts_of(edge: BothWays) -> Posts:
    posts = front_of(edge)._posts
    assert posts is not None
    return posts


async def test_a_known_post_is_published_to_the_channels_that_are_granted_and_to_no_other(edge: BothWays) -> None:
    async with publisher(edge, token(GRANTED)) as http:
        for channel, status in (
            *(("a", 200), ("a", 200), ("orders/1", 200), ("orders/2", 200), ("b", 403), ("orders", 403)),
            *(("orders:7", 200), ("orders:7:8", 403), ("a", 200)),
        ):
            said = await http.post(f"/publish/{channel}", content=b"x")
            assert said.status_code == status, channel
    assert posts_of(edge).taken == 4, "after the first one, those whose channel is granted and plain"
    assert edge.edge.hub.published == 6


async def test_a_token_for_every_channel_is_not_asked_about_each(edge: BothWays) -> None:
    async with publisher(edge, token({"publish": ["**"]})) as http:
        for channel in ("a", "b", "c/d"):
            assert (await http.post(f"/publish/{channel}", content=b"x")).status_code == 200
    assert posts_of(edge).taken == 2


async def test_a_known_post_is_known_no_longer_than_its_token_lasts(edge: BothWays, clock: Clock) -> None:
    async with publisher(edge, token(GRANTED, seconds=600)) as http:
        assert [(await http.post("/publish/a", content=b"x")).status_code for _ in range(2)] == [200, 200]
        clock.ahead = 601
        await until(lambda: posts_of(edge).now >= clock() - 1)
        assert (await http.post("/publish/a", content=b"x")).status_code == 401
    assert (posts_of(edge).taken, edge.edge.hub.published) == (1, 2)


# ---- what a stream says ----


@pytest.mark.parametrize("transport", ["front", "asgi"])
async def test_what_was_left_out_is_told_in_connected(edge: BothWays, transport: str) -> None:
    for _ in range(2):
        said = await edge.ask(
            transport, "GET", "/sse?channel=a&channel=b&channel=%C3%A9&allowed=only", bearing(token(GRANTED))
        )
        assert said.status == 200
        assert '"left_out":["b","é"]' in said.body.decode()
    assert b"left_out" not in (await edge.ask(transport, "GET", "/sse/a?allowed=only", bearing(token(GRANTED)))).body
