"""The native streams and publishers of one user, on a thread beside gevent's."""

import itertools
import mmap
import os
from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.lock import RLock
from gevent.threadpool import ThreadPool
from locust.stats import RequestStats

from sse_fast._native.bench.board import Board
from sse_fast._native.bench.dial import Dialer, Request
from sse_fast._native.bench.swarm import Swarm
from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench.locust.ledger import Ledger
from sse_fast.bench.plan import Target, address_of

LOOK = 0.05  # seconds between two looks at what a native thread counts, where a greenlet waits for it

T = TypeVar("T")


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
        """What the native side has counted; the names are in src_ext/bench/board.pyx."""
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
    address = address_of(url)
    return Dialer(address.family, address.ip, address.port, next(_dialers) % 15)
