"""The ambiguous heads through the real proxies: whatever one lets through means the same to it and to the edge.

What goes between proxy and edge is written down. It has to be, request by request, what the proxy's log says, and what
the edge answered, each by its own name; and the edge published what it says that it did.
"""

import asyncio
import json
import re
import ssl
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import h11
import pytest
from ambiguity import Case
from ambiguous_heads import CASES, STREAMS
from conftest import PATIENCE, EdgeProcess, Edges
from proxies import Haproxy, Nginx, Proxy
from tee import Heard, Tee

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = 16
SENT = [case for case in CASES if case not in STREAMS]  # a stream that a proxy puts right has no end
LAST = b"GET /app?last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
NAME = re.compile(rb"/(?:app|publish)/case(\d+)")


class LoggingNginx(Nginx):
    """That logs what it has handed on, and waits for nobody."""

    def command(self) -> list[str]:
        command = super().command()
        config = self.directory / "nginx.conf"
        text = config.read_text()
        log = f"access_log {self.directory}/access.log"
        assert f"{log};" in text
        shape = "log_format handed '[$upstream_status] \"$request\"';"
        brief = "client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; lingering_close off;"
        config.write_text(text.replace(f"{log};", f"{shape} {log} handed; {brief}"))
        return command

    def handed_on(self) -> list[tuple[bytes, bool]]:
        """The line of each request that the edge was asked, and whether that came to its end."""
        lines = re.findall(rb'^\[(.+?)\] "(.*)"$', (self.directory / "access.log").read_bytes(), re.M)
        return [(asked, True) for status, asked in lines if status != b"-"]


class LoggingHaproxy(Haproxy):
    def command(self) -> list[str]:
        command = super().command()
        config = self.directory / "haproxy.cfg"
        text, edits = config.read_text(), 0
        for long in ("timeout http-request 10s", "timeout http-keep-alive 60s", "timeout client 60s"):
            edits += long in text
            text = text.replace(long, f"{long.rpartition(' ')[0]} 1s")
        assert edits == 3
        config.write_text(text)
        return command

    def handed_on(self) -> list[tuple[bytes, bool]]:
        line = re.compile(rb'/(\S+) [-\d/+]+ \S+ \S+ \S+ \S+ (\S+) .*? "(.*)"$', re.M)
        lines = line.findall(self.log().encode(errors="surrogateescape"))
        return [(asked, state == b"----") for server, state, asked in lines if server != b"<NOSRV>"]


LOGGING: dict[str, type[LoggingNginx] | type[LoggingHaproxy]] = {"nginx": LoggingNginx, "haproxy": LoggingHaproxy}


class Asked(NamedTuple):
    case: int
    method: str
    target: bytes
    status: int


def between(heard: Heard) -> Iterator[Asked]:
    """The requests of a connection from proxy to edge, as another parser reads them, each with what it was answered.
    What that parser doesn't take, the edge must have refused."""
    up, down = heard.up, heard.down
    while down:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
        server.receive_data(up)
        server.receive_data(b"")
        first, target, *_ = [*up.split(b" ", 2), b"", b""]
        method, whole = first.decode("latin-1"), False
        try:
            event = server.next_event()
            if isinstance(event, h11.Request):
                assert (event.method, event.target) == (first, target)
                while not isinstance(event, h11.EndOfMessage):
                    event = server.next_event()
                whole = True
        except h11.RemoteProtocolError:
            pass
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method if whole else "GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(down)
        client.receive_data(b"")
        while not isinstance(answer := client.next_event(), h11.Response):
            assert isinstance(answer, h11.InformationalResponse), (answer, up, down)
        body = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), (event, up, down)
            body += event.data
        status = answer.status_code
        if not whole:
            assert status >= 400, f"the edge took for a request what is none: {up!r}"
        found = NAME.search(target)
        if found is not None:
            if status == 404 and method != "HEAD":
                assert found[0] in body, "the answer to another request"
            yield Asked(int(found[1]), method, target, status)
        up, down = server.trailing_data[0], client.trailing_data[0]
        if dict(answer.headers).get(b"connection", b"") == b"close" or not whole:
            assert not down, f"an answer behind the last: {down!r}"


async def send(proxy: Proxy, sent: bytes) -> bytes:
    """Whatever comes up to the end; the proxy waits for nothing more than a second."""
    trusted = ssl.create_default_context(cafile=proxy.authority_file)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=trusted, server_hostname="localhost")
    try:
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def numbered(number: int, case: Case) -> bytes:
    """The case under its own name, wherever it says one."""
    sent = case.sent + LAST
    return sent.replace(b"/app", b"/app/case%d" % number).replace(b"/publish/a", b"/publish/case%d" % number)


@pytest.mark.parametrize("kind", LOGGING)
async def test_what_a_proxy_lets_through_means_the_same_to_it_and_to_the_edge(
    kind: str, edge: Edges, tmp_path: Path
) -> None:
    server = edge("--trusted-proxies", "127.0.0.0/8")
    async with Tee(server.port) as tee:
        proxy = LOGGING[kind](tmp_path, tee.port)
        with ExitStack() as running:
            await asyncio.to_thread(running.enter_context, proxy.running())
            places = asyncio.Semaphore(AT_ONCE)

            async def one(number: int, case: Case) -> bytes:
                async with places:
                    return await send(proxy, numbered(number, case))

            await asyncio.gather(*(one(number, case) for number, case in enumerate(SENT)))
            await asyncio.to_thread(running.close)
        compare(proxy, tee, server)


def which(target: bytes) -> bytes:
    """Of the requests of a case."""
    found = re.search(rb"\?(behind|smuggled|last)", target)
    return found[1] if found is not None else b""


def compare(proxy: LoggingNginx | LoggingHaproxy, tee: Tee, server: EdgeProcess) -> None:
    seen: dict[int, Counter[tuple[str, bytes]]] = defaultdict(Counter)
    published: Counter[int] = Counter()
    for heard in tee.heard:
        for asked in between(heard):
            seen[asked.case][asked.method, which(asked.target)] += 1
            published[asked.case] += asked.status == 200 and asked.target.startswith(b"/publish")
    logged: dict[int, Counter[tuple[str, bytes]]] = defaultdict(Counter)
    broken: dict[int, Counter[tuple[str, bytes]]] = defaultdict(Counter)  # off, by either of the two
    for line, whole in proxy.handed_on():
        if (found := NAME.search(line)) is not None:
            request = line.split(b" ")[0].decode("latin-1"), which(line)
            (logged if whole else broken)[int(found[1])][request] += 1
    lines = proxy.log().splitlines()
    for number, case in enumerate(SENT):
        told = (case.name, seen[number], [line for line in lines if re.search(rf"/case{number}\b", line)])
        assert logged[number] <= seen[number] <= logged[number] + broken[number], told
    listed = json.loads(server.request("GET", "/channels?limit=1000")[1])["channels"]
    kept = {channel["name"]: channel["kept"] for channel in listed}
    assert kept == {f"case{number}": count for number, count in published.items() if count}
    assert sum(each.total() for each in seen.values()) > len(SENT), "hardly anything came through"
