"""All streams of a fleet are cut at once, and come back to other nodes: each has everything, once."""

import json
import subprocess
import sys
from pathlib import Path

import redis_servers

BENCH = Path(__file__).parents[2] / "benches" / "bench_storm.py"
STREAMS = 300


def test_streams_that_are_all_cut_at_once_are_back_and_complete_at_other_nodes(tmp_path: Path) -> None:
    redis_servers.need()
    figures = tmp_path / "figures.json"
    sizes = ("--streams", str(STREAMS), "--workers", "1", "--channels", "20", "--events", "10")
    command = [sys.executable, str(BENCH), *sizes, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert (found["whole"], found["wrong"], found["gaps"]) == (STREAMS, 0, 0)
    assert found["events"] == found["expected"] == 30 * STREAMS
    assert found["reads"] == 0  # what they had missed each node had itself
