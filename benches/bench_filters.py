"""What `filter` and `transform` cost: CPU of the drain per delivery, to the same streams without filters.

In process: 1,000 streams of one channel over sends that do nothing, so the filters are seen without a server. The clock
is the process's CPU time from the first publish until every stream has been handed every event. Rounds are interleaved;
medians, and the span over the rounds.
"""

import argparse
import asyncio
import statistics
import time
from typing import Any

from sse_fast import Event, Hub
from sse_fast.embed.filters import FilteredSend

STREAMS = 1000
EVENTS = 640
PAYLOAD = "x" * 64


class Send:
    """Takes everything and counts what it was handed."""

    def __init__(self) -> None:
        self.bytes = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        self.bytes += len(message["body"])


def upper(event: Event) -> Event:
    return Event(event.data.upper(), event.event)


FILTERS: dict[str, tuple[Any, Any]] = {
    "no filters": (None, None),
    "filter, passes all": (lambda event: True, None),
    "filter, passes half": (lambda event: event.retry is None, None),
    "transform": (None, upper),
}


async def run(filter: Any, transform: Any, at_once: int) -> float:
    """CPU microseconds per delivery."""
    async with Hub(log_size=16 * 1024 * 1024) as hub:
        for _ in range(STREAMS):
            send: Any = Send()
            if filter or transform:
                send = FilteredSend(send, hub.frames, filter, transform, hub.keepalive)
            hub.subscribe(["c"], send, lambda *_: None).start()
        began = time.process_time()
        for _ in range(EVENTS // at_once):
            for number in range(at_once):
                await hub.publish("c", PAYLOAD, retry=number % 2 or None)
            while hub.fanout.busy:  # noqa: ASYNC110 - the pump's turns of the loop
                await asyncio.sleep(0)
        return (time.process_time() - began) * 1e6 / (STREAMS * EVENTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{STREAMS:,} streams, 64-byte payloads, CPU µs per delivery, ratio to no filters")
    for at_once in (1, 16):
        found: dict[str, list[float]] = {name: [] for name in FILTERS}
        for _ in range(rounds):
            for name, filters in FILTERS.items():
                found[name].append(asyncio.run(run(*filters, at_once)))
        base = statistics.median(found["no filters"])
        for name, values in found.items():
            middle = statistics.median(values)
            span = f"{min(values):.2f}–{max(values):.2f}"
            print(f"{at_once:3d} at once  {name:20s} {middle:6.2f} ({span})  {middle / base:5.1f}×")


if __name__ == "__main__":
    main()
