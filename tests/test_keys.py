"""Idempotency keys in the log: an event under a key is appended once, whoever brings it again within its window.

Against a slow and obvious model, and with a writer that dies at every instruction of an append.
"""

import asyncio
import math
import mmap
import os
import random
import tracemalloc
from typing import Any, NamedTuple

import pytest
from support import turns_of_others
from test_log_dying_writers import body_of, kept, memories_on_the_way

from sse_fast._native.log.keys import KeysOfEvents, KeyTable
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast._native.wire.publication import encode_publication
from sse_fast.errors import BatchTooLarge, EventTooLarge, InvalidEvent, KeyReused
from sse_fast.event_rules import Encoded
from sse_fast.hub.hub import Hub
from sse_fast.hub.idempotency import EVENTS_AT_ONCE, LEAST_KEYS, LONGEST_WINDOW, MOST_KEYS
from sse_fast.settings import Settings

WINDOW = 120_000
LOCK_AT = 1024
OWNER_DIED, WAITERS = 0x40000000, 0x80000000  # linux/futex.h
SEEDS = int(os.environ.get("SSE_FAST_KEYS_SEEDS", "40"))


def digest(key: int, body: int = 0) -> bytes:
    return key.to_bytes(16, "little") + body.to_bytes(16, "little")


def event(number: int = 0) -> Encoded:
    return b"c", b"data: %d\n\n" % number


Keys = bytes | list[bytes | None]


def packed(keys: Keys) -> bytes | KeysOfEvents:
    if isinstance(keys, bytes):
        return keys
    each = KeysOfEvents(len(keys))
    for place, key in enumerate(keys):
        if key is not None:
            each.put(place, key)
    return each


def once(table: KeyTable, log: Log, keys: Keys, count: int | None = None) -> tuple[list[int], int]:
    many = count or (1 if isinstance(keys, bytes) else len(keys))
    answer = table.append_once(log, [event(n) for n in range(many)], packed(keys))
    assert answer is not None
    assert answer[3] == min(answer[0])
    return list(answer[0]), answer[1]


@pytest.fixture
def log() -> Log:
    return Log.private(1 << 20)


@pytest.fixture
def table() -> KeyTable:
    return KeyTable.private(64, WINDOW)


# ---- what a key does ----


def test_a_key_that_is_given_again_gets_the_first_position_and_appends_nothing(table: KeyTable, log: Log) -> None:
    assert once(table, log, digest(1)) == ([1], 0)
    assert once(table, log, digest(2)) == ([2], 0)
    assert once(table, log, digest(1)) == ([1], 1)
    assert (log.position, table.repeated) == (2, 1)


def test_a_key_of_a_batch_gets_the_first_positions_of_all_its_events(table: KeyTable, log: Log) -> None:
    log.append(*event())
    assert once(table, log, digest(1), 5) == ([2, 3, 4, 5, 6], 0)
    assert once(table, log, digest(1), 5) == ([2, 3, 4, 5, 6], 5)
    assert log.position == 6


def test_of_a_batch_only_those_events_are_appended_whose_keys_are_new(table: KeyTable, log: Log) -> None:
    assert once(table, log, [digest(1), None, digest(2)]) == ([1, 2, 3], 0)
    assert once(table, log, [digest(3), digest(2), None, digest(1), digest(4)]) == ([4, 3, 5, 1, 6], 2)
    assert [record.position for record in log.records()] == [1, 2, 3, 4, 5, 6]


def test_a_key_that_comes_twice_in_one_batch_is_appended_once(table: KeyTable, log: Log) -> None:
    assert once(table, log, [digest(7), digest(8), digest(7), digest(7)]) == ([1, 2, 1, 1], 2)
    assert once(table, log, [digest(7), digest(7)]) == ([1, 1], 2)
    assert log.position == 2


@pytest.mark.parametrize(
    "again", [digest(1, 9), [digest(5), digest(1, 9)], [digest(6, 1), digest(6, 2)]], ids=["one", "many", "in itself"]
)
def test_a_key_with_something_else_is_refused_and_nothing_of_its_batch_is_there(
    table: KeyTable, log: Log, again: bytes | list[bytes | None]
) -> None:
    once(table, log, digest(1))
    with pytest.raises(KeyReused, match="this idempotency key"):
        once(table, log, again)
    assert log.position == 1
    assert once(table, log, [digest(5), digest(6)]) == ([2, 3], 0)


def test_who_used_a_key_again_is_told_where_and_whether_it_was_in_the_same_batch(table: KeyTable, log: Log) -> None:
    once(table, log, digest(1))
    with pytest.raises(KeyReused) as before:
        once(table, log, [digest(5), digest(1, 9)])
    with pytest.raises(KeyReused, match="in this batch twice, with different events: event 1 of the batch has") as both:
        once(table, log, [None, digest(6, 1), digest(6, 2)])
    with pytest.raises(KeyReused) as whole:
        once(table, log, digest(1, 9), 2)
    assert (before.value.place, before.value.first) == (1, None)
    assert (both.value.place, both.value.first) == (2, 1)
    assert (whole.value.place, whole.value.first) == (None, None)


@pytest.mark.parametrize("room", [0, 1, 48, 2**33, 2**60 + 16, 2**63, 2**64 - 1])
def test_memory_whose_header_has_a_room_that_cannot_be_is_refused(room: int) -> None:
    memory = mmap.mmap(-1, KeyTable.size(16))
    KeyTable(memory, 16, WINDOW)
    assert memory[16:24] == (16).to_bytes(8, "little")
    memory[16:24] = room.to_bytes(8, "little")
    with pytest.raises(ValueError, match=f"up to 4294967296, not for {room}$" if room != 1 else "a table of 1 keys"):
        KeyTable(memory)
    with pytest.raises(ValueError, match="a table has room for"):
        KeyTable(memory, 2**60, WINDOW)


def test_a_batch_that_the_log_does_not_take_leaves_no_key(table: KeyTable) -> None:
    log = Log.private(4096)
    with pytest.raises(EventTooLarge):
        table.append_once(log, [event(), (b"c", body_of(2000))], packed([digest(1), digest(2)]))
    assert once(table, log, digest(1)) == ([1], 0)


def test_beyond_the_limit_nothing_is_appended_and_what_is_there_already_is_told_all_the_same(
    table: KeyTable, log: Log
) -> None:
    once(table, log, digest(1))
    assert table.append_once(log, [event()], digest(2), log.head - 1) is None
    again = table.append_once(log, [event()], digest(1), log.head - 1)
    assert again is not None
    assert (list(again[0]), again[1]) == ([1], 1)
    assert once(table, log, digest(2)) == ([2], 0)


# ---- for how long ----


def test_a_key_is_forgotten_when_its_window_has_ended_and_not_before(table: KeyTable, log: Log) -> None:
    once(table, log, digest(1))
    table.ahead = WINDOW - 10_000
    assert once(table, log, digest(1)) == ([1], 1)
    table.ahead = WINDOW
    assert once(table, log, digest(1)) == ([2], 0)
    assert table.forgotten == 0


def test_where_there_is_no_more_room_the_oldest_are_forgotten_and_counted(table: KeyTable, log: Log) -> None:
    for key in range(table.room + 3):
        once(table, log, digest(key))
    assert table.forgotten == 3
    assert once(table, log, digest(3)) == ([4], 1)
    assert once(table, log, digest(2)) == ([table.room + 4], 0)
    table.ahead = WINDOW
    for key in range(1000, 1000 + table.room):
        once(table, log, digest(key))
    assert table.forgotten == 4, "a key whose window has ended is no loss"


def test_more_keys_at_once_than_are_remembered_are_refused(table: KeyTable, log: Log) -> None:
    keys: list[bytes | None] = [digest(key) for key in range(table.room + 1)]
    with pytest.raises(BatchTooLarge, match="65 keys came at once, and 64 are remembered"):
        once(table, log, keys)
    assert log.position == 0
    assert once(table, log, keys[:-1])[1] == 0


def test_one_key_of_more_events_than_are_remembered_is_one_key(table: KeyTable, log: Log) -> None:
    assert once(table, log, [digest(1)] * (table.room + 1)) == ([1] * (table.room + 1), table.room)


# ---- the keys of a batch ----


def test_keys_are_packed_for_the_events_that_there_are_and_once_each(table: KeyTable, log: Log) -> None:
    keys = KeysOfEvents(2)
    keys.put(0, digest(1))
    for place in (-1, 2):
        with pytest.raises(IndexError, match="there are 2 events"):
            keys.put(place, digest(2))
    with pytest.raises(ValueError, match="event 0 has a key"):
        keys.put(0, digest(1))
    for wrong in (b"short", "text"):
        with pytest.raises(TypeError, match="a key is 32 bytes"):
            keys.put(1, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 events have as many keys"):
        table.append_once(log, [event()] * 3, keys)
    for none in (0, -1):
        with pytest.raises(ValueError, match="events have no keys"):
            KeysOfEvents(none)
    assert log.position == 0


def test_of_the_keys_of_a_batch_nothing_is_left_for_the_turn_that_appends_but_to_look() -> None:
    """No object is made of a key there: what the append takes is a copy of the list, and a position for each event."""
    log, table = Log.private(1 << 24), KeyTable.private(32_768, WINDOW)
    batch = [event(number) for number in range(20_000)]
    keys = packed([digest(number) for number in range(20_000)])
    for _ in range(2):
        tracemalloc.start()
        table.append_once(log, batch, keys)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 20 * len(batch)


# ---- its memory ----


def test_a_table_has_80_bytes_for_each_key_and_takes_its_memory_as_keys_come() -> None:
    assert KeyTable.size(1 << 17) == 128 + 80 * (1 << 17)
    assert KeyTable.size(65) == KeyTable.size(128)


@pytest.mark.parametrize(
    ("memory", "wrong"),
    [
        (bytearray(64), "too few"),
        (bytearray(KeyTable.size(64)), "not a table"),
        (bytearray(b"sse_keys" + bytes(KeyTable.size(64))), "not a table"),
    ],
)
def test_memory_that_is_no_table_is_refused(memory: bytearray, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        KeyTable(memory)


@pytest.mark.parametrize("keys", [0, -1])
def test_a_table_of_no_keys_is_refused(keys: int) -> None:
    with pytest.raises(ValueError, match=f"a table remembers 1 key or more, not {keys}"):
        KeyTable.private(keys, WINDOW)


def test_two_tables_hash_with_other_secrets() -> None:
    assert KeyTable.private(64, 1).secret != KeyTable.private(64, 1).secret


# ---- against a model ----


class Given(NamedTuple):
    body: int
    positions: list[int]
    at: int


class Model:
    """Keys in a dict, in the order in which they came."""

    def __init__(self, room: int) -> None:
        self.room, self.now, self.position, self.forgotten = room, 0, 0, 0
        self.given: dict[int, Given] = {}

    def known(self, key: int) -> Given | None:
        given = self.given.get(key)
        return given if given is not None and self.now - given.at < WINDOW else None

    def remember(self, key: int, body: int, positions: list[int]) -> None:
        self.given.pop(key, None)
        self.given[key] = Given(body, positions, self.now)

    def forget(self) -> None:
        while len(self.given) > self.room:
            self.given.pop(next(iter(self.given)))

    def batch(self, key: int, body: int, count: int) -> list[int] | None:
        if (given := self.known(key)) is not None:
            return given.positions if (given.body, len(given.positions)) == (body, count) else None
        positions = list(range(self.position + 1, self.position + 1 + count))
        self.position += count
        self.remember(key, body, positions)
        self.forget()
        return positions

    def events(self, keys: list[tuple[int, int] | None]) -> list[int] | None:
        first: dict[int, int] = {}
        for given in keys:
            if given is None:
                continue
            known = self.known(given[0])
            if first.setdefault(*given) != given[1]:
                return None
            if known is not None and (known.body, len(known.positions)) != (given[1], 1):
                return None
        positions: list[int] = []
        for given in keys:
            known = self.known(given[0]) if given is not None else None
            if known is None:
                self.position += 1
                if given is not None:
                    self.remember(*given, [self.position])
                positions.append(self.position)
            else:
                positions += known.positions
        self.forget()
        return positions


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_table_is_as_its_model(seed: int) -> None:
    rng = random.Random(seed)
    log = Log.private(1 << 16)
    memory = mmap.mmap(-1, KeyTable.size(16))
    # Two workers, and a memory that is not read through a cache of one of them.
    tables = [KeyTable(memory, 16, WINDOW), KeyTable(memory)]
    model = Model(16)
    for _ in range(300):
        table = rng.choice(tables)
        key, body = rng.randrange(40), int(rng.random() < 0.1)
        if rng.random() < 0.1:
            model.now += rng.choice((1, WINDOW // 3, WINDOW))
            for each in tables:
                each.ahead = model.now
        if rng.random() < 0.3:
            keys: list[tuple[int, int] | None] = [
                (rng.randrange(40), int(rng.random() < 0.05)) if rng.random() < 0.8 else None
                for _ in range(rng.randrange(1, 9))
            ]
            wanted = model.events(keys)
            given_keys: Keys = [None if given is None else digest(*given) for given in keys]
            count = len(keys)
        else:
            count = rng.choice((1, 1, 3))
            wanted, given_keys = model.batch(key, body, count), digest(key, body)
        if wanted is None:
            with pytest.raises(KeyReused):
                once(table, log, given_keys, count)
        else:
            assert once(table, log, given_keys, count)[0] == wanted
        assert log.position == model.position


# ---- a writer that dies ----


class Left(NamedTuple):
    """What a writer left behind: the log's memory, and the table's."""

    log: Log
    table: KeyTable


def left_behind(memories: bytes, size: int) -> Left:
    both = mmap.mmap(-1, len(memories))
    both[:] = memories
    # As the kernel does with a lock whose holder died.
    word = int.from_bytes(both[LOCK_AT : LOCK_AT + 4], "little")
    both[LOCK_AT : LOCK_AT + 4] = (word & WAITERS | OWNER_DIED).to_bytes(4, "little")
    view = memoryview(both)
    return Left(Log(view[:size]), KeyTable(view[size:]))


@pytest.mark.parametrize("before", [0, 10, 40], ids=["empty", "some", "full"])
@pytest.mark.parametrize(
    ("keys", "count", "new"),
    [
        pytest.param(digest(100), 1, 1, id="one"),
        pytest.param(digest(100), 3, 3, id="a batch"),
        pytest.param([digest(100), digest(39), digest(9), digest(101), digest(100)], 5, 4, id="events"),
    ],
)
def test_a_retry_after_a_writer_that_died_at_any_instruction_publishes_exactly_once(
    keys: Keys, count: int, new: int, before: int
) -> None:
    """All of the batch or nothing was there; whoever comes next, with other events first or at once with the same."""
    size = segment_size(8192)
    memory = mmap.mmap(-1, size + KeyTable.size(16))
    view = memoryview(memory)
    log, table = Log(view[:size], epoch="dyingwri"), KeyTable(view[size:], 16, WINDOW)
    for key in range(before):
        once(table, log, digest(key))
    if isinstance(keys, list):
        new -= before > 0  # one of the two that may be there is: 9, or where there are so many that it is forgotten, 39
    position, old = log.position, kept(log)
    on_the_way = memories_on_the_way(
        memory, lambda _: table.append_once(log, [event(n) for n in range(count)], packed(keys)), log
    )
    outcomes = set()
    for left in on_the_way:
        for others_first in (False, True):
            heir = left_behind(left, size)
            if others_first:
                assert heir.log.append(b"other", b"data: other\n\n") > position
            there = [record for record in kept(heir.log) if record[0] > position and record[1] == b"c"]
            assert len(there) in (0, new)
            positions, repeated = once(heir.table, heir.log, keys, count)
            assert repeated == (count if there else count - new), "what is there is not known; or the other way round"
            assert once(heir.table, heir.log, keys, count) == (positions, count)
            now = [record[0] for record in kept(heir.log) if record[1] == b"c"]
            assert now[: len(old)] == [record[0] for record in old]
            assert now[len(old) :] == sorted({at for at in positions if at > position})
            assert len(now) == len(old) + new
            for key in range(max(0, before - 16 + 4), before):  # what no append of this test has overwritten
                assert once(heir.table, heir.log, digest(key)) == ([key + 1], 1), "a key was forgotten"
            verify(heir.log)
            outcomes.add(bool(there))
    assert outcomes == {False, True}, "the append was not stepped through to its end"


# ---- in a hub ----


async def test_a_hub_publishes_once_under_a_key_whichever_way_it_is_given() -> None:
    hub = Hub(log_size=65536)
    first = await hub.publish("news", "hello", key="one")
    assert await hub.publish("news", "hello", key="one") == first
    encoded = encode_publication("news", "hello", limit=65536)
    ids, repeated = await hub.append_once([encoded], "one")
    assert (list(ids), repeated) == ([first], 1)
    ids, repeated = await hub.append_once([encoded, encoded], {1: "one"})
    assert (ids[1], repeated) == (first, 1)
    assert (hub.published, hub.log.position) == (2, 2)
    assert hub.backplane.published_bytes == 2 * len(encoded[1])
    with pytest.raises(KeyReused, match="this idempotency key was used before"):
        await hub.publish("news", "another", key="one")
    with pytest.raises(KeyReused, match=r"^event 1 of the batch: this idempotency key was used before"):
        await hub.append_once([encoded, encode_publication("other", "hello", limit=65536)], {1: "one"})
    await hub.close()


async def test_an_event_of_one_channel_is_no_other_of_eleven_whatever_its_name_looks_like() -> None:
    several = ["n" * 40, *(f"channel{n}" for n in range(10))]
    one = several[0] + "".join(f"8:{name}" for name in several[1:])
    assert len(one) == 140  # "1" and "140:" have the digits of "11" and "40:"
    hub = Hub(log_size=65536)
    await hub.publish(one, "hello", key="k")
    with pytest.raises(KeyReused):
        await hub.publish(several, "hello", key="k")
    await hub.close()


@pytest.mark.parametrize(
    "given",
    [
        *({"idempotency_window": window} for window in (-1, math.nan, "2", 86_401, None)),
        *({"idempotency_keys": keys} for keys in (0, -5, 15, 2**26 + 1, 64.0, "64", True)),
    ],
    ids=str,
)
def test_a_hub_refuses_what_no_server_may_be_set_to(given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=f"^{name} must be .*; this is {value!r}$"):
        Hub(log_size=65536, **given)


def test_a_hub_and_a_server_have_the_same_bounds() -> None:
    def bounds(name: str) -> list[Any]:
        said = Settings.model_fields[name].metadata
        return [getattr(each, which) for each in said for which in ("ge", "le") if hasattr(each, which)]

    assert bounds("idempotency_window") == [0, LONGEST_WINDOW]
    assert bounds("idempotency_keys") == [LEAST_KEYS, MOST_KEYS]


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\nb", 7])
async def test_what_is_no_key_is_refused_and_nothing_published(key: Any) -> None:
    hub = Hub(log_size=65536)
    with pytest.raises(InvalidEvent, match="an idempotency key"):
        await hub.publish("news", "hello", key=key)
    assert hub.published == 0
    await hub.close()


async def test_a_hub_that_remembers_no_keys_refuses_them() -> None:
    for hub in (Hub(log_size=65536, idempotency_window=0), Hub(log=Log.private(65536))):
        with pytest.raises(InvalidEvent, match="no idempotency keys are remembered here"):
            await hub.publish("news", "hello", key="one")
        assert hub.published == 0
        await hub.close()


async def test_the_hubs_of_two_workers_that_are_given_a_key_at_once_publish_once() -> None:
    memory = mmap.mmap(-1, segment_size(65536))
    keys = KeyTable.private(64, WINDOW)
    hubs = [Hub(log=Log(memory), keys=keys) for _ in range(2)]
    ids = await asyncio.gather(*(hub.publish("news", "hello", key="one") for hub in hubs for _ in range(3)))
    assert len(set(ids)) == 1
    assert sum(hub.published for hub in hubs) == hubs[0].log.position == 1
    for hub in hubs:
        await hub.close()


async def test_a_large_batch_under_a_key_is_published_once_and_its_digest_leaves_the_loop_to_others() -> None:
    hub = Hub(log_size=1 << 24)
    batch = [encode_publication("news", f"{number}", limit=65536) for number in range(20_000)]
    async with turns_of_others() as turns:
        first, _ = await hub.append_once(batch, "one")
    assert turns.count >= len(batch) // EVENTS_AT_ONCE
    again, repeated = await hub.append_once(batch, "one")
    assert (list(again), repeated, hub.log.position) == (list(first), 20_000, 20_000)
    each = {place: f"{place}" for place in range(20_000)}
    for _ in range(2):
        async with turns_of_others() as turns:
            again, repeated = await hub.append_once(batch, each)
        assert turns.count >= len(batch) // EVENTS_AT_ONCE
    assert ([id.position for id in again], repeated) == (list(range(20_001, 40_001)), 20_000)
    await hub.close()


def test_a_published_key_is_nowhere_in_the_memory_of_the_table() -> None:
    memory = mmap.mmap(-1, KeyTable.size(64))
    log = Log.private(65536)
    table = KeyTable(memory, 64, WINDOW)

    async def publish() -> None:
        hub = Hub(log=log, keys=table)
        await hub.publish("news", "hello", key="order-4711-abcdef")
        await hub.close()

    asyncio.run(publish())
    assert b"4711" not in memory[:]
    assert log.position == 1
