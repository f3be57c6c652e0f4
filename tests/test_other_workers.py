"""A hub under several workers of somebody else's server is found and told once; one that is alone never is."""

import os
import socket
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import missing
from served import WITH_WORKERS, served
from support import until

from sse_fast import Hub
from sse_fast.base.listening import listening_addresses
from sse_fast.hub import other_workers

TOLD = "each has a hub of its own"
APP = """
from contextlib import asynccontextmanager
import os
from starlette.applications import Starlette
from sse_fast import Hub
from sse_fast.hub import other_workers
other_workers.FIRST_LOOK, other_workers.LOOK_AGAIN, other_workers.GRACE = 0.2, 0.1, 0.5
look, tell = other_workers._look, other_workers._tell
def looks(*given):
    look(*given)
    print("looked", os.getpid(), sorted(other_workers._taken), flush=True)
def tells(*given):
    tell(*given)
    print("shared", os.getpid(), flush=True)
other_workers._look, other_workers._tell = looks, tells
hub, another = Hub(log_size=1 << 20), Hub(log_size=1 << 20)
@asynccontextmanager
async def lifespan(app):
    async with hub, another:
        yield
app = Starlette(lifespan=lifespan)
"""


@pytest.fixture(params=sorted(WITH_WORKERS.keys() - {"sse_fast"}))  # whose workers share one hub
def server(request: pytest.FixtureRequest) -> str:
    return request.param if find_spec(request.param) else missing(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "several.py").write_text(APP)
    return tmp_path


def who_shares(log: str) -> set[str]:
    return {line.split()[1] for line in log.splitlines() if line.startswith("shared ")}


async def test_several_workers_with_a_hub_each_are_told_once_whichever_server_runs_them(
    server: str, directory: Path
) -> None:
    async with served(server, directory, "several:app", "--workers", "3") as running:
        await until(lambda: len(who_shares(running.log)) == 2)
        assert running.log.count(TOLD) == 1
        assert f"serve 127.0.0.1 port {running.port}" in running.log


async def test_one_worker_is_told_nothing_however_many_hubs_it_has(server: str, directory: Path) -> None:
    async with served(server, directory, "several:app", "--workers", "1") as running:
        await until(lambda: f"127.0.0.1 port {running.port}" in running.log)
        assert TOLD not in running.log
        assert not who_shares(running.log)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Looks come at once here, and see what is opened from now on: others may listen in this process, too. What there
    is after each: a name that is "taken", or "none"; before it "told", if so."""
    seen: list[str] = []
    elsewhere = set(listening_addresses())
    look, tell = other_workers._look, other_workers._tell

    def looked(*given: Any) -> None:
        look(*given)
        seen.append("taken" if other_workers._taken else "none")

    def telling(*given: str) -> None:
        seen.append("told")
        tell(*given)

    def opened_since() -> dict[str, str]:
        return {address: place for address, place in listening_addresses().items() if address not in elsewhere}

    monkeypatch.setattr(other_workers, "_hubs", weakref.WeakSet())
    monkeypatch.setattr(other_workers, "_taken", {})
    monkeypatch.setattr(other_workers, "listening_addresses", opened_since)
    monkeypatch.setattr(other_workers, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(other_workers, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(other_workers, "_look", looked)
    monkeypatch.setattr(other_workers, "_tell", telling)
    yield seen
    assert not other_workers._taken, "nothing is kept once no hub is left"


def another_hub(address: tuple[str, int]) -> socket.socket:
    """What a hub in another process has of an address."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name.bind(other_workers._name("hub", f"{address[0]} port {address[1]}"))
    return name


async def test_a_worker_that_takes_the_place_of_another_one_is_not_told(
    looks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        old = another_hub(listening.getsockname())
        async with Hub(log_size=1 << 16):
            await until(lambda: "none" in looks)
            old.close()
            await until(lambda: "taken" in looks)
    assert "told" not in looks
    assert TOLD not in caplog.text


async def test_a_hub_that_drains_gives_way_to_its_successor(looks: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with Hub(log_size=1 << 16) as hub:
            await until(lambda: "taken" in looks)
            with pytest.raises(OSError, match="in use"):
                another_hub(listening.getsockname())
            await hub.drain(0)
            another_hub(listening.getsockname()).close()


async def test_processes_that_stay_side_by_side_are_told_and_for_a_second_hub_not_again(
    looks: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_workers, "GRACE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, another_hub(listening.getsockname()):
        async with Hub(log_size=1 << 16), Hub(log_size=1 << 16):
            await until(lambda: looks.count("told") == 2)
    assert caplog.text.count(TOLD) == 1


async def test_where_nothing_listens_as_under_a_test_runner_no_name_is_taken(looks: list[str]) -> None:
    async with Hub(log_size=1 << 16):
        await until(lambda: looks)
    assert set(looks) == {"none"}


def listens_by(path: str) -> str:
    """The name that a process takes which listens by this path."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        return str(listening_addresses()[path])


def test_a_unix_socket_is_the_file_and_not_the_path_that_it_was_bound_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    for directory in ("one", "another"):
        (tmp_path / directory).mkdir()
        monkeypatch.chdir(tmp_path / directory)
        places.append(listens_by("app.sock"))
    assert places[0] != places[1], "two apps, each in its own directory"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("b.sock")
        listening.listen()
        (tmp_path / "same").symlink_to(tmp_path / "another")
        ours = listening_addresses()["b.sock"]
        found = os.stat(tmp_path / "same" / "b.sock")
        assert ours == f"file {found.st_dev} {found.st_ino}"


def test_paths_that_only_their_ends_tell_apart_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    long = "x" * 104
    names = [other_workers._name("told", listens_by(long + end)) for end in "ab"]
    assert names[0] != names[1]
    for name in names:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taken:
            taken.bind(name)
