"""An engine behind several nodes, as a hub needs it: `sse_fast.cluster` has one."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from sse_fast.cluster.entries import Item
from sse_fast.cluster.presence import Change, Member, Said, Who
from sse_fast.errors import EngineUnavailable
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded
from sse_fast.hub.idempotency import Keys


class Published(Protocol):
    """ids: of all events, in their order; repeated: how many of them had been published before."""

    @property
    def ids(self) -> Sequence[EventId]: ...
    @property
    def repeated(self) -> int: ...


class Counts(Protocol):
    """Since the start."""

    calls: int
    failures: int
    connections: int
    entries_read: int
    pages_read: int
    missed: int
    marks: int


class Look(Protocol):
    """last: the newest entry that the engine has, marks included."""

    @property
    def last(self) -> EventId | None: ...


class Page(Protocol):
    """after: where the next page begins; done: there is none."""

    @property
    def items(self) -> list[Item]: ...
    @property
    def after(self) -> EventId: ...
    @property
    def done(self) -> bool: ...


class Told(Protocol):
    """Who waits for an event to be published, as a future does."""

    def done(self) -> bool: ...
    def set_result(self, published: Any, /) -> None: ...
    def set_exception(self, error: Exception, /) -> None: ...


@runtime_checkable
class Soon(Protocol):
    """What an engine may be further: it takes single events without a task for each."""

    def publish_soon(self, event: Encoded, told: Told, counted: Callable[[], None]) -> bool:
        """`publish` of one: `told` is what came of it, in a later turn of the loop, and `counted` is called first where
        it was published. False: nothing was done; `publish` says why, or waits."""

    def fly(self) -> None:
        """Send what was taken, and not in another turn of the loop."""


@runtime_checkable
class Registry(Protocol):
    """What an engine may be further: the nodes over it know of each other, and say something to all."""

    async def here(self, name: str, words: bytes, seconds: float) -> bool:
        """Say that a node of this name is there for so long, and something of it."""

    async def nodes(self) -> dict[str, bytes]:
        """What each node that is there says of itself."""


class Members(Protocol):
    """Who is there at which node, as `cluster.presence.Members` has it: there is what each returns."""

    async def say(self, node: str, number: int, seconds: float, changes: Sequence[Change], /) -> Said | None: ...
    async def at(self, node: str, after: Member | None, most: int, /) -> tuple[int, list[Member]]: ...
    async def over(self, node: str, seconds: float, changes: Sequence[Change], /) -> bool: ...
    async def who(self, channel: str, after: str, most: int, /) -> Who: ...


@runtime_checkable
class Counting(Protocol):
    """What an engine may be further: it keeps who is there."""

    @property
    def members(self) -> Members: ...


class Questions(Protocol):
    """What nodes ask each other, as `cluster.questions.Questions` has it."""

    async def answer(self, question: str, node: str, words: bytes, /) -> bool: ...
    async def answers(self, question: str, nodes: Sequence[str], /) -> dict[str, bytes]: ...


@runtime_checkable
class Asking(Protocol):
    """What an engine may be further: answers come by it."""

    @property
    def questions(self) -> Questions: ...


class Engine(Protocol):
    """What cannot be reached raises EngineUnavailable, at once where that is known."""

    @property
    def sparse(self) -> bool:
        """Whether it leaves positions out where nothing is missing: then what is missing it says itself, and a mark
        goes on where the epoch before it ended."""

    @property
    def trouble(self) -> EngineUnavailable | None:
        """Why publishing fails now."""

    @property
    def since(self) -> float:
        """By the loop's clock: the last change of `trouble`."""

    @property
    def counts(self) -> Counts: ...

    @property
    def look_of_late(self) -> Look | None:
        """It is looked at once a second by itself."""

    @property
    def reading(self) -> bool:
        """Whether `follow` is connected, and was answered lately."""

    async def open(self) -> Look:
        """From here on it is kept open, also where this raises."""

    async def close(self) -> None: ...

    async def publish(self, events: Sequence[Encoded], keys: Keys | None = None) -> Published:
        """All or none."""

    async def forget(self, channel: bytes, body: bytes) -> EventId: ...

    async def window(self, bytes: int, /) -> EventId | None:
        """A cursor, behind which there are about the newest so many bytes; None: all there is."""

    def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        """What comes behind a cursor, for ever and through outages."""

    async def page(self, after: EventId, until: EventId | None = None) -> Page:
        """Some of what is behind a cursor."""
