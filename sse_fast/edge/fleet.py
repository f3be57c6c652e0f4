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
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.frame import encode
from sse_fast.errors import EndReason, EngineUnavailable, HubClosed, InvalidEvent
from sse_fast.hub.engine import Registry
from sse_fast.hub.hub import Hub
from sse_fast.hub.over_engine import OverEngine
from sse_fast.version import VERSION

logger = logging.getLogger("sse_fast.edge")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHANNEL = "$fleet"
END = "end"
SAY = 2.0  # seconds between two words that this node is there, and
KEPT = 8.0  # that it is taken to be there after one


class Fleet:
    """Of one worker. `name`: of its node; all its workers say the same."""

    def __init__(self, hub: Hub, backplane: OverEngine, name: str) -> None:
        self._hub, self._backplane, self.name = hub, backplane, name
        self._since = time.time()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ears: _Ears | None = None

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

    def heard(self, what: str, said: Mapping[str, Any]) -> None:
        if what == END and said["by"] != self.name:
            self._spawn(self._end(said["which"]))

    async def _end(self, which: Mapping[str, str]) -> None:
        try:
            channel, user, address = which.get("channel"), which.get("user"), which.get("address")
            await self._hub.open_streams.end(EndReason.OPERATOR, channel=channel, user=user, address=address)
        except (InvalidEvent, ValueError):
            logger.exception("another node asked for what cannot be done here")


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
