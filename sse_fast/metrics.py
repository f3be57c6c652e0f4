"""The plain counters of the native code and of the doors, as one snapshot: for /stats, the live page and Prometheus."""

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from sse_fast.admission import Admission
from sse_fast.errors import Leaving
from sse_fast.hub import Hub
from sse_fast.stream import Streams

try:
    VERSION = version("sse-fast")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0"

GAUGES = {
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
}
LOG_GAUGES = {
    "capacity": "Bytes of events the log keeps at most.",
    "used": "Bytes of events the log keeps now.",
    "events": "Events the log keeps now.",
    "position": "Position of the newest event.",
}


class Metrics(Collector):
    """Reads everybody's counters; nobody writes to it."""

    def __init__(self, hub: Hub, admission: Admission, streams: Streams) -> None:
        self._hub, self._admission, self._streams = hub, admission, streams
        self._started = time.time()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def snapshot(self) -> dict[str, Any]:
        """What /stats and the `$stats` channel carry. Totals count from the start of the process."""
        hub, fanout, now, doors = self._hub, self._hub.fanout, time.time(), self._streams.doors
        return {
            "time": now,
            "uptime": now - self._started,
            "version": VERSION,
            "connections": fanout.connections,
            "blocked": fanout.blocked,
            "channels": len(fanout.index),
            "published": hub.published,
            "published_bytes": hub.published_bytes,
            "deliveries": fanout.deliveries,
            "delivered_bytes": fanout.delivered_bytes,
            "writes": fanout.writes,
            "heartbeats": fanout.heartbeats,
            "gaps": fanout.gaps,
            "slow_disconnects": fanout.slow,
            "accepted": self._admission.accepted,
            "refused": sum(self._admission.refused.values()),
            "ended": {reason.value: sum(door.ended[reason] for door in doors.values()) for reason in Leaving},
            "doors": {
                name.value: {
                    "connections": door.connections,
                    "accepted": door.accepted,
                    "ended": {reason.value: door.ended[reason] for reason in Leaving},
                }
                for name, door in doors.items()
            },
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
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"sse_fast_{name}", meaning, value=now[name])
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"sse_fast_{name}", meaning, value=now[name])
        for name, meaning in LOG_GAUGES.items():
            yield GaugeMetricFamily(f"sse_fast_log_{name}", meaning, value=now["log"][name])
        connections = GaugeMetricFamily("sse_fast_connections", "Streams open now.", labels=["door"])
        accepted = CounterMetricFamily("sse_fast_accepted", "Streams accepted.", labels=["door"])
        ended = CounterMetricFamily("sse_fast_ended", "Streams that ended, by reason.", labels=["door", "reason"])
        for name, door in now["doors"].items():
            connections.add_metric([name], door["connections"])
            accepted.add_metric([name], door["accepted"])
            for reason, count in door["ended"].items():
                ended.add_metric([name, reason], count)
        yield from (connections, accepted, ended)
        refused = CounterMetricFamily("sse_fast_refused", "Streams refused, by the limit they met.", labels=["limit"])
        for limit in ("max_connections", "max_connections_per_ip", "descriptors"):
            refused.add_metric([limit], self._admission.refused[limit])
        yield refused
        yield InfoMetricFamily("sse_fast", "The server.", value={"version": VERSION, "epoch": now["log"]["epoch"]})

    def exposition(self) -> tuple[bytes, str]:
        """The Prometheus text format and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
