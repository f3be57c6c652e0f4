"""The parent of the workers: it starts them, replaces those that die or hang, and restarts them one after the other.

Granian does the starting. Its rules for what comes after are replaced here: it would give the server up when the same
worker dies twice within seconds, even if an operator killed it, and would restart workers without looking whether they
serve.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from granian._granian import SocketHolder
from granian.server.mp import MPServer, WorkerProcess

from sse_fast.node.sockets import SocketDirectory
from sse_fast.node.workers import LEAVE, UNUSABLE_APP, Node
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.kernel import Bounds, bound_socket

log = logging.getLogger("sse_fast.node")
Told = TypeVar("Told")

READY_WITHIN = 60.0  # seconds a new worker has until it serves, or says that it waits for something else
FAILED_STARTS = 3  # in a row, of one worker, until the server gives up
GLANCE = 0.02  # seconds between looks at processes
TELL_AGAIN = 0.5
LOOK = 1.0  # seconds between looks at heartbeats
LOCKS_OUT = 2.0  # seconds of silence granted to a worker that holds the log's lock: no other can publish meanwhile


class Supervisor(MPServer):
    """Granian over the workers of a node. `sockets`: where they listen for each other. `front`: each has one, and
    Granian listens behind it, in there, too. False: Granian is what clients connect to."""

    def __init__(
        self,
        node: Node,
        hung_worker_timeout: float,
        bounds: Bounds,
        sockets: SocketDirectory,
        *,
        front: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._node = node
        self._slots = node.slots
        self._hung_worker_timeout = hung_worker_timeout
        self._bounds = bounds
        self._sockets = sockets
        self._front = front
        self._newcomers: list[WorkerProcess] = []
        self._leaving: list[WorkerProcess] = []
        self._failed_starts: Counter[int] = Counter()
        self._over = threading.Event()
        self._log_unreadable = False
        self.given_up = False  # there is no use in new workers: those that are there leave, and the status is 1

    # ---- Granian's seams ---------------------------------------------------------------------------------------------

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> WorkerProcess:  # type: ignore[override]
        address = None if self.bind_uds is not None else (self.bind_addr, self.bind_port)
        if self._front:
            target = partial(_behind_a_front, target, address, self._bounds, self._sockets.path, self.backlog)
        elif address is not None:
            target = partial(_on_bounded_socket, target, address, self._bounds, self.backlog)
        worker: WorkerProcess = super()._spawn_worker(idx, target, callback_loader)
        return worker

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        # Ctrl-C reaches the workers too: those that leave before they are told to have not failed.
        for worker in (*self.wrks, *self._newcomers):
            worker.interrupt_by_parent = True
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()  # type: ignore[no-untyped-call]
        if self._sso is not None:  # a Unix socket: from here on others find that it is in use
            self._sso.listen(self.backlog)

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        self._loading = (spawn_target, target_loader)
        threading.Thread(target=self._watch_heartbeats, name="heartbeats", daemon=True).start()
        try:
            while not self._stops:
                self.main_loop_interrupt.wait()
                self.main_loop_interrupt.clear()
                self._replace_the_dead()
                if self.reload_signal and not self._stops:
                    self.reload_signal = False
                    self._restart_one_by_one()
        finally:
            self._over.set()

    def _stop_workers(self) -> None:
        # Two threads of Granian's wait for the same process. The one that stops it may lose the race for the exit
        # status, and would then say that it had to kill a worker which has ended well; so it comes when that is known.
        self._tell_to_leave(self.wrks, meanwhile=lambda: True)
        self.workers_kill_timeout = 1  # for workers that have not gone by now
        super()._stop_workers()  # type: ignore[no-untyped-call]

    # ---- workers that died -------------------------------------------------------------------------------------------

    @property
    def _stops(self) -> bool:
        return self.interrupt_signal or self.given_up

    def _replace_the_dead(self) -> bool:
        """Start a new worker for each that died by itself. False: there is no use in it, or in whatever goes on."""
        if self.given_up:
            return False
        self.interrupt_children.clear()  # that a worker died is told there, and which one is seen here
        if not self.interrupt_signal and (wrong := self._asked(self._node.what_is_wrong, None)) is not None:
            return self._give_up(f"{wrong}. The server ends; the next one looks what is left of it")
        for index, dead in enumerate(self.wrks):
            if self.interrupt_signal or dead.inner.is_alive():
                continue
            self._sockets.forget(dead.inner.pid)
            # One that is killed before it serves has not failed either: somebody wanted that.
            if self._slots.was_ready(dead.inner.pid) or dead.inner.exitcode == -signal.SIGKILL:
                self._failed_starts[index] = 0
            else:
                self._failed_starts[index] += 1
                if dead.inner.exitcode == UNUSABLE_APP and not self._anybody_serves():
                    return self._give_up("the app cannot be served, as said above; giving up")
                if self._failed_starts[index] >= FAILED_STARTS:
                    return self._give_up(
                        f"worker {index + 1} died {FAILED_STARTS} times before it could serve; giving up"
                    )
            self.wrks[index] = self._start(index)
        return True

    def _anybody_serves(self) -> bool:
        return any(self._slots.was_ready(worker.inner.pid) for worker in self.wrks)

    def _give_up(self, why: str) -> bool:
        log.error(why)
        self.given_up = True
        self.interrupt_children.append(0)  # what makes Granian leave with status 1
        return False

    def _asked(self, ask: Callable[[], Told], unknown: Told) -> Told:
        """What the log's file tells; `unknown` where it cannot be read, which may pass. That is said once."""
        try:
            return ask()
        except OSError as error:
            if not self._log_unreadable:
                self._log_unreadable = True
                log.error(f"the log file cannot be looked at ({error}); the server goes on, look after its disk")
            return unknown

    def _start(self, index: int) -> WorkerProcess:
        spawn_target, target_loader = self._loading
        worker = self._spawn_worker(idx=index, target=spawn_target, callback_loader=target_loader)
        worker.start()  # type: ignore[no-untyped-call]
        return worker

    # ---- a rolling restart -------------------------------------------------------------------------------------------

    def _restart_one_by_one(self) -> None:
        """On SIGHUP: for each worker start a new one, and when that serves, let the old one drain."""
        log.info("restarting the workers one by one")
        for index in range(self.workers):
            if self._stops or (newcomer := self._newcomer(index)) is None:
                return
            old, self.wrks[index] = self.wrks[index], newcomer
            self._end(old, LEAVE)

    def _newcomer(self, index: int) -> WorkerProcess | None:
        """A new worker that serves, beside the old one. One that dies before it does is tried again, as a kill may have
        been anybody's will. None: they all do, or it hangs, or the server is to stop."""
        for _ in range(FAILED_STARTS):
            newcomer = self._start(index)
            self._newcomers.append(newcomer)
            deadline = time.monotonic() + READY_WITHIN
            while not self._serves_or_never_will(newcomer) and time.monotonic() < deadline and self._replace_the_dead():
                time.sleep(GLANCE)
            self._newcomers.remove(newcomer)
            if not self._stops and self._slots.was_ready(newcomer.inner.pid):
                return newcomer
            hangs = newcomer.inner.is_alive()
            self._end(newcomer)
            if self._stops:
                return None
            if hangs or newcomer.inner.exitcode == UNUSABLE_APP:
                break
        log.error(f"a new worker {index + 1} does not serve; the rolling restart ends, the old ones stay")
        return None

    def _serves_or_never_will(self, worker: WorkerProcess) -> bool:
        return self._slots.was_ready(worker.inner.pid) or not worker.inner.is_alive() or self.interrupt_signal

    def _end(self, worker: WorkerProcess, how: signal.Signals = signal.SIGTERM) -> None:
        """Have a worker drain and leave; in the end by force. If the server gives up meanwhile: with all others."""
        self._leaving.append(worker)
        self._tell_to_leave([worker], meanwhile=self._replace_the_dead, how=how)
        self._leaving.remove(worker)
        if self.given_up:
            self.wrks.append(worker)
            return
        worker.kill()  # type: ignore[no-untyped-call]
        worker.inner.join()
        self._sockets.forget(worker.inner.pid)

    def _tell_to_leave(
        self, workers: list[WorkerProcess], meanwhile: Callable[[], bool], how: signal.Signals = signal.SIGTERM
    ) -> None:
        """Wait until they have left, for at most `workers_kill_timeout`, and while `meanwhile` goes on. They are told
        again and again: one that has just been forked has its parent's signal handlers for a moment, which do nothing
        there."""
        assert self.workers_kill_timeout is not None
        deadline = time.monotonic() + self.workers_kill_timeout
        told = 0.0
        while (staying := [worker for worker in workers if worker.inner.is_alive()]) and time.monotonic() < deadline:
            if time.monotonic() - told > TELL_AGAIN:
                told = time.monotonic()
                for worker in staying:
                    worker.interrupt_by_parent = True  # or Granian would call it unexpected
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.inner.pid, how)
            if not meanwhile():
                return
            time.sleep(GLANCE)

    # ---- the hung ----------------------------------------------------------------------------------------------------

    def _patience_with(self, pid: int) -> float:
        holds_the_log = self._asked(self._node.log_holder, 0) == pid
        return min(LOCKS_OUT, self._hung_worker_timeout) if holds_the_log else self._hung_worker_timeout

    def _silent(self, now: float) -> list[tuple[float, int]]:
        """(its last heartbeat, pid) of each worker that is silent for too long; of one that never served, its birth, or
        when it said last that it waits."""
        workers = self._slots.workers()
        beats = {worker.pid: now - worker.silent for worker in workers if worker.silent is not None}
        waits = {worker.pid: now - worker.waited for worker in workers if worker.waited is not None}
        found = []
        # Not `is_alive`, which would reap: those who wait for the process would be told that it lives on.
        for worker in (*self.wrks, *self._newcomers, *self._leaving):
            pid = worker.inner.pid
            serves = pid in beats
            began = max(worker.birth, waits.get(pid, 0.0))
            last, patience = (beats[pid], self._patience_with(pid)) if serves else (began, READY_WITHIN)
            if now - last > patience:
                found.append((last, pid))
        return found

    def _watch_heartbeats(self) -> None:
        """Kill workers whose loop stands still. What dies this way is replaced like whatever dies.

        Two looks must find the same heartbeat: a machine that was asleep gives its workers the time to wake up. And one
        worker at a time, the longest silent: others may only wait for what it holds.
        """
        suspect: tuple[int, float] | None = None
        while not self._over.wait(min(LOOK, self._hung_worker_timeout / 4)):
            if self._asked(self._node.what_is_wrong, None) is not None:
                self.main_loop_interrupt.set()
            now = time.monotonic()
            silent = self._silent(now)
            if not silent:
                suspect = None
                continue
            beat, pid = min(silent)
            if suspect is None or suspect[0] != pid or beat > suspect[1] + GLANCE:
                suspect = (pid, beat)
                continue
            suspect = None
            log.error(f"a worker has not answered for {now - beat:.0f} s and is killed", extra={"pid": pid})
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _on_bounded_socket(
    spawned: Callable[..., None],
    address: tuple[str, int],
    bounds: Bounds,
    backlog: int,
    worker: int,
    name: str | None,
    loader: Any,
    sock: Any,
    *arguments: Any,
) -> None:
    """Granian's `spawned`, in the worker, on a socket of ours: it listens there when the app has started."""
    made = bound_socket(*address, bounds)
    holder = SocketHolder(made.detach(), False, backlog)  # type: ignore[call-arg]
    spawned(worker, name, loader, ((None, holder), None), *arguments)


def _behind_a_front(
    spawned: Callable[..., None],
    address: tuple[str, int] | None,
    bounds: Bounds,
    sockets: Path,
    backlog: int,
    worker: int,
    name: str | None,
    loader: Any,
    sock: Any,
    *arguments: Any,
) -> None:
    """Granian's `spawned`, in the worker, on a Unix socket of this worker's own. The public socket is for the app's
    front: `address` bound, or, where there is none, the Unix socket that the parent shares with all workers."""
    _, shared = sock
    directory = SocketDirectory(sockets)
    # It listens before the front does: what is relayed until Granian accepts waits there.
    holder = SocketHolder(directory.listen(backlog).detach(), True, backlog)  # type: ignore[call-arg]
    if shared is not None:
        shared.setblocking(False)  # other workers may have accepted whoever is there
    entrance = Entrance(shared if address is None else bound_socket(*address, bounds), directory.of(os.getpid()))
    spawned(worker, name, partial(loader, entrance), ((None, holder), None), *arguments)
