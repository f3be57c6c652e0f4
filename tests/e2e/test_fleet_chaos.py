"""`tests/chaos_cluster.py` and `tests/chaos_fleet.py`, for some seconds; `SSE_FAST_FLEET_CHAOS_SECONDS` says for how
many. With CI=true the second takes two minutes, the last half one for all to agree and to have everything."""

import os
import random
from pathlib import Path

import chaos_cluster
import chaos_fleet
import redis_servers

GIVEN = os.environ.get("SSE_FAST_FLEET_CHAOS_SECONDS")


async def test_nothing_acknowledged_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    redis_servers.need()
    seed = random.randrange(2**31)
    print(await chaos_cluster.chaos(float(GIVEN or "4"), seed, tmp_path))


async def test_whatever_redis_and_the_network_do_nothing_is_lost_untold_or_doubled_and_all_see_one_order(
    tmp_path: Path,
) -> None:
    redis_servers.need()
    seconds = float(GIVEN or ("90" if os.environ.get("CI") == "true" else "8"))
    print(await chaos_fleet.chaos(seconds, random.randrange(2**31), tmp_path, print))
