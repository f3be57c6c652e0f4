"""The key set at a URL: fetched before it is needed and ahead of its end, once for all who ask, and kept while it can't
be."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from origin_server import OriginServer, answer, json
from signing import ec_key, public
from support import until

from sse_fast.access.keys import key_set_of
from sse_fast.edge import key_sets
from sse_fast.edge.asked import AskFailed
from sse_fast.edge.key_sets import FetchedKeys

OLD, NEW = (public(ec_key(kid), kid=kid) for kid in ("old", "new"))


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[OriginServer]:
    async with OriginServer.opened() as origin:
        origin.answer = lambda asked: json({"keys": [OLD]})
        yield origin


Fetch = Callable[..., FetchedKeys]


@pytest_asyncio.fixture
async def fetch(origin: OriginServer) -> AsyncIterator[Fetch]:
    """Keys from `origin`, which has been asked for the first time."""
    made: list[FetchedKeys] = []

    def start(**settings: float) -> FetchedKeys:
        settings = {"cool": 0.05, "retry": 0.02} | settings
        made.append(FetchedKeys(origin.url, key_set_of, **settings))
        made[-1].start()
        return made[-1]

    yield start
    for keys in made:
        await keys.close()


def kids(keys: FetchedKeys) -> set[str | None]:
    return {key.kid for key in keys.keys.keys} if keys.keys is not None else set()


async def test_a_set_is_fetched_before_anybody_asks(origin: OriginServer, fetch: Fetch) -> None:
    keys = fetch()
    await keys.ask(None)
    assert kids(keys) == {"old"}
    (asked,) = origin.asked
    assert (asked.method, asked.target) == ("GET", "/where")


async def test_who_comes_before_the_first_fetch_is_through_waits_for_it(origin: OriginServer, fetch: Fetch) -> None:
    origin.answer = lambda asked: None
    keys = fetch()
    waiting = [asyncio.create_task(keys.ask(kid)) for kid in ("old", None) for _ in range(50)]
    await origin.asked_times(1)
    origin.answer = lambda asked: json({"keys": [OLD]})
    origin.released.set()
    await asyncio.gather(*waiting)
    assert (len(origin.asked), kids(keys)) == (1, {"old"})


async def test_an_unknown_key_is_asked_for_once_for_all_who_come_with_it(origin: OriginServer, fetch: Fetch) -> None:
    keys = fetch()
    await keys.ask("old")
    origin.answer = lambda asked: json({"keys": [OLD, NEW]})
    await asyncio.gather(*(keys.ask("new") for _ in range(100)))
    assert (len(origin.asked), kids(keys)) == (2, {"old", "new"})


async def test_a_key_that_is_nowhere_is_asked_for_once_and_no_faster_than_it_may_be(
    origin: OriginServer, fetch: Fetch
) -> None:
    keys = fetch(cool=0.5)
    await keys.ask("old")
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        await asyncio.gather(*(keys.ask(f"made up {n}") for n in range(50)))
    assert len(origin.asked) == 2
    await keys.ask("another")
    assert len(origin.asked) == 3
    assert loop.time() - began >= 0.75, "behind each fetch there is a pause"


async def test_a_key_that_was_asked_for_too_early_is_asked_for_again_once_a_fetch_may_be_made(
    origin: OriginServer, fetch: Fetch
) -> None:
    keys = fetch(cool=0.05)
    await keys.ask("new")
    assert kids(keys) == {"old"}
    origin.answer = lambda asked: json({"keys": [OLD, NEW]})

    async with asyncio.timeout(30):
        while "new" not in kids(keys):
            await keys.ask("new")
            await asyncio.sleep(0.01)


async def test_made_up_keys_take_no_memory(origin: OriginServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "MISSING", 10)
    keys = fetch()
    await keys.ask("old")
    await asyncio.gather(*(keys.ask(f"made up {n}") for n in range(100)))
    assert len(keys._missing) == 10


async def test_a_set_is_fetched_again_ahead_of_its_end(
    origin: OriginServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sets, "FRESH_LEAST", 0.1)
    origin.answer = lambda asked: json({"keys": [OLD]}, cache_control="max-age=0")
    keys = fetch()
    await keys.ask("old")
    origin.answer = lambda asked: json({"keys": [NEW]}, cache_control="max-age=86400")
    await origin.asked_times(2)
    await keys.ask("new")
    assert (len(origin.asked), kids(keys)) == (2, {"new"}), "a key that is gone from the set is gone"


async def down(origin: OriginServer) -> None:
    origin.stop()


async def failing(origin: OriginServer) -> None:
    origin.answer = lambda asked: answer(500)


async def redirecting(origin: OriginServer) -> None:
    origin.answer = lambda asked: answer(302, location=f"{origin.url}/else")


async def huge(origin: OriginServer) -> None:
    origin.answer = lambda asked: json({"keys": [NEW], "more": "x" * key_sets.MOST_BYTES})


async def many(origin: OriginServer) -> None:
    origin.answer = lambda asked: json({"keys": [NEW] * 1000})


async def no_set(origin: OriginServer) -> None:
    origin.answer = lambda asked: answer(200, b"<html>welcome</html>")


async def slow(origin: OriginServer) -> None:
    origin.answer = lambda asked: None


OUTAGES = pytest.mark.parametrize("outage", [down, failing, redirecting, huge, many, no_set, slow])
Outage = Callable[[OriginServer], object]


@OUTAGES
async def test_while_it_cannot_be_fetched_the_old_keys_hold_and_others_are_not_known(
    origin: OriginServer, fetch: Fetch, outage: Callable[[OriginServer], object], caplog: pytest.LogCaptureFixture
) -> None:
    keys = fetch(seconds=0.1)
    await keys.ask("old")
    await outage(origin)  # type: ignore[misc]
    async with asyncio.timeout(5):
        for _ in range(3):
            with pytest.raises(AskFailed):
                await keys.ask("new")
        await keys.ask("old")
    assert kids(keys) == {"old"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "which is said once"
    origin.answer = lambda asked: json({"keys": [NEW]})
    if outage is down:
        await origin.start()
    await until(lambda: kids(keys) == {"new"})  # it is tried again without anybody's asking


@OUTAGES
async def test_without_a_first_set_nobody_knows_any_key(
    origin: OriginServer, fetch: Fetch, outage: Callable[[OriginServer], object]
) -> None:
    await outage(origin)  # type: ignore[misc]
    keys = fetch(seconds=0.1)
    async with asyncio.timeout(5):
        for kid in ("old", None):
            with pytest.raises(AskFailed):
                await keys.ask(kid)
    assert keys.keys is None


async def test_tries_in_vain_come_apart(origin: OriginServer, fetch: Fetch) -> None:
    origin.answer = lambda asked: answer(500)
    keys = fetch(retry=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await origin.asked_times(4)
    # 0.05 + 0.1 + 0.2 s, each at least three quarters of that.
    assert loop.time() - began >= 0.75 * 0.35
    assert keys.failures >= 3


async def test_a_server_that_ends_waits_for_no_fetch(origin: OriginServer, fetch: Fetch) -> None:
    origin.answer = lambda asked: None
    keys = fetch()
    waiting = asyncio.create_task(keys.ask("old"))
    await origin.asked_times(1)
    await keys.close()
    with pytest.raises(AskFailed, match="ends"):
        await waiting
