"""Law 5, under real servers: a client that stops reading costs the others nothing and holds bounded memory."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import pytest
from support import Listener, Server, serving, until

SERVERS = ("granian", "uvicorn", "hypercorn")
BIG = "x" * 32_000
MIB = 1024 * 1024
# What a stuck stream may cost: the log (1 MiB), its own piece, and what the allocators keep of the passing traffic.
RESIDENT_MORE_AT_MOST = 24 * MIB
PASSING = 64 * MIB
NOISE = re.compile(r"Traceback|exception was never retrieved|never awaited|\bCRITICAL\b")


def numbered(first: int, count: int) -> list[str]:
    return [f"{number}:{BIG}" for number in range(first, first + count)]


def numbers(listener: Listener) -> list[int]:
    return [int(data.partition(":")[0]) for data in listener.data]


async def publish_until_blocked(server: Server, readers: list[Listener], streams: int = 1) -> int:
    """Publish to `a` until so many streams are stuck, while each reader gets every event. Returns how many."""
    count = looks = 0
    while looks < 3:  # a stream that blocks while the kernel makes its buffer larger is not stuck yet
        assert count < 2000, "nobody is stuck"
        count += len(await server.publish("a", numbered(count, 4)))
        await asyncio.gather(*(reader.read_count(count) for reader in readers))
        looks = looks + 1 if (await server.stats())["blocked"] == streams else 0
    return count


@pytest.fixture(params=SERVERS)
async def patient(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A server with a log that keeps all that a test publishes."""
    async with serving(request.param, log_size="16MiB", send_timeout=600) as server:
        yield server
        assert not NOISE.search(server.log), server.log


async def test_the_others_get_every_event_while_one_is_stuck_and_it_has_them_all_when_it_reads_again(
    patient: Server,
) -> None:
    async with (
        await Listener.open(patient.port, "/sse/a", small_buffers=True) as stuck,
        await Listener.open(patient.port, "/sse/a") as first,
        await Listener.open(patient.port, "/sse/a") as second,
    ):
        count = await publish_until_blocked(patient, [first, second])
        for _ in range(8):  # and on, one event at a time: each reaches the others while the first is stuck
            await patient.publish("a", numbered(count, 1))
            count += 1
            await first.read_count(count)
            await second.read_count(count)
        assert (await patient.stats())["blocked"] == 1
        assert numbers(stuck) == []
        for listener in (stuck, first, second):
            await listener.read_count(count)
            assert numbers(listener) == list(range(count))
            assert listener.told("$gap") == []
        await until_blocked(patient, 0)


async def test_a_client_that_reads_a_byte_at_a_time_gets_whole_frames(patient: Server) -> None:
    async with await Listener.open(patient.port, "/sse/a", small_buffers=True) as listener:
        await patient.publish("a", [f"{number}:é😀\n{number}" for number in range(200)])
        await listener.read_count(200, at_once=1)
        assert listener.data == [f"{number}:é😀\n{number}" for number in range(200)]


async def test_half_of_the_streams_may_be_stuck(patient: Server) -> None:
    stuck = [await Listener.open(patient.port, "/sse/a", small_buffers=True) for _ in range(50)]
    reading = [await Listener.open(patient.port, "/sse/a") for _ in range(50)]
    try:
        for listener in stuck + reading:
            await listener.__aenter__()
        count = await publish_until_blocked(patient, reading, streams=len(stuck))
        for listener in reading:
            assert numbers(listener) == list(range(count))
        await asyncio.gather(*(listener.read_count(count) for listener in stuck))
        for listener in stuck:
            assert numbers(listener) == list(range(count))
    finally:
        for listener in stuck + reading:
            listener.close()


async def until_blocked(server: Server, streams: int) -> None:
    async def so_many() -> bool:
        return bool((await server.stats())["blocked"] == streams)

    await until(so_many)


async def until_slow(server: Server) -> None:
    async def told() -> bool:
        return bool((await server.stats())["slow_disconnects"])

    await until(told)


@pytest.mark.parametrize("kind", SERVERS)
async def test_memory_is_bounded_whatever_flows_past_a_stuck_stream_and_it_is_told_what_it_missed(kind: str) -> None:
    async with (
        serving(kind, log_size="1MiB", send_timeout=600, slow_policy="skip") as server,
        await Listener.open(server.port, "/sse/a", small_buffers=True) as stuck,
        await Listener.open(server.port, "/sse/a") as reader,
    ):
        count = await publish_until_blocked(server, [reader])
        before = server.resident
        while count * len(BIG) < PASSING:
            count += len(await server.publish("a", numbered(count, 4)))
            await reader.read_count(count)
        assert server.resident - before < RESIDENT_MORE_AT_MOST
        assert numbers(reader) == list(range(count))
        await stuck.read_until(lambda: numbers(stuck)[-1:] == [count - 1])
        assert_told_of_the_one_gap(stuck)
        await server.publish("a", numbered(count, 1))
        await stuck.read_until(lambda: numbers(stuck)[-1:] == [count])
        assert not NOISE.search(server.log), server.log


def assert_told_of_the_one_gap(listener: Listener) -> None:
    """It has everything up to the gap, in order, and everything after it; and the gap's ends are where that is."""
    (gap,) = listener.told("$gap")
    after, until_ = (int(gap[end].partition("-")[2]) for end in ("after", "until"))
    positions = [int(event.last_event_id.partition("-")[2]) for event in listener.events if event.type == "message"]
    before = [position for position in positions if position <= after]
    behind = [position for position in positions if position > until_]
    assert before == list(range(1, after + 1))
    assert behind == list(range(until_ + 1, positions[-1] + 1))
    assert before + behind == positions
    assert until_ > after


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_stream_that_takes_nothing_for_the_send_timeout_is_skipped_ahead(kind: str) -> None:
    async with (
        serving(kind, log_size="16MiB", send_timeout=0.5, slow_policy="skip") as server,
        await Listener.open(server.port, "/sse/a", small_buffers=True) as stuck,
    ):
        count = await publish_until_blocked(server, [])
        count += len(await server.publish("a", numbered(count, 8)))
        await until_slow(server)
        await stuck.read_until(lambda: numbers(stuck)[-1:] == [count - 1])
        assert_told_of_the_one_gap(stuck)
        assert stuck.end is None


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_stream_that_takes_nothing_for_the_send_timeout_is_ended_and_resumes_with_a_gap_told(kind: str) -> None:
    async with (
        serving(kind, log_size="1MiB", send_timeout=0.5, slow_policy="disconnect") as server,
        await Listener.open(server.port, "/sse/a", small_buffers=True) as stuck,
        await Listener.open(server.port, "/sse/a") as reader,
    ):
        count = await publish_until_blocked(server, [reader])
        await until_slow(server)
        stats = await server.stats()
        assert (stats["connections"], stats["blocked"], stats["ended"]["slow"]) == (1, 0, 1)
        for _ in range(16):  # twice what the log keeps
            count += len(await server.publish("a", numbered(count, 4)))
        await reader.read_count(count)
        await stuck.read_to_the_end()
        assert stuck.end == "aborted"  # a clean end would tell some clients that there is nothing more to come
        assert numbers(stuck) == list(range(len(stuck.data)))
        async with await Listener.open(server.port, "/sse/a", last_event_id=stuck.last_event_id) as resumed:
            assert resumed.told("$connected") == [{"resume": "gap"}]
            (gap,) = resumed.told("$gap")
            assert gap["after"] == stuck.last_event_id
            await resumed.read_until(lambda: numbers(resumed)[-1:] == [count - 1])
            kept = numbers(resumed)
            assert kept == list(range(kept[0], count))
            assert int(gap["until"].partition("-")[2]) == kept[0]  # positions count from 1
        assert not NOISE.search(server.log), server.log


# Hypercorn's worker processes get no signal: they cut the streams after its graceful timeout. In one process it tells.
@pytest.mark.parametrize(
    ("kind", "options"), [("granian", ()), ("uvicorn", ()), ("hypercorn", ("--workers", "0")), ("mounted", ())]
)
async def test_a_stop_ends_open_streams_with_closing_said_and_no_last_chunk(
    kind: str, options: tuple[str, ...]
) -> None:
    async with (
        serving(kind, *options, log_size="1MiB", drain_timeout=1) as server,
        await Listener.open(server.port, "/sse/a") as first,
        await Listener.open(server.port, "/sse/b") as second,
    ):
        await server.publish("a", ["last"])
        stopping = asyncio.create_task(server.stop())
        for listener in (first, second):
            await listener.read_to_the_end()
            assert listener.told("$closing") == [{"reason": "shutdown"}]
            assert listener.end == "aborted"
        assert first.data == ["last"]
        assert await stopping in (0, -signal.SIGTERM)  # uvicorn raises the signal again when it is done
        assert not NOISE.search(server.log), server.log
