"""Users for locust (https://locust.io) that load-test any SSE server. All they report has the request type "SSE".

`SSEUser` is one EventSource in Python, for tests that look into events. `SwarmUser` is as many streams as you like on
one native thread, which holds every stream to what it must receive; the law of what is right is src_ext/swarm.pyx. Both
come back with their Last-Event-ID when the server ends a stream.

What is never done: to call a time between two events a latency, and to keep gevent's hub waiting. The native thread
runs without the GIL; what it counts is read twice a second and added to locust's statistics in bulk.
"""

import itertools
import logging
import mmap
import os
import random
import time
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from ssl import SSLContext
from typing import Any, ClassVar, TypeVar

import gevent
import httpx
import orjson
from gevent.lock import RLock
from gevent.threadpool import ThreadPool
from locust import HttpUser, User
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import RequestStats, StatsEntry, StatsError

from sse_fast._native.bench.board import Board, bucket_value
from sse_fast._native.bench.dial import Dialer, Request
from sse_fast._native.bench.swarm import Swarm
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench.plan import Target, resolve
from sse_fast.bench.results import MEANINGS, Counts, difference
from sse_fast.client.listener import LONGEST_RETRY, Refused, Stopped, Unavailable, explain, open_stream
from sse_fast.errors import EventTooLarge

__all__ = ["SSEUser", "SwarmUser"]

REQUEST_TYPE = "SSE"
GAP = "$gap"
SILENT = ("$connected", "$closing")  # what the edge says of itself: neither event nor failure
LOOK = 0.05  # seconds between two looks at what a native thread counts, where somebody waits for it

T = TypeVar("T")

logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log a line for every connection


# ---- one stream in Python --------------------------------------------------------------------------------------------


class SSEUser(HttpUser):
    """One event stream. It is read beside the user's tasks, so these are free to do what else a client does, as to
    publish with `self.client`; without tasks the user only listens.

    Reported: "connect" and "reconnect" (to the response head), "event" (its latency where `sent_at` knows when it was
    sent, else without a time), "$gap" (a failure: the server says that events are gone).
    """

    abstract = True

    path = "/sse/load"
    """Where the stream is, below the host. It may contain {user}, the user's number in this process."""
    headers: ClassVar[Mapping[str, str]] = {}
    retry = 3.0
    """Seconds before it comes back, until the server says otherwise."""
    silence = 45.0
    """Seconds without a byte after which a stream is given up; also for the response head."""

    _numbers: ClassVar["itertools.count[int]"] = itertools.count()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)  # type: ignore[no-untyped-call]
        self.number = next(self._numbers)
        self.last_event_id = ""
        self._listening: gevent.Greenlet[..., None] | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        cls.tasks = tasks_or_stay(cls)

    def on_event(self, event: ReceivedEvent) -> None:
        """Called with every event: `event.event` is its type, `event.data`, `event.id`."""

    def sent_at(self, event: ReceivedEvent) -> float | None:
        """When the event was sent, as time.time() on the sender's clock; None: nobody knows. As it stands: the number
        `sent_at` of a JSON object."""
        if '"sent_at"' not in event.data:
            return None
        try:
            sent = orjson.loads(event.data)["sent_at"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return None
        return sent if isinstance(sent, int | float) else None

    def on_start(self) -> None:
        self._listening = gevent.spawn(self._listen)

    def on_stop(self) -> None:
        if self._listening is not None:
            self._listening.kill()

    def _listen(self) -> None:
        name, retry = "connect", self.retry
        url = (self.host or "").rstrip("/") + self.path.replace("{user}", str(self.number))
        # Forbidding compression: what compresses also buffers.
        timeout = httpx.Timeout(self.silence)
        with httpx.Client(headers={"Accept-Encoding": "identity"}, timeout=timeout, verify=tls()) as client:
            while True:
                began, opened = time.perf_counter(), False
                headers = {name.encode(): value.encode() for name, value in self.headers.items()}
                if self.last_event_id:
                    headers[b"Last-Event-ID"] = self.last_event_id.encode()
                try:
                    with open_stream(client, url, headers=headers) as response:
                        self._report(name, (time.perf_counter() - began) * 1000)
                        name, opened = "reconnect", True
                        parser = EventParser(last_event_id=self.last_event_id)
                        for piece in response.iter_bytes():
                            for event in parser.feed(piece):
                                self._take(event)
                            self.last_event_id = parser.last_event_id
                            retry = retry if parser.retry is None else min(parser.retry / 1000, LONGEST_RETRY)
                except (httpx.TransportError, Refused, Unavailable, Stopped, EventTooLarge) as error:
                    if not opened or isinstance(error, EventTooLarge):
                        self._report(name, (time.perf_counter() - began) * 1000, failure=in_words(error, client))
                    if isinstance(error, Stopped):
                        return
                gevent.sleep(retry)

    def _take(self, event: ReceivedEvent) -> None:
        now = time.time()
        self.last_event_id = event.id
        if event.event == GAP:
            self._report(GAP, None, failure=f"events are gone: {event.data[:200]}")
        elif event.event not in SILENT:
            sent = self.sent_at(event)
            self._report("event", None if sent is None else (now - sent) * 1000, len(event.data))
        try:
            self.on_event(event)
        except Exception as error:  # the test's own code: locust counts it, the stream goes on
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)

    def _report(self, name: str, milliseconds: float | None, length: int = 0, *, failure: str | None = None) -> None:
        self.environment.events.request.fire(
            request_type=REQUEST_TYPE,
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=ConnectionError(failure) if failure else None,
            context=self.context(),
        )


def stay(user: User) -> None:
    """The task of a user without any: its streams go on by themselves."""
    gevent.sleep(1)


def tasks_or_stay(user: type[User]) -> list[Any]:
    """The tasks of a class; it inherits `stay` from one that had none."""
    return [task for task in user.tasks if task is not stay] or [stay]


@cache
def tls() -> SSLContext:
    """One for all users: to load the certificates takes longer than all else that a user does."""
    return httpx.create_ssl_context()


def in_words(error: Exception, client: httpx.Client) -> str:
    return explain(error, client) if isinstance(error, httpx.TransportError) else str(error) or "204: do not come back"


# ---- many streams on a native thread ---------------------------------------------------------------------------------


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
    def streams(self) -> "Streams":
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

    def _native(self, target: Target, connections: int, *, run: int, listens: bool) -> "Streams":
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


class Streams:
    """Native streams and publishers on a thread of their own, and their statistics.

    The thread is in `Swarm.loop` all the time. For an order it is called out of it by a descriptor, and sent back in
    when the order is done; so an order never meets the loop, and needs no lock but the one against other greenlets.
    """

    PUBLISHERS = 16
    REPORT = 0.5  # seconds between two reports

    def __init__(
        self,
        stats: RequestStats,
        target: Target,
        connections: int,
        *,
        channels: int,
        run: int,
        listens: bool,
        payload_bytes: int,
        at_once: int,
        patience: float,
        reconnect: float,
    ) -> None:
        target.check(channels)
        raise_descriptor_limit()
        self.connections = connections
        self._ledger = Ledger(stats, connections)
        self._board = Board(mmap.mmap(-1, Board.size(1, channels, self.PUBLISHERS)), 1, channels, self.PUBLISHERS)
        self._call = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        publish = target.publish_request()
        self._swarm: Swarm | None = Swarm(
            self._board,
            0,
            dialer(target.subscribe),
            Request(target.subscribe_request()),
            Request(*publish) if publish else None,
            publish_to=dialer(target.publish) if target.publish else None,
            run=run,
            payload_bytes=payload_bytes,
            capacity=connections + 1,
            at_once=at_once,
            patience=patience,
            reconnect=reconnect,
            listens=listens,
            control=self._call,
        )
        self._orders = RLock()
        self._thread = ThreadPool(1)
        self._looping = self._thread.spawn(self._swarm.loop)
        self._reporting = gevent.spawn(self._report)

    def open(self, rate: float) -> None:
        self._order(lambda swarm: swarm.open(self.connections, rate=rate))

    def publish(self, rate: float, events: int = 0) -> None:
        self._order(lambda swarm: swarm.publishing.open(rate, events))

    def cut(self) -> None:
        self._order(lambda swarm: swarm.cut())

    def come_back(self, rate: float) -> None:
        self._board.aim()
        self._order(lambda swarm: swarm.come_back(rate))

    def counters(self) -> dict[str, int]:
        """What the native side has counted; the names are in src_ext/board.pyx."""
        return self._board.counters()

    def wait_until_open(self) -> None:
        """Until no stream is on its way: each is open, or has failed for good."""
        while self.counters()["unfinished"]:
            gevent.sleep(LOOK)

    def close(self) -> None:
        """Report what has not been, and close everything."""
        if self._swarm is None:
            return
        self._reporting.kill()
        self._order(self._end, last=True)
        os.close(self._call)

    def _end(self, swarm: Swarm) -> None:
        self._ledger.take(self._board)
        swarm.close()

    def _order(self, do: Callable[[Swarm], T], *, last: bool = False) -> T:
        with self._orders:
            swarm = self._swarm
            assert swarm is not None, "the streams are closed"
            os.eventfd_write(self._call, 1)
            self._looping.get()
            os.eventfd_read(self._call)
            try:
                return do(swarm)
            finally:
                if last:
                    self._swarm = None
                    self._thread.kill()
                else:
                    self._looping = self._thread.spawn(swarm.loop)

    def _report(self) -> None:
        while True:
            gevent.sleep(self.REPORT)
            self._ledger.take(self._board)


_dialers = itertools.count(os.getpid())


def dialer(url: str) -> Dialer:
    """Each with loopback source addresses of its own, as far as they go."""
    address = resolve(url)
    return Dialer(address.family, address.ip, address.port, next(_dialers) % 15)


# ---- from what is counted to locust's statistics ---------------------------------------------------------------------

CONNECTING = ("refused", "unreachable", "timed_out", "redirect", "no_content", "status", "not_event_stream", "bad_head")
PUBLISHING = ("publish_refused", "publish_failed", "publish_unsent")
NAMES = dict.fromkeys(CONNECTING, "connect") | dict.fromkeys(PUBLISHING, "publish")  # other faults: their own


class Ledger:
    """What of a board is in locust's statistics already.

    Locust takes one request at a time, some 10 µs each. A report makes one StatsEntry of all that is new under a name
    and adds that, as a locust master does with what its workers send; the `request` event is not fired.
    """

    def __init__(self, stats: RequestStats, connections: int) -> None:
        self._stats = stats
        self._connections = connections  # so many streams opened are new ones, the others have come back
        self._taken: dict[str, int] = {}
        self._times: dict[str, Counts] = {}

    def take(self, board: Board) -> None:
        """Add what is new. The native thread goes on counting meanwhile, so of two numbers that are subtracted the
        greater is read first: what is missed now is found next time, and nothing is counted twice."""
        events = board.counters()["events"]
        counters = board.counters()
        latency, answers, heads, back = (
            self._new_times(board, timing) for timing in ("latency", "answer", "first_byte", "back")
        )
        opened = sum(self._times["first_byte"].values())
        connects, reconnects = split(heads, self._connections - (opened - sum(heads.values())))
        timed = sum(self._times["latency"].values())
        self._add("connect", connects)
        self._add("reconnect", reconnects)
        self._add(
            "event",
            latency,
            self._new("untimed", counters["deliveries"] - timed),
            self._new("bytes", counters["bytes"]),
        )
        self._add("other event", {}, self._new("other", events - counters["deliveries"]))
        self._add("publish", answers)
        self._add("back", back)
        self._fail("reconnect", "an attempt to come back failed", self._new("tried_again", counters["tried_again"]))
        for kind, (count, example) in board.faults().items():
            words = MEANINGS[kind] + (f": {example}" if kind in NAMES and example else "")
            self._fail(NAMES.get(kind, kind), words, self._new(kind, count))

    def _new(self, name: str, count: int) -> int:
        """How much a count has grown."""
        new = max(0, count - self._taken.get(name, 0))
        self._taken[name] = self._taken.get(name, 0) + new
        return new

    def _new_times(self, board: Board, timing: str) -> dict[int, int]:
        now = board.histogram(timing)
        new = difference(now, self._times.get(timing, {}))
        self._times[timing] = now
        return new

    def _add(self, name: str, times: Counts, untimed: int = 0, length: int = 0) -> None:
        news = StatsEntry(self._stats, name, REQUEST_TYPE)
        for place, count in times.items():
            news.extend(many(self._stats, name, bucket_value(place) / 1000, count))
        if untimed:
            news.extend(many(self._stats, name, None, untimed))
        news.total_content_length = length
        self._extend(news)

    def _fail(self, name: str, words: str, count: int) -> None:
        if count <= 0:
            return
        news = many(self._stats, name, None, count)
        news.num_failures = count
        news.num_fail_per_sec[int(time.time())] = count
        self._extend(news)
        error = self._stats.errors.setdefault(
            StatsError.create_key(REQUEST_TYPE, name, words), StatsError(REQUEST_TYPE, name, words)
        )
        error.occurrences += count

    def _extend(self, news: StatsEntry) -> None:
        if news.num_requests:
            self._stats.total.extend(news)
            self._stats.entries[news.name, REQUEST_TYPE].extend(news)


def many(stats: RequestStats, name: str, milliseconds: float | None, count: int) -> StatsEntry:
    """So many requests of one length: locust logs the first, which says where all are counted."""
    entry = StatsEntry(stats, name, REQUEST_TYPE)
    entry.log(milliseconds, 0)  # type: ignore[arg-type]
    entry.num_requests = count
    entry.num_none_requests *= count
    entry.total_response_time *= count
    entry.num_reqs_per_sec = dict.fromkeys(entry.num_reqs_per_sec, count)
    entry.response_times = dict.fromkeys(entry.response_times, count)
    return entry


def split(times: Counts, first: int) -> tuple[dict[int, int], dict[int, int]]:
    """So many of the times, and the rest. Which are whose is not known, within one report."""
    head: dict[int, int] = {}
    for place, count in times.items():
        if first > 0:
            head[place] = min(first, count)
            first -= head[place]
    return head, difference(times, head)
