"""The other nodes over one backplane: which there are, and what is said to them all.

Who is there says so to the engine every few seconds. What is said to all goes as an event of a channel of the server's
own, which nobody else listens to: it comes to each worker of each node once, in the order of all events.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any
from zlib import crc32

import orjson

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.frame import encode
from sse_fast.errors import EndReason, EngineUnavailable, HubClosed, InvalidEvent, SSEFastError
from sse_fast.hub.engine import Asking, Questions, Registry
from sse_fast.hub.hub import Hub
from sse_fast.hub.over_engine import OverEngine
from sse_fast.version import VERSION

logger = logging.getLogger("sse_fast.edge")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHANNEL = "$fleet"
END, ASK = "end", "ask"
SAY = 2.0  # seconds between two words that this node is there, and
KEPT = 8.0  # that it is taken to be there after one
ANSWER = 2.0  # seconds that others have
LOOK = 0.02  # seconds between two looks whether they have answered
ASKED_BYTES = 8192  # of channels' names, in one question
Count = Callable[[list[str]], Awaitable[list[int]]]


class Fleet:
    """Of one worker. `name`: of its node; all its workers say the same."""

    def __init__(self, hub: Hub, backplane: OverEngine, name: str) -> None:
        self._hub, self._backplane, self.name = hub, backplane, name
        self._since = time.time()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ears: _Ears | None = None
        self.count: Count | None = None
        """How many subscribers each of these channels has at this node."""

    @property
    def _registry(self) -> Registry | None:
        """None: the backplane knows nothing of nodes."""
        engine = self._backplane.engine
        return engine if isinstance(engine, Registry) else None

    def start(self) -> None:
        """Again: nothing happens."""
        if not self._tasks:
            self._spawn(self._live())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._ears is not None:
            self._ears.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self) -> None:
        await self._hub.take_in()
        while (registry := self._registry) is not None:
            try:
                if self._ears is None or self._ears.ended_for is not None:
                    self._ears = _Ears(self)
                if self._backplane.follows:
                    words = {"version": VERSION, "since": round(self._since, 3)}
                    await registry.here(self.name, orjson.dumps(words), KEPT)
            except (EngineUnavailable, HubClosed):
                pass  # it is away, and says so itself; or this worker ends
            except Exception:
                logger.exception("this node could not say that it is there; it tries again")
            await asyncio.sleep(SAY)

    async def nodes(self) -> list[dict[str, Any]] | None:
        """Those that are there; None: nobody knows. Raises EngineUnavailable."""
        if self._registry is None:
            return None
        found = await self._registry.nodes()
        return [{"name": name, **orjson.loads(words)} for name, words in sorted(found.items())]

    async def end_elsewhere(self, which: Mapping[str, str]) -> None:
        """Have streams ended at all other nodes. Raises EngineUnavailable."""
        if self._registry is None:
            return
        frame = encode(orjson.dumps({"by": self.name, "which": which}), event=END)
        await self._hub.append([(CHANNEL.encode(), frame)])

    async def subscribers(self, channels: list[str]) -> tuple[list[int], list[str]] | None:
        """How many each of these has at the other nodes; and those nodes that did not answer. None: nobody knows.
        Raises EngineUnavailable."""
        engine = self._backplane.engine
        if self._registry is None or not isinstance(engine, Asking):
            return None
        others = sorted((await self._registry.nodes()).keys() - {self.name})
        counts, silent = [0] * len(channels), set[str]()
        if others:
            asked = list(pieces(channels))
            found = await asyncio.gather(*(self._ask(engine.questions, piece, others) for piece in asked))
            counts = [count for each, _ in found for count in each]
            silent.update(*(each for _, each in found))
        return counts, sorted(silent)

    async def _ask(self, questions: Questions, channels: list[str], nodes: list[str]) -> tuple[list[int], set[str]]:
        question = token_hex(8)
        frame = encode(orjson.dumps({"by": self.name, "question": question, "channels": channels}), event=ASK)
        await self._hub.append([(CHANNEL.encode(), frame)])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER
        while True:
            answers = await questions.answers(question, nodes)
            if len(answers) == len(nodes) or loop.time() >= deadline:
                break
            await asyncio.sleep(LOOK)
        counts = [sum(each) for each in zip([0] * len(channels), *map(orjson.loads, answers.values()), strict=True)]
        return counts, set(nodes) - answers.keys()

    def heard(self, what: str, said: Mapping[str, Any]) -> None:
        if said["by"] == self.name:
            return
        if what == END:
            self._spawn(self._end(said["which"]))
        elif what == ASK and self._backplane.leads:  # of its workers one answers
            self._spawn(self._answer(said["question"], said["channels"]))

    async def _answer(self, question: str, channels: list[str]) -> None:
        engine = self._backplane.engine
        with contextlib.suppress(SSEFastError):  # who asks says that this node is silent
            if self.count is not None and isinstance(engine, Asking):
                await engine.questions.answer(question, self.name, orjson.dumps(await self.count(channels)))

    async def _end(self, which: Mapping[str, str]) -> None:
        try:
            channel, user, address = which.get("channel"), which.get("user"), which.get("address")
            await self._hub.open_streams.end(EndReason.OPERATOR, channel=channel, user=user, address=address)
        except (InvalidEvent, ValueError):
            logger.exception("another node asked for what cannot be done here")


def pieces(channels: list[str]) -> Iterator[list[str]]:
    """For one question each."""
    piece, size = list[str](), 0
    for name in channels:
        if piece and size + len(name.encode()) > ASKED_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(name)
        size += len(name.encode())
    if piece:
        yield piece


class _Ears(Sink):
    """A stream of what is said to all, from now on."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._parser = fleet, EventParser()
        self.ended_for: EndReason | None = None
        self._own = fleet._hub.open_streams.own
        self._subscription = fleet._hub.attach((CHANNEL,), self)
        self._own.add(self._subscription.subscriber)
        self._subscription.start()

    def write(self, data: bytes) -> bool:
        for event in self._parser.feed(data):
            if not event.event.startswith("$"):
                self._fleet.heard(event.event, orjson.loads(event.data))
        return True

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self._own.discard(self._subscription.subscriber)
        self.ended_for = reason


def name_of_node(*, several: bool) -> str:
    """`several`: workers, whose parent's process stands for them all.

    Two containers may have a hostname in common, and a process 1 each: so it says, too, on which start of which machine
    and since when that process runs."""
    pid = os.getppid() if several else os.getpid()
    return f"{socket.gethostname()}-{pid}-{_began(pid)}"


def _began(pid: int) -> str:
    """proc_pid_stat(5): the 22nd field, behind a name in brackets, is when it began."""
    words = []
    with contextlib.suppress(OSError):
        words.append(BOOT_ID.read_text())
        words.append(os.readlink(f"/proc/{pid}/ns/pid"))
    with contextlib.suppress(OSError, IndexError):
        words.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return f"{crc32(' '.join(words).encode()):08x}"
