"""The plain counters of the native code and of the doors, as one snapshot: for /stats, the live page and Prometheus.

They are the node's, whichever worker is asked: each says its own in its slot (workers.py) at every tick and whenever
it is asked, and adds up all slots. What others did in the last quarter of a second may be missing; totals never fall.
"""

import os
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from sse_fast._native.slots import Slots, Worker
from sse_fast.admission import Admission
from sse_fast.errors import Leaving
from sse_fast.hub import Hub
from sse_fast.stream import Streams

try:
    VERSION = version("sse-fast")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0"

LIMITS = ("max_connections", "max_connections_per_ip")

GAUGES = {
    "connections": "Streams open now.",
    "blocked": "Streams that wait until their client reads again.",
    "channels": "Channels that have kept events or subscribers.",
}
COUNTERS = {
    "published": "Events taken into the log.",
    "published_bytes": "Bytes of those events, encoded.",
    "deliveries": "Events handed to streams.",
    "delivered_bytes": "Bytes handed to streams.",
    "writes": "Writes to streams; one may carry many events.",
    "heartbeats": "Heartbeats sent.",
    "gaps": "Streams that were told of a gap.",
    "slow_disconnects": "Streams that were too slow and met slow_policy.",
    "accepted": "Streams accepted.",
}
LOG_GAUGES = {
    "capacity": "Bytes of events the log keeps at most.",
    "used": "Bytes of events the log keeps now.",
    "events": "Events the log keeps now.",
    "position": "Position of the newest event.",
}


class Metrics(Collector):
    """Reads everybody's counters; nobody writes to it. `slots`: those of the node, if it is more than this process."""

    def __init__(self, hub: Hub, admission: Admission, streams: Streams, slots: Slots | None = None) -> None:
        self._hub, self._admission, self._streams, self._slots = hub, admission, streams, slots
        self._started = time.time()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def totals(self) -> dict[str, int]:
        """What this worker has counted since it began."""
        hub, fanout, admission = self._hub, self._hub.fanout, self._admission
        return {
            "published": hub.published,
            "published_bytes": hub.published_bytes,
            "deliveries": fanout.deliveries,
            "delivered_bytes": fanout.delivered_bytes,
            "writes": fanout.writes,
            "heartbeats": fanout.heartbeats,
            "gaps": fanout.gaps,
            "slow_disconnects": fanout.slow,
            "accepted": admission.accepted,
            **{f"refused {limit}": admission.refused[limit] for limit in LIMITS},
            **{f"ended {reason.value}": self._streams.ended[reason] for reason in Leaving},
        }

    def say(self) -> None:
        """Let the other workers know."""
        if self._slots is not None:
            self._slots.publish(list(self.totals().values()), [self._hub.fanout.blocked])

    def _node(self) -> tuple[dict[str, int], int, list[Worker]]:
        """Totals, blocked streams and workers of the whole node."""
        own = self.totals()
        if self._slots is None:
            alone = Worker(0, os.getpid(), self._hub.fanout.connections, time.time() - self._started, 0.0)
            return own, self._hub.fanout.blocked, [alone]
        self.say()
        totals = dict(zip(own, self._slots.totals(len(own)), strict=True))
        return totals, self._slots.gauges(1)[0], self._slots.workers()

    def snapshot(self) -> dict[str, Any]:
        """What /stats and the `$stats` channel carry. Totals count from the start of the node."""
        hub, fanout, now = self._hub, self._hub.fanout, time.time()
        totals, blocked, workers = self._node()
        return {
            "time": now,
            "uptime": self._slots.age if self._slots is not None else now - self._started,
            "version": VERSION,
            "pid": os.getpid(),
            "workers": [{"pid": worker.pid, "connections": worker.streams, "uptime": worker.age} for worker in workers],
            "connections": sum(worker.streams for worker in workers),
            "blocked": blocked,
            "channels": len(fanout.index),
            **{name: totals[name] for name in COUNTERS},
            "refused": sum(totals[f"refused {limit}"] for limit in LIMITS),
            "refused_by": {limit: totals[f"refused {limit}"] for limit in LIMITS},
            "ended": {reason.value: totals[f"ended {reason.value}"] for reason in Leaving},
            "log": {
                "epoch": hub.log.epoch,
                "capacity": hub.log.capacity,
                "used": hub.log.used,
                "events": fanout.index.kept,
                "position": hub.log.position,
            },
        }

    def collect(self) -> Iterator[Metric]:
        """Prometheus metric families."""
        now = self.snapshot()
        yield GaugeMetricFamily("sse_fast_workers", "Worker processes.", value=len(now["workers"]))
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"sse_fast_{name}", meaning, value=now[name])
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"sse_fast_{name}", meaning, value=now[name])
        for name, meaning in LOG_GAUGES.items():
            yield GaugeMetricFamily(f"sse_fast_log_{name}", meaning, value=now["log"][name])
        ended = CounterMetricFamily("sse_fast_ended", "Streams that ended, by reason.", labels=["reason"])
        for reason, count in now["ended"].items():
            ended.add_metric([reason], count)
        yield ended
        refused = CounterMetricFamily("sse_fast_refused", "Streams refused, by the limit they met.", labels=["limit"])
        for limit, count in now["refused_by"].items():
            refused.add_metric([limit], count)
        yield refused
        yield InfoMetricFamily("sse_fast", "The server.", value={"version": VERSION, "epoch": now["log"]["epoch"]})

    def exposition(self) -> tuple[bytes, str]:
        """The Prometheus text format and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
