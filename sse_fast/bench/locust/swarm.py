"""A user of locust that is many native streams, and publishes events for them."""

import itertools
import random
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import User
from locust.env import Environment
from locust.runners import WorkerRunner

from sse_fast.bench.locust.streams import LOOK, Streams
from sse_fast.bench.locust.tasks import tasks_or_stay
from sse_fast.bench.plan import Target


class SwarmUser(User):
    """`connections` native streams, and events published for them at `rate`.

    If `subscribe` contains {user}, every user has channels of its own and publishes to them. If not, all users of all
    locust workers listen to the same ones, and one publisher for all runs in the first worker that has such a user.

    Reported: "connect", "reconnect", "event" (latency from when the event was due, so it counts the time that a stream
    was away; after `cut`, a stream with a channel of its own has no times until it is complete), "other event" (nothing
    this test has published), "publish" (to its answer), "back" (from `come_back` to the response head); and as failures
    what is wrong, by the names of sse_fast.bench: "lost", "duplicate", "out_of_order", "torn"...
    """

    abstract = True

    connections = 1000
    subscribe = "/sse/load"
    """Below the host. It may contain {user}, unique over all workers, and {channel}, the number of a channel."""
    publish: str | None = "/publish/load"
    """Likewise, or a whole URL. None: somebody else publishes."""
    method = "POST"
    body = "{data}"
    """What is published: {data} is the payload as it stands, {json} as a JSON string."""
    content_type = "text/plain"
    headers: ClassVar[Mapping[str, str]] = {}
    publish_headers: ClassVar[Mapping[str, str]] = {}
    channels = 1
    rate = 10.0
    """Events per second over all channels of the user, or, if the channels are shared, of the whole test."""
    events = 0
    """Publish so many and no more; 0: as long as the test runs."""
    size = 64
    """Bytes of a payload, at least 59."""
    connect_rate = 0.0
    """Streams to open per second; 0: as fast as the server takes them, `connecting` at a time."""
    connecting = 256
    patience = 30.0
    """Seconds for a response head."""
    settle = 1.0
    """Seconds between the last response head and the first event."""
    reconnect = 1.0
    """Seconds until a stream comes back that the server has ended; negative: its end is a failure."""

    _numbers: ClassVar["itertools.count[int]"] = itertools.count()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.number = f"{worker_index(environment)}-{next(self._numbers)}"
        self._streams: Streams | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        cls.tasks = tasks_or_stay(cls)

    @property
    def streams(self) -> Streams:
        assert self._streams is not None, "the user has not started"
        return self._streams

    def on_start(self) -> None:
        """Open the streams, wait until all are open or have failed, and begin to publish."""
        own = "{user}" in self.subscribe
        target = self.target()
        self._streams = self._native(
            target, self.connections, run=random.getrandbits(32) if own else shared_run(target), listens=not own
        )
        self._streams.open(self.connect_rate)
        self._streams.wait_until_open()
        gevent.sleep(self.settle)
        if target.publish is None:
            return
        if own:
            self._streams.publish(self.rate, self.events)
        elif worker_index(self.environment) == 0:
            self._publish_for_all(target)

    def on_stop(self) -> None:
        if self._streams is not None:
            self._streams.close()

    def cut(self) -> None:
        """Cut all streams with a reset. They are away until `come_back`."""
        self.streams.cut()

    def come_back(self) -> None:
        """All that were cut come back with their Last-Event-ID; returns when they are there, or after `patience`."""
        self.streams.come_back(self.connect_rate)
        with gevent.Timeout(self.patience, False):
            self.streams.wait_until_open()

    def target(self) -> Target:
        """The server as the native side takes it."""
        host = (self.host or "").rstrip("/")

        def url(path: str) -> str:
            path = path.replace("{user}", self.number)
            return path if "://" in path else host + path

        return Target(
            url(self.subscribe),
            url(self.publish) if self.publish is not None else None,
            tuple(self.headers.items()),
            self.method,
            self.body.replace("{user}", self.number),
            self.content_type,
            tuple(self.publish_headers.items()),
        )

    def _native(self, target: Target, connections: int, *, run: int, listens: bool) -> Streams:
        return Streams(
            self.environment.stats,
            target,
            connections,
            channels=self.channels,
            run=run,
            listens=listens,
            payload_bytes=self.size,
            at_once=self.connecting,
            patience=self.patience,
            reconnect=self.reconnect,
        )

    def _publish_for_all(self, target: Target) -> None:
        """One publisher for the whole test, whichever of its users stay: numbers go on, so a loss can be seen."""
        environment, key = self.environment, (self.environment, target)
        if key in PUBLISHERS:
            return
        PUBLISHERS.add(key)  # before anything gives way to another user
        publisher = self._native(target, 0, run=shared_run(target), listens=True)
        publisher.publish(self.rate, self.events)

        def stop(**_: Any) -> None:
            environment.events.test_stopping.remove_listener(stop)
            PUBLISHERS.remove(key)
            publisher.close()
            gevent.sleep(LOOK)  # what is out arrives before the streams close

        environment.events.test_stopping.add_listener(stop)


PUBLISHERS: set[tuple[Environment, Target]] = set()


def worker_index(environment: Environment) -> int:
    return environment.runner.worker_index if isinstance(environment.runner, WorkerRunner) else 0


def shared_run(target: Target) -> int:
    """What marks the payloads of a test in which all listen to the same channels. Payloads carry the sender's monotonic
    clock, which means nothing on another machine: there they have another mark, and count as other events."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return zlib.crc32((boot + target.subscribe).encode())
