"""Publishers that keep their connections, while workers are restarted one by one and while the server is stopped: what
was sent whole is answered, and whoever is refused is well received at once by another worker."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import pytest
from client import Stream
from conftest import PATIENCE, EdgeProcess, Edges
from test_node import customized, eventually, everybody_serves, pids

from sse_fast.node.supervisor import FAILED_STARTS

__all__ = ["customized"]


class Publisher:
    """Bare HTTP/1.1. It goes on with its connection until it is told that this was the last answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.answers: list[int] = []
        self.unanswered: list[str] = []
        self.refused_connections = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._publish())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _publish(self) -> None:
        while True:
            try:
                await self.ask()
            except ConnectionRefusedError:
                self.refused_connections += 1
            await asyncio.sleep(0.005)

    async def ask(self) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(b"POST /publish/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.unanswered.append(repr(error))
            self.hang_up()
            return
        self.answers.append(int(head.split()[1]))
        if b"connection: close" in head.lower():
            self.hang_up()
        else:
            assert self.answers[-1] == 200, "a refusal is the last answer of its connection"

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    @property
    def longest_refusal(self) -> int:
        """503s in a row."""
        statuses = "".join("x" if status == 503 else " " for status in self.answers)
        return max(map(len, statuses.split(" ")))


@contextlib.asynccontextmanager
async def publishers(server: EdgeProcess, count: int = 6) -> AsyncIterator[list[Publisher]]:
    async with contextlib.AsyncExitStack() as stack:
        those = [await stack.enter_async_context(Publisher(server.port)) for _ in range(count)]
        await all_go_on(those)
        yield those


async def all_go_on(those: list[Publisher]) -> None:
    """Until everybody has been acknowledged something more."""
    before = [one.answers.count(200) for one in those]
    async with asyncio.timeout(PATIENCE):
        while any(  # noqa: ASYNC110 - several are waited for
            one.answers.count(200) <= there for one, there in zip(those, before, strict=True)
        ):
            await asyncio.sleep(0.01)


async def rolled(server: EdgeProcess, workers: int) -> None:
    """SIGHUP, until only new workers are there."""
    before = set(pids(server))
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: not before & {worker.pid for worker in server.workers()}, "new workers")
    await asyncio.to_thread(everybody_serves, server, workers)


@pytest.mark.parametrize("workers", [1, 2])
async def test_over_a_rolling_restart_every_publish_is_answered_and_nobody_is_refused_twice_in_a_row(
    edge: Edges, workers: int
) -> None:
    server = edge("--workers", str(workers))
    server.noise_expected = True
    await asyncio.to_thread(everybody_serves, server, workers)
    async with publishers(server) as those:
        await rolled(server, workers)
        await all_go_on(those)
    assert [one.unanswered for one in those] == [[]] * len(those)
    assert sum(one.refused_connections for one in those) == 0
    for one in those:
        assert set(one.answers) <= {200, 503}
        assert one.longest_refusal <= 1
        assert one.answers.count(503) <= workers


async def test_a_long_drain_refuses_a_publisher_once_and_no_more(edge: Edges) -> None:
    server = edge("--workers", "2", "--drain-timeout", "2")
    server.noise_expected = True
    await asyncio.to_thread(everybody_serves, server, 2)
    stuck = [await Stream.open(server.port, "/sse/b") for _ in range(8)]  # at both workers
    for _ in range(20):
        await asyncio.to_thread(server.publish_many, "b", ["x" * 50_000] * 20)
    await eventually(lambda: server.stats()["blocked"] == len(stuck), "blocked streams")
    async with publishers(server) as those:
        await rolled(server, 2)
    for one in those:
        assert one.unanswered == []
        assert one.answers.count(503) <= 2
    for stream in stuck:
        stream.cut()


async def test_a_publish_that_is_under_way_when_its_worker_begins_to_drain_is_acknowledged(edge: Edges) -> None:
    server = edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /publish/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhello")
    stream = await Stream.open(server.port, "/sse/a")
    await eventually(lambda: server.stats()["connections"] == 1, "the stream")
    server.terminate()
    await eventually(lambda: "draining" in server.log(), "the drain")
    writer.write(b"world")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    assert head.startswith(b"HTTP/1.1 200")
    assert [event.data async for event in stream.events() if event.type == "message"] == ["helloworld"]
    writer.close()


async def test_a_publish_whose_body_never_comes_takes_no_streams_last_words(edge: Edges) -> None:
    server = edge("--drain-timeout", "1")
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /publish/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhello")
    stream = await Stream.open(server.port, "/sse/a")
    await eventually(lambda: server.stats()["connections"] == 1, "the stream")
    server.terminate()
    assert [event.type async for event in stream.events()][-1] == "$closing"
    writer.close()


async def test_at_a_stop_every_publish_that_was_taken_in_is_answered(edge: Edges) -> None:
    server = edge("--workers", "2")
    server.noise_expected = True
    await asyncio.to_thread(everybody_serves, server, 2)
    async with publishers(server) as those:
        server.terminate()
        assert await asyncio.to_thread(server.wait) == 0
    assert [one.unanswered for one in those] == [[]] * len(those)
    assert any(503 in one.answers for one in those)


DIES = """
import os, signal, pathlib
import sse_fast.edge.app as app
start_up, started = app.Edge._start_up, pathlib.Path({path!r})
def start(self):
    with started.open("a") as file:
        file.write("x")
    if len(started.read_text()) in {which}:
        os.kill(os.getpid(), signal.SIGKILL)
    return start_up(self)
app.Edge._start_up = start
"""


@pytest.mark.parametrize("deaths", [1, FAILED_STARTS])
async def test_a_new_worker_that_dies_in_a_rolling_restart_is_tried_again_but_not_for_ever(
    edge: Edges, customized: Callable[[str], None], tmp_path: Path, deaths: int
) -> None:
    customized(DIES.format(path=str(tmp_path / "started"), which=[*range(2, 2 + deaths)]))
    server = edge()
    server.noise_expected = True
    (old,) = pids(server)
    os.kill(server.pid, signal.SIGHUP)
    if deaths < FAILED_STARTS:
        await eventually(lambda: old not in {worker.pid for worker in server.workers()}, "a new worker")
    else:
        await eventually(lambda: "the rolling restart ends, the old ones stay" in server.log(), "the end of it")
        assert [worker.pid for worker in server.workers()] == [old]
    await asyncio.to_thread(everybody_serves, server, 1)
    assert server.publish("a", "on")
