"""What a mode steers: the processes of the load client, their orders, and the clocks beside them."""

import mmap
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson
import psutil

from sse_fast._native.bench.board import Board
from sse_fast.base.descriptors import raise_descriptor_limit
from sse_fast.bench.plan import Address, Churn, InvalidPlan, Plan, Target, address_of, most_connections
from sse_fast.bench.results import Counts, Problem, Result, difference, timing
from sse_fast.bench.server import Processes, cpu_seconds, kernel_socket_memory
from sse_fast.errors import SSEFastError

DESCRIPTORS_BESIDE = 64  # of a worker: publishers come on top
TICK = 0.02
ORDER_SECONDS = 60.0
TIMINGS = ("latency", "last", "answer", "lateness", "connect", "first_byte", "back", "complete")
WITHHELD = "(not kept)"
MOST_WORKERS = 15  # each has loopback addresses of its own


class WorkerDied(SSEFastError):
    """A process of the load client ended by itself."""


@dataclass(frozen=True)
class Progress:
    """What a watcher of a run is told several times a second."""

    phase: str
    done: float  # of this phase: 0 to 1
    counters: dict[str, int]
    sample: dict[str, Any]  # the newest entry of the series


Watch = Callable[[Progress], None]


@dataclass
class Moment:
    """All clocks and counters at one time."""

    at: float
    counters: dict[str, int]
    server_cpu: float | None
    client_cpu: float
    histograms: dict[str, Counts]


class Fleet:
    """The processes of a run. A context manager: they are there from the first line of the block on."""

    def __init__(self, plan: Plan, watch: Watch | None = None) -> None:
        assert plan.target is not None
        self.plan = plan
        self.target: Target = plan.target
        self.watch = watch
        self.problems: list[Problem] = []
        self.figures: dict[str, float | int | None] = {}
        self.timings: dict[str, Any] = {}
        self.series: list[dict[str, Any]] = []
        self.phases: list[dict[str, Any]] = []
        self.address = address_of(self.target.subscribe)
        self.publish_address = address_of(self.target.publish) if self.target.publish else self.address
        self.connections = most_connections(plan.mode)
        room = raise_descriptor_limit() - DESCRIPTORS_BESIDE - plan.publishers
        needed = -(-self.connections // max(room, 1))
        self.workers = max(plan.processes, needed, 1)
        if self.workers > MOST_WORKERS:
            raise InvalidPlan(
                f"{self.connections} connections take {self.workers} processes of {room} descriptors each; at most "
                f"{MOST_WORKERS} are started. Raise the hard limit (ulimit -Hn)"
            )
        self._begun = [0] * self.workers  # connections opened, by worker
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lines: list[Any] = []
        self._progress = 0.0

    # ---- processes and orders ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.started = datetime.now(UTC)
        self._zero = time.monotonic()
        self._next_sample = self._zero + 1
        self.server = self._find_server()
        plan, channels = self.plan, self.plan.mode.channels
        size = Board.size(self.workers, channels, plan.publishers)
        with ExitStack() as stack:
            stack.callback(self._stop)
            memory = os.memfd_create("sse-fast-board")
            stack.callback(os.close, memory)
            os.ftruncate(memory, size)
            self._memory = mmap.mmap(memory, size)
            self.board = Board(self._memory, self.workers, channels, plan.publishers)
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            stack.callback(os.close, bell)
            setting = self._setting()
            for worker in range(self.workers):
                self._start(worker, setting, memory, bell)
            self._resources = stack.pop_all()
        self._client = [psutil.Process(process.pid) for process in self._processes]
        self._last = self.moment(whole=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._resources.close()

    def _setting(self) -> dict[str, Any]:
        plan, publish = self.plan, self.target.publish_request()
        return {
            "workers": self.workers,
            "channels": plan.mode.channels,
            "publishers": plan.publishers,
            "address": _address(self.address),
            "subscribe": _listed(self.target.subscribe_request()),
            "publish_address": _address(self.publish_address),
            "publish": [_listed(part) for part in publish] if publish else None,
            "run": random.getrandbits(32),
            "size": plan.size,
            "capacity": -(-self.connections // self.workers) + 1,
            "connecting": max(1, plan.connecting // self.workers),
            "patience": plan.patience,
            "reconnect": plan.reconnect,
        }

    def _start(self, worker: int, setting: dict[str, Any], memory: int, bell: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "sse_fast.bench.worker", *map(str, (theirs.fileno(), memory, bell))],
                    pass_fds=(theirs.fileno(), memory, bell),
                    start_new_session=True,
                )
            )
        ours.settimeout(ORDER_SECONDS)
        self._lines.append(ours.makefile("rwb"))
        ours.close()  # the file keeps it open
        self._send(worker, setting | {"worker": worker})
        self._receive(worker)

    def _stop(self) -> None:
        for lines in self._lines:
            with suppress(OSError):
                lines.close()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _send(self, worker: int, order: dict[str, Any]) -> None:
        try:
            self._lines[worker].write(orjson.dumps(order) + b"\n")
            self._lines[worker].flush()
        except OSError as error:
            raise WorkerDied(f"worker {worker}: {error}") from None

    def _receive(self, worker: int) -> Any:
        try:
            line = self._lines[worker].readline()
        except OSError as error:
            raise WorkerDied(f"worker {worker} does not answer: {error}") from None
        if not line:
            raise WorkerDied(f"worker {worker} exited with {self._processes[worker].wait()}")
        return orjson.loads(line)

    def order(self, do: str, worker: int = 0, **arguments: Any) -> Any:
        """Give one worker an order and return its answer. Publishing is worker 0's."""
        self._send(worker, {"do": do} | arguments)
        return self._receive(worker)

    def order_all(self, do: str, **arguments: Any) -> list[Any]:
        """Give all workers an order; their answers."""
        for worker in range(self.workers):
            self._send(worker, {"do": do} | arguments)
        return [self._receive(worker) for worker in range(self.workers)]

    # ---- what modes are made of --------------------------------------------------------------------------------------

    def open(self, count: int, *, workers: Sequence[int] | None = None, **kind: bool) -> None:
        """Tell these workers (None: all) to open so many streams, in equal shares; `slow=True` or `stopped=True`: not
        the usual kind."""
        first = sum(self._begun)
        workers = range(self.workers) if workers is None else workers
        for place, worker in enumerate(workers):
            share = count // len(workers) + (place < count % len(workers))
            if share:
                rate = self.plan.connect_rate * share / count
                self.order("open", worker, count=share, first=first, rate=rate, **kind)
            first += share
            self._begun[worker] += share

    def wait(self, until: Callable[[], float], patience: float | None = None) -> bool:
        """Wait until `until` says 1: it tells how far things are, from 0 to 1. False: nothing moved for too long."""
        patience = self.plan.patience if patience is None else patience
        best, since = -1.0, time.monotonic()
        while (done := until()) < 1:
            self._progress = done
            if done > best:
                best, since = done, time.monotonic()
            elif time.monotonic() > since + patience:
                return False
            self.tick()
        return True

    def stay(self, seconds: float) -> None:
        """Let time pass."""
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            self._progress = passed / seconds
            self.tick(min(TICK, seconds - passed))

    def tick(self, seconds: float = TICK) -> None:
        time.sleep(seconds)
        for worker, process in enumerate(self._processes):
            if process.poll() is not None:
                raise WorkerDied(f"worker {worker} exited with {process.returncode}")
        if time.monotonic() >= self._next_sample:
            self._next_sample += 1
            self._sample()
        if self.watch is not None:
            sample = self.series[-1] if self.series else {}
            self.watch(Progress(self.phase, min(self._progress, 1.0), self.board.counters(), sample))

    @property
    def phase(self) -> str:
        return self.phases[-1]["name"] if self.phases else "start"

    @contextmanager
    def in_phase(self, name: str) -> Iterator[dict[str, Any]]:
        self._progress = 0.0
        phase: dict[str, Any] = {"name": name, "start": self.now(), "end": None}
        self.phases.append(phase)
        try:
            yield phase
        finally:
            phase["end"] = self.now()

    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._zero, 3)

    # ---- clocks ------------------------------------------------------------------------------------------------------

    def moment(self, *, whole: bool = True) -> Moment:
        """All clocks now; not `whole`: of the histograms only the latency."""
        names = TIMINGS if whole else ("latency",)
        return Moment(
            time.monotonic(),
            self.board.counters(),
            self.server.cpu_seconds() if self.server else None,
            sum(map(cpu_seconds, self._client)),
            {name: self.board.histogram(name) for name in names},
        )

    def _sample(self) -> None:
        last, now = self._last, self.moment(whole=False)
        self._last = now
        seconds = now.at - last.at
        latency = timing(difference(now.histograms["latency"], last.histograms["latency"]), encoded=False)
        self.series.append(
            {
                "t": self.now(),
                "phase": self.phase,
                "connections": now.counters["streaming"] + now.counters["slow_streams"],
                "deliveries_per_second": _rate(last, now, "deliveries"),
                "events_per_second": _rate(last, now, "answered"),
                "connects_per_second": _rate(last, now, "opened"),
                "p50": latency.p50 if latency else None,
                "p90": latency.p90 if latency else None,
                "p99": latency.p99 if latency else None,
                "p99_9": latency.p99_9 if latency else None,
                "max": latency.max if latency else None,
                "server_cores": _cores(last.server_cpu, now.server_cpu, seconds),
                "server_rss": self.server.resident() if self.server else None,
                "client_cores": _cores(last.client_cpu, now.client_cpu, seconds),
            }
        )

    def memory(self) -> tuple[int | None, int]:
        """(the server's own memory, the kernel's for all TCP sockets), in bytes."""
        return (self.server.user_memory() if self.server else None), kernel_socket_memory()

    def _find_server(self) -> Processes | None:
        if self.plan.server_pid is not None:
            return Processes([self.plan.server_pid])
        return Processes.listening_on(self.address)

    def result(self) -> Result:
        """What was found; the faults on the board become problems."""
        found = self.board.faults()
        faults = [Problem(kind, count, example) for kind, (count, example) in found.items()]
        if "at_limit" in found and not isinstance(
            self.plan.mode, Churn
        ):  # there some of those that pass are among them
            # One that was told so, and not yet cut off, was counted among the open ones.
            self.figures["connections"] = min(
                self.figures.get("connections") or 0, sum(self._begun) - found["at_limit"][0]
            )
        plan = asdict(self.plan)
        for headers in ("headers", "publish_headers"):  # results are passed on, and values may be secrets
            plan["target"][headers] = [(name, WITHHELD) for name, _ in plan["target"][headers]]
        return Result(
            mode=self.plan.mode.name,
            label=self.plan.label,
            started=self.started,
            settings=plan | {"processes": self.workers, "mode": plan["mode"] | {"channels": self.plan.mode.channels}},
            server=self.server.describe() if self.server else None,
            problems=faults + self.problems,
            figures=self.figures,
            timings=self.timings,
            series=self.series,
            phases=self.phases,
        )


def _rate(last: Moment, now: Moment, name: str) -> float:
    return round((now.counters[name] - last.counters[name]) / (now.at - last.at), 1)


def _cores(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else round(max(0.0, after - before) / seconds, 3)


def _address(address: Address) -> tuple[int, str, int]:
    return address.family, address.ip, address.port


def _listed(parts: list[bytes | int]) -> list[str | int]:
    return [part.decode() if isinstance(part, bytes) else part for part in parts]
