"""What channels and subscribers cost: memory each, and CPU per publish and drain as their number grows.

    python benches/bench_channels.py [--rounds 5] [--json PATH]

Memory: private resident bytes (`Private_*` of /proc/self/smaps_rollup) of a fresh process before and after making
so many of a thing, divided by their number. A subscriber's share includes its `SteppedSink` and its place in all lists;
all share one `send`, which stands for a server's, so nothing of a server or a socket is in it.

CPU: this process's own time for `Log.append` and the `drain`s until idle, with a `send` that returns a ready awaitable:
the whole of the fan-out, a Python call per write, and no socket. Making the subscribers is outside the clock. Every
publish goes to another channel, so what grows with their number is cache misses: the row that has all the channels and
publishes to few of them shows how much of it. Within a round the rows take turns; every figure is the median.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.sinks import SteppedSink
from sse_fast._native.log.ring import Log

MANY = 100_000
BODY = b"data: %s\n\n" % (b"x" * 64)
PUBLISHES = 2000


class Ready:
    """What a server's `send` returns when it took the message at once."""

    def __await__(self) -> Any:
        return iter(())


READY = Ready()


def send(message: object) -> Ready:
    return READY


def join(fanout: FanOut, *channels: bytes) -> None:
    fanout.unblock(fanout.subscribe(channels, SteppedSink(send)), 0.0)


def drain(fanout: FanOut) -> None:
    while fanout.drain(0.0):
        pass


# ---- memory: each in a process of its own ----


def channels_with_one_event(fanout: FanOut) -> None:
    for n in range(MANY):
        fanout.index.log.append(b"channel:%07d" % n, BODY)
        if n % 1000 == 0:
            drain(fanout)
    drain(fanout)


def channels_whose_event_is_gone(fanout: FanOut) -> None:
    """As above, then all of it is evicted by one other channel; what is left is bounded by `remembered`."""
    channels_with_one_event(fanout)
    for n in range(4 * MANY):
        fanout.index.log.append(b"noise", BODY)
        if n % 1000 == 0:
            drain(fanout)
    drain(fanout)


def channels_with_one_subscriber(fanout: FanOut) -> None:
    for n in range(MANY):
        join(fanout, b"channel:%07d" % n)


def subscribers_of_one_channel(fanout: FanOut) -> None:
    for _ in range(MANY):
        join(fanout, b"channel")


def subscribers_of_an_own_and_a_common_channel(fanout: FanOut) -> None:
    for n in range(MANY):
        join(fanout, b"channel:%07d" % n, b"everybody")


FILLINGS = (
    channels_with_one_event,
    channels_whose_event_is_gone,
    channels_with_one_subscriber,
    subscribers_of_one_channel,
    subscribers_of_an_own_and_a_common_channel,
)


def private_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def bytes_each(filling: Callable[[FanOut], None]) -> float:
    """Bytes per thing beside the log: the log's own pages are touched before the first look."""
    log = Log.private(2**24)
    for _ in range(3 * 2**24 // 160):
        log.append(b"warm", BODY)
    fanout = FanOut(log)
    drain(fanout)
    before = private_bytes()
    filling(fanout)
    return (private_bytes() - before) / MANY


def bytes_each_in_a_fresh_process(filling: Callable[[FanOut], None]) -> float:
    command = [sys.executable, __file__, "--fill", filling.__name__]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# ---- CPU ----


class Row:
    """One arrangement of subscribers, kept through all rounds, and what to publish into it."""

    def __init__(
        self, name: str, unit: str, groups: list[list[bytes]], publish_to: list[bytes], publishes: int
    ) -> None:
        self.name, self.unit = name, unit
        self.fanout = FanOut(Log.private(2**22))
        for channels in groups:
            join(self.fanout, *channels)
        self.publish_to, self.publishes = publish_to, publishes

    def microseconds(self) -> float:
        """CPU microseconds per write."""
        log, writes = self.fanout.index.log, self.fanout.writes
        start = time.process_time()
        for n in range(self.publishes):
            log.append(self.publish_to[n * 7919 % len(self.publish_to)], BODY)
            drain(self.fanout)
        spent = time.process_time() - start
        return spent / (self.fanout.writes - writes) * 1e6


def rows() -> list[Row]:
    made = []
    for many in (1_000, 10_000, MANY):
        names = [b"channel:%07d" % n for n in range(many)]
        made.append(
            Row(f"{many:,} channels of one subscriber", "publish", [[name] for name in names], names, PUBLISHES)
        )
    few = names[:1_000]
    made.append(Row(f"{MANY:,} channels, published to 1,000", "publish", [[name] for name in names], few, PUBLISHES))
    for many in (1_000, 10_000):
        made.append(Row(f"one channel of {many:,} subscribers", "visit", [[b"one"]] * many, [b"one"], 100_000 // many))
    names = [b"channel:%03d" % n for n in range(128)]
    made.append(Row("one stream of 128 channels", "publish", [names], names, PUBLISHES))
    users = [[b"user:%05d" % n, b"everybody"] for n in range(10_000)]
    made.append(Row("10,000 streams of an own and a common channel", "visit", users, [b"everybody"], 10))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fill", choices=[filling.__name__ for filling in FILLINGS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(bytes_each(globals()[options.fill]))
        return

    memory: dict[str, list[float]] = {filling.__name__.replace("_", " "): [] for filling in FILLINGS}
    for _ in range(min(options.rounds, 3)):
        for filling, measured in zip(FILLINGS, memory.values(), strict=True):
            measured.append(bytes_each_in_a_fresh_process(filling))

    arranged = rows()
    cpu: dict[str, list[float]] = {row.name: [] for row in arranged}
    for row in arranged:
        row.microseconds()  # warms caches; not counted
    for _ in range(options.rounds):
        for row in arranged:
            cpu[row.name].append(row.microseconds())

    print(f"| {MANY:,} of | private bytes each |\n|---|---|")
    for name, figures in memory.items():
        print(f"| {name} | {median(figures):,.0f} |")
    first = median(cpu[arranged[0].name])
    print(f"\n| arrangement | CPU per | µs | against {arranged[0].name} |\n|---|---|---|---|")
    for row in arranged:
        figure = median(cpu[row.name])
        print(f"| {row.name} | {row.unit} | {figure:.2f} | {figure / first:.2f} |")
    if options.json:
        options.json.write_text(json.dumps({"memory_bytes_each": memory, "cpu_microseconds": cpu}, indent=2))


if __name__ == "__main__":
    main()
