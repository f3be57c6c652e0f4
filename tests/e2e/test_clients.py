"""Clients that people use, against the real edge: they receive, come back, resume, and are told of gaps."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from conftest import BOTH_TRANSPORTS, EdgeProcess, Edges
from fault_proxy import FaultProxy
from real_clients import CLIENTS, Client, Curl, maker
from whatwg import Event

from sse_fast.transports.life import Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANNEL = "news"
PUBLISHED = [
    (None, "plain"),
    ("price", "a named one"),
    (None, "two\nlines, then an empty one\n\nand the last"),
    (None, "grüße 🐝 日本語"),
    (None, ""),
    ("größe", " a space in front, a line end behind\n"),
    (None, "line\u2028separator, \x0b and \x85 end no line"),
    (None, "end"),
]

Opened = Callable[[str], Awaitable[Client]]


@pytest.fixture(params=CLIENTS)
def any_kind(request: pytest.FixtureRequest) -> Callable[[], Client]:
    return maker(request, CLIENTS[request.param])


@pytest.fixture(params=[name for name, kind in CLIENTS.items() if kind.comes_back])
def lasting_kind(request: pytest.FixtureRequest) -> Callable[[], Client]:
    return maker(request, CLIENTS[request.param])


@contextlib.asynccontextmanager
async def listening(make: Callable[[], Client], base: str) -> AsyncIterator[Client]:
    client = make()
    try:
        await client.open(base, CHANNEL)
        await client.connected()
        yield client
    finally:
        await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(any_kind: Callable[[], Client]) -> AsyncIterator[Opened]:
    """Any client, connected to a server: `await client(url)`."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda base: stack.enter_async_context(listening(any_kind, base))


@pytest_asyncio.fixture(loop_scope="session")
async def lasting(lasting_kind: Callable[[], Client]) -> AsyncIterator[Opened]:
    """Any client that comes back by itself."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda base: stack.enter_async_context(listening(lasting_kind, base))


@BOTH_TRANSPORTS
async def test_a_client_is_handed_exactly_what_was_published(edge: Edges, client: Opened, transport: Transport) -> None:
    server = edge(transport=transport)
    listener = await client(f"http://127.0.0.1:{server.port}")
    ids = [server.publish(CHANNEL, data, event) for event, data in PUBLISHED]
    await listener.until_id(ids[-1])
    assert listener.received == [
        Event(event or "message", data, id) for (event, data), id in zip(PUBLISHED, ids, strict=True)
    ]
    assert [event.type for event in listener.events if event.type.startswith("$")] == ["$connected"]


async def drained(server: EdgeProcess) -> None:
    await asyncio.to_thread(server.stop)
    server.start()


async def worker_killed(server: EdgeProcess) -> None:
    await asyncio.to_thread(server.kill_worker)


async def killed(server: EdgeProcess) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("die", [drained, killed])
async def test_a_client_comes_back_to_a_server_that_was_restarted_and_is_told_of_the_gap(
    edge: Edges, lasting: Opened, die: Callable[[EdgeProcess], Awaitable[None]]
) -> None:
    server = edge("--retry", "100")
    listener = await lasting(server.url)
    before = server.publish(CHANNEL, "before")
    await listener.until_id(before)
    await die(server)
    assert bool(listener.told("$closing")) == (die is drained)
    after = [server.publish(CHANNEL, "missed or not"), server.publish(CHANNEL, "after")]
    await listener.until_id(after[-1])
    assert listener.ids == [before, *after]
    (gap,) = listener.told("$gap")
    assert json.loads(gap.data)["after"] == before
    assert "closed" not in listener.states


async def test_a_client_resumes_where_it_was_after_the_death_of_its_worker(edge: Edges, lasting: Opened) -> None:
    server = edge("--retry", "100")
    listener = await lasting(server.url)
    before = server.publish(CHANNEL, "before")
    await listener.until_id(before)
    await worker_killed(server)
    after = [server.publish(CHANNEL, "missed or not"), server.publish(CHANNEL, "after")]
    await listener.until_id(after[-1])
    assert listener.ids == [before, *after]
    assert not listener.told("$gap")
    assert "closed" not in listener.states


@BOTH_TRANSPORTS
async def test_a_client_resumes_without_loss_or_duplicate_wherever_its_connections_are_cut(
    edge: Edges, lasting: Opened, transport: Transport
) -> None:
    server = edge("--retry", "20", transport=transport)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with FaultProxy(server.port) as proxy:
        listener = await lasting(proxy.url)
        # fetch-event-source takes an id for seen as soon as its line is there. The server sends that line last, so all
        # that can be lost is an event which lacks only the line end behind it.
        proxy.spared = rb"\nid: \S+\n"
        proxy.lifetime = lambda _: rng.randint(500, 5000)
        proxy.cut()
        ids = []
        for number in range(120):
            data = f"{number} " + "\n".join("x" * rng.randint(0, 200) for _ in range(rng.randint(1, 8)))
            ids.append(await asyncio.to_thread(server.publish, CHANNEL, data))
        await listener.until(lambda: proxy.cuts >= 10, "cuts")
        proxy.lifetime = lambda _: None
        proxy.cut()
        await listener.until_id(ids[-1])
    assert listener.ids == ids
    assert not listener.told("$gap")


async def test_a_client_is_told_what_the_log_no_longer_keeps(edge: Edges, lasting: Opened) -> None:
    server = edge("--retry", "20", "--log-size", "64KiB", "--max-event-size", "8KiB")
    server.noise_expected = True  # who was cut off may not have been missed before the log overtakes him
    async with FaultProxy(server.port) as proxy:
        listener = await lasting(proxy.url)
        seen = server.publish(CHANNEL, "seen")
        await listener.until_id(seen)
        proxy.refusing = True
        proxy.cut()
        ids = [id for _ in range(20) for id in server.publish_many(CHANNEL, ["x" * 1000] * 10)]
        proxy.refusing = False
        await listener.until_id(ids[-1])
    (gap,) = listener.told("$gap")
    told = json.loads(gap.data)
    assert told["after"] == seen
    kept = ids[ids.index(told["until"]) + 1 :]
    assert 20 < len(kept) < 64
    assert listener.ids == [seen, *kept]


async def test_curl_resumes_with_the_header_of_the_standard(edge: Edges) -> None:
    server = edge()
    ids = server.publish_many(CHANNEL, ["a", "b", "c"])
    curl = Curl(ids[0])
    try:
        await curl.open(server.url, CHANNEL)
        await curl.until_id(ids[-1])
        assert curl.ids == ids[1:]
        assert json.loads(curl.told("$connected")[0].data) == {"resume": "complete"}
    finally:
        await curl.close()
