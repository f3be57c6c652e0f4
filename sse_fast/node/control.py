"""A socket for each worker at which the others of its node ask it: a Unix one, in the directory that nobody but this
user may enter (`sockets`).

A connection is one question, a line of JSON, and one answer, another; both are bounded, and so is the time. A worker
that hangs is silent to who asks, and costs nobody more than that time.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from sse_fast._native.node.slots import Slots, Worker
from sse_fast.errors import Silent, SSEFastError
from sse_fast.hub.control import Alone, Answers, Told
from sse_fast.node.sockets import CONTROL, SocketDirectory

logger = logging.getLogger("sse_fast.node")

DIRECTORY_VARIABLE = "SSE_FAST_SOCKETS_DIRECTORY"
MOST_ASKED = 1024 * 1024  # bytes of a question
MOST_ANSWERED = 8 * 1024 * 1024
SECONDS = 2.0  # for a question and its answer
AT_ONCE = 64  # questions that are answered; who comes then is not
ASKING = 16  # that are asked; further ones wait
BACKLOG = 128


class SocketControl(Alone):
    """SocketControl(directory, slots): those of a node, `slots`, ask each other in there from `start` to `close`.
    `seconds`: for one question."""

    def __init__(self, directory: SocketDirectory, slots: Slots, *, seconds: float = SECONDS) -> None:
        super().__init__()
        self.directory = directory
        self._slots = slots
        self._seconds = seconds
        self._asking = asyncio.Semaphore(ASKING)
        self._asked = 0
        self._server: asyncio.Server | None = None

    @classmethod
    def among(cls, slots: Slots, environment: Mapping[str, str] = os.environ) -> Self:
        """Of the node of the environment."""
        return cls(SocketDirectory(Path(environment[DIRECTORY_VARIABLE])), slots)

    async def start(self) -> None:
        """Be there for the others. Again: nothing happens. Raises OSError."""
        if self._server is None:
            self._server = await asyncio.start_unix_server(
                self._met, sock=self.directory.listen(BACKLOG, CONTROL), limit=MOST_ASKED
            )

    def close(self) -> None:
        """Again: nothing happens."""
        if self._server is not None:
            self._server.close()
            self._server = None

    # ---- asking ------------------------------------------------------------------------------------------------------

    @property
    def slot(self) -> int:
        return self._slots.mine

    @property
    def workers(self) -> list[int]:
        return sorted({self.slot, *(worker.slot for worker in self._slots.workers())})

    async def ask(self, slot: int, question: str, **about: Any) -> Any:
        if slot == self.slot:
            return await self.answer(question, about)
        for worker in self._slots.workers():
            if worker.slot == slot:
                return await self._ask(worker, asked(question, about))
        raise LookupError(slot)

    async def ask_all(self, question: str, **about: Any) -> Answers:
        line = asked(question, about)
        others = [worker for worker in self._slots.workers() if worker.slot != self.slot]
        asking = [asyncio.ensure_future(self._ask(worker, line)) for worker in others]
        try:
            answers = await super().ask_all(question, **about)
            found = await asyncio.gather(*asking, return_exceptions=True)
        finally:
            for task in asking:
                task.cancel()
        for worker, answer in zip(others, found, strict=True):
            if isinstance(answer, LookupError):
                continue
            if isinstance(answer, BaseException):
                answers.silent.append(worker.pid)
            else:
                answers.told.append(Told(worker.slot, worker.pid, answer))
        return answers

    async def _ask(self, worker: Worker, line: bytes) -> Any:
        """LookupError where nobody is there: it has not begun to serve, or has ended."""
        async with self._asking:
            try:
                async with asyncio.timeout(self._seconds):
                    found = orjson.loads(await _exchanged(os.fspath(self.directory.of(worker.pid, CONTROL)), line))
            except (FileNotFoundError, ConnectionRefusedError):
                raise LookupError(worker.slot) from None
            except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
                logger.warning(
                    "a worker does not answer the others",
                    extra={"pid": worker.pid, "error": f"{type(error).__name__}: {error}"},
                )
                sentence = f"worker {worker.pid} of this server does not answer; try again in a moment"
                raise Silent(sentence, worker.pid) from None
        if "wrong" in found:
            raise Silent(found["wrong"], worker.pid)
        return found["answer"]

    # ---- answering ---------------------------------------------------------------------------------------------------

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asked += 1
        try:
            # Who asked has gone by then, or says what is no question.
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                async with asyncio.timeout(self._seconds):
                    if self._asked <= AT_ONCE:
                        writer.write(await self._answered(await reader.readuntil()))
                        await writer.drain()
        finally:
            self._asked -= 1
            writer.close()

    async def _answered(self, line: bytes) -> bytes:
        try:
            question, about = orjson.loads(line)
            answer = orjson.dumps({"answer": await self.answer(question, about)})
            if len(answer) >= MOST_ANSWERED:
                raise Silent(f"the answer of worker {os.getpid()} is longer than {MOST_ANSWERED} bytes; ask for less")
        except SSEFastError as error:
            answer = orjson.dumps({"wrong": str(error)})
        except Exception:
            logger.exception("a question of another worker could not be answered")
            return b""
        return answer + b"\n"


def asked(question: str, about: Mapping[str, Any]) -> bytes:
    """The line of a question. Raises ValueError for one that is too long."""
    line = orjson.dumps([question, about]) + b"\n"
    if len(line) > MOST_ASKED:
        raise ValueError(f"the question {question!r} has {len(line)} bytes; it may have {MOST_ASKED}")
    return line


async def _exchanged(path: str, line: bytes) -> bytes:
    """Raises OSError, IncompleteReadError (an EOFError) or LimitOverrunError."""
    reader, writer = await asyncio.open_unix_connection(path, limit=MOST_ANSWERED)
    try:
        writer.write(line)
        return await reader.readuntil()
    finally:
        writer.close()
