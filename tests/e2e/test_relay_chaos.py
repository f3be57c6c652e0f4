"""Source, relay and target are killed, and every event comes once, in order; for ten minutes:
`python tests/chaos_relay.py`."""

import os
import random

import chaos_relay

SECONDS = float(os.environ.get("SSE_FAST_RELAY_CHAOS_SECONDS", "1"))


def test_every_event_of_the_source_comes_once_in_its_order_whatever_is_killed(rng: random.Random) -> None:
    done = chaos_relay.run(SECONDS, rng.randrange(2**32))
    print(done)
    assert done["events"] > 20
    assert {"kill_source", "kill_target", "kill_relay"} <= done.keys()
