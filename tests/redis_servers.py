"""Redis servers of the tests' own on loopback, which can be killed, stopped and made replicas; and Sentinels."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import hiredis
import pytest
from support import free_port

PATIENCE = 30.0
HOST = "127.0.0.1"


def need() -> None:
    """Skip, or fail on CI, where there is no Redis."""
    if not all(map(shutil.which, ("redis-server", "redis-sentinel"))):
        sentence = "needs redis-server and redis-sentinel: scripts/test-setup installs them"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)


def wait_until(true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience:g} s: {what}")
        time.sleep(0.01)


class Process:
    """A server program in a directory of its own, which keeps what it wrote from one life to the next."""

    program = "redis-server"
    scheme = "redis"
    keeps_its_settings = False
    """Whether it writes what it was told into its configuration, and is started with that again."""

    def __init__(self, directory: Path, *settings: str, port: int | None = None) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.settings = list(settings)
        self.password: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    def lines(self) -> list[str]:
        return [f"port {self.port}", f"bind {HOST}", f"dir {self.directory}", *self.settings]

    def start(self) -> None:
        """Start, or start again; returns when it answers."""
        written = self.directory / "conf"
        if not self.keeps_its_settings or not written.exists():
            written.write_text("\n".join(self.lines()) + "\n")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, written], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, f"{self.program} answers: {self.log()}")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with suppress(OSError):
            answer = self.ask("PING")
            return not str(answer).startswith("LOADING")
        return False

    def ask(self, *command: str | int | bytes, seconds: float = 5.0) -> object:
        """One command on a connection of its own; an error is returned."""
        with socket.create_connection((HOST, self.port), seconds) as connection:
            reader = hiredis.Reader()
            if self.password is not None:
                connection.sendall(hiredis.pack_command(("AUTH", self.password)))
                read_reply(connection, reader)
            connection.sendall(hiredis.pack_command(command))
            return read_reply(connection, reader)

    def at_once(self, *commands: tuple[str, ...]) -> list[object]:
        """Nobody's are between them. The answers."""
        with socket.create_connection((HOST, self.port), 5.0) as connection:
            reader = hiredis.Reader()
            connection.sendall(b"".join(map(hiredis.pack_command, (("MULTI",), *commands, ("EXEC",)))))
            *_, answers = [read_reply(connection, reader) for _ in range(len(commands) + 2)]
        assert isinstance(answers, list), answers
        return answers

    def do(self, *command: str | int | bytes) -> object:
        """`ask`, and an error is raised."""
        answer = self.ask(*command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def info(self, section: str) -> dict[str, str]:
        text = self.do("INFO", section)
        assert isinstance(text, bytes)
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """As kill -9; with SIGTERM it ends as it is asked to."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                if how == signal.SIGKILL:
                    self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        with suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="replace")[-2000:]
        return ""


def read_reply(connection: socket.socket, reader: hiredis.Reader) -> object:
    while (answer := reader.gets()) is False:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError("closed")
        reader.feed(got)
    return answer


class Redis(Process):
    """`settings`: lines of its configuration. Nothing is written to disk unless they say so."""

    def __init__(
        self, directory: Path, *settings: str, port: int | None = None, replica_of: "Redis | None" = None
    ) -> None:
        super().__init__(directory, 'save ""', "enable-debug-command yes", *settings, port=port)
        self.primary = replica_of

    def lines(self) -> list[str]:
        of = [f"replicaof {HOST} {self.primary.port}"] if self.primary else []
        # A copy is made at once, and not after five seconds in which others might come.
        return [*super().lines(), "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", *of]

    def start(self) -> None:
        super().start()
        if self.primary is not None:
            wait_until(self.follows, f"{self.address} follows {self.primary.address}")

    def follows(self) -> bool:
        said = self.info("replication")
        return said["role"] == "slave" and said["master_link_status"] == "up"

    @property
    def is_primary(self) -> bool:
        return self.info("replication")["role"] == "master"

    def promote(self) -> None:
        self.do("REPLICAOF", "NO", "ONE")
        self.primary = None

    def follow(self, primary: "Redis", wait: bool = True) -> None:
        self.do("REPLICAOF", HOST, primary.port)
        self.primary = primary
        if wait:
            wait_until(self.follows, f"{self.address} follows {primary.address}")


class HasPort(Protocol):
    port: int


class Sentinel(Process):
    program = "redis-sentinel"
    keeps_its_settings = True

    def __init__(self, directory: Path, primary: HasPort, quorum: int, *settings: str) -> None:
        super().__init__(directory, *settings)
        self.settings = [
            f"sentinel monitor fleet {HOST} {primary.port} {quorum}",
            "sentinel down-after-milliseconds fleet 500",
            "sentinel failover-timeout fleet 1000",
            *settings,
        ]

    def primary(self) -> tuple[str, int]:
        answer = self.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fleet")
        assert isinstance(answer, list)
        return answer[0].decode(), int(answer[1])


class Servers:
    """Those of one test, which end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[Process] = []

    def redis(self, *settings: str, replica_of: Redis | None = None, start: bool = True) -> Redis:
        server = Redis(self.directory / f"redis{len(self.all)}", *settings, replica_of=replica_of)
        self.all.append(server)
        if start:
            server.start()
        return server

    def sentinels(self, primary: Redis, replicas: int = 1, count: int = 3) -> Sequence[Sentinel]:
        """They watch the service "fleet", agree by majority, and know each other and the replicas when this returns."""
        watching = [Sentinel(self.directory / f"sentinel{number}", primary, count // 2 + 1) for number in range(count)]
        self.all += watching
        for each in watching:
            each.start()

        def know(each: Sentinel) -> bool:
            answer = each.do("SENTINEL", "MASTER", "fleet")
            assert isinstance(answer, list)
            said = dict(zip(answer[::2], answer[1::2], strict=True))
            return int(said[b"num-other-sentinels"]) == count - 1 and int(said[b"num-slaves"]) == replicas

        wait_until(lambda: all(map(know, watching)), "the Sentinels know each other")
        return watching

    def close(self) -> None:
        for server in self.all:
            server.kill()


@contextmanager
def servers() -> Iterator[Servers]:
    """A place where servers are started; they are killed at its end."""
    need()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sse_fast_redis")))
        made = Servers(directory)
        stack.callback(made.close)
        yield made


@contextmanager
def running(*settings: str) -> Iterator[Redis]:
    with servers() as made:
        yield made.redis(*settings)
