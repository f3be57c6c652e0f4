"""Application, relay, edge and database are killed, and nothing is lost, doubled, or out of order; for ten minutes:
`python tests/chaos_outbox.py`."""

import os
import random

import chaos_outbox
from conftest import missing
from postgres import binaries

SECONDS = float(os.environ.get("SSE_FAST_OUTBOX_CHAOS_SECONDS", "5"))


def test_every_committed_event_comes_once_in_the_order_of_the_commits_whatever_is_killed(rng: random.Random) -> None:
    if binaries() is None:
        missing("postgresql")
    done = chaos_outbox.run(SECONDS, rng.randrange(2**32))
    print(done)
    assert done["transactions"] > 20
    assert {"kill_database", "kill_edge", "kill_relay", "kill_writer"} <= done.keys()
