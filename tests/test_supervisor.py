"""The parent of the workers: what it does when there is no use in going on, and when the disk fails it.

Workers are processes that do nothing here. That real ones are replaced, restarted and stopped is seen in
tests/e2e/test_node.py.
"""

import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from granian.constants import Interfaces

from sse_fast._native.node.slots import Worker as Slot
from sse_fast.node import supervisor
from sse_fast.node.supervisor import FAILED_STARTS, Supervisor
from sse_fast.node.workers import UNUSABLE_APP
from sse_fast.transports.kernel import Bounds

PATIENCE = 30.0
FORK = multiprocessing.get_context("fork")
WORKERS = 2
HARMED = "the log file was overwritten while it was served"


def stays() -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


class Worker:
    """As Granian's `WorkerProcess`, without its thread."""

    def __init__(self, live: Callable[[], None]) -> None:
        self.inner = FORK.Process(target=live, daemon=True)
        self.inner.start()
        self.birth = time.monotonic()
        self.interrupt_by_parent = False

    def kill(self) -> None:
        self.inner.kill()


class Parent(Supervisor):
    """A supervisor over such workers, and over a log that somebody harms once `harm_at` workers were started. Of those
    that are started the first `serving` serve; the others do not."""

    def __init__(self, *, live: Callable[[], None] = stays, serving: int = WORKERS, harm_at: int = 1 << 30) -> None:
        self.started: list[Worker] = []
        node = SimpleNamespace(
            slots=SimpleNamespace(was_ready=self._serves, workers=list),
            what_is_wrong=lambda: HARMED if len(self.started) >= harm_at else None,
            log_holder=lambda: 0,
        )
        arguments = {
            "target": "nothing",
            "interface": Interfaces.ASGI,
            "workers": WORKERS,
            "workers_kill_timeout": 3600,
        }
        sockets = SimpleNamespace(forget=lambda pid: None)
        super().__init__(node, 3600, Bounds(1 << 18, 60.0), sockets, front=False, **arguments)  # type: ignore[arg-type]
        self._live, self._serving = live, serving
        self.wrks = [self._start(index) for index in range(WORKERS)]

    def _start(self, index: int) -> Any:
        self.started.append(Worker(self._live))
        return self.started[-1]

    def _serves(self, pid: int) -> bool:
        return pid in [worker.inner.pid for worker in self.started[: self._serving]]

    def served_to_the_end(self) -> bool:
        loop = threading.Thread(target=self._serve_loop, args=(None, None), daemon=True)
        loop.start()
        loop.join(PATIENCE)
        return not loop.is_alive()


@pytest.fixture
def parent() -> Iterator[Callable[..., Parent]]:
    made: list[Parent] = []

    def make(**given: Any) -> Parent:
        made.append(Parent(**given))
        return made[-1]

    yield make
    for one in made:
        one.interrupt_signal = True
        one.main_loop_interrupt.set()
        for worker in one.started:
            worker.kill()
            worker.inner.join()


@pytest.mark.parametrize("serving", [WORKERS, WORKERS + 1], ids=["a new worker", "an old worker's end"])
def test_a_log_that_is_harmed_ends_the_server_whatever_a_rolling_restart_waits_for(
    parent: Callable[..., Parent], serving: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = parent(serving=serving, harm_at=WORKERS + 1)
    one.signal_handler_reload()
    assert one.served_to_the_end()
    assert caplog.text.count(HARMED) == 1
    assert "the old ones stay" not in caplog.text
    assert one.interrupt_children, "which makes the status 1"
    assert sorted(worker.inner.pid for worker in one.wrks) == sorted(worker.inner.pid for worker in one.started)
    assert len(one.started) == WORKERS + 1


def test_who_gives_up_starts_no_worker_any_more(
    parent: Callable[..., Parent], caplog: pytest.LogCaptureFixture
) -> None:
    one = parent(live=lambda: os._exit(1), serving=0)
    for _ in range(3 * FAILED_STARTS):
        for worker in one.wrks:
            worker.inner.join(PATIENCE)
        one._replace_the_dead()
    assert one.given_up
    assert one.interrupt_children
    assert len(one.started) <= WORKERS * FAILED_STARTS
    assert caplog.text.count("giving up") == 1


def test_an_app_that_cannot_be_had_is_not_tried_again(
    parent: Callable[..., Parent], caplog: pytest.LogCaptureFixture
) -> None:
    one = parent(live=lambda: os._exit(UNUSABLE_APP), serving=0)
    for worker in one.wrks:
        worker.inner.join(PATIENCE)
    one._replace_the_dead()
    assert one.given_up
    assert len(one.started) == WORKERS
    assert "the app cannot be served" in caplog.text


def test_a_disk_that_fails_ends_neither_the_server_nor_its_watch_over_hung_workers(
    parent: Callable[..., Parent], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "LOOK", 0.01)

    def unreadable() -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    one = parent()
    hung = one.wrks[0].inner
    one._slots = SimpleNamespace(  # type: ignore[assignment]
        was_ready=one._serves, workers=lambda: [SimpleNamespace(pid=hung.pid, silent=3601.0, waited=None)]
    )
    one._node.what_is_wrong = one._node.log_holder = unreadable  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        watch = threading.Thread(target=one._watch_heartbeats)
        watch.start()
        hung.join(PATIENCE)
        assert hung.exitcode == -signal.SIGKILL
        assert one._replace_the_dead()
        one._over.set()
        watch.join(PATIENCE)
    assert caplog.text.count("Input/output error") == 1
    assert len(one.started) == WORKERS + 1


def test_a_worker_that_says_that_it_waits_is_not_taken_for_hung_until_it_says_so_no_more(
    parent: Callable[..., Parent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "READY_WITHIN", 60.0)
    one = parent(serving=0)
    waiting, other = (worker.inner.pid for worker in one.wrks)
    now = time.monotonic() + 3600  # both were born so long ago
    said = [Slot(0, waiting, 0, 3600.0, None, 1.0), Slot(1, other, 0, 3600.0, None)]
    one._slots = SimpleNamespace(workers=lambda: said)  # type: ignore[assignment]
    assert [pid for _, pid in one._silent(now)] == [other]
    said[0] = Slot(0, waiting, 0, 3600.0, None, 61.0)
    assert {pid for _, pid in one._silent(now)} == {waiting, other}
