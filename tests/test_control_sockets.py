"""What the workers of a node ask each other: bounded questions, bounded answers, in bounded time, by private
sockets."""

import asyncio
import mmap
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE

from sse_fast._native.node.slots import Slots
from sse_fast.errors import InvalidEvent, Silent
from sse_fast.hub.control import Alone
from sse_fast.node.control import AT_ONCE, MOST_ASKED, SocketControl
from sse_fast.node.sockets import CONTROL, SocketDirectory

PIDS = (101, 102, 103)


class Node:
    """Workers of one node in one process: each has its own view of the slots, and the pid that is said to be its."""

    def __init__(self, directory: SocketDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._memory = mmap.mmap(-1, Slots.size(len(PIDS)))
        Slots(self._memory, len(PIDS))
        self._monkeypatch = monkeypatch
        self.controls: list[SocketControl] = []

    def claim(self, number: int) -> Slots:
        slots = Slots(self._memory)
        slots.claim(number, PIDS[number], b"nobody-wakes-it")
        return slots

    async def worker(self, number: int, *, listens: bool = True, seconds: float = 0.3) -> SocketControl:
        control = SocketControl(self.directory, self.claim(number), seconds=seconds)
        control.on("who", lambda about: {"who": number} | dict(about))
        self.controls.append(control)
        if listens:
            with self._monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: PIDS[number])
                await control.start()
        return control


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    made = SocketDirectory.made([tmp_path])
    node = Node(made, monkeypatch)
    yield node
    for control in node.controls:
        control.close()
    made.close()


async def test_all_are_asked_and_this_one_first(node: Node) -> None:
    workers = [await node.worker(number) for number in range(3)]
    answers = await workers[1].ask_all("who", x=[1, "ü"])
    assert answers.silent == []
    assert answers.told[0].answer == {"who": 1, "x": [1, "ü"]}
    assert sorted((told.slot, told.answer["who"]) for told in answers.told) == [(0, 0), (1, 1), (2, 2)]
    assert {told.pid for told in answers.told[1:]} == {101, 103}
    assert workers[2].workers == [0, 1, 2]


async def test_one_is_asked(node: Node) -> None:
    first, second = await node.worker(0), await node.worker(1)
    assert await first.ask(1, "who") == {"who": 1}
    assert await second.ask(1, "who") == {"who": 1}
    with pytest.raises(LookupError):
        await first.ask(2, "who")


async def test_nobody_but_this_user_may_ask(node: Node) -> None:
    await node.worker(0)
    path = node.directory.of(101, CONTROL)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_who_hangs_is_silent_after_that_time_and_costs_nobody_else_s_answer(node: Node) -> None:
    asker, other = await node.worker(0), await node.worker(1)
    node.claim(2)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(os.fspath(node.directory.of(103, CONTROL)))
        hung.listen(1)  # the kernel accepts for it
        async with asyncio.timeout(PATIENCE):
            answers = await asker.ask_all("who")
            assert answers.silent == [103]
            assert [told.answer["who"] for told in answers.told] == [0, 1]
            with pytest.raises(Silent, match="worker 103"):
                await other.ask(2, "who")


async def test_who_does_not_serve_yet_or_is_dead_is_not_there(node: Node) -> None:
    asker = await node.worker(0)
    node.claim(1)
    node.claim(2)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(node.directory.of(103, CONTROL)))
    answers = await asker.ask_all("who")
    assert (len(answers.told), answers.silent) == (1, [])
    for gone in (1, 2):
        with pytest.raises(LookupError):
            await asker.ask(gone, "who")


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(os.fspath(node.directory.of(102, CONTROL)))
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"\n", b"{}\n", b"[]\n", b'["who"]\n', b'["nobody", {}]\n', b"\xff\xfe\n", b'["who", {}'),
        b"x" * MOST_ASKED * 2,
    ],
    ids=range(9),
)
async def test_what_is_no_question_is_not_answered_and_the_next_one_is(node: Node, said: bytes) -> None:
    asker, _ = await node.worker(0), await node.worker(1)
    async with asyncio.timeout(PATIENCE), connected(node) as (reader, writer):
        writer.write(said)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert await asker.ask(1, "who") == {"who": 1}


async def test_who_asks_and_says_nothing_more_is_let_go_and_more_at_once_are_not_answered(node: Node) -> None:
    asker, _ = await node.worker(0), await node.worker(1)
    async with asyncio.timeout(PATIENCE):
        held = [await asyncio.open_unix_connection(os.fspath(node.directory.of(102, CONTROL))) for _ in range(AT_ONCE)]
        with pytest.raises(Silent):
            await asker.ask(1, "who")
        for reader, writer in held:
            assert await reader.read() == b""
            writer.close()
        assert await asker.ask(1, "who") == {"who": 1}


async def test_a_question_that_is_too_long_is_not_asked(node: Node) -> None:
    asker = await node.worker(0)
    with pytest.raises(ValueError, match="'who'"):
        await asker.ask_all("who", x="x" * MOST_ASKED)


@pytest.mark.parametrize("failure", [InvalidEvent("this is wrong"), RuntimeError("a slip")])
async def test_a_worker_whose_answer_fails_says_what_is_known(
    node: Node, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(about: Any) -> None:
        raise failure

    asker, other = await node.worker(0), await node.worker(1)
    asker.on("fails", lambda about: 1)
    other.on("fails", fail)
    with pytest.raises(Silent):
        await asker.ask(1, "fails")
    answers = await asker.ask_all("fails")
    assert ([told.answer for told in answers.told], answers.silent) == ([1], [102])
    assert ("a slip" in caplog.text) is isinstance(failure, RuntimeError)


async def test_a_handler_may_wait(node: Node) -> None:
    async def later(about: Any) -> list[int]:
        await asyncio.sleep(0)
        return [len(about["x"])]

    workers = [await node.worker(number) for number in range(2)]
    for worker in workers:
        worker.on("later", later)
    answers = await workers[0].ask_all("later", x="abc")
    assert [told.answer for told in answers.told] == [[3], [3]]


async def test_what_it_has_made_goes_with_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    control = await node.worker(1)
    assert node.directory.of(102, CONTROL).exists()
    control.close()
    control.close()
    monkeypatch.setattr(os, "getpid", lambda: 102)
    node.directory.leave(last=False)
    assert list(node.directory.path.iterdir()) == []


async def test_alone_it_asks_itself() -> None:
    alone = Alone()
    alone.on("who", lambda about: dict(about))
    assert alone.workers == [alone.slot] == [0]
    ((slot, pid, answer),), silent = await alone.ask_all("who", x=1)
    assert (slot, pid, answer, silent) == (0, os.getpid(), {"x": 1}, [])
    assert await alone.ask(0, "who") == {}
    with pytest.raises(LookupError):
        await alone.ask(1, "who")
    with pytest.raises(ValueError, match="answered already"):
        alone.on("who", lambda about: None)
