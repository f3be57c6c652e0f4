"""Finds out what has to be known before a request is decided about: whether there is a key of that name, and what the
webhook says. Whichever transport the request came by, it is asked here."""

import asyncio
import logging
from collections import Counter
from typing import Protocol

from sse_fast.access.addresses import one_client
from sse_fast.access.asking import Found, HookAsked, HookSaid, KeyAsked
from sse_fast.edge.asked import AskFailed
from sse_fast.errors import Undecided
from sse_fast.protocol.decision import Ask

logger = logging.getLogger("sse_fast.edge")

WAITING = 2048  # requests that wait for either, each
WAITING_EACH = 512  # from one address
SECONDS = 15.0  # that one may wait at most, whatever the two do


class Keys(Protocol):
    async def ask(self, kid: str | None) -> None:
        """Have the key, if there is one. Raises AskFailed."""


class Hook(Protocol):
    async def ask(self, asked: HookAsked, client: str, /) -> HookSaid:
        """Raises AskFailed."""


class Asking:
    """Asking(keys, hook). waiting: requests that do, by what they wait for."""

    def __init__(
        self, keys: Keys | None = None, hook: Hook | None = None, *, most: int = WAITING, each: int = WAITING_EACH
    ) -> None:
        self._keys, self._hook = keys, hook
        self._most, self._each = most, each
        self.waiting: Counter[str] = Counter()
        self._from: Counter[tuple[str, str]] = Counter()

    async def __call__(self, ask: Ask, client: str) -> Found:
        """What was found out, with all that was before. client: the address of who asks. Raises Undecided: nobody
        knows, so nobody may."""
        what = "hook" if isinstance(ask.what, HookAsked) else "keys"
        place = what, one_client(client)
        if self.waiting[what] >= self._most or self._from[place] >= self._each:
            raise Undecided("too many requests wait for what has to be found out about them; come back in a moment")
        self.waiting[what] += 1
        self._from[place] += 1
        try:
            async with asyncio.timeout(SECONDS):
                return await self._found(ask, client)
        except (AskFailed, TimeoutError):
            raise Undecided("whether this may be cannot be found out just now; come back in a moment") from None
        finally:
            self.waiting[what] -= 1
            self._from[place] -= 1
            if not self._from[place]:
                del self._from[place]

    async def _found(self, ask: Ask, client: str) -> Found:
        if isinstance(ask.what, HookAsked):
            if self._hook is None:
                raise AskFailed("there is no webhook")
            return ask.found._replace(hook=outspoken(ask.what, await self._hook.ask(ask.what, client)))
        if self._keys is not None and isinstance(ask.what, KeyAsked):
            await self._keys.ask(ask.what.kid)
        return ask.found._replace(keys=True)


def outspoken(asked: HookAsked, said: HookSaid) -> HookSaid:
    """The same, with all that it grants: by the time it is decided by, more may be missing than was asked about."""
    return said._replace(
        channels=asked.channels if said.channels is None else said.channels,
        patterns=asked.patterns if said.patterns is None else said.patterns,
    )
