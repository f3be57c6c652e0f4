"""Requests without a stream, as benches/exchanges.py has the load client's publishers make them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sse_fast.bench import Target
from sse_fast.bench.server import Edge

sys.path.append(str(Path(__file__).resolve().parent.parent / "benches"))
exchange = importlib.import_module("exchanges").exchange


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge() as edge:
        yield edge


def target(edge: Edge, path: str, method: str = "POST", body: str = "{data}") -> Target:
    url = f"http://127.0.0.1:{edge.port}{path}"
    return Target(url, url, method=method, body=body)


def test_events_are_published_to_every_channel_in_turn_and_what_one_costs_is_told(edge: Edge) -> None:
    found = exchange(edge, target(edge, "/publish/c-{channel}"), connections=4, seconds=0.3, channels=10)
    assert not found.problems
    assert found.answers > 10
    assert found.cpu_us > 0
    assert 0 < found.latency_us["p50"] <= found.latency_us["p99"] <= found.latency_us["max"]


def test_requests_without_a_body_are_answered_too(edge: Edge) -> None:
    found = exchange(edge, target(edge, "/healthz", "GET", ""), connections=2, seconds=0.2)
    assert not found.problems
    assert found.answers > 0


def test_what_is_refused_is_no_answer_and_is_told(edge: Edge) -> None:
    found = exchange(edge, target(edge, "/nowhere"), connections=2, seconds=0.2)
    assert found.answers == 0
    assert "404" in found.problems["publish_refused"]
