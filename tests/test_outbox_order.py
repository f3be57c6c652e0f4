"""The outbox in the database: what is queued, and in which order."""

import random
import threading
from collections import defaultdict

import psycopg
import pytest
from postgres import Postgres

from sse_fast.outbox import add

QUEUED = """
    SELECT o.channel, o.data FROM sse_fast_outbox_queue q JOIN sse_fast_outbox o ON o.id = q.id ORDER BY q.position
"""


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.database()


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


def test_within_a_channel_the_order_is_that_of_the_commits_and_no_transaction_dies_of_another(dsn: str) -> None:
    """What the order of the commits is says a row of each channel that each transaction has locked to its end."""
    channels = [f"room:{number}" for number in range(4)]
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE turns (channel text PRIMARY KEY, turn int NOT NULL)")
        connection.execute("CREATE TABLE taken (channel text, turn int, who text)")
        for channel in channels:
            connection.execute("INSERT INTO turns VALUES (%s, 0)", (channel,))
    failed: list[BaseException] = []

    def write(name: int) -> None:
        choose = random.Random(name)
        try:
            with psycopg.connect(dsn) as connection:
                for number in range(25):
                    who = f"{name}/{number}"
                    chosen = choose.sample(channels, choose.randint(1, 3))
                    for channel in chosen:  # in any order
                        add(connection, channel, who)
                    for channel in sorted(chosen) if choose.random() < 0.5 else []:
                        connection.execute(
                            "WITH turn AS (UPDATE turns SET turn = turn + 1 WHERE channel = %s RETURNING channel, turn)"
                            " INSERT INTO taken SELECT channel, turn, %s FROM turn",
                            (channel, who),
                        )
                    if choose.random() < 0.8:
                        connection.commit()
                    else:
                        connection.rollback()
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    order = defaultdict(list)
    for channel, who in queued(dsn):
        order[channel].append(who)
    with psycopg.connect(dsn) as connection:
        for channel in channels:
            found = connection.execute("SELECT who FROM taken WHERE channel = %s ORDER BY turn", (channel,)).fetchall()
            taken = [who for (who,) in found]
            assert len(taken) > 10
            of_those = set(taken)
            assert [who for who in order[channel] if who in of_those] == taken


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
