"""What an outbox costs: transactions of a database with and without events, and the relay per event.

    python benches/bench_outbox.py [--quick] [--seconds 3] [--rounds 3] [--json PATH]

Transactions: pgbench with 8 connections against a PostgreSQL of its own, each one inserting a row; that commits as the
disk does it (fsync), while no relay is there; for comparison also with NOTIFY in every transaction, which has all
commits wait for each other. Within a round the rows take turns; every figure is the median.

The relay: 20,000 events that are there already, published by a hub in this process, over the time and over the CPU of
this process: reading, encoding, appending and deleting are in it, PostgreSQL's own work is not.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psycopg

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from harness import arguments_for, machine, parse
from postgres import Postgres, binaries, postgres

from sse_fast import Hub
from sse_fast.outbox import OutboxRelay

CONNECTIONS = 8
EVENTS = 20_000
ROW = "INSERT INTO orders (article) VALUES ('a lamp');"
EVENT = "INSERT INTO sse_fast_outbox (channel, event, data) VALUES ({}, 'taken', '{{\"article\":\"a lamp\"}}');"
OF_MANY = EVENT.format("'order:' || :n")
OF_ONE = EVENT.format("'shop'")
SCRIPTS = {
    "without events": f"BEGIN;{ROW}COMMIT;",
    "an event, of one of 1,000 channels": f"\\set n random(1, 1000)\nBEGIN;{ROW}{OF_MANY}COMMIT;",
    "an event, always of the same channel": f"BEGIN;{ROW}{OF_ONE}COMMIT;",
    "no event, but NOTIFY": f"BEGIN;{ROW}NOTIFY shop;COMMIT;",
}


def transactions(server: Postgres, dsn: str, script: str, seconds: int, connections: int) -> float:
    """A second."""
    file = server.directory / "script.sql"
    file.write_text(script)
    found = binaries()
    assert found is not None
    command = [found / "pgbench", "-n", "-c", str(connections), "-j", "2", "-T", str(seconds), "-f", file, dsn]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tps = re.search(r"tps = ([\d.]+)", said)
    assert tps is not None, said
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE orders, sse_fast_outbox, sse_fast_outbox_queue")
    return float(tps[1])


async def relay(dsn: str, events: int) -> tuple[float, float]:
    """Microseconds an event, and of CPU."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO sse_fast_outbox (channel, data) SELECT 'order:' || n %% 1000, repeat('x', 64) "
            "FROM generate_series(1, %s) AS n",
            (events,),
        )
    async with Hub(log_size=64 * 1024 * 1024) as hub:
        began, cpu = time.perf_counter(), time.process_time()
        async with OutboxRelay(hub, dsn) as running:
            while running.stats.published < events:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return (time.perf_counter() - began) / events * 1e6, (time.process_time() - cpu) / events * 1e6


def main() -> None:
    parser = arguments_for("What an outbox costs.", seconds=3, quick="one round of a second each, 2,000 events")
    parser.add_argument("--events", type=int, default=EVENTS, help="before the relay (default: %(default)s)")
    arguments = parse(parser, seconds=1, events=2000)
    found = binaries()
    if found is None:
        missing = "PostgreSQL is not here, see scripts/test-setup"
        if not arguments.quick or os.environ.get("CI") == "true":
            sys.exit(missing)
        print(f"left out: {missing}")
        return
    with postgres(found) as server:
        dsn = server.database()
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE orders (number bigserial PRIMARY KEY, article text)")
        figures: dict[tuple[str, int], list[float]] = {}
        relayed = []
        for _ in range(arguments.rounds):
            for name, script in SCRIPTS.items():
                for connections in (CONNECTIONS,) if arguments.quick else (1, CONNECTIONS):
                    done = transactions(server, dsn, script, round(arguments.seconds), connections)
                    figures.setdefault((name, connections), []).append(done)
            relayed.append(asyncio.run(relay(dsn, arguments.events)))
    elapsed, cpu = (median(each) for each in zip(*relayed, strict=True))
    print(machine())
    for (name, connections), each in figures.items():
        print(f"{median(each):8,.0f} transactions/s  {connections} connections  {name}")
    print(f"{elapsed:8.1f} µs, {cpu:.1f} µs of the relay's CPU, for an event of a backlog")
    if arguments.json:
        rows = [
            {"transactions": name, "connections": connections, "a second": median(each)}
            for (name, connections), each in figures.items()
        ]
        arguments.json.write_text(json.dumps([*rows, {"event": elapsed, "CPU": cpu}], indent=1))


if __name__ == "__main__":
    main()
