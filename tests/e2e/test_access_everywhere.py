"""Who may what is the same whichever way a request comes: straight to a server of two workers, or behind nginx and
HAProxy as examples/deploy sets them up."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, EdgeProcess, until
from proxies import PROXIES, Proxy
from signing import SECRET, token
from support import free_port
from test_deploy import Stream
from whatwg import Event

from sse_fast.transports.life import Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORKERS = 2
OPENED = 40  # streams by one address: each case has its own
SETTINGS = (
    *("--workers", str(WORKERS), "--token-secret", SECRET, "--token-cookie", "sse", "--token-in-query"),
    *("--presence-channels", "room:*", "--rate-open", f"{OPENED}/h", "--retry", "100"),
)
EVERYTHING = {"subscribe": ["a:**"], "publish": ["a:**"]}


SOURCES = itertools.count(2)  # of addresses that none of the proxies has


class Way:
    """A way to a server of several workers, all of which serve."""

    def __init__(self, name: str, server: EdgeProcess, proxy: Proxy | None, operations: int) -> None:
        self.name, self.proxy, self.operations = name, proxy, operations
        self.origin = proxy.url if proxy is not None else server.url

    def client(self) -> httpx.AsyncClient:
        """Of an address of its own."""
        source = f"127.0.7.{next(SOURCES)}"
        if self.proxy is not None:
            return self.proxy.client(http2=False, source=source)
        transport = httpx.AsyncHTTPTransport(local_address=source)
        return httpx.AsyncClient(base_url=self.origin, transport=transport, timeout=PATIENCE)

    def operated(self, path: str) -> Any:
        """What the port of operations says."""
        return httpx.get(f"http://127.0.0.1:{self.operations}{path}", timeout=PATIENCE).json()

    def stats(self) -> Any:
        return self.operated("/stats")


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Way]]:
    """By their names, to one server."""
    operations, made = free_port(), dict[str, Way]()
    flags = (*SETTINGS, "--operations-port", str(operations), "--trusted-proxies", "127.0.0.0/24")
    server = EdgeProcess(tmp_path_factory.mktemp("edge"), flags, Transport.NATIVE)
    server.start()

    def way(name: str) -> Way:
        if name not in made:
            proxy = None if name == "direct" else PROXIES[name](tmp_path_factory.mktemp(name), server.port)
            if proxy is not None:
                proxies.enter_context(proxy.running())
            made[name] = Way(name, server, proxy, operations)
        return made[name]

    try:
        with ExitStack() as proxies:
            until(lambda: len(way("direct").stats()["workers"]) == WORKERS, "all workers")
            yield way
    finally:
        server.stop()


@pytest.fixture(params=["direct", *PROXIES])
def way(request: pytest.FixtureRequest, ways: Callable[[str], Way]) -> Way:
    return ways(request.param)


def bearer(given: str) -> dict[str, str]:
    return {"authorization": f"Bearer {given}"}


@asynccontextmanager
async def opened(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> AsyncIterator[Stream]:
    """A stream, behind its `$connected`."""
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        assert (await stream.next()).type == "$connected"
        yield stream


async def until_event(stream: Stream, which: Callable[[Event], bool]) -> list[Event]:
    """Its events up to that one."""
    found = [await stream.next()]
    while not which(found[-1]):
        found.append(await stream.next())
    return found


async def published(client: httpx.AsyncClient, channel: str, *texts: str) -> list[str]:
    body = [{"channel": channel, "data": text} for text in texts]
    answer = await client.post("/publish", json=body, headers=bearer(token(EVERYTHING)))
    assert answer.status_code == 200, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


# ---- credentials -----------------------------------------------------------------------------------------------------


def carried(how: str, given: str, path: str) -> tuple[str, dict[str, str]]:
    if how == "query":
        return f"{path}{'&' if '?' in path else '?'}access_token={given}", {}
    return path, bearer(given) if how == "header" else {"cookie": f"other=1; sse={given}"}


@pytest.mark.parametrize("how", ["header", "cookie", "query"])
async def test_a_token_is_taken_however_it_is_carried_and_a_bad_one_is_nobody_s(way: Way, how: str) -> None:
    async with way.client() as client:
        path, headers = carried(how, token(EVERYTHING), "/sse/a/1")
        async with opened(client, path, headers) as stream:
            (id,) = await published(client, "a:1", "yes")
            assert await stream.next() == Event("message", "yes", id)
        for given, status in (
            (token(EVERYTHING, key="x" * 40), 401),
            (token(EVERYTHING, seconds=-60), 401),
            (token({"subscribe": ["b"]}), 403),
        ):
            path, headers = carried(how, given, "/sse/a/1")
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status
            assert given not in answer.text + str(answer.headers)
        assert (await client.get("/sse/a/1")).status_code == 401


async def test_a_batch_is_published_by_a_token_that_grants_all_of_it_or_not_at_all(way: Way) -> None:
    given = bearer(token({"publish": ["a:batch:*"], "subscribe": ["a:**"]}))
    batch = [{"channel": f"a:batch:{number}", "data": str(number)} for number in range(3)]
    async with way.client() as client, opened(client, "/sse?pattern=a:batch:*&pattern=a:other", given) as stream:
        refused = await client.post("/publish", json=[*batch, {"channel": "a:other", "data": "x"}], headers=given)
        assert (refused.status_code, "'a:other'" in refused.json()["detail"]) == (403, True)
        taken = await client.post("/publish", json=batch, headers=given)
        assert [(await stream.next()).last_event_id for _ in batch] == taken.json()["ids"]


async def test_by_a_cookie_only_a_page_of_this_origin_publishes(way: Way) -> None:
    other = {"http": "https", "https": "http"}[httpx.URL(way.origin).scheme]
    origins = {
        way.origin: 200,
        way.origin.replace(httpx.URL(way.origin).scheme, other, 1): 403,
        "https://evil.example": 403,
        "null": 403,
    }
    async with way.client() as client:
        cookie = {"cookie": f"sse={token(EVERYTHING)}"}
        for origin, status in origins.items():
            answer = await client.post("/publish/a/cookie", content="x", headers=cookie | {"origin": origin})
            assert answer.status_code == status, origin
        assert (await client.post("/publish/a/cookie", content="x", headers=cookie)).status_code == 403


# ---- streams ---------------------------------------------------------------------------------------------------------


async def test_patterns_are_live_and_resume_exactly_at_either_worker(way: Way) -> None:
    """Who publishes, who listens and who resumes come to the workers by turns of the kernel's."""
    given = bearer(token(EVERYTHING))
    before = {each["pid"]: each["connections"] for each in way.stats()["workers"]}
    async with way.client() as client, AsyncExitStack() as open_streams:
        streams: list[Stream] = []

        async def more(**headers: str) -> Stream:
            return await open_streams.enter_async_context(
                opened(client, "/sse?pattern=a:live:*&channel=a:beside", given | headers)
            )

        def everywhere() -> bool:
            now = {each["pid"]: each["connections"] for each in way.stats()["workers"]}
            return all(now[pid] > streams for pid, streams in before.items())

        while len(streams) < 2 or not await asyncio.to_thread(everywhere):
            streams.append(await more())
        ids: list[str] = []
        for number in range(10):
            channel = "a:beside" if number % 3 == 2 else f"a:live:{number}"
            async with way.client() as publisher:  # a connection of its own: to whichever worker
                ids += await published(publisher, channel, str(number))
            await published(client, "a:elsewhere", "not theirs")
        for stream in streams:
            assert [(await stream.next()).last_event_id for _ in ids] == ids
        for _ in range(4):
            resumed = await more(**{"last-event-id": ids[4]})
            assert [(await resumed.next()).last_event_id for _ in ids[5:]] == ids[5:]
        last = await published(client, "a:live:last", "to all")
        for stream in streams:
            assert (await stream.next()).last_event_id == last[0]


async def test_who_is_there_is_told(way: Way) -> None:
    watching = bearer(token({"subscribe": ["$presence:room:*"]}))
    ann = bearer(token({"subscribe": ["room:*"]}, sub="ann"))
    async with (
        way.client() as client,
        opened(client, f"/sse/$presence:room:{way.name}", watching) as watched,
        opened(client, f"/sse/room/{way.name}", ann),
        opened(client, f"/sse/room/{way.name}", ann),
    ):
        told = await watched.next()
        assert (told.type, json.loads(told.data)) == ("join", {"channel": f"room:{way.name}", "user": "ann"})
        assert [user["user"] for user in way.operated(f"/presence/room:{way.name}")["users"]] == ["ann"]


async def test_a_stream_ends_with_its_token_and_goes_on_with_the_next_where_it_was(way: Way) -> None:
    async with way.client() as client:
        ends = bearer(token(EVERYTHING, seconds=None, exp=time.time() + 2.2))
        async with opened(client, "/sse/a/ends", ends) as stream:
            (first,) = await published(client, "a:ends", "first")
            told = await until_event(stream, lambda event: event.type == "$closing")
        assert [event.last_event_id for event in told if event.type == "message"] == [first]
        assert json.loads(told[-1].data) == {"reason": "expired"}
        missed = await published(client, "a:ends", "second", "third")
        fresh = bearer(token(EVERYTHING)) | {"last-event-id": first}
        async with opened(client, "/sse/a/ends", fresh) as stream:
            assert [(await stream.next()).last_event_id for _ in missed] == missed


# ---- how often, and what is nobody's ---------------------------------------------------------------------------------


async def test_who_opens_too_often_is_known_by_its_own_address(way: Way) -> None:
    lies = {"x-forwarded-for": "192.0.2.1"}
    async with way.client() as client, way.client() as other:
        for number in range(OPENED):
            given = bearer(token(EVERYTHING, jti=f"{way.name} {number}"))
            assert (await client.head("/sse/a/rate", headers=given)).status_code == 200
        program = bearer(token(EVERYTHING, jti="more")) | {"accept": "application/json"}
        for spoofed in ({}, lies):
            answer = await client.get("/sse/a/rate", headers=program | spoofed)
            assert (answer.status_code, int(answer.headers["retry-after"]) > 1) == (429, True)
        assert (await other.head("/sse/a/rate", headers=program)).status_code == 200


OPERATIONS = ("/stats", "/metrics", "/channels", "/channels/a:1", "/streams", "/presence/room:1", "/sse/$stats")


async def test_nobody_operates_the_server_this_way(way: Way) -> None:
    operator = bearer(token({"operations": True, "subscribe": ["**", "$stats"]}))
    async with way.client() as client:
        for headers in ({}, operator, {"x-forwarded-for": "127.0.0.1"}, {"x-forwarded-for": "127.0.0.1"} | operator):
            for path in OPERATIONS:
                answer = await client.get(path, headers=headers)
                assert answer.status_code in (400, 401, 403, 404), (path, headers)
                assert "sse_fast_" not in answer.text
                assert "connections" not in answer.text
            for path in ("/channels/a:1", "/streams?user=ann"):
                assert (await client.delete(path, headers=headers)).status_code in (403, 404)
    assert way.stats()["version"], "at the port of operations"
