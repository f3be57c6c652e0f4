"""An app behind the edge, in real processes: `sse-fast serve --app`, and the same file under uvicorn."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
from conftest import Edges
from documentation import BLOCKS, TEXT
from served import Served, served
from support import PATIENCE, Listener, until
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request, TextMessage

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "shop"
STREAMS = 8


class WebSocket:
    """A client of one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = WSConnection(ConnectionType.CLIENT)

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int, path: str) -> AsyncIterator[Self]:
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            self._send(Request(host="localhost", target=path))
            assert isinstance(await self.next(), AcceptConnection)
            yield self
        finally:
            self._writer.close()

    def _send(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self._protocol.events():
                    return event
                self._protocol.receive_data(await self._reader.read(65536) or None)

    async def ask(self, text: str) -> str:
        self._send(TextMessage(data=text))
        answer = await self.next()
        assert isinstance(answer, TextMessage)
        return str(answer.data)

    async def close(self, answer: CloseConnection) -> None:
        self._send(answer.response())


@pytest.fixture(params=["sse_fast", "uvicorn"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    options = ["--workers", "2"] if request.param == "sse_fast" else []
    async with served(request.param, HERE, "app_behind:app", *options) as app:
        yield app
        assert "Traceback" not in app.log, app.log


async def open_streams(stack: AsyncExitStack, port: int, target: str, count: int = STREAMS) -> list[Listener]:
    opened = [await stack.enter_async_context(await Listener.open(port, target)) for _ in range(count)]
    for stream in opened:
        await stream.read_until(lambda stream=stream: stream.told("$connected"))  # type: ignore[misc]
    return opened


async def test_one_file_does_the_same_behind_the_edge_and_under_uvicorn(app: Served) -> None:
    async with AsyncExitStack() as stack:
        streams = await open_streams(stack, app.port, "/events/a")
        filtered = await open_streams(stack, app.port, "/filtered/a", 2)
        await until(lambda: app.log.count("joined ") == STREAMS)
        assert app.log.count(" 127.0.0.1 live") == STREAMS
        for text in ("one", "no", "two"):
            assert (await app.http.post("/publish/a", content=text)).is_success
        assert (await app.http.post("/thread/a")).is_success
        for stream in streams:
            await stream.read_count(4)
            assert stream.data == ["one", "no", "two", "from a thread"]
            assert b"content-encoding" not in stream.headers
        for stream in filtered:
            await stream.read_count(3)
            assert stream.data == ["one", "two", "from a thread"]
        last = streams[0].events[2].last_event_id
        async with await Listener.open(app.port, "/events/a", last_event_id=last) as again:
            await again.read_count(2)
            assert (again.told("$connected"), again.data) == ([{"resume": "complete"}], ["two", "from a thread"])
    await until(lambda: app.log.count("left ") == STREAMS + 3)
    assert len(re.findall("left [0-9]+ client", app.log)) == STREAMS + 3

    who = (await app.http.get("/who")).json()
    assert who == {"pid": who["pid"], "state": 7, "client": "127.0.0.1"}
    async with WebSocket.opened(app.port, "/echo") as websocket:
        for text in ("first", "second"):
            assert (await websocket.ask(text)).startswith(f"{text} from ")
    await until(lambda: "websocket over" in app.log)
    assert (await app.http.get("/later/0")).json() == "soon"
    await until(lambda: "task done" in app.log)
    assert (await app.http.get("/nothing")).json() == {"detail": "Not Found"}


async def test_the_server_s_end_is_the_end_of_everything_of_the_app_s_in_its_order(app: Served) -> None:
    async with AsyncExitStack() as stack:
        [stream] = await open_streams(stack, app.port, "/events/a", 1)
        [other] = await open_streams(stack, app.port, "/filtered/a", 1)
        own = await stack.enter_async_context(await Listener.open(app.port, "/own"))
        await own.read_count(1)
        websocket = await stack.enter_async_context(WebSocket.opened(app.port, "/echo"))
        slow = asyncio.ensure_future(app.http.get("/slow/0.5"))
        await until(lambda: "slow begun" in app.log)
        assert (await app.http.get("/later/1")).is_success
        await until(lambda: "task begun" in app.log)
        stopping = asyncio.ensure_future(app.stop())
        assert (await slow).json() == "answered"
        closing = await websocket.next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1012
        await websocket.close(closing)
        for one in (stream, other):
            await one.read_to_the_end()
            assert one.told("$closing") == [{"reason": "shutdown"}]
        await own.read_to_the_end()
        assert await stopping in (0, -15), app.log
    for said in ("task done", "own stream closed", "websocket over"):
        assert said in app.log, app.log
    assert len(re.findall("left [0-9]+ shutdown", app.log)) == 2
    started, ended = re.findall("started ([0-9]+)", app.log), re.findall("shut down ([0-9]+)", app.log)
    assert sorted(started) == sorted(ended)
    assert app.log.rindex("shut down") > app.log.rindex("task done")


async def test_held_streams_are_native_and_both_workers_have_some() -> None:
    async with (
        served("sse_fast", HERE, "app_behind:app", "--workers", "2") as app,
        AsyncExitStack() as stack,
    ):
        await open_streams(stack, app.port, "/events/a", 16)
        await open_streams(stack, app.port, "/filtered/a", 2)

        async def transports() -> dict[str, int]:
            stats = (await app.http.get("/edge/stats")).json()
            return {name: counted["connections"] for name, counted in stats["transports"].items()}

        async def counted() -> bool:
            return await transports() == {"native": 16, "asgi": 2}

        await until(counted)
        pids: set[int] = set()

        async def asked() -> bool:
            pids.add((await app.http.get("/who", headers={"connection": "close"})).json()["pid"])
            return len(pids) == 2

        await until(asked)
        assert app.log.count(" INFO    shop  the shop opens\n") == 2
        for path, status in (("/sse/a", 404), ("/publish/a", 405), ("/stats", 404), ("/edge/stats", 200)):
            assert (await app.http.get(path)).status_code == status


async def test_the_example_asks_who_is_there_and_tells_the_staff_of_it() -> None:
    async with served("sse_fast", EXAMPLE, "main:app", "--workers", "2") as shop:
        for headers, status in (({}, 401), ({"authorization": "Bearer grace"}, 403)):
            assert (await shop.http.get("/orders/7/events", headers=headers)).status_code == status
        assert "app=main:app edge=/edge" in shop.log
        async with (
            await Listener.open(shop.port, "/edge/sse/staff") as staff,
            shop.http.stream("GET", "/orders/7/events", headers={"authorization": "Bearer ada"}) as stream,
        ):
            await staff.read_until(lambda: "join" in [event.type for event in staff.events])
            for target in ("/orders/7/paid", "/orders/8/paid", "/orders/7/packed", "/edge/publish/shop"):
                assert (await shop.http.post(target, content="closed")).is_success
            read = ""
            async for part in stream.aiter_text():
                read += part
                if "data: closed" in read:
                    break
            assert [line for line in read.splitlines() if line.startswith("data: ")][1:] == [
                'data: {"state":"paid"}',
                'data: {"state":"packed"}',
                "data: closed",
            ]
            await stream.aclose()
            await staff.read_until(lambda: "leave" in [event.type for event in staff.events])
            told = [event.data for event in staff.events if event.type in ("join", "leave")]
            assert told == ["127.0.0.1 watches order:7", "127.0.0.1 is gone: client"]


def test_what_the_documentation_shows_is_the_example() -> None:
    assert "async def events(number: int, user:" in TEXT
    [block] = [block for block in BLOCKS if "async def events(number: int, user:" in block]
    assert block in (EXAMPLE / "main.py").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app_behind.py").write_text((HERE / "app_behind.py").read_text())
    return tmp_path


async def test_a_rolling_restart_takes_the_app_s_new_code_and_ends_the_old_one_s_streams(directory: Path) -> None:
    """And where the new code is broken, the old stays."""
    options = ("--workers", "2", "--drain-timeout", "5")
    async with served("sse_fast", directory, "app_behind:app", *options) as app, AsyncExitStack() as stack:
        await until(lambda: app.log.count("Started worker") == 2)
        [held] = await open_streams(stack, app.port, "/events/a", 1)
        own = await stack.enter_async_context(await Listener.open(app.port, "/own"))
        await own.read_count(1)
        (directory / "broken").touch()
        app.signal(signal.SIGHUP)
        await until(lambda: "the old ones stay" in app.log)
        assert "app_behind cannot be imported: OSError: the shop is closed" in app.log
        assert "shut down" not in app.log
        (directory / "broken").unlink()
        app.signal(signal.SIGHUP)
        await held.read_to_the_end()
        assert held.told("$closing") == [{"reason": "shutdown"}]
        await own.read_to_the_end()
        await until(lambda: app.log.count("shut down") == 2)
        assert app.log.count("started") == 4
        [again] = await open_streams(stack, app.port, "/events/a", 1)
        assert again.status == 200


async def test_what_the_app_is_still_doing_when_a_drain_begins_it_may_publish_and_others_have_it(app: Served) -> None:
    """At a stop."""
    async with AsyncExitStack() as stack:
        await open_streams(stack, app.port, "/watched/a")
        calls = [asyncio.ensure_future(app.http.post("/while-it-drains/a")) for _ in range(4)]
        await until(lambda: app.log.count("asked") == len(calls))
        stopping = asyncio.ensure_future(app.stop())
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * len(calls)
        assert await stopping in (0, -15), app.log


async def test_over_a_rolling_restart_what_requests_and_on_leave_publish_reaches_the_streams_of_others() -> None:
    options = ("--workers", "2", "--drain-timeout", "5")
    async with served("sse_fast", HERE, "app_behind:app", *options) as app, AsyncExitStack() as stack:
        await until(lambda: app.log.count("Started worker") == 2)
        await open_streams(stack, app.port, "/watched/a", 16)
        calls = [asyncio.ensure_future(app.http.post("/while-it-drains/a")) for _ in range(8)]
        await until(lambda: app.log.count("asked") == len(calls))
        app.signal(signal.SIGHUP)
        answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * len(calls), app.log
        await until(lambda: app.log.count("shut down") == 2)
        watcher = await Listener.open(app.port, "/edge/sse/a", last_event_id="earliest")
        stack.callback(watcher.close)
        await watcher.read_count(16 + 2 * len(calls))
        expected = ["from a request", "from a thread"] * len(calls) + ["left: shutdown"] * 16
        assert sorted(watcher.data) == sorted(expected)
        ids = {event.last_event_id for event in watcher.events if event.data == "from a request"}
        assert ids == {answer.json() for answer in answers}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("app_behind:nothing", "app_behind has no attribute 'nothing'"),
        ("no_such:app", "there is no module 'no_such'"),
        ("app_behind:app", "app_behind cannot be imported: OSError: the shop is closed"),
    ],
)
async def test_a_server_whose_app_cannot_be_had_says_so_and_ends(
    edge_that_starts: Edges, directory: Path, name: str, told: str
) -> None:
    if name == "app_behind:app":
        (directory / "broken").touch()
    server = edge_that_starts("--app", name)
    assert await asyncio.to_thread(server.wait) == 1
    assert server.log().count(f"--app {name}: {told}") == 1
    assert ("Traceback" in server.log()) == (name == "app_behind:app")
