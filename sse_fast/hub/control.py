"""What the workers of a node ask each other, and answer: questions by name, in JSON. A hub alone asks itself."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

Handler = Callable[[Mapping[str, Any]], Any]
"""Is given what a question is about, values of JSON; returns such a value, or an awaitable of one. An SSEFastError that
it raises is told to who asked."""


class Told(NamedTuple):
    """What one worker answered."""

    slot: int
    pid: int
    answer: Any


class Answers(NamedTuple):
    """told: this worker's own first. silent: the pids of those that did not answer in time."""

    told: list[Told]
    silent: list[int]


class Control(Protocol):
    """All workers of a node, this one among them. What a worker is asked by itself goes by no socket."""

    @property
    def slot(self) -> int:
        """This worker's."""

    @property
    def workers(self) -> list[int]:
        """The slots of those that live, in order, this one's among them."""

    def on(self, question: str, handler: Handler) -> None:
        """Answer a question by that, before any can come."""

    async def ask(self, slot: int, question: str, **about: Any) -> Any:
        """Raises LookupError where there is no such worker, Silent where it does not answer in time, and what its
        handler says was wrong."""

    async def ask_all(self, question: str, **about: Any) -> Answers:
        """Raises what the own handler raises; who of the others cannot answer is `silent`."""


class Alone:
    """The control of a process that is the whole node."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    @property
    def slot(self) -> int:
        return 0

    @property
    def workers(self) -> list[int]:
        return [self.slot]

    def on(self, question: str, handler: Handler) -> None:
        if question in self._handlers:
            raise ValueError(f"{question!r} is answered already")
        self._handlers[question] = handler

    async def ask(self, slot: int, question: str, **about: Any) -> Any:
        if slot != self.slot:
            raise LookupError(slot)
        return await self.answer(question, about)

    async def ask_all(self, question: str, **about: Any) -> Answers:
        return Answers([Told(self.slot, os.getpid(), await self.answer(question, about))], [])

    async def answer(self, question: str, about: Mapping[str, Any]) -> Any:
        """Raises KeyError for a question that nobody answers, and what its handler raises."""
        answer = self._handlers[question](about)
        return await answer if inspect.isawaitable(answer) else answer
