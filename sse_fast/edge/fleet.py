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
from typing import Any, TypeVar
from zlib import crc32

import orjson

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.frame import encode
from sse_fast.errors import EndReason, EngineUnavailable, HubClosed, InvalidEvent, SSEFastError
from sse_fast.event_rules import brief, channel_name
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
        self._unreadable = set[str]()
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
                    self._ears = _Ears(self, self._ears.last if self._ears is not None else None)
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
        nodes: list[dict[str, Any]] = []
        for name, words in sorted((await self._registry.nodes()).items()):
            try:
                nodes.append({"name": name, **_object(words)})
            except (ValueError, TypeError) as error:
                self._leave_out("what a node says of itself", name, error)
        return nodes

    def _leave_out(self, what: str, whose: str, error: Exception) -> None:
        """It cannot be read, which is said once: whoever writes it does so again and again."""
        if what not in self._unreadable:
            self._unreadable.add(what)
            extra = {"from": brief(whose), "error": f"{type(error).__name__}: {error}"}
            logger.warning("%s cannot be read, and is left out; it is not this server's", what, extra=extra)

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
        counts, silent = [0] * len(channels), set(nodes) - answers.keys()
        for node, words in answers.items():
            try:
                counts = [sum(each) for each in zip(counts, _counts(words), strict=True)]
            except (ValueError, TypeError) as error:
                self._leave_out("a node's answer", node, error)
                silent.add(node)
        return counts, silent

    def heard(self, what: str, words: str) -> None:
        try:
            said = _object(words)
            by = _of(str, said, "by")
            if by == self.name:
                return
            if what == END:
                which = _of(dict, said, "which")
                self._spawn(self._end({name: _of(str, which, name) for name in which}))
            elif what == ASK and self._backplane.leads:  # of its workers one answers
                channels = [channel_name(name).decode() for name in _of(list, said, "channels")]
                self._spawn(self._answer(_of(str, said, "question"), channels))
        except (ValueError, TypeError) as error:
            self._leave_out("what is said to all nodes", "the backplane", error)

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


T = TypeVar("T")


def _of(kind: type[T], said: Mapping[str, Any], name: str) -> T:
    """What is said under a name. Raises ValueError."""
    if not isinstance(found := said.get(name), kind):
        raise ValueError(f"{name} is no {kind.__name__}")
    return found


def _object(words: bytes | str) -> dict[str, Any]:
    """Raises ValueError."""
    said = orjson.loads(words)
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    return said


def _counts(words: bytes) -> list[int]:
    """Raises ValueError."""
    counts = orjson.loads(words)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("these are no numbers")
    return counts


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
    """A stream of what is said to all, from now on, or behind the `last` that was heard."""

    def __init__(self, fleet: Fleet, last: str | None) -> None:
        self._fleet, self._parser = fleet, EventParser()
        self.ended_for: EndReason | None = None
        self._own = fleet._hub.open_streams.own
        self._subscription = fleet._hub.attach((CHANNEL,), self, last_event_id=last)
        self.last = last or self._subscription.id
        self._own.add(self._subscription.subscriber)
        self._subscription.start()

    def write(self, data: bytes) -> bool:
        for event in self._parser.feed(data):
            if not event.event.startswith("$"):
                self._fleet.heard(event.event, event.data)
            self.last = event.id or self.last
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
