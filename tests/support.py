"""Servers in processes of their own, and subscribers over bare sockets that read only when they are told to."""

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain, cycle, islice
from pathlib import Path
from typing import IO, Any, Self

import h11
import httpx
import psutil
from starlette.applications import Starlette
from starlette.routing import Mount
from whatwg import Event, Parser

from sse_fast import create_app

COMMANDS = {
    "granian": ["sse_fast", "serve", "--port", "{port}"],
    "uvicorn": ["uvicorn", "sse_fast.edge.app:create_app", "--factory", "--port", "{port}"],
    "hypercorn": ["hypercorn", "sse_fast.edge.app:create_app()", "--bind", "127.0.0.1:{port}"],
    "mounted": ["uvicorn", "support:mounted", "--factory", "--app-dir", str(Path(__file__).parent), "--port", "{port}"],
}
PATIENCE = 30.0  # seconds for anything at all; nothing here is a measure of speed
READ_AT_ONCE = 256 * 1024
PORTS_FROM, PORTS_EACH = 20_000, 1000  # behind all that browsers refuse


def _own_ports() -> Iterator[int]:
    """Ports that neither the kernel gives to connections nor another run of tests on this machine to its servers: who
    is to listen there later finds them as free as they were. Without end, or none where all are taken."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for first in range(PORTS_FROM, lowest - PORTS_EACH + 1, PORTS_EACH):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim, suppress(OSError):
            claim.bind(f"\0sse_fast-tests-{first}")
            yield from cycle(range(first, first + PORTS_EACH))


_ports = _own_ports()


def free_port() -> int:
    for port in chain(islice(_ports, PORTS_EACH), (0,)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something outside of this process holds; `holds` may be a coroutine function."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


@contextmanager
def no_descriptor_left() -> Iterator[list[int]]:
    """Within, this process can open nothing more until one of these is closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


class Turns:
    """How often somebody else has had the loop."""

    count = 0


@asynccontextmanager
async def turns_of_others() -> AsyncIterator[Turns]:
    turns = Turns()

    async def somebody_else() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(somebody_else())
    try:
        yield turns
    finally:
        other.cancel()


@contextmanager
def no_garbage_of(*packages: str) -> Iterator[None]:
    """What is done here leaves nothing of these packages that only the garbage collector would find."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [thing for thing in gc.garbage if type(thing).__module__.startswith(packages)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


class Reader:
    """A client's socket that is read when it is told to, and never waits."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.setblocking(False)
        self.received = bytearray()
        self.ended = False

    def read(self) -> None:
        """Take all that is there."""
        try:
            while part := self.socket.recv(1 << 20):
                self.received += part
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True


def written_to(log: IO[bytes]) -> str:
    """All that a process has written to a file that it was started with. Not by seek and read: the place in the file is
    the process' too, and what it writes meanwhile would land on the beginning."""
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode()


class Server:
    """The edge under one of the servers, and what can be seen of it from outside."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
        self.port = port
        self._process = process
        self._log = log
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

    @property
    def log(self) -> str:
        """All that the server has said."""
        return written_to(self._log)

    @property
    def resident(self) -> int:
        """Bytes of memory of the server and its workers."""
        parent = psutil.Process(self._process.pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])

    @property
    def sockets(self) -> int:
        """Connections that the server and its workers hold open."""
        parent = psutil.Process(self._process.pid)
        held = [process.net_connections("tcp") for process in [parent, *parent.children(recursive=True)]]
        return sum(connection.status != "LISTEN" for connections in held for connection in connections)

    async def ready(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            return (await self.http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get("/stats")).json()
        return found

    async def publish(self, channel: str, texts: Iterable[str]) -> list[str]:
        """Publish in one request; the events' ids."""
        lines = "\n".join(json.dumps({"channel": channel, "data": text}) for text in texts)
        answer = await self.http.post("/publish", content=lines, headers={"content-type": "application/x-ndjson"})
        assert answer.is_success, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, PATIENCE)

    async def end(self) -> None:
        await self.http.aclose()
        if self._process.poll() is None:
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
            self._process.kill()
        self._process.wait()


def mounted() -> Starlette:
    """Somebody's app with the edge inside; only the outer one is told of the lifespan."""
    return Starlette(routes=[Mount("/", create_app())])


@asynccontextmanager
async def serving(kind: str, *options: str, **settings: object) -> AsyncIterator[Server]:
    """The edge under "granian", "uvicorn", "hypercorn", or "mounted" in an app; `options` are the server's own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_FAST_")}
    environment |= {f"SSE_FAST_{name.upper()}": str(value) for name, value in settings.items()}
    port = free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in COMMANDS[kind]), *options]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as elsewhere:
        process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log)  # noqa: ASYNC220
        server = Server(port, process, log)
        try:
            await until(server.ready)
            yield server
        finally:
            await server.end()


class Listener:
    """One subscriber. It reads only inside `read_until`; else it is stuck, and soon blocks the server."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._http = h11.Connection(h11.CLIENT)
        self._parser = Parser()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.events: list[Event] = []
        self.end: str | None = None
        """How the stream ended: "clean" (a last chunk), "aborted", or None while it goes on."""

    @classmethod
    async def open(
        cls, port: int, target: str, *, last_event_id: str | None = None, small_buffers: bool = False
    ) -> Self:
        opened = socket.socket()
        if small_buffers:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # The kernel counts the server's send buffer in segments; of the loopback's 64 KiB it takes megabytes.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(opened, ("127.0.0.1", port))
        listener = cls(opened)
        headers = [("host", "localhost")] + ([("last-event-id", last_event_id)] if last_event_id is not None else [])
        request = h11.Request(method="GET", target=target, headers=headers)
        parts = [listener._http.send(part) or b"" for part in (request, h11.EndOfMessage())]
        await loop.sock_sendall(opened, b"".join(parts))
        return listener

    async def __aenter__(self) -> Self:
        await self.read_until(lambda: any(event.type == "$connected" for event in self.events))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def data(self) -> list[str]:
        """The data of the channel's own events."""
        return [event.data for event in self.events if event.type == "message"]

    @property
    def last_event_id(self) -> str:
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """When to come back, in milliseconds, as it was told last."""
        return self._parser.reconnection_time

    def told(self, kind: str) -> list[Any]:
        """What the server itself said: the JSON of its events of this kind."""
        return [json.loads(event.data) for event in self.events if event.type == kind]

    async def read_until(self, holds: Callable[[], bool], *, at_once: int = READ_AT_ONCE) -> None:
        """Read until something holds or the stream ends."""
        async with asyncio.timeout(PATIENCE):
            while not holds() and self.end is None:
                self._take(await self._receive(at_once))

    async def read_count(self, count: int, *, at_once: int = READ_AT_ONCE) -> None:
        """Read until so many of the channel's events are there, or the stream ends."""
        seen, among = 0, 0

        def enough() -> bool:
            nonlocal seen, among
            among += sum(event.type == "message" for event in self.events[seen:])
            seen = len(self.events)
            return among >= count

        await self.read_until(enough, at_once=at_once)

    async def read_to_the_end(self) -> None:
        await self.read_until(lambda: False)

    async def _receive(self, at_once: int) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, at_once)
        except ConnectionResetError:
            return b""

    def _take(self, raw: bytes) -> None:
        try:
            self._http.receive_data(raw)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self.status, self.headers = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    self.body += bytes(event.data) if len(self.body) < 4096 else b""
                    self.events += self._parser.feed(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self.end = "clean"
                    return
                else:
                    return
        except h11.RemoteProtocolError:
            self.end = "aborted"
