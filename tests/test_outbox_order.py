"""The outbox in the database: what is queued, and in which order."""

import random
import threading
from typing import Any

import psycopg
import pytest
from conftest import until
from postgres import Postgres

from sse_fast.outbox import add

QUEUED = """
    SELECT o.channel, o.data FROM sse_fast_outbox_queue q JOIN sse_fast_outbox o ON o.id = q.id ORDER BY q.position
"""


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.outbox()


def queued(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(QUEUED).fetchall()


def test_what_is_rolled_back_is_not_queued_neither_that_of_a_savepoint(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        add(connection, "a", "of a transaction that is rolled back")
        connection.rollback()
        add(connection, "a", "before")
        with connection.transaction():
            add(connection, "b", "of a savepoint that is rolled back")
            raise psycopg.Rollback
        add(connection, "c", "behind")
    assert queued(dsn) == [("a", "before"), ("c", "behind")]


def test_an_event_is_queued_when_its_transaction_commits_whenever_it_was_written(dsn: str) -> None:
    with psycopg.connect(dsn) as early, psycopg.connect(dsn) as late:
        add(early, "news", "written first")
        add(late, "news", "written then, and nobody waits for anybody")
        late.commit()
        add(early, "other", "of the same transaction")
        early.commit()
    assert queued(dsn) == [
        ("news", "written then, and nobody waits for anybody"),
        ("news", "written first"),
        ("other", "of the same transaction"),
    ]


def in_its_commit(connection: psycopg.Connection[Any]) -> None:
    """What is left of it is the commit's own."""
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


def waiting(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ).fetchone()
        return int(found[0]) if found else 0


def test_a_commit_with_events_of_a_channel_waits_for_the_one_before_it_and_for_no_other(dsn: str) -> None:
    with psycopg.connect(dsn) as before, psycopg.connect(dsn) as behind, psycopg.connect(dsn) as another:
        add(before, ["news", "room:1"], "before")
        in_its_commit(before)
        add(behind, ["room:1", "room:2"], "behind")
        add(another, "room:3", "another")
        another.commit()
        committing = threading.Thread(target=behind.commit)
        committing.start()
        until(lambda: waiting(dsn) == 1, "a commit that waits")
        assert queued(dsn) == [("room:3", "another")]
        before.commit()
        committing.join()
    assert queued(dsn) == [("news", "before"), ("room:3", "another"), ("room:1", "behind")]


def test_commits_that_have_the_same_channels_in_any_order_never_wait_in_a_circle(dsn: str) -> None:
    channels = [f"room:{number}" for number in range(6)]
    failed: list[BaseException] = []
    together = threading.Barrier(6)

    def write(name: int) -> None:
        try:
            with psycopg.connect(dsn) as connection:
                for _ in range(15):
                    for channel in random.Random(name).sample(channels, 6):
                        add(connection, channel, name)
                    together.wait()
                    connection.commit()
        except BaseException as error:
            failed.append(error)
            together.abort()

    writers = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert len(queued(dsn)) == 6 * 15 * 6


def test_serializable_transactions_do_not_fail_for_each_others_events(dsn: str) -> None:
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for connection in (one, other):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            add(connection, f"of:{connection.info.backend_pid}", "a")
        for connection in (one, other):
            add(connection, f"of:{connection.info.backend_pid}", "b")
        one.commit()
        other.commit()
    assert len(queued(dsn)) == 4


def test_constraints_that_are_checked_at_once_change_nothing(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        add(connection, "a", "1")
        add(connection, "b", "2")
    assert queued(dsn) == [("a", "1"), ("b", "2")]


def test_a_commit_that_brings_events_is_kept_also_where_others_need_not_be(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.commit()
        add(connection, "a", "1")
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as the commit does
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("local",)
        connection.commit()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_who_may_only_insert_writes_events(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP ROLE IF EXISTS app")
        connection.execute("CREATE ROLE app")
        connection.execute("GRANT INSERT ON sse_fast_outbox, sse_fast_outbox_queue TO app")
        connection.execute("SET ROLE app")
        add(connection, "a", "1", key="k")
        connection.execute("INSERT INTO sse_fast_outbox (channel, data) VALUES ('a', 'by hand')")
        connection.commit()
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY app")
        connection.execute("DROP ROLE app")
    assert queued(dsn) == [("a", "1"), ("a", "by hand")]


def test_what_no_server_takes_is_not_written_by_hand_neither(dsn: str) -> None:
    wrong = (
        "(channel, data) VALUES ('', 'x')",
        f"(channel, data) VALUES ('{257 * 'x'}', 'x')",
        "(channel, data, key) VALUES ('a', 'x', 'é')",
        "(channel, data, also) VALUES ('a', 'x', ARRAY[NULL])",
        f"(channel, data, also) VALUES ('a', 'x', ARRAY['{8192 * 'x'}'])",
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        for values in wrong:
            with pytest.raises(psycopg.errors.CheckViolation):
                connection.execute(f"INSERT INTO sse_fast_outbox {values}")
