"""What nodes ask each other: the question goes as an event to all, the answers come by the engine. In questions.lua."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sse_fast.cluster.functions import Log

KEPT = 10.0  # seconds


class Questions:
    """All raise EngineUnavailable."""

    def __init__(self, hold: Callable[[Any], Awaitable[Any]], log: Log) -> None:
        self._hold, self._log = hold, log
        self._keys = (f"{log.prefix}:answers",)

    async def answer(self, question: str, node: str, words: bytes) -> bool:
        """False: too many are kept."""
        call = self._log.call("answer", question, node, words, round(1000 * KEPT), keys=self._keys)
        return bool(await self._hold(self._log.loaded(call)))

    async def answers(self, question: str, nodes: Sequence[str]) -> dict[str, bytes]:
        """What has been answered, by node. Once all have, nothing of it is kept."""
        found = await self._hold(self._log.loaded(self._log.call("answers", question, *nodes, keys=self._keys)))
        return {node: words for node, words in zip(nodes, found, strict=True) if words}
