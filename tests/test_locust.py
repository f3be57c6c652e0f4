"""Users for locust, as locust runs them: headless, in a process of its own (locust patches a whole process)."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
from conftest import PATIENCE, Edges, free_port, missing, until

SCENARIOS = Path(__file__).parent.parent / "benches" / "locustfile.py"

HEADLESS = ("--headless", "--json", "--csv", "run", "-r", "100")

Entries = dict[str, dict[str, Any]]


class Locust:
    """A run of locust: what it counted, by name, once it has ended."""

    def __init__(self, process: "subprocess.Popen[str]", failures: Path) -> None:
        self.process = process
        self._failures = failures
        self.entries: Entries = {}
        self.status = -1

    def stop(self) -> None:
        """SIGTERM: locust ends its users and sums up."""
        if not self.entries:
            self.process.send_signal(signal.SIGTERM)
            self.end()

    def end(self) -> None:
        out, errors = self.process.communicate(timeout=PATIENCE)
        self.status = self.process.returncode
        assert "Traceback" not in errors, errors
        self.entries = {entry["name"]: entry for entry in json.loads(out)}

    def count(self, name: str) -> int:
        return int(self.entries[name]["num_requests"]) if name in self.entries else 0

    @property
    def failures(self) -> dict[str, int]:
        return {name: entry["num_failures"] for name, entry in self.entries.items() if entry["num_failures"]}

    def excused(self, streams: int) -> bool:
        """Is at most that lost whose publishing was cut off? Nobody knows whether the server had it; it was never
        acknowledged, and has left a hole in the numbers."""
        with self._failures.open() as lines:
            unanswered = sum(int(row["Occurrences"]) for row in csv.DictReader(lines) if "not answered" in row["Error"])
        return self.failures.get("lost", 0) <= unanswered * streams


Loads = Callable[..., Locust]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loads]:
    """Run locust with a locustfile, a path or a text: `load(text, host, "-u", "2")`."""
    if find_spec("locust") is None:
        missing("locust")
    with at_the_end() as runs:

        def start(locustfile: Path | str, host: str, *options: str) -> Locust:
            if isinstance(locustfile, str):
                path = tmp_path / "locustfile.py"
                path.write_text("from sse_fast.bench.locust import *\n" + locustfile)
                locustfile = path
            process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(locustfile), *options, "--host", host, *HEADLESS],
                cwd=tmp_path,
                env={name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            runs.append(process)
            return Locust(process, tmp_path / "run_failures.csv")

        yield start


@contextmanager
def at_the_end() -> Iterator["list[subprocess.Popen[str]]"]:
    runs: list[subprocess.Popen[str]] = []
    try:
        yield runs
    finally:
        for process in runs:
            if process.poll() is None:
                process.kill()
            process.communicate()


# ---- one stream in Python --------------------------------------------------------------------------------------------

LISTENERS = """
class Listeners(SSEUser):
    path = "/sse/news"
    def on_event(self, event):
        if event.event == "message":
            with open("seen", "a") as seen:
                seen.write(event.data + "\\n")
"""


def seen(tmp_path: Path) -> list[str]:
    path = tmp_path / "seen"
    return path.read_text().splitlines() if path.exists() else []


def test_an_event_is_a_request_and_has_a_latency_only_if_it_says_when_it_was_sent(
    edge: Edges, load: Loads, tmp_path: Path
) -> None:
    server = edge()
    run = load(LISTENERS, server.url, "-u", "2")
    server.wait_connections(2)
    server.publish_many("news", [{"sent_at": time.time() - 0.5} for _ in range(5)])
    server.publish_many("news", ["plain", {"sent_at": "today"}, ["sent_at"]])
    until(lambda: len(seen(tmp_path)) == 16, "all events")
    run.stop()
    assert (run.count("connect"), run.count("event"), run.failures, run.status) == (2, 16, {}, 0)
    assert run.entries["event"]["num_none_requests"] == 6
    assert run.entries["event"]["min_response_time"] >= 500
    assert run.entries["event"]["total_content_length"] == sum(map(len, seen(tmp_path)))
    assert {entry["method"] for entry in run.entries.values()} == {"SSE"}


def test_a_restart_of_the_server_is_reconnects_and_gaps_that_are_told_are_failures(
    edge: Edges, load: Loads, tmp_path: Path
) -> None:
    server = edge("--retry", "200")
    run = load(LISTENERS, server.url, "-u", "2")
    server.wait_connections(2)
    server.stop()
    server.start()
    server.wait_connections(2)
    server.publish("news", "after")
    until(lambda: seen(tmp_path) == ["after"] * 2, "the event after the restart")
    run.stop()
    assert run.count("connect") == 2
    assert run.count("reconnect") - run.failures.get("reconnect", 0) == 2
    assert run.count("$gap") == run.failures["$gap"] == 2
    assert run.status == 1


def test_who_was_away_asks_for_what_is_after_the_last_event(edge: Edges, load: Loads, tmp_path: Path) -> None:
    server = edge("--retry", "200")
    run = load(LISTENERS, server.url, "-u", "1")
    server.wait_connections(1)
    server.publish_many("news", list("abc"))
    until(lambda: len(seen(tmp_path)) == 3, "three events")
    server.kill_worker()
    server.wait_connections(1)
    server.publish("news", "d")
    until(lambda: "d" in seen(tmp_path), "the event after")
    run.stop()
    assert seen(tmp_path) == list("abcd")


def test_what_is_no_event_stream_is_a_failure(load: Loads) -> None:
    asked: list[str] = []

    class NoStream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), NoStream) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        run = load("class Wrong(SSEUser):\n    retry = 0.1", f"http://127.0.0.1:{server.server_port}", "-u", "1")
        until(lambda: len(asked) > 2, "the third try, which comes behind two")
        run.stop()
        server.shutdown()
        serving.join()
    assert set(run.entries) == {"connect"}
    assert run.failures["connect"] == run.count("connect") > 1


# ---- many streams ----------------------------------------------------------------------------------------------------

SWARM = """
class Many(SwarmUser):
    connections, rate, events, settle = 200, 100, 20, 1.5
"""


def on_their_way(port: int) -> int:
    """Bytes that the kernel has for connections with this port, sent or received and not yet read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row[4] for row in rows if f"{port:04X}" in (row[1].partition(":")[2], row[2].partition(":")[2])]
    return sum(int(size, 16) for queues in ours for size in queues.split(":"))


def test_a_swarm_counts_every_delivery_once(edge: Edges, load: Loads) -> None:
    server = edge()
    run = load(SWARM, server.url, "-u", "2")
    server.wait_connections(400)
    until(lambda: server.stats()["deliveries"] == 8000, "all deliveries")
    until(lambda: not on_their_way(server.port), "the last of them to be read")
    run.stop()
    assert {name: entry["num_requests"] for name, entry in run.entries.items()} == {
        "connect": 400,
        "publish": 20,
        "event": 20 * 400,
        "other event": 400,  # $connected
    }
    assert (run.failures, run.status) == ({}, 0)
    latency = run.entries["event"]
    assert latency["num_none_requests"] == 0
    assert sum(latency["response_times"].values()) == 8000
    assert latency["total_content_length"] > 8000 * 64


def test_streams_that_cannot_be_opened_are_failures(load: Loads) -> None:
    once = "    def on_start(self):\n        super().on_start()\n        gevent.spawn(self.environment.runner.quit)\n"
    run = load(f"import gevent\n{SWARM}{once}", f"http://127.0.0.1:{free_port()}", "-u", "1")
    run.end()
    assert run.count("connect") == run.failures["connect"] == 200
    assert run.count("event") == 0


def test_a_swarm_comes_back_to_a_restarted_server_and_misses_nothing_that_was_acknowledged(
    edge: Edges, load: Loads
) -> None:
    server = edge()
    text = "class Many(SwarmUser):\n    connections, rate, reconnect, settle = 50, 50, 0.1, 0.2"
    run = load(text, server.url, "-u", "2")
    server.wait_connections(100)
    until(lambda: server.stats()["deliveries"] > 1000, "deliveries")
    server.stop()
    server.start()
    server.wait_connections(100)
    until(lambda: server.stats()["deliveries"] > 1000, "deliveries after the restart")
    run.stop()
    assert set(run.failures) <= {"publish", "reconnect", "lost"}
    assert run.excused(100)
    assert run.count("reconnect") - run.failures.get("reconnect", 0) == 100
    assert run.failures["publish"] > 0
    assert run.count("event") > 2000


# ---- the scenarios ---------------------------------------------------------------------------------------------------

FEW = ("-u", "2", "--connections", "20")


def test_every_scenario_runs_and_finds_nothing_wrong(edge: Edges, load: Loads) -> None:
    server = edge()
    options = (*FEW, "--every", "1.5", "--away", "0.3", "--rate", "50")
    own = ("--subscribe", "/sse/storm", "--publish", "/publish/storm")
    scenarios = {"Fanout": (), "Channels": (), "Storm": own, "Notifications": ()}
    runs = {scenario: load(SCENARIOS, server.url, scenario, *options, *more) for scenario, more in scenarios.items()}
    server.wait_connections(3 * 2 * 20 + 2)
    until(lambda: server.stats()["deliveries"] > 12_000, "three seconds of events")
    notifications = "/channels/notifications"  # of users who first wait
    until(lambda: json.loads(server.request("GET", notifications)[1]).get("kept", 0) >= 2, "the last to begin")
    for scenario, run in runs.items():
        run.stop()
        assert (run.failures, run.status) == ({}, 0), scenario
        assert run.count("event") > 0, scenario
    assert runs["Storm"].count("back") == runs["Storm"].count("reconnect") > 0


def test_a_deploy_restarts_the_server_that_it_was_told(load: Loads) -> None:
    port = free_port()
    command = f"{sys.executable} -m sse_fast serve --port {port} --log-level warning"
    run = load(
        SCENARIOS, f"http://127.0.0.1:{port}", "Deploy", *FEW, "--every", "2.5", "--rate", "50", "--deploy", command
    )
    whole: set[int] = set()  # workers with all the streams

    def deployed() -> bool:
        with suppress(OSError):
            stats = json.loads(urlopen(f"http://127.0.0.1:{port}/stats", timeout=PATIENCE).read())
            if stats["connections"] == 40:
                whole.update(worker["pid"] for worker in stats["workers"])
        return len(whole) > 1

    until(deployed, "all streams at a second server", 3 * PATIENCE)
    run.stop()
    assert set(run.failures) <= {"publish", "reconnect", "lost"}
    assert run.excused(40)
    assert run.count("reconnect") - run.failures.get("reconnect", 0) >= 40
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), "the server was left behind"
