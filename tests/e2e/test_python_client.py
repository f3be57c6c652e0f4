"""`sse_fast.client`, blocking and on a loop, with a real edge: what one publishes another is handed, through kills."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import PATIENCE, EdgeProcess, Edges, until
from support import free_port

from sse_fast.client import (
    AsyncClient,
    Client,
    Forbidden,
    Gap,
    KeyReused,
    NotFound,
    PublishedEvent,
    Refused,
    Unauthorized,
    Unavailable,
)
from sse_fast.errors import BatchTooLarge, InvalidEvent, SSEFastError
from sse_fast.transports.life import Transport

SECRET = "a secret of more than thirty-two bytes"
KILLED = """
import os, signal
from sse_fast.hub.backplane import LogBackplane
append_once = LogBackplane.append_once
async def killed_after(self, events, keys):
    once = await append_once(self, events, keys)
    try:
        os.unlink({marker!r})
    except FileNotFoundError:
        return once
    os.kill(os.getpid(), signal.SIGKILL)
LogBackplane.append_once = killed_after
"""


class Blocking:
    """Both clients asked in one way: what is asked of them waits."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Client(url, **options)

    def publish(self, *args: Any, **options: Any) -> Any:
        return self.client.publish(*args, **options)

    def publish_many(self, *args: Any, **options: Any) -> Any:
        return self.client.publish_many(*args, **options)

    def take(
        self, count: int, *channels: str, during: Callable[[Any], None] | None = None, **options: Any
    ) -> list[Any]:
        """The first so many items. `during` is called with each."""
        taken: list[Any] = []
        with self.client.listen(*channels, **options) as items:
            for item in items:
                taken.append(item)
                if during is not None:
                    during(item)
                if len(taken) == count:
                    return taken
        raise AssertionError(f"it ended after {taken}")

    def close(self) -> None:
        self.client.close()


class OnLoop:
    def __init__(self, url: str, **options: Any) -> None:
        self.client = AsyncClient(url, **options)
        self.runner = asyncio.Runner()

    def publish(self, *args: Any, **options: Any) -> Any:
        return self.runner.run(self.client.publish(*args, **options))

    def publish_many(self, *args: Any, **options: Any) -> Any:
        return self.runner.run(self.client.publish_many(*args, **options))

    def take(
        self, count: int, *channels: str, during: Callable[[Any], None] | None = None, **options: Any
    ) -> list[Any]:
        async def taking() -> list[Any]:
            taken: list[Any] = []
            async with self.client.listen(*channels, **options) as items:
                async for item in items:
                    taken.append(item)
                    if during is not None:
                        await asyncio.to_thread(during, item)
                    if len(taken) == count:
                        return taken
            raise AssertionError(f"it ended after {taken}")

        return self.runner.run(taking())

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


Made = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    """One for all who do nothing to it; each has channels of his own."""
    process = EdgeProcess(tmp_path_factory.mktemp("edge"), (), Transport.NATIVE)
    process.start()
    yield process
    process.stop()


@pytest.fixture(params=[Blocking, OnLoop])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    """Makes clients, and closes them."""
    clients: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        clients.append(request.param(url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def texts(items: list[Any]) -> list[str]:
    return [item.data for item in items]


# ---- what is published is handed out ---------------------------------------------------------------------------------


def test_what_is_published_is_handed_out_with_where_and_when(server: EdgeProcess, made: Made) -> None:
    client = made(server.url)
    start = str(client.publish("start", 0))
    first = client.publish("orders:7", {"state": "paid"}, event="order")
    second = client.publish(["orders:8", "news"], "a\nb")
    third, fourth = client.publish_many(
        [
            {"channel": "orders:9", "data": 1.5, "key": f"own {start}"},
            {"channels": ["orders:7", "news"], "data": b"raw"},
        ]
    )
    items = client.take(4, "news", patterns=["orders:*"], last_event_id=start)
    assert [str(id) for id in (first, second, third, fourth)] == [item.id for item in items]
    assert [(item.event, item.data, item.channel, item.channels) for item in items] == [
        ("order", '{"state":"paid"}', "orders:7", ("orders:7",)),
        ("message", "a\nb", "orders:8", ("orders:8", "news")),
        ("message", "1.5", "orders:9", ("orders:9",)),
        ("message", "raw", "orders:7", ("orders:7", "news")),
    ]
    assert items[0].json() == {"state": "paid"}
    assert items[0].published <= items[3].published
    assert texts(client.take(2, "news", "orders:9", last_event_id=str(second))) == ["1.5", "raw"]
    assert texts(client.take(1, "news", history=1)) == ["raw"]


def test_a_key_stands_for_one_event_whoever_sends_it(
    server: EdgeProcess, made: Made, request: pytest.FixtureRequest
) -> None:
    k, many = (f"{name} of {request.node.name}" for name in ("k", "many"))
    client, other = made(server.url), made(server.url)
    assert client.publish("a", 1, key=k) == other.publish("a", 1, key=k)
    assert client.publish_many([{"channel": "a", "data": 2}], key=many) == other.publish_many(
        [{"channel": "a", "data": 2}], key=many
    )
    assert client.publish("a", 1) != client.publish("a", 1), "without one each is an event of its own"
    with pytest.raises(KeyReused, match="used before"):
        client.publish("a", 2, key=k)
    assert client.publish_many([]) == []


def test_what_no_edge_would_take_is_refused_before_anything_is_sent(made: Made) -> None:
    client = made(f"http://127.0.0.1:{free_port()}")
    for channel, data, options in [("a b", 1, {}), ("a", {1: float("nan")}, {}), ("a", 1, {"key": "ä"})]:
        with pytest.raises(InvalidEvent):
            client.publish(channel, data, **options)
    with pytest.raises(InvalidEvent, match=r"event 1 of the batch.*'chanel'"):
        client.publish_many([{"channel": "a", "data": 1}, {"chanel": "a", "data": 1}])
    with pytest.raises(InvalidEvent, match="one or the other"):
        client.publish_many([{"channel": "a", "data": 1, "key": "b"}], key="c")
    with pytest.raises(BatchTooLarge):
        client.publish_many([{"channel": "a", "data": "x" * 1_000_000}] * 17)
    with pytest.raises(TypeError, match=r"listen\(\"a\", \"b\""):
        client.take(1, ["a"])


# ---- an edge that goes, and comes again ------------------------------------------------------------------------------


def test_what_the_edge_has_lost_is_said_where_it_is_missing(edge: Edges) -> None:
    server = edge()
    with Client(server.url) as client:
        client.publish("a", "before")
        with client.listen("a", last_event_id="earliest") as items:
            before = next(items)
            server.kill()  # with its log, which is in memory
            server.start()
            client.publish("a", "after")
            gap, after = next(items), next(items)
        assert isinstance(before, PublishedEvent)
        assert isinstance(gap, Gap)
        assert isinstance(after, PublishedEvent)
        assert (before.data, gap.after, after.data) == ("before", before.id, "after")
        gaps: list[Gap] = []
        with client.listen("a", last_event_id=before.id, on_gap=gaps.append) as others:
            assert next(others) == after
        assert gaps == [gap]


def test_what_a_worker_had_published_before_it_died_is_not_published_again(
    edge: Edges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL between the append and the answer; the client comes again by itself."""
    marker = tmp_path / "kill"
    (tmp_path / "sitecustomize.py").write_text(KILLED.format(marker=str(marker)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = edge("--workers", "2")
    server.noise_expected = True  # Granian warns of more workers than cores
    client = Blocking(server.url)
    marker.touch()
    ids = [client.publish("a", "one")]
    assert not marker.exists(), "no worker was killed"
    marker.touch()
    ids += client.publish_many([{"channel": "a", "data": "two"}, {"channel": "a", "data": "three", "key": "own"}])
    assert not marker.exists(), "no worker was killed"
    ids.append(client.publish("a", "end"))
    items = client.take(4, "a", last_event_id="earliest")
    assert texts(items) == ["one", "two", "three", "end"]
    assert [item.id for item in items] == [str(id) for id in ids]
    client.close()


def test_over_a_kill_of_the_whole_edge_all_that_was_published_comes_once_and_in_order(
    edge: Edges, tmp_path: Path
) -> None:
    """What the edge had taken and not answered yet when it died is not remembered: that one event may come twice."""
    server = edge("--log-file", str(tmp_path / "log"), "--log-size", "1MiB")
    ids: list[str] = []
    seen = 0
    goes_on = True

    def publishing() -> None:
        with Client(server.url) as client:
            while goes_on:
                ids.append(str(client.publish("a", len(ids))))
            client.publish("b", "end")

    def look(item: Any) -> None:
        nonlocal seen, goes_on
        seen += 1
        if seen == 20:
            server.kill()
            server.start()
            until(lambda: len(ids) > seen + 20, "what is published behind the restart")
            goes_on = False
        if item.channel == "b":
            raise EOFError

    found: list[Any] = []
    reader = OnLoop(server.url)
    with ThreadPoolExecutor(1) as pool, closing(reader):
        done = pool.submit(publishing)
        with pytest.raises(EOFError):
            reader.take(10**6, "a", "b", last_event_id="earliest", during=lambda item: (look(item), found.append(item)))
        done.result(PATIENCE)
    assert all(isinstance(item, PublishedEvent) for item in found), "there was no gap"
    answered = set(ids)
    assert [item.id for item in found if item.id in answered] == ids
    numbers = [int(item.data) for item in found]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(ids)))
    assert len(numbers) - len(ids) <= 1


def test_an_edge_that_stays_away_is_given_up_and_what_became_of_the_event_is_said(made: Made) -> None:
    client = made(f"http://127.0.0.1:{free_port()}", patience=1.5)
    with pytest.raises(Unavailable, match=r"is it running.*nothing was published, tried") as given_up:
        client.publish("a", 1)
    assert not given_up.value.maybe
    with pytest.raises(Unavailable, match="gave up after 1 attempt"):
        client.take(1, "a", retries=0)


def test_an_answer_that_never_comes_may_have_been_one(made: Made) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = made(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2, patience=0)
        with pytest.raises(Unavailable, match="it may have been published") as given_up:
            client.publish("a", 1)
        assert given_up.value.maybe


# ---- who may ---------------------------------------------------------------------------------------------------------


def token(seconds: float = 600, **grants: Any) -> str:
    claims = {"exp": time.time() + seconds, "sse": {"subscribe": ["a"], "publish": ["a"]} | grants}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    process = EdgeProcess(tmp_path_factory.mktemp("guarded"), ("--token-secret", SECRET), Transport.NATIVE)
    process.start()
    yield process
    process.stop()


def test_each_refusal_has_a_class_of_its_own_and_says_what_to_do(guarded: EdgeProcess, made: Made) -> None:
    url = guarded.url
    nobody, somebody = made(url), made(url, token=token())
    for refused in (lambda: nobody.publish("a", 1), lambda: nobody.take(1, "a")):
        with pytest.raises(Unauthorized, match="token=") as error:
            refused()
        assert error.value.status == 401
    for refused in (lambda: somebody.publish("b", 1), lambda: somebody.take(1, "b")):
        with pytest.raises(Forbidden):
            refused()
    elsewhere = made(url + "/elsewhere", token=token())
    for refused in (lambda: elsewhere.publish("a", 1), lambda: elsewhere.take(1, "a")):
        with pytest.raises(NotFound, match="/edge"):
            refused()
    with pytest.raises(Refused, match="pattern"):
        made(url, token=token(subscribe=["**"])).take(1, "a:*")
    with pytest.raises(ValueError, match="visible ASCII") as slip:
        made(url, token="se cret").publish("a", 1)
    assert "cret" not in str(slip.value)
    assert issubclass(Unauthorized, SSEFastError)


def test_a_stream_that_ends_with_its_token_goes_on_exactly_with_the_next_and_ends_where_that_is_not_taken(
    guarded: EdgeProcess,
) -> None:
    tokens = [token(2), token(), "forged"]
    asked: list[str] = []

    def make() -> str:
        asked.append(tokens[len(asked)])
        return asked[-1]

    def when_the_first_is_over(item: PublishedEvent) -> None:
        if item.data == "0":
            until(lambda: guarded.stats()["connections"] == 0, "the end of the stream with its token")
            owner.publish("a", 1)
        else:
            guarded.kill_worker()

    client = OnLoop(guarded.url, token=make)
    with closing(client), Client(guarded.url, token=token()) as owner:
        start = str(owner.publish("a", "start"))
        owner.publish("a", 0)
        items: list[PublishedEvent] = []
        with pytest.raises(Unauthorized):
            client.take(
                3, "a", last_event_id=start, during=lambda item: (items.append(item), when_the_first_is_over(item))
            )
    assert texts(items) == ["0", "1"]
    assert asked == tokens


async def test_a_token_may_be_made_by_a_coroutine(guarded: EdgeProcess) -> None:
    async def make() -> str:
        await asyncio.sleep(0)
        return token()

    async with AsyncClient(guarded.url, token=make) as client:
        before, id = [await client.publish("a", number) for number in range(2)]
        async with client.listen("a", last_event_id=str(before)) as items:
            assert (await anext(items)).id == str(id)


# ---- an end from elsewhere -------------------------------------------------------------------------------------------


def test_who_waits_for_an_event_is_let_go_by_another_thread(server: EdgeProcess) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(1) as pool:
        items = client.listen("a")
        taken = pool.submit(list, items)
        server.wait_connections(1)
        items.close()
        assert taken.result(PATIENCE) == []
        server.wait_connections(0)
        assert list(items) == []


def test_who_waits_for_the_edge_is_let_go_by_another_thread(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sse_fast.client")
    with Client(f"http://127.0.0.1:{free_port()}") as client, ThreadPoolExecutor(1) as pool:
        items = client.listen("a")
        taken = pool.submit(list, items)
        until(lambda: caplog.records, "the first attempt in vain")
        items.close()
        assert taken.result(PATIENCE) == []


def test_who_waits_to_publish_is_let_go_by_another_thread() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", patience=100)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(client.publish, "a", 1)
        until(lambda: client._opened or publishing.done(), "the first attempt")
        client.close()
        with pytest.raises((Unavailable, RuntimeError), match="closed"):
            publishing.result(PATIENCE)


async def test_a_task_that_waits_for_an_event_is_let_go_by_another(server: EdgeProcess) -> None:
    async with AsyncClient(server.url) as client:
        items = client.listen("a")

        async def taking() -> list[Any]:
            return [item async for item in items]

        task = asyncio.create_task(taking())
        await asyncio.to_thread(server.wait_connections, 1)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(items)
        await items.aclose()
        assert await asyncio.wait_for(task, PATIENCE) == []
        await asyncio.to_thread(server.wait_connections, 0)


async def test_who_gives_up_one_event_gets_the_next_ones_all_the_same(server: EdgeProcess) -> None:
    async with AsyncClient(server.url) as client, client.listen("given-up", last_event_id="earliest") as items:
        await client.publish("given-up", "first")
        assert (await anext(items)).data == "first"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(items), 0.05)
        await client.publish_many([{"channel": "given-up", "data": "second"}, {"channel": "given-up", "data": "third"}])
        assert [(await anext(items)).data for _ in range(2)] == ["second", "third"]


async def test_one_hundred_streams_leave_a_connection_to_publish_by(server: EdgeProcess) -> None:
    async with AsyncClient(server.url) as client:
        streams = [client.listen(f"c:{number}", last_event_id="earliest") for number in range(110)]
        tasks = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.to_thread(server.wait_connections, 110)
        await client.publish_many([{"channel": f"c:{number}", "data": number} for number in range(110)])
        assert [(await task).data for task in tasks] == [str(number) for number in range(110)]
        for stream in streams:
            await stream.aclose()


# ---- in any process --------------------------------------------------------------------------------------------------


def test_a_process_that_was_forked_publishes_by_connections_of_its_own(server: EdgeProcess) -> None:
    program = """
import os, sys
from sse_fast.client import Client
client = Client(sys.argv[1])
client.publish("forked", "parent")
if os.fork() == 0:
    client.publish("forked", "child")
    os._exit(0)
assert os.wait()[1] == 0
client.publish("forked", "parent again")
"""
    subprocess.run([sys.executable, "-c", program, server.url], check=True, timeout=PATIENCE)
    with Client(server.url) as client, client.listen("forked", last_event_id="earliest") as items:
        assert [next(items).data for _ in range(3)] == ["parent", "child", "parent again"]


async def test_a_client_that_was_used_on_one_loop_is_used_on_another(server: EdgeProcess) -> None:
    client = AsyncClient(server.url)

    def use() -> Any:
        return asyncio.run(client.publish("a", 1))

    assert (await asyncio.to_thread(use)).position < (await asyncio.to_thread(use)).position


def test_to_import_the_client_loads_no_server_and_nothing_that_sends() -> None:
    program = """
import sys
import sse_fast.client
from sse_fast.client import Client, Gap, PublishedEvent, Unavailable
Client("http://127.0.0.1:8000")
servers = {"granian", "starlette", "uvloop", "httptools", "pydantic", "prometheus_client", "sse_fast.edge", "httpx"}
print(sorted(servers & sys.modules.keys()))
"""
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env=os.environ | {"PYTHONSAFEPATH": "1"}
    )
    assert said.stdout == b"[]\n"
