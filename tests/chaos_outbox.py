"""Application, relay, edge and database are killed by SIGKILL, again and again; and what the edge has in the end is
held to what the database committed.

    python tests/chaos_outbox.py --seconds 600

The law: every committed event is in the edge's log once, in the order of the commits of its channel, and none of a
transaction that was rolled back. Which transactions were committed, and when, says the database itself
(track_commit_timestamp); a trigger has each of them stay in its commit for some milliseconds more, for others to
overtake it.

The edge keeps its log in a file, and forgets its idempotency keys with every kill. A run begins with one relay and one
that stands by.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
from conftest import EdgeProcess
from conftest import until as wait_until
from outbox_writer import CHANNELS
from postgres import QUICK, Postgres, binaries, postgres

from sse_fast import EventParser
from sse_fast.outbox import DDL
from sse_fast.transports.life import Transport

WRITER = Path(__file__).with_name("outbox_writer.py")
TABLES = """
    CREATE TABLE committed (channel text, event text);
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.005 * random() * random());
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON committed DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION linger();
"""
COMMITTED = "SELECT channel, event FROM committed ORDER BY channel, pg_xact_commit_timestamp(xmin)"


class Killed:
    """A process that is started again whenever it was killed."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, *self._arguments], stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None


class Chaos:
    def __init__(self, directory: Path, database: Postgres, seed: int) -> None:
        self._choose = random.Random(seed)
        self._database = database
        self._dsn = database.dsn("chaos")
        with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE chaos")
        with psycopg.connect(self._dsn) as connection:
            connection.execute(DDL)
            connection.execute(TABLES)
        self._log = directory / "log of the others"
        flags = ("--log-file", str(directory / "edge.log"), "--log-size", "256MiB")
        self.edge = EdgeProcess(directory, flags, Transport.NATIVE)
        self.edge.start()
        relay = ("-m", "sse_fast", "relay", "--outbox", self._dsn, "--url", self.edge.url)
        self.relays = [Killed(*relay, log=self._log) for _ in range(2)]
        self._writers = 0
        self.writers: list[Killed] = []
        for _ in range(3):
            self.start_writer()
        self.tally: Counter[str] = Counter()
        wait_until(self._left, "the first events")

    def start_writer(self) -> None:
        """Each has a name of its own, so that each event is another."""
        self._writers += 1
        arguments = (str(WRITER), self._dsn, str(self._writers), str(self._choose.randrange(2**32)))
        self.writers.append(Killed(*arguments, log=self._log))

    # ---- what is done ------------------------------------------------------------------------------------------------

    def rage(self, seconds: float) -> None:
        """All of it once at least, in any order."""
        acts: list[Callable[[], None]] = []
        over = time.monotonic() + seconds
        least = [self.kill_database, self.kill_edge, self.kill_relay, self.kill_writer]
        while time.monotonic() < over or acts:
            if not acts:
                more = [self.kill_relay, self.kill_relay, self.kill_writer, self.kill_all]
                acts = self._choose.sample([*least, *more], 8) if seconds > 60 else self._choose.sample(least, 4)
            time.sleep(self._choose.uniform(0, 1.0))
            act = acts.pop()
            act()
            self.tally[act.__name__] += 1
            assert all(relay.lives for relay in self.relays), self._log.read_text()

    def kill_writer(self) -> None:
        self.writers.pop(self._choose.randrange(len(self.writers))).kill()
        self.start_writer()

    def kill_relay(self) -> None:
        relay = self._choose.choice(self.relays)
        relay.kill()
        time.sleep(self._choose.choice((0, 0, 0.3)))
        relay.start()

    def kill_edge(self) -> None:
        self.edge.kill()
        time.sleep(self._choose.choice((0, 0, 0.5)))
        self.edge.start()

    def kill_database(self) -> None:
        self._database.kill()
        time.sleep(self._choose.choice((0, 0, 0.5)))
        self._database.start()

    def kill_all(self) -> None:
        for one in (*self.relays, *self.writers):
            one.kill()
        self.writers.clear()
        self.edge.kill()
        self._database.kill()
        self._database.start()
        self.edge.start()
        for relay in self.relays:
            relay.start()
        for _ in range(3):
            self.start_writer()

    # ---- and what became of it ---------------------------------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """Hold the log to what was committed; figures."""
        for writer in self.writers:
            writer.kill()
        wait_until(lambda: not self._left(), "an empty outbox", 120)
        for relay in self.relays:
            relay.kill()
        with psycopg.connect(self._dsn) as connection:
            committed = connection.execute(COMMITTED).fetchall()
        owed: dict[str, list[str]] = defaultdict(list)
        for channel, event in committed:
            owed[channel].append(event)
        events = 0
        for channel in CHANNELS:
            published = self._kept(channel)
            events += len(published)
            twice = [event for event, times in Counter(published).items() if times > 1]
            assert not twice, f"{channel}: {len(twice)} came twice, as {twice[:3]}"
            transactions = [event.rpartition("/")[0] for event in published]
            in_order = [event for at, event in enumerate(transactions) if at == 0 or transactions[at - 1] != event]
            for at, (has, should) in enumerate(zip(in_order, owed[channel], strict=False)):
                assert has == should, f"{channel}: transaction {at} is {has}, not {should}"
            assert len(in_order) == len(owed[channel])
            for before, event in pairwise(published):
                (of, part), (of_next, next_part) = before.rsplit("/", 1), event.rsplit("/", 1)
                assert int(next_part) == (int(part) + 1 if of == of_next else 0), f"{channel}: {event} behind {before}"
        return {"transactions": len(committed), "events": events, **self.tally}

    def _left(self) -> int:
        with psycopg.connect(self._dsn) as connection:
            ((left,),) = connection.execute("SELECT count(*) FROM sse_fast_outbox").fetchall()
        return int(left)

    def _kept(self, channel: str) -> list[str]:
        """All that the log has of a channel; what ends it is published for that."""
        self.edge.publish(channel, "the end")
        found: list[str] = []
        parser = EventParser()
        with httpx.stream("GET", f"{self.edge.url}/sse/{channel}?last_event_id=earliest", timeout=60) as response:
            for piece in response.iter_bytes():
                for event in parser.feed(piece):
                    if event.data == "the end":
                        return found
                    assert event.event != "$gap", f"the log is too small for so many events: {event.data}"
                    if not event.event.startswith("$"):
                        found.append(event.data.partition(" ")[0])
        raise AssertionError("the stream ended")

    def end(self) -> None:
        for one in (*self.writers, *self.relays):
            one.kill()
        if self.edge.running:
            self.edge.kill()


def run(seconds: float, seed: int) -> dict[str, Any]:
    found = binaries()
    assert found is not None, "PostgreSQL is not here; scripts/test-setup installs it"
    options = (*QUICK, "-c", "track_commit_timestamp=on")
    with postgres(found, *options) as database, tempfile.TemporaryDirectory() as directory:
        chaos = Chaos(Path(directory), database, seed)
        try:
            chaos.rage(seconds)
            return chaos.check()
        finally:
            chaos.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    print(run(given.seconds, given.seed))
