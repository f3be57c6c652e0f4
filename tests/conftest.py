"""What tests need of the real world: a real edge in processes of its own, and programs that may be missing."""

import contextlib
import http.client
import json
import logging
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakSet

import psutil
import pytest
import pytest_asyncio
import trustme
from click.testing import CliRunner, Result
from firefox import Firefox
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser, async_playwright, expect
from support import free_port

from sse_fast.base.listening import _borrowed, _listens
from sse_fast.cli import main as cli
from sse_fast.hub import other_workers
from sse_fast.settings import variable
from sse_fast.transports.life import Transport

# A shell that started the tests in the background had them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 30.0  # seconds until a thing that should happen at once is taken for one that never happens

# How fast this machine is just now is nothing that a test finds out.
expect.set_options(timeout=PATIENCE * 1000)
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def missing(program: str) -> NoReturn:
    """End a test that cannot run without `program`: CI has to have it, a developer may go without."""
    sentence = f"{program} is missing"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{sentence}, and CI=true says that it must be here")
    pytest.skip(sentence)


def program(name: str) -> str:
    """The path of a program, or the end of the test."""
    return shutil.which(name) or missing(name)


def loggers() -> dict[logging.Logger, tuple[Any, ...]]:
    made = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    return {each: (each.level, each.propagate, each.disabled, each.handlers[:]) for each in (logging.root, *made)}


@pytest.fixture(autouse=True)
def the_process_as_it_was() -> Iterator[None]:
    """A server that has ended in this process ignores signals, and so would all that is started after it; and it has
    had things logged in its own way. An app that was looked for has its directory in the path."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    logging_, path = loggers(), sys.path[:]
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    for logger, now in loggers().items():
        if now != (before := logging_.get(logger, (logging.NOTSET, True, False, []))):
            level, logger.propagate, logger.disabled, logger.handlers = before
            logger.setLevel(level)
    sys.path[:] = path


def listening() -> dict[int, str]:
    """The sockets on which this process listens, each with its address."""
    found = {}
    for descriptor in filter(_listens, map(int, os.listdir("/proc/self/fd"))):
        with _borrowed(descriptor) as socket_:
            found[os.fstat(descriptor).st_ino] = f"{socket_.getsockname()}"
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_that_listens() -> Iterator[None]:
    """A test closes what it listens on, and its hubs: others look for what this process listens on, and for its hubs.
    A fixture of a wider scope may have some from before the test on."""
    sockets, hubs = listening(), WeakSet(other_workers._hubs)
    yield
    left = [address for inode, address in listening().items() if inode not in sockets]
    left += [f"a hub, {id(hub)}" for hub in other_workers._hubs if hub not in hubs]
    assert not left, "what listens in this process was not closed by the test"


def until(ready: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Look again and again, where there is nothing to wait for; what `ready` returns once it is true."""
    deadline = time.monotonic() + patience
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.02)
    return found


ASGI_SERVER = "granian --interface asgi --loop uvloop --http 1 --factory --host 127.0.0.1 --port {port}"


class EdgeProcess:
    """An edge on a port of its own, with its log in a file: `python -m sse_fast serve`, whose streams are native; or,
    where they are to go by ASGI, `create_app` under a server that knows nothing of it."""

    def __init__(self, directory: Path, flags: tuple[str, ...], transport: Transport) -> None:
        self.port = free_port()
        self.transport = transport
        self.edge_path = "/edge" if "--app" in flags else ""
        self.url = f"http://127.0.0.1:{self.port}{self.edge_path}"
        self.log_file = directory / f"edge-{self.port}.log"
        self.noise_expected = False
        self._directory = directory
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same port; returns when it is ready."""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """`start`, but it returns at once."""
        command = ["sse_fast", "serve", "--host", "127.0.0.1", "--port", str(self.port), *self._flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_FAST_")}
        if self.transport is Transport.ASGI:
            command = [*ASGI_SERVER.format(port=self.port).split(), "sse_fast.edge.app:create_app"]
            for given, value in zip(self._flags[::2], self._flags[1::2], strict=True):
                environment[variable(given.removeprefix("--").replace("-", "_"))] = value
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self._directory,  # no sse-fast.toml here
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the edge did not start:\n{self.log()}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.request("GET", "/readyz")[0] == 200
            return False

        until(ready, "/readyz")

    # ---- asking it ---------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, self.edge_path + path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if "--uds" in self._flags:
            connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self._flags[self._flags.index("--uds") + 1])
            return connection
        if "--ssl-certificate" in self._flags:
            anybody = ssl._create_unverified_context()
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=anybody)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def publish(self, channel: str, data: Any, event: str | None = None) -> str:
        """The acknowledged id."""
        publication = {"channel": channel, "data": data} | ({"event": event} if event else {})
        status, body = self.request("POST", "/publish", json.dumps(publication).encode())
        assert status == 200, body
        return str(json.loads(body)["id"])

    def publish_many(self, channel: str, values: list[Any]) -> list[str]:
        """Publish in one request; the acknowledged ids."""
        body = json.dumps([{"channel": channel, "data": value} for value in values]).encode()
        status, answer = self.request("POST", "/publish", body)
        assert status == 200, answer
        return [str(id) for id in json.loads(answer)["ids"]]

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.request("GET", "/stats")[1])
        return stats

    def wait_connections(self, count: int) -> None:
        until(lambda: self.stats()["connections"] == count, f"{count} open streams")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def pid(self) -> int:
        """Of the parent of the workers."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def behind(self) -> Path:
        """The Unix socket on which the ASGI server of the only worker listens, behind its front."""
        (worker,) = self.workers()
        names = {str(connection.laddr) for connection in worker.net_connections("unix")}
        (found,) = (Path(name) for name in names if name.endswith(f"/{worker.pid}"))
        return found

    # ---- ending it ---------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """SIGTERM, as a service manager sends it; returns at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGTERM and the end: status 0, and nothing in the log that should not be there."""
        self.terminate()
        status = self.wait()
        log = self.log()
        assert status == 0, f"exit status {status}\n{log}"
        bad = ["Traceback", "panicked", "Killing"] + ["WARNING", "ERROR"] * (not self.noise_expected)
        assert not any(word in log for word in bad), log

    def kill(self) -> None:
        """SIGKILL to the server and its worker, as when the machine takes them away."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.noise_expected = True

    def kill_worker(self) -> None:
        """SIGKILL to the worker alone; returns when another one is ready."""
        (worker,) = self.workers()
        worker.kill()
        worker.wait(PATIENCE)
        self.noise_expected = True
        until(lambda: self.workers() and worker not in self.workers(), "a new worker")
        self.wait_ready()


class Ending:
    """Servers of tests that are over. To stop takes each of them half a second in which nobody has anything to do, so
    that is when the next test begins; whose it was is told where one does not end well."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(thread_name_prefix="ending")
        self._ending: list[tuple[str, Future[None]]] = []

    def end(self, process: EdgeProcess, whose: str) -> None:
        self._ending.append((whose, self._pool.submit(self._stop, process)))

    @staticmethod
    def _stop(process: EdgeProcess) -> None:
        try:
            process.stop()
        finally:
            if process.running:
                process.kill()

    def look(self, *, wait: bool = False) -> None:
        """Raises what those raised that have ended; `wait`: for all of them."""
        over = [each for each in self._ending if wait or each[1].done()]
        self._ending = [each for each in self._ending if each not in over]
        failed = [(whose, error) for whose, ended in over if (error := ended.exception()) is not None]
        for whose, error in failed[:1]:
            error.add_note(f"a server of {whose}")
            raise error


@pytest.fixture(scope="session")
def ending() -> Iterator[Ending]:
    ending = Ending()
    yield ending
    ending.look(wait=True)


@pytest.fixture(autouse=True)
def nobody_else_is_at_work(ending: Ending, request: pytest.FixtureRequest) -> None:
    """Who starts no server may look at the memory and the descriptors of this process."""
    if "edge" not in request.fixturenames:
        ending.look(wait=True)


Edges = Callable[..., EdgeProcess]
BOTH_TRANSPORTS = pytest.mark.parametrize("transport", Transport)


@pytest.fixture
def edge(tmp_path: Path, ending: Ending, request: pytest.FixtureRequest) -> Iterator[Edges]:
    """Start edges: `edge("--retry", "100")`. Each is stopped by SIGTERM after the test, and must end well."""
    started: list[EdgeProcess] = []

    def start(*flags: str, transport: Transport = Transport.NATIVE) -> EdgeProcess:
        process = EdgeProcess(tmp_path, flags, transport)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        if process.running:
            ending.end(process, request.node.nodeid)
    ending.look()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, ...]:
    """The flags with which an edge speaks TLS."""
    made = trustme.CA().issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    made.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    return ("--ssl-certificate", str(tmp_path / "cert.pem"), "--ssl-keyfile", str(tmp_path / "key.pem"))


@pytest.fixture
def edge_that_starts(tmp_path: Path) -> Iterator[Edges]:
    """As `edge`, but nobody waits until they are ready. They are killed after the test, with all their workers."""
    started: list[EdgeProcess] = []

    def begin(*flags: str) -> EdgeProcess:
        process = EdgeProcess(tmp_path, flags, Transport.NATIVE)
        started.append(process)
        process.begin()
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A database server, `postgres.Postgres`, for all tests of a run. Who kills it starts it again."""
    from postgres import QUICK, binaries, postgres  # it needs the driver, which not everybody has who runs other tests

    with postgres(binaries() or missing("postgresql"), *QUICK) as server:
        yield server


CHROMIUM_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium; whoever uses it runs in the session's loop: `pytest.mark.asyncio(loop_scope="session")`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"), headless=True, args=CHROMIUM_ARGUMENTS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    """Headless Firefox, in the session's loop too."""
    found = shutil.which("firefox-esr") or shutil.which("firefox") or missing("firefox-esr")
    async with Firefox.running(found, tmp_path_factory.mktemp("firefox")) as firefox:
        yield firefox


@pytest.fixture(params=["browser", "firefox"], ids=["Chromium", "Firefox"])
def any_browser(request: pytest.FixtureRequest) -> Any:
    """Each, for what both can do: `new_page`, and of a page `goto`, `evaluate`, `wait_for_function`, `close`."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def rng() -> random.Random:
    """The choices of a run; SSE_FAST_LEDGER_SEED repeats them."""
    seed = int(os.environ.get("SSE_FAST_LEDGER_SEED", random.randrange(2**32)))
    print(f"SSE_FAST_LEDGER_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from where the tests run: neither a variable nor a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("SSE_FAST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def run() -> Callable[..., Result]:
    """The command line in this process: run("publish", "news", "hello")."""

    def invoke(*args: str, **options: Any) -> Result:
        return CliRunner().invoke(cli.main, args, **options)

    return invoke
