"""What streams by pattern cost: memory, and CPU per publish beside none, among a million channels and 10,000 patterns.

    python benches/bench_patterns.py [--channels 1000000] [--patterns 10000] [--rounds 3] [--json PATH] [--quick]

All in this process, without sockets: each channel has one kept event; the patterns are `tenant:N:**`, each of an equal
part of the channels, with one stream each. CPU is this process's own, for `Log.append` and the drains until idle, an
event a time, each to another channel. Within a round the rows take turns; every figure is the median.

Turns: the longest call (`subscribe`, or one `drain`) while a new pattern that has one channel in a thousand comes to a
full log: from now on, from the earliest event, with history, and resumed from the oldest id that is kept.

--quick: a small form, which says only whether everybody got everything.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import Log

BODY = b"data: %s\n\n" % (b"x" * 64)
PUBLISHES = 20_000


class Counting(Sink):
    def __init__(self) -> None:
        self.events = 0

    def write(self, data: bytes) -> bool:
        self.events += data.count(b"\n\n")
        return True


class Bench:
    def __init__(self, channels: int, patterns: int, *, warm: bool = True) -> None:
        self.patterns = patterns
        self.names = [b"tenant:%d:room:%d" % (number % patterns, number // patterns) for number in range(channels)]
        self.published_to = [self.names[number * 7919 % channels] for number in range(PUBLISHES)]
        self.log = Log.private(max(1 << 22, 1 << (200 * channels).bit_length()))
        while warm and self.log.tail == 0:  # its pages are there, and no memory of what is measured
            self.log.append_many([(b"warm", BODY)] * 1000)
        self.fanout = FanOut(self.log)
        self.drain()
        self.empty = private_bytes()
        self.publish_all()
        self.filled = private_bytes()

    def publish_all(self) -> None:
        for begin in range(0, len(self.names), 1000):
            self.log.append_many([(name, BODY) for name in self.names[begin : begin + 1000]])
            self.drain()

    def drain(self) -> None:
        while self.fanout.drain(0.0):
            pass

    def listen(self, sink: Sink, *names: bytes, **options: Any) -> Subscriber:
        patterns = [name for name in names if b"*" in name]
        subscriber = self.fanout.subscribe(set(names).difference(patterns), sink, patterns=patterns, **options)
        self.fanout.unblock(subscriber, 0.0)
        return subscriber

    def microseconds(self) -> float:
        """CPU microseconds per publish."""
        start = time.process_time()
        for name in self.published_to:
            self.log.append(name, BODY)
            self.drain()
        return (time.process_time() - start) / len(self.published_to) * 1e6

    def rows(self) -> dict[str, list[bytes]]:
        some = range(self.patterns)
        return {
            "nobody listens": [],
            f"{self.patterns:,} patterns of which none matches": [b"other:%d:**" % number for number in some],
            f"{self.patterns:,} patterns, one of which matches": [b"tenant:%d:**" % number for number in some],
            "one pattern, which matches": [b"**"],
            f"a stream for each of the {PUBLISHES:,} channels": self.published_to,
        }

    def row(self, patterns: list[bytes]) -> tuple[float, float, float]:
        """Memory that the streams take, CPU per publish, and CPU of the first publish of each channel."""
        before = private_bytes()
        sinks = [Counting() for _ in patterns]
        streams = [self.listen(sink, pattern) for sink, pattern in zip(sinks, patterns, strict=True)]
        taken = private_bytes() - before
        first = self.microseconds()
        spent = self.microseconds()
        for stream in streams:
            self.fanout.unsubscribe(stream)
        return taken, first, spent

    def longest_turns(self) -> dict[str, tuple[float, float, int]]:
        """Milliseconds of CPU of the longest call, of all together, and events that came."""
        kept = self.fanout.index.kept
        found: dict[str, tuple[float, float, int]] = {}
        asked: dict[str, dict[str, Any]] = {
            "from now on": {},
            "earliest": {"after": EARLIEST},
            "history of 100": {"history": 100},
            "resumed from the oldest id": {"after": self.fanout.index.position - kept},
        }
        for name, options in asked.items():
            sink, turns = Counting(), []
            pattern = b"tenant:*:room:%d" % (len(self.names) // self.patterns // 2)
            begin = time.thread_time()
            stream = self.listen(sink, pattern, **options)
            turns.append(time.thread_time() - begin)
            more = True
            while more:
                time.sleep(self.fanout.rest)
                begin = time.thread_time()
                more = self.fanout.drain(0.0)
                turns.append(time.thread_time() - begin)
            self.fanout.unsubscribe(stream)
            found[name] = (max(turns) * 1000, sum(turns) * 1000, sink.events)
        return found


def private_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def quick() -> None:
    bench = Bench(10_000, 100, warm=False)  # else it would evict what is to be counted
    everything, own = Counting(), [Counting() for _ in range(100)]
    bench.listen(everything, b"**", after=EARLIEST)
    for number, sink in enumerate(own):
        bench.listen(sink, b"tenant:%d:**" % number, after=EARLIEST)
    bench.publish_all()
    assert everything.events == 20_000, everything.events
    assert all(sink.events == 200 for sink in own)
    print("10,000 channels, 101 patterns: everybody got everything")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=1_000_000)
    parser.add_argument("--patterns", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        quick()
        return
    bench = Bench(options.channels, options.patterns)
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in bench.rows()}
    for _ in range(options.rounds):
        for name, patterns in bench.rows().items():
            figures[name].append(bench.row(patterns))
    at: Callable[[str, int], float] = lambda name, place: median(figure[place] for figure in figures[name])  # noqa: E731
    print(
        f"{options.channels:,} channels of one event: {(bench.filled - bench.empty) / options.channels:,.0f} bytes each"
    )
    print("\n| who listens | bytes a stream | µs a publish, first after they came | µs a publish |\n|---|---|---|---|")
    for name, patterns in bench.rows().items():
        print(f"| {name} | {at(name, 0) / max(1, len(patterns)):,.0f} | {at(name, 1):.2f} | {at(name, 2):.2f} |")
    before = private_bytes()
    streams = [bench.listen(Counting(), b"tenant:%d:**" % number) for number in range(options.patterns)]
    bench.publish_all()
    grown = private_bytes() - before
    remembered = bench.fanout.index.patterns.remembered
    print(f"\nafter an event in every channel: {grown / 1e6:,.1f} MB more, {remembered * 8 / 1e6:,.1f} MB of positions")
    for stream in streams:
        bench.fanout.unsubscribe(stream)
    turns = bench.longest_turns()
    print("\n| a new pattern | longest turn, ms | all turns, ms | events |\n|---|---|---|---|")
    for name, (longest, together, events) in turns.items():
        print(f"| {name} | {longest:.2f} | {together:.1f} | {events:,} |")
    if options.json:
        options.json.write_text(json.dumps({"rows": figures, "turns": turns, "matches": grown}, indent=2))


if __name__ == "__main__":
    main()
