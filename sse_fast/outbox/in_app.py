"""The relay of an outbox in the app that has the hub."""

import asyncio
import contextlib
from typing import Self

from sse_fast.client.attempts import Progress
from sse_fast.embed.hub import Hub
from sse_fast.outbox.hub import HubTarget
from sse_fast.outbox.relay import POLL, Relay, RelayStats, logger


class OutboxRelay:
    """Publishes what is committed to the outbox of a database, by this hub, while it is open:

        @asynccontextmanager
        async def lifespan(app):
            async with hub, OutboxRelay(hub, "postgresql:///shop"):
                yield

    dsn: of the database, as SQLAlchemy or libpq write it. poll: seconds after which is looked for events, whether or
    not there was a notification. Of several, in other workers too, one publishes, and the others stand by. A database
    that is away, or has no outbox, is told in the log, and tried again. Raises ValueError for what is no dsn.
    """

    def __init__(self, hub: Hub, dsn: str, *, poll: float = POLL) -> None:
        self._relay = Relay(dsn, lambda marks: HubTarget(hub, marks), poll=poll, progress=Progress(logger))
        self._task: asyncio.Task[None] | None = None

    @property
    def stats(self) -> RelayStats:
        """What it has done."""
        return self._relay.stats

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._relay.run(give_up=False))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._relay.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
