"""The one port from a worker's start to its end, with an app behind the front: nobody comes in before the app serves,
and nobody is cut without a word while a server ends in good order."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import httpx
import psutil
import pytest
from client import Stream
from conftest import PATIENCE, EdgeProcess, Edges, until
from relayed_app import content
from test_node import eventually, everybody_serves

APP = ("--app", "relayed_app:app")
SLOW_START = """
import asyncio, os, relayed_app

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await relayed_app.app(scope, receive, send)
    await receive()
    print("the app starts", flush=True)
    while not os.path.exists("may-start"):
        await asyncio.sleep(0.01)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers find the app, and where their directories of sockets are made."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("RELAYED_APP_SEEN", str(tmp_path / "seen"))
    (made := tmp_path / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    return made


def client_of(server: EdgeProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE)


def app_of(server: EdgeProcess) -> bytes:
    return httpx.get(f"http://127.0.0.1:{server.port}/t?size=100", timeout=PATIENCE).content


def answers(server: EdgeProcess) -> bool:
    with contextlib.suppress(httpx.ConnectError):
        return app_of(server) == content("t", 100)
    return False


async def asked(count: int, places: Path) -> None:
    """Until the app has been asked so often."""
    seen = places.parent / "seen"
    await eventually(lambda: seen.exists() and len(seen.read_text().split()) == count, "the app to be asked")


async def test_what_the_app_is_answering_when_the_server_ends_is_answered_whole(edge: Edges, places: Path) -> None:
    server = edge(*APP, "--workers", "2")
    server.noise_expected = True
    async with client_of(server) as client:
        calls = [asyncio.create_task(client.get(f"/t{n}?wait=1&size=300000&chunked=1")) for n in range(20)]
        calls += [asyncio.create_task(client.post(f"/p{n}?wait=1", content=b"x" * 300_000)) for n in range(5)]
        await asked(25, places)
        stream = await Stream.open(server.port, "/edge/sse/a")
        server.terminate()
        answers = await asyncio.gather(*calls)
    assert await asyncio.to_thread(server.wait) == 0, server.log()
    assert [answer.status_code for answer in answers] == [200] * 25
    assert [answer.content for answer in answers[:20]] == [content(f"t{n}", 300_000) for n in range(20)]
    assert [answer.json()["bytes"] for answer in answers[20:]] == [300_000] * 5
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    assert [event.type async for event in stream.events()] == ["$connected", "$closing"]


async def test_an_answer_is_all_out_when_the_server_ends_however_slowly_it_is_read(edge: Edges, places: Path) -> None:
    server = edge(*APP)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /t?size=250000 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asked(1, places)
        server.terminate()
        answer = b""
        while piece := await loop.sock_recv(client, 6000):
            answer += piece
            await asyncio.sleep(0.1)
    assert answer.partition(b"\r\n\r\n")[2] == content("t", 250_000)
    assert await asyncio.to_thread(server.wait) == 0, server.log()


async def test_what_the_app_has_not_begun_to_answer_when_the_drain_is_over_is_told_so(
    edge: Edges, places: Path
) -> None:
    server = edge(*APP, "--drain-timeout", "1")
    server.noise_expected = True  # it says whom the app left waiting
    async with client_of(server) as client:
        call = asyncio.create_task(client.get("/t?wait=60&size=1"))
        await asked(1, places)
        server.terminate()
        answer = await call
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
    assert answer.json()["status"] == 503
    assert await asyncio.to_thread(server.wait) == 0, server.log()


async def test_over_a_rolling_restart_every_request_to_the_app_is_answered(edge: Edges) -> None:
    server = edge(*APP)
    server.noise_expected = True
    before = set(pids_of(server))
    over = asyncio.Event()

    async def ask(name: int) -> list[int]:
        statuses = []
        async with client_of(server) as client:
            while not over.is_set():
                answer = await client.get(f"/t{name}?wait=0.02&size=50000")
                statuses.append(answer.status_code)
                assert answer.status_code == 503 or answer.content == content(f"t{name}", 50_000)
        return statuses

    callers = [asyncio.create_task(ask(name)) for name in range(4)]
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: not before & set(pids_of(server)), "new workers")
    await eventually(lambda: server.request("GET", "/readyz")[0] == 200, "the new worker")
    over.set()
    for statuses in await asyncio.gather(*callers):
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 1, "who is refused once meets another worker then"


def pids_of(server: EdgeProcess) -> list[int]:
    return [worker.pid for worker in server.workers()]


def test_nobody_is_accepted_before_the_app_has_started(edge_that_starts: Edges, tmp_path: Path, places: Path) -> None:
    (tmp_path / "slow_start.py").write_text(SLOW_START)
    server = edge_that_starts("--app", "slow_start:app")
    until(lambda: "the app starts" in server.log(), "the app")
    with pytest.raises(httpx.ConnectError):
        app_of(server)
    (tmp_path / "may-start").touch()
    until(lambda: answers(server), "the first answer")


def test_a_server_that_was_killed_is_in_nobodys_way_and_what_it_left_is_removed(edge: Edges, places: Path) -> None:
    server = edge("--workers", "2")
    server.noise_expected = True
    (left,) = places.iterdir()
    server.kill()
    assert left.exists()
    server.start()
    (made,) = places.iterdir()
    assert made != left
    assert made.stat().st_mode & 0o777 == 0o700
    assert server.request("GET", "/stats")[0] == 200
    server.stop()
    assert list(places.iterdir()) == []


def test_workers_whose_parent_was_killed_leave_nothing_behind(edge: Edges, places: Path) -> None:
    server = edge("--workers", "2")
    server.noise_expected = True
    everybody_serves(server, 2)
    workers = server.workers()
    psutil.Process(server.pid).kill()
    psutil.wait_procs(workers, PATIENCE)
    server.wait()
    assert list(places.iterdir()) == []


async def test_of_a_worker_that_was_killed_no_socket_is_left_and_another_relays_in_its_place(edge: Edges) -> None:
    server = edge(*APP)
    assert answers(server)
    dead = server.behind()
    await asyncio.to_thread(server.kill_worker)
    assert answers(server)
    behind = server.behind()
    assert {*dead.parent.iterdir()} == {behind, Path(f"{behind}c")}  # where others ask it, too
    assert behind != dead


def test_with_a_certificate_nothing_stands_behind_a_front(
    edge: Edges, places: Path, certificate: tuple[str, ...]
) -> None:
    server = edge(*certificate)
    (directory,) = places.iterdir()  # where workers ask each other
    assert [path.name for path in directory.iterdir()] == [f"{worker.pid}c" for worker in server.workers()]
    assert server.request("GET", "/readyz")[0] == 200


# ---- a Unix socket ---------------------------------------------------------------------------------------------------


def by_socket(path: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=PATIENCE)


async def test_on_a_unix_socket_all_workers_share_streams_are_native_and_the_rest_is_relayed(
    edge: Edges, tmp_path: Path
) -> None:
    server = edge("--uds", str(path := tmp_path / "s"), "--workers", "2")
    server.noise_expected = True
    async with by_socket(path) as client, client.stream("GET", "/sse/a") as stream:
        pieces = stream.aiter_text()
        assert "$connected" in await anext(pieces)
        published = await client.post("/publish/a", content=b"hello")
        assert published.json()["id"] in await anext(pieces)
        await eventually(lambda: server.stats()["transports"]["native"]["connections"] == 1, "its count")
        assert "<!doctype html>" in (await client.get("/")).text


async def test_a_unix_socket_is_open_throughout_a_rolling_restart_and_gone_at_the_end(
    edge: Edges, tmp_path: Path
) -> None:
    server = edge("--uds", str(path := tmp_path / "s"), "--workers", "2")
    server.noise_expected = True
    before = {worker.pid for worker in server.workers()}
    over = asyncio.Event()

    async def come_and_go() -> list[int]:
        statuses = []
        while not over.is_set():
            async with by_socket(path) as client:
                statuses.append((await client.post("/publish/a", content=b"x")).status_code)
                statuses.append((await client.get("/livez")).status_code)
        return statuses

    clients = [asyncio.create_task(come_and_go()) for _ in range(4)]
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: not before & {worker.pid for worker in server.workers()}, "new workers")
    over.set()
    for statuses in await asyncio.gather(*clients):
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 8
    await asyncio.to_thread(server.stop)
    assert not path.exists()
