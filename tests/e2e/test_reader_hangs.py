"""The worker that reads for its node hangs: another one reads on within seconds, long before the hung one is killed;
and what it does when it goes on is nothing that anybody sees."""

import asyncio
import shutil
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis_servers
from client import Stream
from conftest import PATIENCE, Transport, until
from fleet import Node
from held_app import GO, HELD

from sse_fast import Publisher

COUNT = 20


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_servers.Redis]:
    redis_servers.need()
    with redis_servers.running() as redis:
        yield redis


@pytest.fixture(scope="module")
def node(redis: redis_servers.Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Who hangs is not killed: it is to go on."""
    flags = ("--workers", "2", "--backplane", redis.url, "--hung-worker-timeout", "600")
    directory = tmp_path_factory.mktemp("hangs")
    shutil.copy(Path(__file__).with_name("held_app.py"), directory)
    node = Node(directory, (*flags, "--app", "held_app:app"), Transport.NATIVE)
    node.start()
    try:
        yield node
    finally:
        node.kill()


def reads(worker: psutil.Process, redis: redis_servers.Redis) -> bool:
    """Whether it is one of its connections that waits for what comes."""
    listed = redis.do("CLIENT", "LIST")
    assert isinstance(listed, bytes)
    waiting = {line.split("addr=")[1].split()[0] for line in listed.decode().splitlines() if "cmd=xread" in line}
    own = {f"{each.laddr.ip}:{each.laddr.port}" for each in worker.net_connections("tcp") if each.raddr}
    return bool(waiting & own)


def reader_of(node: Node, redis: redis_servers.Redis) -> psutil.Process:
    found: list[psutil.Process] = []

    def one() -> bool:
        found[:] = [worker for worker in node.workers() if reads(worker, redis)]
        return len(found) == 1

    until(one, "one worker reads")
    return found[0]


async def stopped(node: Node, worker: psutil.Process) -> Callable[[], object]:
    """Returns what makes it go on."""
    worker.suspend()
    return worker.resume


async def held(node: Node, worker: psutil.Process) -> Callable[[], object]:
    """Its loop stands, in the midst of its life."""

    def hold() -> bool:
        asked = f"http://127.0.0.1:{node.port}/?pid={worker.pid}"
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            return bool(answer.read() == b"True")

    directory = node.log_file.parent
    await asyncio.to_thread(until, hold, "the worker was asked")
    await asyncio.to_thread(until, (directory / HELD).exists, "it is held")
    return (directory / GO).touch


def of_worker(stream: Stream, worker: psutil.Process) -> bool:
    port = stream._writer.get_extra_info("sockname")[1]
    return any(each.raddr and each.raddr.port == port for each in worker.net_connections("tcp"))


async def streams_at(node: Node, workers: list[psutil.Process], channel: str) -> list[Stream]:
    """One at each of them."""
    found: dict[int, Stream] = {}
    async with asyncio.timeout(PATIENCE):
        while len(found) < len(workers):
            stream = await Stream.subscribe(node.port, [channel], None, edge_path="/edge")
            (worker,) = [worker.pid for worker in workers if of_worker(stream, worker)]
            if found.setdefault(worker, stream) is not stream:
                stream.cut()
    return [found[worker.pid] for worker in workers]


async def read(stream: Stream, count: int) -> list[str]:
    """The data of so many events; of the server's own nothing but `$connected` may be between them."""
    got: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            if event.type != "$connected":
                assert event.type == "message", event
                got.append(event.data)
            if len(got) == count:
                break
    return got


@pytest.mark.parametrize("hang", [stopped, held])
async def test_a_worker_that_reads_and_hangs_hands_the_reading_on_exactly(
    redis: redis_servers.Redis,
    node: Node,
    hang: Callable[[Node, psutil.Process], Awaitable[Callable[[], object]]],
) -> None:
    channel = hang.__name__
    publisher = Publisher(redis.url)
    reader = await asyncio.to_thread(reader_of, node, redis)
    (other,) = [worker for worker in node.workers() if worker != reader]
    at_reader, at_other = await streams_at(node, [reader, other], channel)
    publisher.publish(channel, "before")
    assert await read(at_reader, 1) == await read(at_other, 1) == ["before"]
    resume = await hang(node, reader)
    try:
        texts = [f"{number}" for number in range(COUNT)]
        for text in texts:
            await asyncio.to_thread(publisher.publish, channel, text)
        assert await read(at_other, COUNT) == texts
    finally:
        resume()
    assert await read(at_reader, COUNT) == texts
    assert await asyncio.to_thread(reader_of, node, redis) == other
    for turn in range(3):  # and it goes on with what comes
        await asyncio.to_thread(publisher.publish, channel, f"after {turn}")
    for stream in (at_reader, at_other):
        assert await read(stream, 3) == ["after 0", "after 1", "after 2"]
        stream.cut()
    assert len(node.workers()) == 2
    publisher.close()
