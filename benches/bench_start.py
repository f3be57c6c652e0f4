"""A node that starts over a long history in Redis: time until it is ready, its loop's lag meanwhile, and its memory.

    python benches/bench_start.py [--quick] [--rounds 3] [--size 1024] [--json PATH]

The Redis is the bench's own, with so many MiB of events (`--size`, 1 GiB) of 1,000 bytes in 10,000 channels. Rows:

- **window**: `log_size` as it is by default: what a node has of a long history is its newest part;
- **all of it**: a log that has room for everything.

Of each: **ready**, a hub in a process of its own on uvloop, from its start until its window is filled; **serve**, the
whole of `sse-fast serve` from its start until it listens, which is when its window is filled. The lag is how much later
than asked for a timer of a millisecond fires in the hub's process, the greatest and the 99th percentile; the longest
turn is the most CPU that the loop's thread took between two of them, whatever else the machine does; the memory is
what the process has of its own at the end (USS), with the log in it. Medians over the rounds. Exits with 1 where an
event is missing at the end.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import harness
import uvloop
from harness import Running, Server, arguments_for, edge_command, machine, parse, say

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from redis_servers import running

from sse_fast.cluster.engine import Engine
from sse_fast.cluster.functions import Limits

harness.START_SECONDS = 300
EVENT = 1000  # bytes
CHANNELS = 10_000
BATCH = 500
BESIDE = 100  # bytes of an entry, as the engine counts, and a little room: nothing is trimmed
MIB = 1 << 20

HUB = """
import asyncio, gc, json, sys, time, psutil, uvloop
from sse_fast import Hub

async def main(url, size):
    lags, turns = [], []
    async def probe():
        loop = asyncio.get_running_loop()
        while True:
            due, spent = loop.time() + 0.001, time.thread_time()
            await asyncio.sleep(0.001)
            lags.append(loop.time() - due)
            turns.append(time.thread_time() - spent)
    probing = asyncio.ensure_future(probe())
    gc.collect(), gc.freeze()  # as an app would that cares: a collection is no matter of the log
    hub = Hub(backplane=url, **({"log_size": size} if size else {}))
    await asyncio.sleep(0.1)
    lags.clear(), turns.clear()
    began = time.perf_counter()
    async with hub:
        await hub.be_ready()
        took = time.perf_counter() - began
        probing.cancel()
        lags.sort()
        log = hub.log
        print(json.dumps({
            "ready": took, "lag": 1e3 * lags[-1], "turn": 1e3 * max(turns), "p99": 1e3 * lags[int(0.99 * len(lags))],
            "memory": psutil.Process().memory_full_info().uss / 2**20, "log": log.capacity / 2**20,
            "events": sum(1 for _ in log.records()), "last": log.position,
        }))

uvloop.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def fill(url: str, size: int) -> int:
    """So many bytes; how many events."""
    engine = Engine.from_url(url, limits=Limits(max_bytes=2 * size + (1 << 20)))
    await engine.open()
    frame = b"data: " + b"x" * (EVENT - 8) + b"\n\n"
    count = size // (EVENT + BESIDE)
    for at in range(0, count, BATCH):
        await engine.publish([(b"channel:%d" % (n % CHANNELS), frame) for n in range(at, min(at + BATCH, count))])
    await engine.close()
    return count


def hub(url: str, log_size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", HUB, url, str(log_size)], check=True, stdout=subprocess.PIPE, timeout=600
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def serve(url: str, log_size: int) -> float:
    more = ["--backplane", url, *(["--log-size", str(log_size)] if log_size else [])]
    started = time.perf_counter()
    with Running(Server("sse_fast", "", "", "", lambda port, scratch: [*edge_command(port, scratch), *more])):
        return time.perf_counter() - started


def main() -> int:
    parser = arguments_for("A node that starts over a long history.", seconds=0, quick="8 MiB, one round")
    parser.add_argument("--size", type=int, default=1024, help="MiB of events (default: %(default)s)")
    arguments = parse(parser, size=8)
    size = arguments.size * MIB
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    wrong = 0
    with running() as redis:
        say(f"filling {arguments.size} MiB")
        count = uvloop.run(fill(redis.url, size))
        for round_ in range(arguments.rounds):
            for row, log_size in (("window", 0), ("all of it", size + size // 2 + MIB)):
                say(f"round {round_ + 1} of {arguments.rounds}: {row}")
                one = hub(redis.url, log_size) | {"serve": serve(redis.url, log_size)}
                for name, value in one.items():
                    found[row][name].append(value)
                if one["last"] < count or (log_size and one["events"] < count):
                    say(f"WRONG: {row}: {one['events']:.0f} of {count} events")
                    wrong += 1
    print(f"{machine()}; {count:,} events, {arguments.size} MiB\n")
    print(
        "| | ready, s | serve, s | lag, ms | p99, ms | longest turn, ms | memory, MiB | the log, MiB | events in it |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row, values in found.items():
        m = {name: median(each) for name, each in values.items()}
        print(
            f"| {row} | {m['ready']:.2f} | {m['serve']:.2f} | {m['lag']:.1f} | {m['p99']:.1f} | {m['turn']:.1f} "
            f"| {m['memory']:.0f} | {m['log']:.0f} | {m['events']:,.0f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "events": count, "rows": found}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
