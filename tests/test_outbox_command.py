"""`sse-fast relay --outbox`."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from conftest import Edges, until
from postgres import Postgres

from sse_fast.outbox import DDL, DROP, add

pytestmark = pytest.mark.usefixtures("nothing_set")


def test_it_makes_the_tables_or_prints_what_does(run, postgres: Postgres) -> None:
    assert run("relay", "--ddl").output == DDL
    dsn = postgres.database(outbox=False)
    with psycopg.connect(dsn) as connection:
        connection.execute(DDL)
        connection.execute(DROP)
    assert run("relay", "--outbox", dsn, "--create").exit_code == 0
    with psycopg.connect(dsn) as connection:
        add(connection, "news", 1)
    again = run("relay", "--outbox", dsn, "--create")
    assert (again.exit_code, again.stderr) == (0, "the outbox is there already, and stays as it is\n")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM sse_fast_outbox").fetchone() == (1,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the database: --outbox postgresql://user@host/name, or SSE_FAST_OUTBOX"),
        (("--outbox", "mysql://me:secret@db/shop"), "--outbox: this is no address of a PostgreSQL database"),
        (("--outbox", "host=db", "--poll", "0"), "--poll"),
        (("--outbox", "host=db", "--key", "a secret key"), "--publish-key: a key is visible ASCII characters"),
        (("--outbox", "host=db", "--url", "ftp://x"), "--url: 'ftp://x' should look like"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_without_secrets(run, arguments: tuple[str, ...], words: str) -> None:
    said = run("relay", *arguments)
    assert said.exit_code == 2
    assert words in said.stderr
    assert "secret" not in said.stderr


def test_it_publishes_until_it_is_told_to_end_and_ends_well(postgres: Postgres, edge: Edges, tmp_path: Path) -> None:
    server = edge()
    dsn = postgres.outbox()
    log = tmp_path / "relay.log"
    command = [sys.executable, "-m", "sse_fast", "relay", "--outbox", dsn, "--url", server.url, "--verbose"]
    with log.open("wb") as opened:
        relay = subprocess.Popen(command, stdout=opened, stderr=opened)
    try:
        with psycopg.connect(dsn) as connection:
            add(connection, ["news", "others"], {"n": 1}, event="price")
        until(lambda: b"published 1 events in 1 batches" in log.read_bytes(), "the progress")
        kept = json.loads(server.request("GET", "/channels/others")[1])
        assert kept["kept"] == 1
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(30) == 0
    finally:
        relay.kill()
    done = subprocess.run(
        [*command[:5], postgres.database(outbox=False), "--once"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sse-fast: there is no outbox in this database" in done.stderr
