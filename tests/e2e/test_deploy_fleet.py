"""`examples/deploy/fleet` runs what `compose.yaml` describes, by the same files: published and listened to through
nginx, and Redis, a node and the script itself die."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis_servers
from client import Stream
from conftest import PATIENCE, missing, until
from ruamel.yaml import YAML
from support import free_port

from sse_fast.settings import variable
from sse_fast.settings.settings import Settings

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
KEY = "a-key-for-these-tests"


class Running:
    """The script, and what it says that it has started."""

    def __init__(self, log: Path, *flags: str) -> None:
        redis_servers.need()
        if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
            missing("nginx")
        self.port, self.log = free_port(), log
        command = [sys.executable, DEPLOY / "fleet", "--port", str(self.port), "--publish-key", KEY, *flags]
        with log.open("wb") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        until(self._is_ready, "the fleet", 90)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "ready: " in self.log.read_text()

    @property
    def parts(self) -> Mapping[str, tuple[int, psutil.Process]]:
        """By name, port and process; of those that were started again the latest."""
        found = re.findall(r"^(\w+) 127\.0\.0\.1:(\d+) pid (\d+)$", self.log.read_text(), re.MULTILINE)
        made = {}
        for name, port, pid in found:
            with suppress(psutil.NoSuchProcess):
                made[name] = int(port), psutil.Process(int(pid))
        return made

    def everybody(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def publish(self, text: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}", "idempotency-key": f'"{text}"'}
        return httpx.post(f"http://127.0.0.1:{self.port}/publish/news", content=text, headers=headers, timeout=PATIENCE)

    def published(self, text: str) -> str:
        """As a publisher does: until it is acknowledged, under its key."""
        answers: list[httpx.Response] = []

        def taken() -> bool:
            with suppress(httpx.TransportError):
                answers.append(self.publish(text))
                assert answers[-1].status_code in (200, 502, 503), answers[-1].text
                return answers[-1].status_code == 200
            return False

        until(taken, "it to be published", 60)
        return str(answers[-1].json()["id"])

    def end(self, number: signal.Signals) -> int:
        """The status; nobody is left."""
        started = self.everybody()
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        gone, alive = psutil.wait_procs(started, PATIENCE)
        assert len(gone) >= 8
        assert not alive
        return status


@contextmanager
def running(log: Path, *flags: str) -> Iterator[Running]:
    fleet = Running(log, *flags)
    try:
        yield fleet
    finally:
        if fleet.process.poll() is None:
            fleet.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("fleet")
    with running(directory / "said", "--directory", str(directory / "files")) as fleet:
        yield fleet


async def told(stream: Stream, last: str) -> list[tuple[str, str]]:
    """(type, data) until the event with that text."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            found.append((event.type, event.data))
            if event.data == last:
                break
    return found


async def connected(fleet: Running, last_event_id: str | None = None) -> Stream:
    return await Stream.subscribe(fleet.port, ["news"], last_event_id)


async def test_through_nginx_all_nodes_are_one_edge(fleet: Running) -> None:
    streams = [await connected(fleet) for _ in range(6)]
    ids = [fleet.published(f"{number}") for number in range(6)]
    expected = [("message", f"{number}") for number in range(6)]
    for stream in streams:
        assert (await told(stream, "5"))[1:] == expected
        stream.cut()
    for _ in range(3):  # wherever nginx sends them
        stream = await connected(fleet, ids[2])
        assert (await told(stream, "5"))[1:] == expected[3:]
        stream.cut()


def test_through_nginx_strangers_neither_publish_nor_look_into_it(fleet: Running) -> None:
    assert httpx.post(f"http://127.0.0.1:{fleet.port}/publish/news", content="x").status_code == 401
    for path in ("/metrics", "/channels", "/streams"):
        assert httpx.get(f"http://127.0.0.1:{fleet.port}{path}").status_code == 404


async def test_a_node_that_is_killed_costs_its_clients_nothing_and_is_started_again(fleet: Running) -> None:
    before = fleet.published("before the node")
    _, node = fleet.parts["node2"]
    os.killpg(node.pid, signal.SIGKILL)
    after = [fleet.published(f"while it is away {number}") for number in range(3)]
    for _ in range(3):
        stream = await connected(fleet, before)
        assert len(await told(stream, "while it is away 2")) == 1 + len(after)
        stream.cut()
    until(lambda: fleet.parts.get("node2", (0, node))[1] != node, "another node")
    port, _ = fleet.parts["node2"]

    def ready() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    until(ready, "it to be ready")


async def test_a_primary_that_stands_still_is_replaced_and_everybody_told(fleet: Running) -> None:
    streams = [await connected(fleet) for _ in range(3)]
    fleet.published("before the failover")
    primary = next(process for name, (_, process) in fleet.parts.items() if name == "redis1")
    primary.suspend()
    try:
        await asyncio.to_thread(fleet.published, "behind the failover")
        for stream in streams:
            before, gap, behind = (await told(stream, "behind the failover"))[1:]
            assert (before, gap[0], behind[1]) == (("message", "before the failover"), "$gap", "behind the failover")
            stream.cut()
    finally:
        primary.resume()


def test_it_ends_all_that_it_has_started_when_it_is_asked_to_and_when_it_is_killed(
    fleet: Running, tmp_path: Path
) -> None:
    assert fleet.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert "all of it has ended" in fleet.log.read_text()
    with running(tmp_path / "said", "--nodes", "1", "--workers", "1", "--directory", str(tmp_path / "files")) as other:
        assert other.end(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("wrong", [("--nodes", "0"), ("--nodes", "many"), ("--port", "70000")])
def test_what_makes_no_fleet_is_refused(wrong: tuple[str, str]) -> None:
    said = subprocess.run([sys.executable, DEPLOY / "fleet", *wrong], capture_output=True, text=True)
    assert said.returncode == 2
    assert "whole number" in said.stderr


# ---- compose.yaml ----------------------------------------------------------------------------------------------------


@pytest.fixture
def compose() -> Any:
    return YAML(typ="safe").load(DEPLOY / "compose.yaml")


def test_the_compose_file_is_one() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    said = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_its_parts_find_each_other_and_its_files_are_here(compose: Any) -> None:
    services = compose["services"]
    address = {name: each["networks"]["fleet"]["ipv4_address"] for name, each in services.items()}
    assert set(address) == {*(f"{kind}{at}" for kind in ("sentinel", "node") for at in (1, 2, 3)), *REDIS, "nginx"}
    assert f"sentinel monitor fleet {address['redis1']} 6379 2" in (DEPLOY / "sentinel.conf").read_text()
    assert f"replicaof {address['redis1']} 6379" in json.dumps(services["redis2"]["command"])
    nginx = (DEPLOY / "fleet-nginx.conf").read_text()
    for at in (1, 2, 3):
        environment = services[f"node{at}"]["environment"]
        sentinels = ",".join(address[f"sentinel{number}"] for number in (1, 2, 3))
        assert environment["SSE_FAST_BACKPLANE"] == f"redis+sentinel://{sentinels}/fleet"
        assert environment["SSE_FAST_TRUSTED_PROXIES"] == address["nginx"]
        assert f"server {address[f'node{at}']}:{environment['SSE_FAST_PORT']} " in nginx
        assert (DEPLOY.parents[1] / services[f"node{at}"]["build"]["dockerfile"]).is_file()
    for each in services.values():
        for mounted in each.get("volumes", ()):
            source = mounted.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose["volumes"]


REDIS = ("redis1", "redis2")


def test_its_nodes_settings_are_settings(compose: Any, nothing_set: None, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = compose["services"]["node1"]["environment"]
    assert environment.keys() <= {variable(name) for name in Settings.model_fields}
    for name, value in environment.items():
        monkeypatch.setenv(name, KEY if "${" in str(value) else str(value))
    settings = Settings()
    assert (settings.workers, settings.port) == (2, 8000)
