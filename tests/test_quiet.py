"""Who asks an ASGI server of ours for nothing loses the connection, and nobody else does."""

import asyncio
import math
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from h2.connection import H2Connection
from support import until
from test_tls import Server, running, started, subscribed

from sse_fast.transports import quiet
from sse_fast.transports.kernel import Bounds, ServerConnections, bound_socket
from sse_fast.transports.quiet import QuietConnections

RST_AT_CLOSE = struct.pack("ii", 1, 0)
NEVER = math.inf
PATIENCE = 30.0  # seconds for anything at all


class Port:
    """A port of this process: the test says who connects, what they ask, and when somebody looks."""

    def __init__(self, most: int = 1000, *, first: float = NEVER, next: float = NEVER) -> None:
        bounds = Bounds(send_buffer=256 * 1024, stuck_after=60)
        self.listening = bound_socket("127.0.0.1", 0, bounds)
        self.listening.listen()
        self.listening.setblocking(True)
        self.address = self.listening.getsockname()
        self.connections = ServerConnections(self.address[1], bounds)
        self.quiet = QuietConnections(self.connections, most, first=first, next=next)
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def connect(self, source: tuple[str, int] | None = None) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source is not None:
            client.bind(source)
        client.connect(self.address)
        self.pairs.append((client, self.listening.accept()[0]))
        client.setblocking(False)
        return client

    def ask(self, client: socket.socket) -> Callable[[], None]:
        """A request of this client's is under way until what this returns is called."""
        key = self.quiet.begin(client.getsockname())
        return lambda: self.quiet.end(key)

    async def look(self) -> None:
        """Look, and wait until all has ended that is to end."""
        await self.quiet.look()
        await asyncio.sleep(0)
        if self.connections._resetting is not None:
            await self.connections._resetting

    def there(self, *clients: socket.socket) -> list[bool]:
        return [is_there(client) for client in clients]

    def close(self) -> None:
        self.quiet.close()
        self.connections.close()
        for pair in (*self.pairs, (self.listening,)):
            for end in pair:
                end.close()


def is_there(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.fixture
def port() -> Iterator[Callable[..., Port]]:
    made: list[Port] = []

    def make(most: int = 1000, **limits: float) -> Port:
        made.append(Port(most, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_who_never_asks_goes_and_who_asks_or_has_asked_stays(port: Callable[..., Port]) -> None:
    made = port(first=0)
    silent, asking, has_asked = (made.connect() for _ in range(3))
    made.ask(asking)
    made.ask(has_asked)()
    await made.look()
    assert made.there(silent, asking, has_asked) == [False, True, True]
    assert made.quiet.ended == 1


async def test_who_asks_no_second_time_goes_later_and_never_while_a_request_is_under_way(
    port: Callable[..., Port],
) -> None:
    made = port(next=0)
    never_asked, has_asked, one_of_two = (made.connect() for _ in range(3))
    made.ask(has_asked)()
    made.ask(one_of_two)
    made.ask(one_of_two)()
    await made.look()
    assert made.there(never_asked, has_asked, one_of_two) == [True, False, True]


async def test_too_many_connections_end_those_that_never_asked_and_of_these_the_oldest_first(
    port: Callable[..., Port],
) -> None:
    made = port(most=4)
    has_asked = made.connect()
    made.ask(has_asked)()
    clients = []
    for _ in range(3):
        clients.append(made.connect())
        await made.look()
    assert made.there(has_asked, *clients) == [True, True, True, True]
    late = [made.connect() for _ in range(2)]
    await made.look()
    assert made.there(*clients, has_asked, *late) == [False, False, True, True, True, True]


async def test_too_many_connections_end_the_longest_idle_and_no_request(port: Callable[..., Port]) -> None:
    made = port(most=1)
    asking, idle_for_long, idle = (made.connect() for _ in range(3))
    made.ask(idle_for_long)()
    made.ask(idle)()
    made.ask(asking)
    made.quiet._most = 2
    await made.look()
    assert made.there(asking, idle_for_long, idle) == [True, False, True]
    made.quiet._most = 0
    await made.look()
    assert made.there(asking, idle) == [True, False], "a request under way is never ended for it"


async def test_a_request_of_an_earlier_connection_from_the_same_port_counts_for_nobody(
    port: Callable[..., Port],
) -> None:
    made = port(first=NEVER)
    earlier = made.connect(("127.98.7.6", 0))  # an address of its own, so that nobody else takes the port meanwhile
    source = earlier.getsockname()
    made.ask(earlier)()
    earlier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
    earlier.close()
    made.pairs.pop()[1].close()
    await made.look()
    later = made.connect(source)
    made.quiet._first = 0
    await made.look()
    assert made.there(later) == [False]


async def test_of_connections_that_are_gone_nothing_is_kept(port: Callable[..., Port]) -> None:
    made = port()
    for _ in range(3):
        made.ask(made.connect())()
    await made.look()
    assert len(made.quiet._asked) == len(made.quiet._seen) == 3
    for pair in made.pairs:
        for end in pair:
            end.close()
    await made.look()
    assert not made.quiet._asked
    assert not made.quiet._seen
    assert not made.quiet._busy


async def test_requests_of_the_app_are_under_way_until_it_returns_or_fails(port: Callable[..., Port]) -> None:
    made = port()
    client = made.connect()
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(len(made.quiet._busy))
        if scope["path"] == "/fails":
            raise RuntimeError

    host, number = client.getsockname()
    watched: Any = made.quiet.watched(app)
    await watched({"type": "http", "path": "/", "client": (host, str(number))}, None, None)  # as Granian has it
    with pytest.raises(RuntimeError):
        await watched({"type": "websocket", "path": "/fails", "client": (host, number)}, None, None)
    await watched({"type": "lifespan", "path": ""}, None, None)
    assert seen == [1, 1, 0]
    assert not made.quiet._busy


async def test_an_app_waits_for_a_body_that_stops_coming_so_long_at_most(
    port: Callable[..., Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "BODY", 0.05)
    made = port()
    coming = asyncio.Queue[dict[str, Any]]()
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.extend([(await receive())["type"] for _ in range(3)])

    peer = made.connect().getsockname()
    watched: Any = made.quiet.watched(app)
    coming.put_nowait({"type": "http.request", "more_body": True})
    await watched({"type": "http", "client": peer}, coming.get, None)
    assert told == ["http.request", "http.disconnect", "http.disconnect"]
    assert not made.quiet._busy
    told.clear()
    coming.put_nowait({"type": "http.request", "more_body": True})
    coming.put_nowait({"type": "http.request"})
    asking = asyncio.create_task(watched({"type": "http", "client": peer}, coming.get, None))
    await asyncio.wait([asking], timeout=0.2)
    assert not asking.done(), "what comes behind a body may take its time"
    coming.put_nowait({"type": "http.disconnect"})
    await asking
    assert told == ["http.request", "http.request", "http.disconnect"]


async def test_a_look_that_fails_is_told_and_is_not_the_last(
    port: Callable[..., Port], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(quiet, "LOOK", 0.01)
    made = port(first=0)
    monkeypatch.setattr(made.connections, "quiet", lambda busy: 1 // 0)
    made.quiet.watch()
    await until(lambda: "could not be looked at" in caplog.text)
    monkeypatch.undo()
    silent = made.connect()
    await until(lambda: made.there(silent) == [False])


# ---- as the edge is started with a certificate ----

SOON = (
    "import sse_fast.transports.quiet as quiet\nquiet.FIRST_REQUEST, quiet.NEXT_REQUEST, quiet.LOOK = 1.0, 2.0, 0.1\n"
    "quiet.BODY = 0.5\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(started(tmp_path_factory.mktemp("quiet"), before=SOON)) as server:
        yield server


async def connected(server: Server, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """After the handshake."""
    server.trusted.set_alpn_protocols([protocol])
    return await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port, ssl=server.trusted)


async def stays_to_the_end(reader: asyncio.StreamReader) -> None:
    """Returns when the server has closed the connection."""
    try:
        while await reader.read(65536):
            pass
    except (ConnectionResetError, ssl.SSLError):
        pass


@pytest.mark.parametrize(
    ("protocol", "said"),
    [("http/1.1", b""), ("http/1.1", b"P"), ("http/1.1", b"PRI"), ("h2", b""), ("h2", b"PRI * HTTP/2.0\r\n")],
)
async def test_who_ends_the_handshake_and_asks_for_nothing_is_ended(server: Server, protocol: str, said: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await connected(server, protocol)
        writer.write(said)
        await stays_to_the_end(reader)
        writer.transport.abort()


async def test_who_stops_within_a_request_s_body_is_ended(server: Server) -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await connected(server, "http/1.1")
        writer.write(b"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nxx")
        await stays_to_the_end(reader)
        writer.transport.abort()


@pytest.mark.parametrize("requests", [0, 1])
async def test_who_only_answers_pings_is_ended(server: Server, requests: int) -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await connected(server, "h2")
        h2 = H2Connection()
        h2.initiate_connection()
        for _ in range(requests):
            head = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/healthz"}
            h2.send_headers(h2.get_next_available_stream_id(), list(head.items()), end_stream=True)
        writer.write(h2.data_to_send())
        try:
            while data := await reader.read(65536):
                h2.receive_data(data)
                writer.write(h2.data_to_send())
        except ConnectionResetError:
            pass
        writer.transport.abort()


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
async def test_a_stream_outlives_those_who_ask_for_nothing(server: Server, http2: bool) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        server.client(http2=http2, connections=2) as client,
        subscribed(client, "/sse/outlives") as stream,
    ):
        for _ in range(3):  # past the time between requests, too
            reader, writer = await connected(server, "h2")
            await stays_to_the_end(reader)
            writer.transport.abort()
        assert (await client.post("/publish/outlives", content="still here")).status_code == 200
        assert (await stream.next()).data == "still here"


async def test_a_server_that_is_full_of_silent_clients_answers_the_next_ones(tmp_path: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    with running(started(tmp_path, before=few + SOON)) as server:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            clients = [group.create_task(silent(server)) for _ in range(200)]
            await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
            async with server.client(http2=False) as client:
                assert (await client.get("/healthz")).status_code == 200


async def test_a_server_that_has_run_out_of_descriptors_comes_back(tmp_path: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    clients: list[socket.socket] = []
    with running(started(tmp_path, before=few)) as server, ExitStack() as at_end:
        worker = psutil.Process(server.process.pid).children(recursive=True)[0]
        port = httpx.URL(server.url).port

        def none_left() -> bool:
            for _ in range(20):
                client = at_end.enter_context(socket.socket())
                clients.append(client)
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            return worker.num_fds() >= 240  # the others are held back

        await until(none_left)
        for client in clients[260:]:  # while this machine was slow, far more may have come than it takes at once
            client.close()
        async with asyncio.timeout(PATIENCE), server.client(http2=False) as client:
            assert (await client.get("/healthz")).status_code == 200


async def silent(server: Server) -> None:
    """Connects, says nothing, and waits for the end. The handshake may fail, where the server is full."""
    try:
        reader, writer = await connected(server, "http/1.1")
    except (OSError, ssl.SSLError):
        return
    await stays_to_the_end(reader)
    writer.transport.abort()
