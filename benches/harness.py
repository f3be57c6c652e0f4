"""What the benches of whole servers share: a server as a process tree, its CPU clock, its memory, its life."""

import argparse
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import psutil

from sse_fast.base.descriptors import raise_descriptor_limit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
START_SECONDS = 20
STOP_SECONDS = 15

AnyServer = TypeVar("AnyServer")


@dataclass(frozen=True)
class Server:
    """One row: how to start it on a port, with a scratch directory, and where to subscribe and publish."""

    name: str
    about: str
    subscribe: str
    publish: str
    command: Callable[[int, Path], list[str]]


def edge_command(port: int, scratch: Path) -> list[str]:
    return [sys.executable, "-m", "sse_fast", "serve", "--port", str(port), "--log-level", "warning"]


def granian_command(port: int, target: str, *options: str) -> list[str]:
    """An ASGI app under Granian alone, with what `sse-fast serve` gives it: see `node/serve.py`."""
    granian = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    granian += ["--workers", "1", "--runtime-mode", "mt", "--runtime-threads", "1"]
    granian += ["--loop", "uvloop", "--http", "1", "--no-ws", "--http1-buffer-size", str(128 * 1024)]
    granian += ["--backpressure", "25000", "--backlog", "4096", "--log-level", "warning"]
    return [*granian, *options, target]


def asgi_command(port: int, scratch: Path) -> list[str]:
    return granian_command(port, "sse_fast:create_app", "--factory")


EDGE = Server("sse_fast", "sse-fast serve", "/sse/bench", "/publish/bench", edge_command)
ASGI = replace(EDGE, name="sse_fast asgi", about="sse_fast.create_app under Granian alone", command=asgi_command)


class Running:
    """A server while it runs, as a context manager: from the first line of the block on it listens on `port`."""

    def __init__(self, server: Server, cores: Collection[int] | None = None) -> None:
        self.server = server
        self.cores = cores or os.sched_getaffinity(0)

    def __enter__(self) -> Self:
        raise_descriptor_limit()  # the server inherits it
        self.scratch = Path(tempfile.mkdtemp(prefix="sse-fast-bench-"))
        self.log = self.scratch / "output.log"
        self.port = free_port()
        command = self.server.command(self.port, self.scratch)
        # Settings of the machine's owner must not change what is measured.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SSE_FAST_", "GRANIAN_"))}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            sys.stderr.write(self._last_words())
        self._stop()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.server.name} exited with {self.process.returncode}:\n{self._last_words()}")
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.server.name} did not listen in {START_SECONDS} s:\n{self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _stop(self) -> None:
        tree = self.processes()
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """Of the server, its parent first."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def cpu_seconds(self) -> float:
        """User and system time of every process of the server so far, with that of children already reaped."""
        return sum(process_cpu_seconds(process) for process in self.processes())

    def user_memory(self) -> int:
        """Proportional set size of the whole tree, in bytes: pages that processes share count once."""
        return sum(process.memory_full_info().pss for process in self.processes())


def process_cpu_seconds(process: psutil.Process) -> float:
    # The process's own clock counts nanoseconds over all its threads, also those that ended; /proc/PID/stat counts
    # ticks of 10 ms. The id of another process's clock: clock_getcpuclockid(3), CPUCLOCK_SCHED = 2.
    own = time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return own + times.children_user + times.children_system


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def say(words: str) -> None:
    """To who watches; the report goes to the standard output."""
    print(words, file=sys.stderr, flush=True)


def in_turn(servers: Sequence[AnyServer], round_: int) -> list[AnyServer]:
    """Nobody is always the first after a pause, or always the one behind the heaviest."""
    first = round_ % max(1, len(servers))
    return [*servers[first:], *servers[:first]]


def arguments_for(about: str, parts: Sequence[str] = (), *, seconds: float, quick: str) -> argparse.ArgumentParser:
    """What most benches take; `parse` it. `quick`: what --quick does."""
    parser = argparse.ArgumentParser(description=about)
    if parts:
        parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="turns each server takes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of a window (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser


def parse(parser: argparse.ArgumentParser, parts: Sequence[str] = (), **quick: float) -> argparse.Namespace:
    """`quick`: what --quick sets beside one round."""
    arguments = parser.parse_args()
    if parts:
        if unknown := set(arguments.parts) - set(parts):
            parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
        arguments.parts = arguments.parts or list(parts)
    if arguments.quick:
        vars(arguments).update(quick, rounds=1)
    return arguments


def machine() -> str:
    """One line for the head of a table: what it ran on."""
    words = [f"{os.cpu_count()} cores", platform.system(), platform.release(), f"CPython {platform.python_version()}"]
    for package in ("granian", "uvloop", "orjson"):
        with suppress(PackageNotFoundError):
            words.append(f"{package} {version(package)}")
    return ", ".join(words)
