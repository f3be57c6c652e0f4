"""`sse_fast.outbox.add`: an event in the transaction of whatever the app writes with."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import sqlalchemy
from postgres import Postgres
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sse_fast import InvalidEvent, stream
from sse_fast.outbox import add

EVENT: dict[str, Any] = {"event": "paid", "key": "order-7"}
WRITTEN = ("order:7", ["shop"], "paid", '{"state":"paid"}', "order-7")


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.outbox()


@pytest.fixture
def url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")


def written(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT channel, also, event, data, key FROM sse_fast_outbox ORDER BY id").fetchall()


def test_a_connection_and_a_cursor_of_psycopg(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        add(connection, ["order:7", "shop"], {"state": "paid"}, **EVENT)
        add(connection.cursor(), ["order:7", "shop"], {"state": "paid"}, **EVENT)
        assert written(dsn) == []
    assert written(dsn) == [WRITTEN, WRITTEN]


async def test_an_asynchronous_connection_and_cursor_of_psycopg(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await add(connection, ["order:7", "shop"], {"state": "paid"}, **EVENT)
        await add(connection.cursor(), ["order:7", "shop"], {"state": "paid"}, **EVENT)
        assert written(dsn) == []
    assert written(dsn) == [WRITTEN, WRITTEN]


def test_a_session_a_scoped_session_and_a_connection_of_sqlalchemy(dsn: str, url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    scoped = scoped_session(sessionmaker(engine))
    with Session(engine) as session, engine.connect() as connection:
        for target in (session, scoped, connection):
            add(target, ["order:7", "shop"], {"state": "paid"}, **EVENT)
            assert written(dsn) == []
            target.rollback()
            add(target, ["order:7", "shop"], {"state": "paid"}, **EVENT)
        for number, target in enumerate((session, scoped, connection), 1):
            target.commit()
            assert written(dsn) == number * [WRITTEN]
    scoped.remove()
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_an_asynchronous_session_and_connection_of_sqlalchemy(dsn: str, url: str, driver: str) -> None:
    engine = create_async_engine(url.replace("+psycopg", f"+{driver}"))
    async with AsyncSession(engine) as session, engine.connect() as connection:
        for target in (session, connection):
            await add(target, ["order:7", "shop"], {"state": "paid"}, **EVENT)
            assert written(dsn) == []
            await target.rollback()
            await add(target, ["order:7", "shop"], {"state": "paid"}, **EVENT)
        for number, target in enumerate((session, connection), 1):
            await target.commit()
            assert written(dsn) == number * [WRITTEN]
    await engine.dispose()


def test_data_is_text_as_it_stands_or_json(dsn: str, url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    values = ["two\nlines: 100 % :of :them", "été".encode(), {"a": [1, None]}, 7, None, "", "a\\0b"]
    with psycopg.connect(dsn) as connection, engine.begin() as alchemy:
        for value in values:
            add(connection, "a", value)
        connection.commit()
        for value in values:
            add(alchemy, "a", value)
    texts = [row[3] for row in written(dsn)]
    assert texts == 2 * ["two\nlines: 100 % :of :them", "été", '{"a":[1,null]}', "7", "null", "", "a\\0b"]
    engine.dispose()


@dataclass
class CommentAdded:
    comment_id: str


@dataclass
class UserWrote:
    comment_id: str


Comments = stream("item:{item_id}", CommentAdded, name="Comments")
Users = stream("user:{user_id}", CommentAdded, name="Users")


def test_a_typed_event_is_called_by_its_class_and_checked_before_it_is_written(dsn: str, url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with psycopg.connect(dsn) as connection, engine.begin() as alchemy:
        add(connection, Comments(item_id="7"), CommentAdded("1"), key="k")
        connection.commit()
        add(alchemy, [Comments(item_id="7"), Users(user_id="ada")], CommentAdded("1"), key="k")
        for wrong in (UserWrote("1"), CommentAdded(1)):  # type: ignore[arg-type]
            with pytest.raises(InvalidEvent):
                add(connection, Comments(item_id="7"), wrong)  # type: ignore[misc]
    assert written(dsn) == [
        ("item:7", [], "CommentAdded", '{"comment_id":"1"}', "k"),
        ("item:7", ["user:ada"], "CommentAdded", '{"comment_id":"1"}', "k"),
    ]
    engine.dispose()


def test_an_event_without_a_key_gets_one_of_its_own(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        add(connection, "a", 1)
        add(connection, "a", 1)
    one, other = (row[4] for row in written(dsn))
    assert one != other


@pytest.mark.parametrize(
    ("channel", "data", "given", "words"),
    [
        ("with space", 1, {}, "white space"),
        ([], 1, {}, "channel"),
        (["a", "a"], 1, {}, "names 'a' again"),
        ([f"c{number}" for number in range(33)], 1, {}, "names 1 to 32 channels"),
        ("a", object(), {}, "cannot be sent as JSON"),
        ("a", b"\xff", {}, "not valid UTF-8: invalid start byte at byte 0"),
        ("a", "zero \0", {}, r"U\+0000 at 5"),
        ("a", 1, {"event": "two\nlines"}, "event"),
        ("a", 1, {"key": "é"}, "printable ASCII"),
        ("a", 17 * 1024 * 1024 * "x", {}, "16777216"),
    ],
)
def test_what_no_server_takes_is_refused_before_anything_is_written(
    channel: Any, data: Any, given: dict[str, Any], words: str
) -> None:
    class Untouched:
        pass

    with pytest.raises(InvalidEvent, match=words):
        add(Untouched(), channel, data, **given)


def test_the_package_itself_needs_neither_a_driver_nor_sqlalchemy() -> None:
    said = "import sys, sse_fast, sse_fast.outbox; assert not {'psycopg', 'sqlalchemy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", said], check=True)
