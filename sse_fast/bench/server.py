"""The server of a run: its processes, what they cost, and an edge of our own where no URL is given."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sse_fast.bench.plan import Address, Target
from sse_fast.errors import SSEFastError

START_SECONDS = 20.0
STOP_SECONDS = 20.0
SECRETS = re.compile(r"(--?[\w-]*(?:key|token|secret|password)[ =])\S+", re.IGNORECASE)  # results are passed on


class CannotStart(SSEFastError):
    """The edge for the run did not start; the message ends with its last output."""


class Processes:
    """A server as the trees of processes that it is. Processes that come later, as restarted workers, are found."""

    def __init__(self, roots: list[int]) -> None:
        self.roots = roots

    @classmethod
    def listening_on(cls, address: Address) -> "Processes | None":
        """The processes that listen on this address of this machine; None where none is seen."""
        if not address.on_loopback:
            return None
        try:
            listeners = {
                connection.pid
                for connection in psutil.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
                and connection.laddr.port == address.port
                and connection.laddr.ip in (address.ip, "0.0.0.0", "::")
                and connection.pid is not None
            }
        except psutil.AccessDenied:
            return None
        # A worker that is replaced has another parent's child after it, so the tree is taken from its top.
        roots = {pid for pid in listeners if _parent(pid) not in listeners}
        tops = {top for pid in roots if _same_program(top := _parent(pid), pid)} | {
            pid for pid in roots if not _same_program(_parent(pid), pid)
        }
        return cls(sorted(tops)) if tops else None

    def all(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for pid in self.roots:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                for process in (root, *root.children(recursive=True)):
                    found[process.pid] = process
        return list(found.values())

    def cpu_seconds(self) -> float:
        """User and system time so far, with that of children already reaped."""
        return sum(map(cpu_seconds, self.all()))

    def user_memory(self) -> int:
        """Proportional set size in bytes: pages that processes share count once."""
        total = 0
        for process in self.all():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total

    def resident(self) -> int:
        """Resident set size in bytes: quicker, and counts shared pages in every process."""
        total = 0
        for process in self.all():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def describe(self) -> dict[str, Any]:
        processes = self.all()
        command = ""
        if processes:
            with suppress(psutil.Error):
                program, *arguments = processes[0].cmdline() or [""]
                command = SECRETS.sub(r"\1(not kept)", " ".join([Path(program).name, *arguments]))[:200]
        return {"pids": [process.pid for process in processes], "command": command}


def cpu_seconds(process: psutil.Process) -> float:
    # The process's own clock counts nanoseconds over all its threads, also those that ended; /proc/PID/stat counts
    # ticks of 10 ms. The id of another process's clock: clock_getcpuclockid(3), CPUCLOCK_SCHED = 2.
    with suppress(psutil.NoSuchProcess, OSError):
        times = process.cpu_times()
        own = time.clock_gettime((~process.pid << 3) | 2)
        return float(own + times.children_user + times.children_system)
    return 0.0


def kernel_socket_memory() -> int:
    """Bytes that the kernel's TCP sockets hold, over the whole machine (/proc/net/sockstat)."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name == "TCP":
            words = fields.split()
            return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


class Edge:
    """`sse-fast serve` on a free port, with these options, as a context manager."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def __enter__(self) -> Self:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()
        # Settings of the machine's owner must not change what is measured, and a key would keep us out.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_FAST_")}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sse_fast",
                "serve",
                "--port",
                str(self.port),
                "--log-level",
                "warning",
                *self._options,
            ],
            env=environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us; we stop the edge when the streams are closed
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self._stop()
            raise
        self.target = Target.edge(f"http://127.0.0.1:{self.port}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._log.seek(0)
                words = self._log.read().decode(errors="replace").strip()
                raise CannotStart(f"the edge exited with {self.process.returncode}: {words[-500:]}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise CannotStart(f"the edge did not listen within {START_SECONDS:.0f} s")

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for process in Processes([self.process.pid]).all():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
        self._log.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _parent(pid: int) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).ppid())
    return 0


def _same_program(parent: int, child: int) -> bool:
    """Is the parent of this listener its master process rather than the shell it was started from?"""
    with suppress(psutil.Error):
        same = psutil.Process(parent).exe() == psutil.Process(child).exe()
        return bool(same and parent > 1 and parent != os.getpid())
    return False
