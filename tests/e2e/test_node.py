"""Several workers, one log, seen from outside: whichever worker answers, the server is one.

Which worker a connection meets is the kernel's choice. /stats says which one answers, so whoever needs a certain one
opens connections until he has it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from client import Stream, position
from conftest import PATIENCE, EdgeProcess, Edges, until
from prometheus_client.parser import text_string_to_metric_families
from support import free_port
from whatwg import Event

WORKERS = 3
ABSTRACT = Path("/proc/net/unix")


def pids(server: EdgeProcess) -> list[int]:
    return [int(worker["pid"]) for worker in server.stats()["workers"]]


@pytest.fixture
def node(edge: Edges) -> Callable[..., EdgeProcess]:
    """A server of several workers, all of which serve: `node("--retry", "100")`."""

    def start(*flags: str, workers: int = WORKERS) -> EdgeProcess:
        server = edge("--workers", str(workers), *flags)
        server.noise_expected = True  # Granian warns of more workers than cores
        everybody_serves(server, workers)
        return server

    return start


def everybody_serves(server: EdgeProcess, workers: int = WORKERS) -> None:
    def there() -> list[int]:
        children = {child.pid for child in server.workers() if child.status() != psutil.STATUS_ZOMBIE}
        found = told_pids(server)
        return found if len(found) == workers and children >= set(found) else []

    # Of one that has just died the others know with the next tick.
    for pid in until(there, f"{workers} workers"):
        WorkerClient(server, pid).close()


async def eventually(holds: Callable[[], Any], what: str) -> None:
    """As `until`, but the loop goes on."""
    await asyncio.to_thread(until, holds, what)


class WorkerClient:
    """A kept-alive connection to a certain worker."""

    def __init__(self, server: EdgeProcess, pid: int) -> None:
        self._edge_path = server.edge_path

        def there() -> http.client.HTTPConnection | None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            self._connection = connection
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.stats().get("pid") == pid:
                    return connection
            connection.close()
            return None

        until(there, f"a connection to worker {pid}")

    def get(self, path: str) -> bytes:
        self._connection.request("GET", self._edge_path + path)
        return self._connection.getresponse().read()

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/stats"))
        return found

    def metrics(self) -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(self.get("/metrics").decode())
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("sse_fast_")
        }

    def publish(self, channel: str, data: str) -> str:
        self._connection.request("POST", f"{self._edge_path}/publish/{channel}", data.encode())
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return str(json.loads(body)["id"])

    def close(self) -> None:
        self._connection.close()


async def stream_at(server: EdgeProcess, pid: int, path: str, last_event_id: str | None = None) -> Stream:
    """A stream that sits on a certain worker."""

    def streams() -> int:
        return sum(worker["connections"] for worker in server.stats()["workers"] if worker["pid"] == pid)

    async with asyncio.timeout(PATIENCE):
        while True:
            before = streams()
            headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
            stream = await Stream.open(server.port, path, headers)
            if streams() > before:
                return stream
            stream.cut()
            await asyncio.sleep(0)  # or it would not be cut yet


async def read(stream: Stream, count: int) -> list[Event]:
    """The first `count` events of the channels."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            if not event.type.startswith("$"):
                found.append(event)
            if len(found) == count:
                break
    return found


async def first_words(stream: Stream) -> str:
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            return event.data
    raise AssertionError("the stream said nothing")


async def test_an_event_that_enters_by_any_worker_reaches_the_streams_of_all(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    streams = [await stream_at(server, pid, "/sse/a") for pid in pids(server) for _ in range(2)]
    clients = [WorkerClient(server, pid) for pid in pids(server)]
    ids = [clients[number % WORKERS].publish("a", str(number)) for number in range(30)]
    assert ids == sorted(ids, key=position), "one order, whichever worker takes them in"
    for stream in streams:
        events = await read(stream, len(ids))
        assert [(event.last_event_id, event.data) for event in events] == [(id, str(n)) for n, id in enumerate(ids)]


async def test_streams_are_served_by_every_worker_and_are_native_at_each(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    streams = [await Stream.open(server.port, "/sse/a") for _ in range(24)]
    assert sum(worker["connections"] > 0 for worker in server.stats()["workers"]) > 1, "the kernel did not spread them"
    ids = [WorkerClient(server, pid).publish("a", "x") for pid in pids(server)]
    for stream in streams:
        assert [event.last_event_id for event in await read(stream, len(ids))] == ids
    await eventually(lambda: server.stats()["transports"]["native"]["connections"] == 24, "the count of them all")


async def test_a_client_resumes_at_another_worker_exactly(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    here, there, *_ = pids(server)
    stream = await stream_at(server, here, "/sse/a")
    ids = server.publish_many("a", list(range(10)))
    seen = await read(stream, 4)
    stream.cut()
    stream = await stream_at(server, there, "/sse/a", seen[-1].last_event_id)
    assert [event.last_event_id for event in await read(stream, 6)] == ids[4:]


@pytest.mark.parametrize("limit", ["--max-connections", "--max-connections-per-ip"])
async def test_a_limit_on_streams_holds_for_all_workers_together(node: Callable[..., EdgeProcess], limit: str) -> None:
    server = node(limit, "12")
    streams = await asyncio.gather(*(Stream.open(server.port, "/sse/a") for _ in range(12)))
    assert Counter([await first_words(stream) for stream in streams]) == {'{"resume":"live"}': 12}
    for _ in range(6):
        assert await first_words(await Stream.open(server.port, "/sse/a")) == '{"reason":"overloaded"}'
    stats = server.stats()
    assert stats["connections"] == 12
    assert sum(worker["connections"] > 0 for worker in stats["workers"]) > 1, "the kernel did not spread them"
    streams[0].cut()
    await asyncio.to_thread(server.wait_connections, 11)
    assert await first_words(await Stream.open(server.port, "/sse/a")) == '{"resume":"live"}'
    await eventually(lambda: server.stats()["refused"] == 6, "six refusals, over all workers")


async def test_every_worker_tells_the_sums_of_all(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    clients = [WorkerClient(server, pid) for pid in pids(server)]
    streams = [await stream_at(server, pid, "/sse/a") for pid in pids(server)]
    await asyncio.to_thread(server.wait_connections, 3)
    for number, client in enumerate(clients):
        client.publish("a", "x" * (number + 1))
    accepted = server.stats()["accepted"]
    wanted = {"connections": 3, "published": 3, "published_bytes": 3 * len("data: \n\n") + 6, "deliveries": 9}
    for client in clients:
        await eventually(lambda client=client: wanted.items() <= client.stats().items(), "the sums")
        stats = client.stats()
        assert sorted(worker["connections"] for worker in stats["workers"]) == [1, 1, 1]
        assert stats["accepted"] >= accepted
        told = client.metrics()
        for name in ("published_total", "published_bytes_total", "deliveries_total", "log_position"):
            assert told[f"sse_fast_{name}", "[]"] == (wanted | {"log_position": 3})[name.removesuffix("_total")]
        assert told["sse_fast_connections", "[('transport', 'native')]"] == 3
        assert told["sse_fast_workers", "[]"] == WORKERS
    for stream in streams:
        stream.cut()


async def test_the_stats_channel_speaks_on_every_worker_and_of_all(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    ids = server.publish_many("a", list(range(5)))
    for pid in pids(server):
        stream = await stream_at(server, pid, "/sse?channel=%24stats")
        async with asyncio.timeout(PATIENCE):
            async for event in stream.events():
                if event.type == "stats" and json.loads(event.data)["published"] == len(ids):
                    break


async def test_totals_never_fall_whoever_is_asked_and_whoever_dies(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    server.publish_many("a", list(range(100)))
    await eventually(
        lambda: all(WorkerClient(server, pid).stats()["published"] == 100 for pid in pids(server)), "the sums"
    )
    for pid in pids(server):
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: pid not in safe_pids(server), "the end of a worker")
        await asyncio.to_thread(everybody_serves, server)
        assert server.stats()["published"] == 100
    assert server.publish("a", "on").endswith("-101"), "the log outlives all its workers"


def told_pids(server: EdgeProcess) -> list[int]:
    """As `pids`, but of a server that is hurt: none where the connection, or the question, is refused."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        status, body = server.request("GET", "/stats")
        if status == http.client.OK:
            return [int(worker["pid"]) for worker in json.loads(body)["workers"]]
    return []


def safe_pids(server: EdgeProcess) -> list[int]:
    """As `told_pids`, but where nothing is told all are believed there."""
    return told_pids(server) or [worker.pid for worker in server.workers()]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_worker_that_is_killed_over_and_over_is_replaced_and_nothing_acknowledged_is_lost(
    node: Callable[..., EdgeProcess], workers: int
) -> None:
    server = node(workers=workers)
    async with busy(server) as ledger:
        for _ in range(4):
            await asyncio.sleep(0.3)
            children = server.workers()
            children[0].kill()
            await eventually(lambda dead=children[0]: not dead.is_running(), "the end")
            await asyncio.to_thread(ledger.moves_on)
    assert server.running
    ledger.check()


async def test_a_rolling_restart_loses_nothing_and_leaves_no_worker_of_before(node: Callable[..., EdgeProcess]) -> None:
    for workers in (1, 2):
        server = node(workers=workers)
        before = set(pids(server))
        async with busy(server) as ledger:
            os.kill(server.workers()[0].parent().pid, signal.SIGHUP)
            await eventually(lambda old=before, s=server: not old & {w.pid for w in s.workers()}, "new workers")
            await asyncio.to_thread(everybody_serves, server, workers)
            await asyncio.to_thread(ledger.moves_on)
        ledger.check()
        assert "Unexpected exit" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_rolling_restart_is_a_good_end(
    node: Callable[..., EdgeProcess], number: signal.Signals
) -> None:
    server = node()
    parent = server.workers()[0].parent()
    assert parent is not None
    parent.send_signal(signal.SIGHUP)
    until(lambda: len(server.workers()) > WORKERS, "a new worker beside the old ones")
    for process in (parent, *parent.children()) if number == signal.SIGINT else (parent,):
        process.send_signal(number)  # Ctrl-C reaches all of them
    assert server.wait() == 0, server.log()
    for word in ("Unexpected exit", "refused to gracefully stop", "Traceback"):
        assert word not in server.log()


RELOADED = {
    "while it loads": """
import os, signal, sys
class Reload:
    def find_spec(self, name, path=None, target=None):
        if name == "sse_fast.cli.main":
            os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, Reload())
""",
    "before it has handlers": """
import os, signal, sys
import sse_fast.node.serve as serve
create_node = serve.create_node
serve.create_node = lambda *args: (os.kill(os.getpid(), signal.SIGHUP), create_node(*args))[1]
""",
    "while Python ends": """
import os, signal
class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGHUP):
        kill(me, number)
last = Last()
""",
}


@pytest.mark.parametrize("when", RELOADED)
def test_a_server_outlives_a_reload_that_comes_when_there_is_nothing_to_reload(
    when: str, edge: Edges, customized: Callable[[str], None]
) -> None:
    customized(RELOADED[when])
    server = edge()
    server.stop()


async def test_a_hung_worker_holds_nobody_up_and_is_replaced(node: Callable[..., EdgeProcess]) -> None:
    server = node("--hung-worker-timeout", "2")
    hung, *others = pids(server)
    stream = await stream_at(server, others[0], "/sse/a")
    stuck = await stream_at(server, hung, "/sse/a")
    client = WorkerClient(server, others[1])
    os.kill(hung, signal.SIGSTOP)
    ids = [client.publish("a", str(number)) for number in range(200)]
    assert [event.last_event_id for event in await read(stream, len(ids))] == ids
    await eventually(lambda: not psutil.pid_exists(hung), "the end of the hung worker")
    assert "has not answered" in server.log()
    assert {worker["pid"] for worker in client.stats()["workers"]} >= set(others)
    await asyncio.to_thread(everybody_serves, server)
    stuck.cut()
    (again,) = set(pids(server)) - set(others)
    resumed = await stream_at(server, again, "/sse/a", ids[0])
    assert [event.last_event_id for event in await read(resumed, len(ids) - 1)] == ids[1:]


async def test_a_worker_that_hangs_before_it_serves_is_replaced_too(
    node: Callable[..., EdgeProcess], customized: Callable[[str], None]
) -> None:
    customized("import sse_fast.node.supervisor; sse_fast.node.supervisor.READY_WITHIN = 8.0")
    server = node("--hung-worker-timeout", "600")
    before = server.workers()
    before[0].kill()
    born = await asyncio.to_thread(until, lambda: set(server.workers()) - set(before), "a new worker")
    hung = born.pop()
    hung.suspend()
    await eventually(lambda: not hung.is_running(), "the end of the hung worker")
    await asyncio.to_thread(everybody_serves, server)


async def test_a_worker_that_hangs_while_it_is_to_leave_does_not_hold_a_rolling_restart_up(
    node: Callable[..., EdgeProcess],
) -> None:
    server = node("--hung-worker-timeout", "2", "--drain-timeout", "600", workers=1)
    (old,) = server.workers()
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: "draining" in server.log(), "the old worker to leave")
    old.suspend()
    await eventually(lambda: not old.is_running(), "the end of the hung worker")
    await asyncio.to_thread(everybody_serves, server, 1)


def test_with_the_parent_killed_the_workers_leave_and_nothing_stays_behind(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    children = server.workers()
    parent = children[0].parent()
    assert parent is not None
    wake_sockets = {name for child in children for name in wake_sockets_of(child)}
    assert len(wake_sockets) == WORKERS
    assert wake_sockets <= abstract_names()
    parent.kill()
    psutil.wait_procs(children, PATIENCE)
    assert not [child for child in children if child.is_running()]
    assert not wake_sockets & abstract_names()
    assert not [name for name in os.listdir("/dev/shm") if re.search("sse[-_]fast", name)]


def wake_sockets_of(process: psutil.Process) -> set[str]:
    names = (str(connection.laddr) for connection in process.net_connections("unix"))
    return {name.lstrip("@\0") for name in names if "sse_fast-" in name}


def abstract_names() -> set[str]:
    lines = ABSTRACT.read_text().splitlines()
    return {line.split("@")[-1] for line in lines if "@sse_fast-" in line}


@pytest.fixture
def customized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have every Python process of the server run some code before all else."""

    def customize(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return customize


async def test_workers_that_are_spawned_and_not_forked_find_the_node_too(
    node: Callable[..., EdgeProcess], customized: Callable[[str], None], tmp_path: Path
) -> None:
    born = tmp_path / "born"  # a process that was forked has not run this
    customized(
        "import multiprocessing, os; multiprocessing.set_start_method('spawn', force=True)\n"
        f"with open({str(born)!r}, 'a') as all: all.write(f'{{os.getpid()}}\\n')"
    )
    server = node(workers=2)
    assert set(pids(server)) <= set(map(int, born.read_text().split()))
    streams = [await stream_at(server, pid, "/sse/a") for pid in pids(server)]
    ids = [WorkerClient(server, pid).publish("a", "x") for pid in pids(server)]
    for stream in streams:
        assert [event.last_event_id for event in await read(stream, 2)] == ids
    first = pids(server)[0]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: first not in safe_pids(server), "the end of a worker")
    await asyncio.to_thread(everybody_serves, server, 2)
    assert server.publish("a", "on").endswith("-3")


def test_workers_that_never_come_to_serve_end_the_server_with_status_1(
    edge: Edges, customized: Callable[[str], None]
) -> None:
    customized("import sys; sys.modules['sse_fast.node.worker'] = None")
    with pytest.raises(AssertionError, match="died 3 times before it could serve; giving up"):
        edge()


# ---- the parent is killed --------------------------------------------------------------------------------------------

WAIT = """
import os, sys, time, signal, ctypes
def wait_for_the_end_of_the_parent():
    parent = os.getppid()
    print("waits", os.getpid(), file=sys.stderr, flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
"""
INSTANTS = {
    "while it loads the app": """
import sse_fast.node.serve as serve
load = serve.load_edge
serve.load_edge = lambda *given: (wait_for_the_end_of_the_parent(), load(*given))[1]
""",
    "once the kernel is to tell": """
import sse_fast.node.worker as worker
edge = worker.edge
worker.edge = lambda *given: (wait_for_the_end_of_the_parent(), edge(*given))[1]
""",
    "before it has its own handlers, and the signal is lost": """
import sse_fast.edge.app as app
start_up = app.Edge._start_up
def start(self, *args):
    ctypes.CDLL(None).prctl(1, 0)
    wait_for_the_end_of_the_parent()
    return start_up(self, *args)
app.Edge._start_up = start
""",
    "once it serves, and the signal is lost": """
import sse_fast.node.workers as workers
beat = workers.WorkerSlot.beat
def once(self):
    workers.WorkerSlot.beat = beat
    beat(self)
    ctypes.CDLL(None).prctl(1, 0)
    wait_for_the_end_of_the_parent()
workers.WorkerSlot.beat = once
""",
}


@pytest.mark.parametrize("instant", INSTANTS)
def test_no_worker_outlives_its_parent_wherever_it_was_on_its_way(
    instant: str, edge_that_starts: Edges, customized: Callable[[str], None], tmp_path: Path
) -> None:
    customized(WAIT + INSTANTS[instant])
    server = edge_that_starts()
    (line,) = until(lambda: [line for line in server.log().splitlines() if line.startswith("waits ")], "the worker")
    worker = psutil.Process(int(line.split()[1]))
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the end of the worker")
    (tmp_path / "sitecustomize.py").unlink()
    server.start()
    assert server.publish("a", "on")


@pytest.mark.skipif("SSE_FAST_ORPHAN_ROUNDS" not in os.environ, reason="SSE_FAST_ORPHAN_ROUNDS=N: so many kills")
def test_no_worker_outlives_its_parent_whenever_it_is_killed(edge_that_starts: Edges, rng: random.Random) -> None:
    server = edge_that_starts("--workers", "2")
    for _ in range(int(os.environ["SSE_FAST_ORPHAN_ROUNDS"])):
        until(lambda: server.workers(), "a worker")
        time.sleep(rng.uniform(0, 1.2))
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        psutil.wait_procs(workers, PATIENCE)
        assert not [worker for worker in workers if worker.is_running()]
        server.begin()


# ---- a log in a file -------------------------------------------------------------------------------------------------


async def test_a_log_in_a_file_outlives_the_whole_server_and_clients_resume_from_before(
    node: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    server = node("--log-file", str(tmp_path / "log"), workers=2)
    ids = server.publish_many("a", list(range(10)))
    for end in (server.kill, server.stop):
        end()
        server.start()
        await asyncio.to_thread(everybody_serves, server, 2)
        stream = await Stream.open(server.port, "/sse/a", {"Last-Event-ID": ids[3]})
        ids += server.publish_many("a", ["on"])
        assert [event.last_event_id for event in await read(stream, len(ids) - 4)] == ids[4:]
        stream.cut()
    assert [position(id) for id in ids] == list(range(1, 13))
    assert len({id.partition("-")[0] for id in ids}) == 3, "each server has an epoch of its own"


@pytest.mark.parametrize("where", ["port", "socket"])
def test_of_two_servers_started_at_once_one_serves_and_the_other_says_why_it_does_not(
    where: str, edge_that_starts: Edges, tmp_path: Path
) -> None:
    shared = {"port": ["--port"], "socket": ["--uds"]}[where]
    shared.append(str(tmp_path / "edge.sock") if where == "socket" else str(free_port()))
    both = [edge_that_starts(*shared) for _ in range(2)]
    until(lambda: not all(server.running for server in both), "the end of one of them")
    (lost,) = (server for server in both if not server.running)
    assert lost.wait() == 1
    assert lost.log().count("\n") == 1
    assert ("listens on" if where == "socket" else "is in use") in lost.log()
    assert shared[1] in lost.log()
    (won,) = (server for server in both if server is not lost)
    until(lambda: "Started worker" in won.log(), "the other one to serve")
    won.terminate()
    assert won.wait() == 0, won.log()


def test_two_servers_do_not_share_a_log_file(node: Callable[..., EdgeProcess], edge: Edges, tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = node("--log-file", str(path), workers=1)
    with pytest.raises(AssertionError, match=f"{path} is in use by another server"):
        edge("--log-file", str(path))
    assert server.publish("a", "on")


# ---- traffic ---------------------------------------------------------------------------------------------------------


class Ledger:
    """What was acknowledged, and what clients got who came back by themselves."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, str] = {}
        self.got: list[dict[int, str]] = []
        self.complaints: list[str] = []
        self.begins: list[int] = []

    def moves_on(self) -> None:
        """Wait until more was acknowledged and everybody has it."""
        there = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > there, "another acknowledgement")
        last = max(self.acknowledged)
        until(lambda: all(last in got for got in self.got), "all clients to have it")

    def check(self) -> None:
        assert not self.complaints
        assert len(self.acknowledged) > 20
        for begins, got in zip(self.begins, self.got, strict=True):
            owed = {at: data for at, data in self.acknowledged.items() if at > begins}
            # An event whose acknowledgement was lost on the way may be there as well.
            assert owed.items() <= got.items()


async def publish(server: EdgeProcess, name: int, ledger: Ledger) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        number = 0
        while True:
            number += 1
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post("/publish/a", content=f"{name}:{number}")
                if answer.status_code == 200:
                    at = position(answer.json()["id"])
                    assert at not in ledger.acknowledged, "a position was given twice"
                    ledger.acknowledged[at] = f"{name}:{number}"
            await asyncio.sleep(0.01)


async def subscribe(server: EdgeProcess, ledger: Ledger, began: asyncio.Event) -> None:
    got: dict[int, str] = {}
    last: str | None = None
    while True:
        with contextlib.suppress(ConnectionError):
            stream = await Stream.subscribe(server.port, ["a"], last)
            async for event in stream.events():
                if event.type == "$connected" and last is None:
                    ledger.begins.append(position(event.last_event_id))
                    ledger.got.append(got)
                    began.set()
                elif event.type == "$gap" or (event.type == "$connected" and "complete" not in event.data):
                    ledger.complaints.append(str(event))
                elif event.type == "message":
                    if got and position(event.last_event_id) <= max(got):
                        ledger.complaints.append(f"again, or out of order: {event}")
                    got[position(event.last_event_id)] = event.data
                last = event.last_event_id or last
            stream.cut()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def busy(server: EdgeProcess) -> Any:
    """Clients that come back and publishers, until the end of the block."""
    ledger = Ledger()
    began = [asyncio.Event() for _ in range(12)]
    tasks = [asyncio.create_task(subscribe(server, ledger, event)) for event in began]
    for event in began:
        await event.wait()
    publishers = [asyncio.create_task(publish(server, number, ledger)) for number in range(3)]
    try:
        yield ledger
        await asyncio.to_thread(ledger.moves_on)
        for task in publishers:
            task.cancel()
        await asyncio.gather(*publishers, return_exceptions=True)
        last = max(ledger.acknowledged)
        await eventually(lambda: all(last in got for got in ledger.got), "all clients to have all")
    finally:
        for task in (*tasks, *publishers):
            task.cancel()
        await asyncio.gather(*tasks, *publishers, return_exceptions=True)
