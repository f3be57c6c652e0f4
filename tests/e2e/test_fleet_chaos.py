"""`tests/chaos_cluster.py`, for some seconds; `SSE_FAST_FLEET_CHAOS_SECONDS` says for how many."""

import os
import random
from pathlib import Path

import redis_servers
from chaos_cluster import chaos


async def test_nothing_acknowledged_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    redis_servers.need()
    seed = random.randrange(2**31)
    print(await chaos(float(os.environ.get("SSE_FAST_FLEET_CHAOS_SECONDS", "4")), seed, tmp_path))
