"""Three nodes of two workers over one Redis are one edge: one order, the same ids everywhere, resumed at any of them;
and what dies takes nothing with it."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import jwt
import psutil
import pytest
import redis_servers
from client import Stream
from conftest import PATIENCE, until
from fleet import Node, fleet

SECRET = "a secret for these tests, thirty-two bytes at least"
ANYBODY = ("--token-secret", SECRET, "--grant-subscribe", "**", "--grant-publish", "**")


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_servers.Redis]:
    redis_servers.need()
    with redis_servers.running() as redis:
        yield redis


@pytest.fixture(scope="module")
def nodes(redis: redis_servers.Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    flags = ("--log-size", "128KiB", "--max-event-size", "8KiB", *ANYBODY)
    with fleet(tmp_path_factory.mktemp("fleet"), redis.url, 3, *flags) as nodes:
        yield nodes


async def read(stream: Stream, count: int) -> list[tuple[str, str]]:
    """(id, data) of so many events; what the server itself says is between them as ("", its type)."""
    got: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            own = event.type.startswith("$")
            got.append(("", event.type) if own else (event.last_event_id, event.data))
            if sum(id != "" for id, _ in got) == count:
                break
    return got


async def listening(node: Node, channel: str, last_event_id: str | None = None) -> Stream:
    return await Stream.subscribe(node.port, [channel], last_event_id)


async def test_what_is_published_at_any_node_is_one_order_at_all(nodes: list[Node]) -> None:
    streams = [await listening(node, "order") for node in nodes for _ in range(3)]

    async def publisher(number: int) -> list[tuple[str, str]]:
        node = nodes[number % 3]
        return [(await asyncio.to_thread(node.publish, "order", text := f"{number} {at}"), text) for at in range(40)]

    published = [event for events in await asyncio.gather(*map(publisher, range(6))) for event in events]
    in_order = sorted(published, key=lambda event: int(event[0].split("-")[1]))
    assert len({id for id, _ in published}) == 240
    for stream in streams:
        assert await read(stream, 240) == [("", "$connected"), *in_order]
        stream.cut()


async def test_a_client_goes_on_at_another_node_exactly(nodes: list[Node]) -> None:
    ids = nodes[0].publish_many("cut", [f"{number}" for number in range(30)])
    expected = [(id, f"{number}") for number, id in enumerate(ids)]
    at = 3
    for node in (nodes[1], nodes[2], nodes[0]):
        stream = await listening(node, "cut", ids[at])
        got = await read(stream, 5)
        stream.cut()
        assert got == [("", "$connected"), *expected[at + 1 : at + 6]]
        at += 5


async def test_what_a_node_no_longer_has_is_read_from_the_engine_however_many_come_back(nodes: list[Node]) -> None:
    first = nodes[0].publish("old", "0")
    rare = [(nodes[at % 3].publish("old", f"{at}"), f"{at}") for at in range(1, 6)]
    for at in range(0, 1500, 100):
        nodes[1].publish_many("other", [f"{at + each} {'x' * 200}" for each in range(100)])
    last = nodes[2].publish("old", "last")
    pages = nodes[2].stats()["backplane"]["pages_read"]
    streams = await asyncio.gather(*(listening(nodes[2], "old", first) for _ in range(200)))
    for stream in streams:
        assert await read(stream, 6) == [("", "$connected"), *rare, (last, "last")]
        stream.cut()
    assert 0 < nodes[2].stats()["backplane"]["pages_read"] - pages <= 12


async def test_a_worker_that_dies_hands_the_reading_on_and_nothing_is_lost_or_doubled(nodes: list[Node]) -> None:
    node, other = nodes[0], nodes[1]
    published: list[tuple[str, str]] = []
    over = asyncio.Event()

    async def publish() -> None:
        while not over.is_set():
            text = f"{len(published)}"
            published.append((await asyncio.to_thread(other.publish, "dying", text), text))

    customers = [asyncio.create_task(customer(node, "dying", over, published)) for _ in range(6)]
    publishing = asyncio.create_task(publish())
    for turn in range(4):  # whichever of them reads
        await asyncio.to_thread(until, lambda: len(node.workers()) == 2, "two workers")
        worker, before = node.workers()[turn % 2], len(published)
        await asyncio.to_thread(until, lambda before=before: len(published) > before + 20, "events")
        with suppress(psutil.NoSuchProcess):
            worker.kill()
        await asyncio.to_thread(worker.wait, PATIENCE)
    over.set()
    await publishing
    async with asyncio.timeout(PATIENCE):
        for got in await asyncio.gather(*customers):
            begun = published.index(got[0])
            assert got == published[begun:]


async def customer(
    node: Node, channel: str, over: asyncio.Event, published: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """What a client gets that comes back whenever it is cut, until it has the last one; a gap is none of it."""
    got: list[tuple[str, str]] = []
    while not (over.is_set() and got and got[-1] == published[-1]):
        with suppress(OSError):
            stream = await listening(node, channel, got[-1][0] if got else None)
            async for event in stream.events():
                assert event.type in ("$connected", "$closing", "message"), event
                if event.type == "message":
                    got.append((event.last_event_id, event.data))
                if over.is_set() and got and got[-1] == published[-1]:
                    break
            stream.cut()
        await asyncio.sleep(0.01)
    return got


async def test_a_node_that_was_killed_has_everything_when_it_is_ready_again(nodes: list[Node]) -> None:
    before = nodes[2].publish_many("killed", ["a", "b"])
    nodes[2].kill()
    meanwhile = nodes[0].publish_many("killed", ["c", "d"])
    await asyncio.to_thread(nodes[2].start)
    stream = await listening(nodes[2], "killed", before[0])
    after = nodes[2].publish("killed", "e")
    expected = list(zip([before[1], *meanwhile, after], ["b", "c", "d", "e"], strict=True))
    assert await read(stream, 4) == [("", "$connected"), *expected]
    stream.cut()


async def test_an_idempotency_key_counts_at_all_nodes(nodes: list[Node]) -> None:
    headers = {"idempotency-key": "order-17"}
    answers = [node.request("POST", "/publish/keyed", b"once", headers) for node in nodes]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert len({body for _, body in answers}) == 1
    assert nodes[1].request("POST", "/publish/keyed", b"other", headers)[0] == 422


async def test_streams_that_an_operator_ends_end_at_all_nodes(nodes: list[Node]) -> None:
    streams = [await listening(node, "ended") for node in nodes for _ in range(3)]
    others = [await listening(node, "stays") for node in nodes]
    operator = jwt.encode({"exp": 2**32, "sse": {"operations": True}}, SECRET, algorithm="HS256")
    headers = {"authorization": f"Bearer {operator}"}
    assert nodes[1].request("DELETE", "/streams?channel=ended", headers=headers)[0] == 200

    async def ends(stream: Stream) -> list[str]:
        return [event.type async for event in stream.events()]

    async with asyncio.timeout(PATIENCE):
        for told in await asyncio.gather(*map(ends, streams)):
            assert told[-1] == "$closing"
    id = nodes[0].publish("stays", "here")
    for stream in others:
        assert await read(stream, 1) == [("", "$connected"), (id, "here")]
        stream.cut()


async def test_each_node_knows_of_all(nodes: list[Node]) -> None:
    def names(node: Node) -> list[str]:
        return [each["name"] for each in node.stats()["nodes"]]

    for node in nodes:
        await asyncio.to_thread(until, lambda node=node: len(names(node)) >= 3, "three nodes")
        assert node.stats()["node"] in names(node)


def publish(node: Node, text: str) -> int:
    return node.request("POST", "/publish/outage", text.encode())[0]


async def test_an_outage_is_told_to_publishers_and_streams_stay(redis: redis_servers.Redis, nodes: list[Node]) -> None:
    streams = [await listening(node, "outage") for node in nodes]
    first = nodes[0].publish("outage", "before")
    redis.kill()
    try:
        for node in nodes:
            await asyncio.to_thread(until, lambda node=node: publish(node, "x") == 503, "503")
            assert node.request("GET", "/livez")[0] == 200
        assert nodes[0].stats()["backplane"]["away"] > 0
    finally:
        redis.start()
    for node in nodes:
        await asyncio.to_thread(node.wait_ready)
    await asyncio.to_thread(until, lambda: publish(nodes[1], "after") == 200, "200")
    for stream in streams:
        got = await read(stream, 2)
        assert [data for _, data in got if data != "$connected"] in (["before", "$gap", "after"], ["before", "after"])
        assert got[1] == (first, "before")
        stream.cut()
    for node in nodes:
        node.noise_expected = True
