"""What publishing over an engine costs, this process and Redis: from 1, 16 and 64 publishers at once.

    python benches/bench_backplane.py [--quick] [--seconds 2] [--rounds 3] [--json PATH]

Events of 64 bytes to 1,000 channels, one a publication, each publisher waiting for its answer; a Redis of the bench's
own that keeps nothing on a disk, and the engine in this process, on uvloop. Rows:

- **publish**: as nodes do it: fence, ids, bounds, all that came meanwhile in one call;
- **with a key**: each with an idempotency key of its own;
- **and followed**: this process reads them again, as a node does;
- **replicated**: acknowledged when a replica has them, too;
- **XADD alone**: what a client would do that has none of that: an XADD each, on one connection.

CPU: user and system time over the window for each event, of this process (the loop that publishes is in it) and of
Redis; replicas are not. The answer's time: from the call until it returns, the median. Nothing of HTTP is in it, nor a
fan-out. Medians over the rounds. Exits with 1 if an event is missing or is there twice.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import psutil
import uvloop

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from harness import arguments_for, in_turn, machine, parse, process_cpu_seconds, say
from redis_servers import Servers, servers

from sse_fast.cluster.connection import connect
from sse_fast.cluster.engine import Engine
from sse_fast.cluster.entries import Events, Missed, pack

PUBLISHERS = (1, 16, 64)
FRAME = b"data: " + b"x" * 64 + b"\n\n"
CHANNELS = [b"channel:%d" % number for number in range(1000)]

Publish = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def of_engine(
    made: Servers, *, keys: bool = False, followed: bool = False, replicas: int = 0
) -> AsyncIterator[Publish]:
    redis = made.redis()
    for _ in range(replicas):
        made.redis(replica_of=redis)
    engine = Engine.from_url(redis.url, replicas=replicas)
    start = await engine.open()

    async def publish(number: int) -> object:
        return await engine.publish([(CHANNELS[number % 1000], FRAME)], str(number) if keys else None)

    async def follow() -> int:
        seen = 0
        async for items in engine.follow(start.last):
            for item in items:
                assert not isinstance(item, Missed)
                seen += len(item.events) if isinstance(item, Events) else 0
            if seen and items[-1].events[-1][1] == b"end":  # type: ignore[union-attr]
                return seen
        return seen

    following = asyncio.ensure_future(follow()) if followed else None
    try:
        yield publish
        end = await engine.publish([(b"end", FRAME)])
        assert engine.counts.events == end.ids[0].position, "each is there once"
        if following is not None:
            assert await following == engine.counts.events, "and is read once"
    finally:
        await engine.close()


@asynccontextmanager
async def of_xadd(made: Servers) -> AsyncIterator[Publish]:
    from sse_fast.cluster.address import Address

    redis = made.redis()
    connection = await connect(Address.parse(redis.url), ("127.0.0.1", redis.port), 2)

    async def publish(number: int) -> object:
        return await connection.ask(("XADD", "log", "*", "e", pack((CHANNELS[number % 1000], FRAME))), 2)

    yield publish
    await connection.close()


ROWS: dict[str, Callable[[Servers], object]] = {
    "publish": lambda made: of_engine(made),
    "with a key": lambda made: of_engine(made, keys=True),
    "and followed": lambda made: of_engine(made, followed=True),
    "replicated": lambda made: of_engine(made, replicas=1),
    "XADD alone": of_xadd,
}


async def measure(publish: Publish, publishers: int, seconds: float, redis: psutil.Process) -> dict[str, float]:
    times: list[float] = []
    number = 0
    until = 0.0

    async def run() -> None:
        nonlocal number
        while (started := time.perf_counter()) < until:
            number += 1
            await publish(number)
            times.append(time.perf_counter() - started)

    for window in (0.2, seconds):  # the first is to get warm
        times.clear()
        here, there = time.process_time(), process_cpu_seconds(redis)
        started = time.perf_counter()
        until = started + window
        await asyncio.gather(*(run() for _ in range(publishers)))
    took = time.perf_counter() - started
    return {
        "here": 1e6 * (time.process_time() - here) / len(times),
        "redis": 1e6 * (process_cpu_seconds(redis) - there) / len(times),
        "p50": 1e6 * median(times),
        "a second": len(times) / took,
    }


async def run_row(row: str, publishers: int, seconds: float) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        made = stack.enter_context(servers())
        publish = await stack.enter_async_context(ROWS[row](made))  # type: ignore[arg-type]
        process = made.all[0].process
        assert process is not None
        return await measure(publish, publishers, seconds, psutil.Process(process.pid))


def main() -> None:
    parser = arguments_for(__doc__ or "", seconds=2, quick="one short round")
    arguments = parse(parser, seconds=0.2)
    found: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for round_ in range(arguments.rounds):
        for row in in_turn(list(ROWS), round_):
            for publishers in PUBLISHERS:
                say(f"round {round_ + 1} of {arguments.rounds}: {row}, {publishers} publishers")
                for name, value in uvloop.run(run_row(row, publishers, arguments.seconds)).items():
                    found[row, publishers][name].append(value)
    print(f"{machine()}\n\n| | publishers | CPU here, µs | CPU of Redis, µs | together | median, µs | a second |")
    print("|---|---|---|---|---|---|---|")
    for (row, publishers), values in found.items():
        here, redis, p50, rate = (median(values[name]) for name in ("here", "redis", "p50", "a second"))
        print(f"| {row} | {publishers} | {here:.1f} | {redis:.1f} | {here + redis:.1f} | {p50:.0f} | {rate:,.0f} |")
    if arguments.json:
        rows = [{"row": row, "publishers": publishers, **values} for (row, publishers), values in found.items()]
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
