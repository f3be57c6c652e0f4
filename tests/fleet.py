"""Several nodes over one Redis, each `sse-fast serve` of two workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import EdgeProcess, Transport

Node = EdgeProcess


@contextmanager
def fleet(directory: Path, url: str, count: int = 3, *flags: str, workers: int = 2) -> Iterator[list[Node]]:
    """So many nodes, all of them ready."""
    given = ("--workers", str(workers), "--backplane", url, *flags)
    nodes = [Node(directory, given, Transport.NATIVE) for _ in range(count)]
    try:
        for node in nodes:
            node.begin()
        for node in nodes:
            node.wait_ready()
        yield nodes
    finally:
        for node in nodes:
            if node.running:
                node.kill()
