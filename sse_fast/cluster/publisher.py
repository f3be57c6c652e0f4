"""Publishing to a fleet without a server of one's own: from jobs, cron, another app."""

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sse_fast._native.wire.publication import encode_publication
from sse_fast.cluster.address import Address, Host
from sse_fast.cluster.functions import Log, Opened
from sse_fast.cluster.requests import SHARE, Published, answers_of, arguments_of, request
from sse_fast.cluster.trouble import MOVED, trouble_of
from sse_fast.errors import BatchTooLarge, EngineRefused, EngineTrouble, EngineUnavailable, InvalidEvent, KeyReused
from sse_fast.event import EventId
from sse_fast.event_rules import FIELDS, Encoded, brief

if TYPE_CHECKING:
    from sse_fast.cluster.blocking import Line

TRY_AGAIN = 0.1  # seconds, until an engine that is away is asked again
HOPS = 5


class _Events:
    """The part that needs no engine."""

    def __init__(self, max_event_size: int, patience: float) -> None:
        self.max_event_size = max_event_size
        self.patience = patience

    def _one(self, channel: str | Sequence[str], data: Any, **fields: Any) -> Encoded:
        return encode_publication(channel, data, **fields, limit=self.max_event_size)

    def _many(self, events: Iterable[Mapping[str, Any]], key: str | None) -> tuple[list[Encoded], Any]:
        """Raises InvalidEvent, which says of which event."""
        encoded: list[Encoded] = []
        keys: dict[int, str] = {}
        for place, each in enumerate(events):
            try:
                if unknown := sorted(map(str, each.keys() - FIELDS)):
                    raise InvalidEvent(f"there is no field {brief(unknown[0])}; there are {', '.join(sorted(FIELDS))}")
                channel = each.get("channel", each.get("channels"))
                if channel is None or {"channel", "channels"} <= each.keys() or "data" not in each:
                    raise InvalidEvent("it has 'data', and 'channel' or 'channels'")
                fields = {name: each.get(name) for name in ("event", "retry", "conflate_key", "id")}
                encoded.append(self._one(channel, each["data"], **fields, private=bool(each.get("private"))))
                if each.get("key") is not None:
                    keys[place] = each["key"]
            except InvalidEvent as error:
                raise type(error)(f"event {place} of the batch: {error}") from None
        if keys and key is not None:
            raise InvalidEvent("the batch has a key, and events of it have keys, too: one or the other")
        return encoded, key if key is not None else keys or None

    def _goes_on(self, error: EngineUnavailable, events: list[Encoded], keys: Any, until: float) -> bool:
        """Whether to try again is right, and in time."""
        if isinstance(error, EngineRefused) or time.monotonic() + TRY_AGAIN >= until:
            return False
        keyed = isinstance(keys, str) or (keys is not None and len(keys) == len(events))
        return keyed or not error.maybe


class Publisher(_Events):
    """Publishes to the fleet whose engine is at `url`, without a server: from a job, a script, a view that blocks.

        publisher = Publisher("redis://10.0.0.5")
        publisher.publish("orders:7", {"state": "paid"}, key="order-7-paid")

    prefix: the nodes' own. replicas: that must have an event within `replica_timeout` seconds before it counts as
    published. timeout: seconds that an answer may take. patience: seconds for which an engine that is away, or has
    another primary in a moment, is asked again, while that can publish nothing twice: it surely was not published, or
    has a key. max_event_size: bytes.

    It connects when it publishes first, and again when it has to. Threads may share one; so may processes that were
    forked: each connects by itself. Raises ValueError for a URL that is none, ModuleNotFoundError without the extra
    `redis`.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "sse_fast",
        replicas: int = 0,
        replica_timeout: float = 1.0,
        timeout: float = 2.0,
        patience: float = 5.0,
        max_event_size: int = 64 * 1024,
    ) -> None:
        from sse_fast.cluster.blocking import line_to_primary  # what it loads is for those who use it

        super().__init__(max_event_size, patience)
        self._line_to_primary = line_to_primary
        self._address = Address.parse(url)
        self._log = Log(prefix, self._explain)
        self._replicas, self._replica_timeout = replicas, replica_timeout
        self._timeout = timeout + (replica_timeout if replicas else 0)
        self._moved: Host | None = None
        self._line: Line | None = None
        self._opened: Opened
        self._lock = threading.Lock()
        self._process = os.getpid()

    def publish(
        self,
        channel: str | Sequence[str],
        data: Any,
        *,
        event: str | None = None,
        retry: int | None = None,
        key: str | None = None,
        conflate_key: str | None = None,
        id: str | None = None,
        private: bool = False,
    ) -> EventId:
        """Publish one event, as `Hub.publish` does; its id. Raises InvalidEvent, KeyReused or EngineUnavailable, whose
        `maybe` says whether it may have been published."""
        fields = {"event": event, "retry": retry, "conflate_key": conflate_key, "id": id, "private": private}
        return self._publish([self._one(channel, data, **fields)], key).ids[0]

    def publish_many(self, events: Iterable[Mapping[str, Any]], *, key: str | None = None) -> Sequence[EventId]:
        """Publish events, all or none, in their order: `{"channel": "a", "data": 1}`, with `event`, `retry`, `key`,
        `conflate_key`, `id` and `private` where they have some. `key`: of them all. Raises as `publish`, and
        BatchTooLarge."""
        return self._publish(*self._many(events, key)).ids

    def close(self) -> None:
        with self._mine():
            if self._line is not None:
                self._line.close()
                self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _mine(self) -> threading.Lock:
        if self._process != os.getpid():  # forked, perhaps while another thread had the lock
            self._process, self._lock = os.getpid(), threading.Lock()
            if self._line is not None:
                self._line.close()
                self._line = None
        return self._lock

    def _publish(self, events: list[Encoded], keys: Any) -> Published:
        if not events:
            return Published([], 0)
        asked = request(events, keys)
        until = time.monotonic() + self.patience
        while True:
            try:
                with self._mine():
                    line = self._connected()
                    if asked.size > self._opened.max_bytes // SHARE:
                        raise BatchTooLarge(
                            f"the batch has {asked.size} bytes, of {self._opened.max_bytes} that are kept"
                        )
                    if keys and not self._opened.window:
                        raise InvalidEvent("no idempotency keys are remembered there; leave the key out")
                    try:
                        reply = line.hold(self._log.loaded(self._log.call("publish", *arguments_of([asked]))))
                        if self._replicas:
                            waited = line.ask(self._log.wait(self._replicas, self._replica_timeout))
                            self._log.check_replicas(waited, self._replicas, self._replica_timeout)
                    except EngineUnavailable:
                        line.close()
                        self._line = None
                        raise
            except EngineUnavailable as error:
                if not self._goes_on(error, events, keys, until):
                    raise
                time.sleep(TRY_AGAIN)
                continue
            (answer,) = answers_of([asked], reply)
            if isinstance(answer, KeyReused):
                raise answer
            return answer

    def _connected(self) -> "Line":
        if self._line is not None:
            if self._line.usable:
                return self._line
            self._line.close()
            self._line = None
        for _ in range(HOPS):
            moved = self._moved
            try:
                line = self._line_to_primary(self._address, moved, self._timeout)
            except EngineUnavailable:
                self._moved = None
                raise
            try:
                self._opened = line.hold(self._log.open(None))
            except EngineUnavailable as error:
                line.close()
                if self._moved in (moved, None):
                    self._moved = None
                    raise error.again(maybe=False) from None
            else:
                self._line = line
                return line
        raise EngineUnavailable(f"the log of {self._address} is not found", EngineTrouble.LOADING)

    def _explain(self, error: Exception) -> EngineUnavailable:
        if self._address.kind == "cluster" and (found := MOVED.match(str(error))):
            self._moved = found[1] or self._address.hosts[0][0], int(found[2])
            return EngineUnavailable(f"the log of {self._address} has moved", EngineTrouble.LOADING)
        return trouble_of(error, self._address, f"{self._log.prefix}:*")


class AsyncPublisher(_Events):
    """`Publisher` for an event loop; what many tasks publish meanwhile goes together. It lives on the loop where it is
    used first; `async with` or `close` ends it."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "sse_fast",
        replicas: int = 0,
        replica_timeout: float = 1.0,
        timeout: float = 2.0,
        patience: float = 5.0,
        max_event_size: int = 64 * 1024,
    ) -> None:
        from sse_fast.cluster.engine import Engine  # what it loads is for those who use it

        super().__init__(max_event_size, patience)
        self._engine = Engine.from_url(
            url, prefix=prefix, replicas=replicas, replica_timeout=replica_timeout, timeout=timeout
        )

    async def publish(
        self,
        channel: str | Sequence[str],
        data: Any,
        *,
        event: str | None = None,
        retry: int | None = None,
        key: str | None = None,
        conflate_key: str | None = None,
        id: str | None = None,
        private: bool = False,
    ) -> EventId:
        """As `Publisher.publish`."""
        fields = {"event": event, "retry": retry, "conflate_key": conflate_key, "id": id, "private": private}
        return (await self._publish([self._one(channel, data, **fields)], key)).ids[0]

    async def publish_many(self, events: Iterable[Mapping[str, Any]], *, key: str | None = None) -> Sequence[EventId]:
        """As `Publisher.publish_many`."""
        return (await self._publish(*self._many(events, key))).ids

    async def _publish(self, events: list[Encoded], keys: Any) -> Published:
        until = time.monotonic() + self.patience
        while True:
            try:
                return await self._engine.publish(events, keys)
            except EngineUnavailable as error:
                if not self._goes_on(error, events, keys, until):
                    raise
            await asyncio.sleep(TRY_AGAIN)

    async def close(self) -> None:
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
