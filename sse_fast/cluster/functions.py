"""What is asked of an engine, and what it answers, as commands and replies of its protocol: others carry them.

What takes more than one step is a generator: it yields commands, is sent replies, and returns what came of it.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

from sse_fast.cluster.entries import id_of
from sse_fast.cluster.trouble import NOT_LOADED
from sse_fast.errors import EngineTrouble, EngineUnavailable, NotReplicated
from sse_fast.event import EventId

Argument = str | bytes | int
Command = tuple[Argument, ...]
Reply = Any
T = TypeVar("T")
Dialogue = Generator[Command, Reply, T]

PREFIX = re.compile(r"[\x21-\x7e]{1,100}")
CODE = ("functions.lua", "presence.lua", "questions.lua")
SEQUENCE_END = 2**64 - 1


@dataclass(frozen=True)
class Limits:
    """Of what an engine keeps, for all its nodes. max_bytes: of events; max_age: seconds, None: any;
    idempotency_window: seconds that a key is remembered, 0: none is; idempotency_keys: how many that long at least."""

    max_bytes: int = 1 << 30
    max_age: float | None = None
    idempotency_window: float = 120.0
    idempotency_keys: int = 131_072

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or not 2**16 <= self.max_bytes <= 2**44:
            raise ValueError(f"max_bytes is a whole number, 2**16 to 2**44, not {self.max_bytes!r}")
        if self.max_age is not None and not 1 <= self.max_age <= 10 * 366 * 86_400:
            raise ValueError(f"max_age is a number of seconds from 1 on, not {self.max_age!r}")

    def arguments(self) -> Command:
        window = round(1000 * self.idempotency_window)
        return self.max_bytes, round(1000 * (self.max_age or 0)), window, self.idempotency_keys


class Look(NamedTuple):
    """epoch: which holds. last: the newest entry, be it the epoch's mark. entries and bytes: kept, about."""

    epoch: str
    last: EventId
    entries: int
    bytes: int


class Looked(NamedTuple):
    """What was found, and when it was asked for and answered, of the loop's clock."""

    sent: float
    answered: float
    found: Look


class Opened(NamedTuple):
    look: Look
    max_bytes: int
    window: int
    """Milliseconds that an idempotency key is remembered; 0: none is."""


class Log:
    """The names of a fleet's keys and functions. `explain`: an error reply as ours."""

    def __init__(self, prefix: str, explain: Callable[[Exception], EngineUnavailable]) -> None:
        if not PREFIX.fullmatch(prefix):
            raise ValueError(f"a prefix is 1 to 100 printable ASCII characters without spaces, not {prefix!r}")
        if "{" not in prefix:  # all in one slot of a cluster
            prefix = f"{{{prefix}}}"
        self.prefix = prefix
        self.stream = f"{prefix}:log"
        self._keys = (
            self.stream,
            f"{prefix}:state",
            f"{prefix}:cuts",
            f"{prefix}:keys:0",
            f"{prefix}:keys:1",
            f"{prefix}:nodes",
        )
        self._explain = explain
        self._epoch = 0  # the newest that is known here

    @cached_property
    def code(self) -> str:
        return code()

    def call(self, function: str, *arguments: Argument, keys: tuple[str, ...] = ()) -> Command:
        """`keys`: beside the log's own."""
        keys = self._keys + keys
        return ("FCALL", f"{function}_{version()}", len(keys), *keys, *arguments)

    def checked(self, reply: Reply) -> Reply:
        """Raises EngineUnavailable for an error."""
        if isinstance(reply, Exception):
            raise self._explain(reply)
        return reply

    def load(self) -> Dialogue[None]:
        reply = yield ("FUNCTION", "LOAD", self.code)
        if not str(reply).startswith("ERR Library"):  # somebody else was faster
            self.checked(reply)

    def loaded(self, command: Command) -> Dialogue[Reply]:
        """The answer of a function, which is loaded if it is not there."""
        reply = yield command
        if str(reply).startswith(NOT_LOADED):
            yield from self.load()
            reply = yield command
        return self.checked(reply)

    def knows(self, epoch: str) -> None:
        """Have the log go on behind this one, whichever server has it."""
        self._epoch = max(self._epoch, int(epoch))

    def open(self, limits: Limits | None) -> Dialogue[Opened]:
        reply = yield from self.loaded(self.call("open", self._epoch, *arguments_of(limits)))
        return Opened(self._look_of(reply), reply[4], reply[5])

    def tend(self, limits: Limits | None) -> Dialogue[Look]:
        return self._look_of((yield from self.loaded(self.call("tend", self._epoch, *arguments_of(limits)))))

    def _look_of(self, reply: Reply) -> Look:
        look = look_of(reply)
        self.knows(look.epoch)
        return look

    def window(self, bytes: int) -> Dialogue[EventId | None]:
        reply = yield from self.loaded(self.call("window", bytes))
        return id_of(reply) if reply else None

    def wait(self, replicas: int, seconds: float) -> Command:
        """For what this connection wrote last to be on replicas."""
        return "WAIT", replicas, max(1, round(1000 * seconds))

    def check_replicas(self, reply: Reply, replicas: int, seconds: float) -> None:
        """Raises NotReplicated."""
        if self.checked(reply) < replicas:
            raise NotReplicated(
                f"{reply} of {replicas} replicas answered within {seconds:g} s", EngineTrouble.REPLICAS, maybe=True
            )

    def here(self, name: str, words: bytes, milliseconds: int) -> Dialogue[bool]:
        return bool((yield from self.loaded(self.call("here", name, words, milliseconds))))

    def nodes(self) -> Dialogue[dict[str, bytes]]:
        reply = yield from self.loaded(self.call("nodes"))
        return {name.decode(errors="replace"): words for name, words in zip(reply[::2], reply[1::2], strict=True)}

    def read(self, after: EventId | None, count: int, milliseconds: int) -> Command:
        return ("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", self.stream, after_of(after))

    def range(self, after: EventId | None, until: EventId | None, count: int) -> Command:
        return ("XRANGE", self.stream, f"({after_of(after)}", "+" if until is None else str(until), "COUNT", count)

    def newest(self) -> Command:
        return ("XREVRANGE", self.stream, "+", "-", "COUNT", 1)


_version: list[str] = []


def version() -> str:
    """Of the code of the functions: nodes of two versions each call their own, and none replaces the other's."""
    if not _version:
        _version.append(sha256(_read().encode()).hexdigest()[:12])
    return _version[0]


def code() -> str:
    return _read().replace("VERSION", version())


def _read() -> str:
    here = files("sse_fast.cluster")
    return "".join(here.joinpath(name).read_text() for name in CODE)


def arguments_of(limits: Limits | None) -> Command:
    return limits.arguments() if limits is not None else ()


def after_of(id: EventId | None) -> str:
    return "0-0" if id is None else str(id)


def look_of(reply: Reply) -> Look:
    return Look(reply[0].decode(), id_of(reply[1]), reply[2], reply[3])
