"""The edge as it is started, with a certificate: HTTP/2 and HTTP/1.1 over TLS, with real clients."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived
from whatwg import Event, Parser

STREAMS = 100  # what one HTTP/2 connection of httpx carries at most


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str
    trusted: ssl.SSLContext
    told_to_stop: bool = False

    def stop(self) -> None:
        self.told_to_stop = True
        self.process.send_signal(signal.SIGTERM)

    def client(self, *, http2: bool, connections: int = 1) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            verify=self.trusted,
            http1=not http2,
            http2=http2,
            limits=httpx.Limits(max_connections=connections),
            timeout=20,
        )


def key_in(form: PrivateFormat, pem: bytes) -> bytes:
    return serialization.load_pem_private_key(pem, None).private_bytes(Encoding.PEM, form, NoEncryption())


def started(directory: Path, form: PrivateFormat = PrivateFormat.PKCS8, *, before: str = "") -> Server:
    """A server on a free port that answers over TLS. `before`: code that each of its processes runs before all else."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    (directory / "cert.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    (directory / "key.pem").write_bytes(key_in(form, certificate.private_key_pem.bytes()))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    certificate_flags = ("--ssl-certificate", str(directory / "cert.pem"), "--ssl-keyfile", str(directory / "key.pem"))
    other_flags = ("--port", str(port), "--drain-timeout", "5", "--log-level", "warning")
    (directory / "sitecustomize.py").write_text(before)
    process = subprocess.Popen(
        (sys.executable, "-m", "sse_fast", "serve", *certificate_flags, *other_flags),
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith("SSE_FAST_")}
        | {"PYTHONPATH": str(directory)},
    )
    server = Server(process, f"https://localhost:{port}", trusted)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(verify=trusted, retries=6)) as client:
            assert client.get(f"{server.url}/readyz").status_code == 200
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """It ends by the SIGTERM that is sent here or was sent before, with status 0."""
    try:
        yield server
        if not server.told_to_stop:
            server.stop()
        assert server.process.wait(20) == 0
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(started(tmp_path_factory.mktemp("tls"))) as server:
        yield server


class Stream:
    """A subscriber: parses what comes, and waits for an event of a kind."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.aiter_raw()
        self._parser = Parser()
        self._events: list[Event] = []

    async def next(self) -> Event:
        while not self._events:
            self._events = self._parser.feed(await anext(self._chunks))
        return self._events.pop(0)


@asynccontextmanager
async def subscribed(client: httpx.AsyncClient, path: str, last_event_id: str | None = None) -> AsyncIterator[Stream]:
    headers = {"last-event-id": last_event_id} if last_event_id is not None else {}
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        stream = Stream(response)
        assert (await stream.next()).type == "$connected"
        yield stream


def connections_of(responses: list[httpx.Response]) -> set[object]:
    """The client's end of every connection that these came by."""
    return {response.extensions["network_stream"].get_extra_info("client_addr") for response in responses}


async def test_a_hundred_streams_share_one_connection(server: Server) -> None:
    async with asyncio.timeout(30), server.client(http2=True) as client, AsyncExitStack() as open_streams:
        streams = [
            await open_streams.enter_async_context(subscribed(client, f"/sse/hundred:{number % 10}"))
            for number in range(STREAMS)
        ]
        responses = [stream.response for stream in streams]
        assert {response.http_version for response in responses} == {"HTTP/2"}
        assert len(connections_of(responses)) == 1

        async with server.client(http2=True) as publisher:
            values = [{"channel": f"hundred:{n % 10}", "data": n} for n in range(200)]
            answer = await publisher.post("/publish", json=values)
        assert answer.http_version == "HTTP/2"
        ids = answer.json()["ids"]
        for number, stream in enumerate(streams):
            got = [await stream.next() for _ in range(20)]
            expected = [(str(n), ids[n]) for n in range(number % 10, 200, 10)]
            assert [(event.data, event.last_event_id) for event in got] == expected


async def test_publishing_goes_over_the_connection_of_the_streams(server: Server) -> None:
    async with (
        asyncio.timeout(20),
        server.client(http2=True) as client,
        subscribed(client, "/sse/same") as one,
        subscribed(client, "/sse?channel=same&channel=other") as two,
    ):
        answer = await client.post("/publish/same", content="hello")
        assert len(connections_of([answer, one.response, two.response])) == 1
        for stream in (one, two):
            event = await stream.next()
            assert (event.data, event.last_event_id) == ("hello", answer.json()["id"])


class Browser:
    """Frames of HTTP/2 by hand: httpx does not reset a stream that it leaves (httpcore 1.0), and a browser does."""

    def __init__(self, server: Server) -> None:
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.load_verify_locations(cadata="".join(map(ssl.DER_cert_to_PEM_cert, server.trusted.get_ca_certs(True))))
        trusted.set_alpn_protocols(["h2"])
        self.host, port = server.url.removeprefix("https://").split(":")
        self._socket = trusted.wrap_socket(
            socket.create_connection((self.host, int(port)), timeout=30), server_hostname=self.host
        )
        self._connection = H2Connection()
        self._connection.initiate_connection()

    def send(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def get(self, path: str) -> tuple[int, bytes]:
        """Begin a request; its stream's number and its first data."""
        number = self._connection.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", self.host), (":path", path)]
        self._connection.send_headers(number, head, end_stream=True)
        self.send()
        return number, self.data(number)

    def data(self, number: int) -> bytes:
        """The next data of a stream."""
        while True:
            for event in self._connection.receive_data(self._socket.recv(65536)):
                if isinstance(event, DataReceived) and event.stream_id == number and event.data:
                    return event.data
            self.send()

    def reset(self, number: int) -> None:
        self._connection.reset_stream(number, ErrorCodes.CANCEL)
        self.send()

    def subscribers(self, channel: str) -> int:
        listed = json.loads(self.get(f"/channels?prefix={channel}")[1])["channels"]
        return sum(entry["subscribers"] for entry in listed)


def test_a_stream_that_is_reset_is_let_go_and_no_other(server: Server) -> None:
    browser = Browser(server)
    left, _ = browser.get("/sse/left")
    stays, _ = browser.get("/sse/stays")
    assert (browser.subscribers("left"), browser.subscribers("stays")) == (1, 1)
    browser.reset(left)
    deadline = time.monotonic() + 30
    while browser.subscribers("left"):
        assert time.monotonic() < deadline
    assert browser.subscribers("stays") == 1
    httpx.post(f"{server.url}/publish/stays", content="still here", verify=server.trusted, timeout=30)
    assert b"data: still here" in browser.data(stays)


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
async def test_a_stream_resumes_after_its_last_event(server: Server, http2: bool) -> None:
    channel = f"resumed-{http2}"
    async with asyncio.timeout(20), server.client(http2=http2, connections=2) as client:
        async with subscribed(client, f"/sse/{channel}") as stream:
            assert stream.response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            await client.post(f"/publish/{channel}", content="0")
            seen = await stream.next()
        for number in (1, 2):
            await client.post(f"/publish/{channel}", content=str(number))
        async with subscribed(client, f"/sse/{channel}", seen.last_event_id) as stream:
            await client.post(f"/publish/{channel}", content="3")
            assert [(await stream.next()).data for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
async def test_large_events_arrive_whole(server: Server, http2: bool) -> None:
    # Past the flow-control window of a stream, 64 KiB, and past a TLS record.
    channel, texts = f"large-{http2}", [str(number) * 60_000 for number in range(10)]
    async with (
        asyncio.timeout(20),
        server.client(http2=http2, connections=2) as client,
        subscribed(client, f"/sse/{channel}") as stream,
    ):
        for text in texts:
            assert (await client.post(f"/publish/{channel}", content=text)).status_code == 200
        assert [(await stream.next()).data for _ in texts] == texts


async def test_a_drain_says_closing_and_cuts_every_stream(tmp_path: Path) -> None:
    with running(started(tmp_path)) as server:
        async with asyncio.timeout(30), server.client(http2=True) as client, AsyncExitStack() as open_streams:
            streams = [await open_streams.enter_async_context(subscribed(client, "/sse/c")) for _ in range(50)]
            await client.post("/publish/c", content="last words")
            server.stop()
            for stream in streams:
                assert (await stream.next()).data == "last words"
                closing = await stream.next()
                assert (closing.type, closing.data) == ("$closing", '{"reason":"shutdown"}')
            # Not the clean end of a stream: some clients would take that for "finished" and stay away.
            for stream in streams:
                with pytest.raises(httpx.TransportError):
                    await stream.next()


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_may_have_either_form(tmp_path: Path, form: PrivateFormat) -> None:
    with running(started(tmp_path, form)):  # it has answered over TLS by then
        pass
