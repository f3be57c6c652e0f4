"""A PostgreSQL of the tests' own, on a Unix socket, which can be killed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from sse_fast.outbox import DDL

PATIENCE = 30.0
QUICK = ("-c", "fsync=off", "-c", "full_page_writes=off")  # what is written outlives every process, if not the machine


def binaries() -> Path | None:
    """Where Debian's package has them, or whatever is in the path; the newest."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found and (initdb := shutil.which("initdb")):
        found = [Path(initdb).resolve().parent]
    return max(found, key=lambda path: path.parent.name.zfill(4), default=None)


class Postgres:
    """One cluster; each database of it is made by `database`."""

    def __init__(self, directory: Path, programs: Path, *options: str) -> None:
        self.directory = directory
        self._programs = programs
        self._options = options
        self._numbers = count(1)
        self._has_outbox = ""
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to be root's.
        self._user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(directory, self._user, -1)
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--no-locale")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], user=self._user, capture_output=True, text=True, cwd=self.directory
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start, or start again; returns when it answers."""
        command = [self._programs / "postgres", "-D", "data", "-k", self.directory, "-c", "listen_addresses="]
        for _ in range(100):  # processes of one that was killed may still be there
            with (self.directory / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [*command, *self._options],
                    user=self._user,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if self._answers():
                return
        raise TimeoutError(self.log())

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return True
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    time.sleep(0.1)
                    return False
                time.sleep(0.02)
        return False

    def kill(self) -> None:
        """SIGKILL to the parent, and with it to all that it has."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nobody needs what it has
            self._process.wait(PATIENCE)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def dsn(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def outbox(self) -> str:
        """A database that has an outbox, and nothing that was there before; how it is named. To make another one for
        each test would copy some hundred files."""
        if not self._has_outbox:
            self._has_outbox = self.database()
            return self._has_outbox
        with psycopg.connect(self._has_outbox, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            connection.execute(DDL)
        return self._has_outbox

    def database(self, *, outbox: bool = True) -> str:
        """A new one, with an outbox; how it is named."""
        name = f"shop{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        if outbox:
            with psycopg.connect(self.dsn(name)) as connection:
                connection.execute(DDL)
        return self.dsn(name)


@contextmanager
def postgres(programs: Path, *options: str) -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="sse-fast-postgres-"))  # where everybody may go, unlike pytest's own
    directory.chmod(0o755)
    server = None
    try:
        server = Postgres(directory, programs, *options)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
