"""The plain counters of the native code and the transports, as one snapshot: for /stats, the live page, Prometheus.

They are the node's, whichever worker is asked: each says its own in its slot (workers.py) at every tick and whenever
it is asked, and adds up all slots. What others did in the last quarter of a second may be missing; totals never fall.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sse_fast._native.base.histogram import BOUNDS, Histogram
from sse_fast._native.node.slots import Slots, Worker
from sse_fast.access.access import Tokens
from sse_fast.access.limits import LIMITS, Admission
from sse_fast.edge.history import History
from sse_fast.edge.lag import LoopLag
from sse_fast.errors import EndReason
from sse_fast.hub.hub import Hub
from sse_fast.transports.life import Transport
from sse_fast.transports.refusals import REASONS
from sse_fast.transports.streams import Streams
from sse_fast.transports.watching import STATS
from sse_fast.version import VERSION

if TYPE_CHECKING:  # most servers have none
    from sse_fast.edge.webhook import Webhook
    from sse_fast.transports.front import Front
    from sse_fast.transports.relay import Relay

FLEET = b"$fleet"  # by which nodes speak to each other (`edge.fleet`)
GAUGES = {
    "blocked": "Streams that wait until their client reads again.",
    "send_memory": "Bytes of kernel memory that wait for clients.",
    "channels": "Channels that have kept events or subscribers.",
}
COUNTERS = {
    "published": "Events taken into the log.",
    "published_bytes": "Bytes of those events, encoded.",
    "repeated": "Events that came again under an idempotency key, and were not taken again.",
    "deliveries": "Events handed to streams.",
    "delivered_bytes": "Bytes handed to streams.",
    "compressed_bytes": "Of those bytes the ones of gzip streams.",
    "uncompressed_bytes": "What gzip streams were sent, before it was compressed.",
    "writes": "Writes to streams; one may carry many events.",
    "heartbeats": "Heartbeats sent.",
    "gaps": "Streams that were told of a gap.",
    "slow_disconnects": "Streams that were too slow and met slow_policy.",
}
FRONT_GAUGES = {
    "front_connections": "Connections of clients to the front, streams included.",
    "relay_under_way": "Exchanges relayed now, those that wait included; a tunnel is none.",
    "relay_waiting": "Exchanges that wait for a connection to the app.",
    "relay_tunnels": "WebSockets and other tunnels open now.",
}
FRONT_COUNTERS = {
    "front_turned_away": "Connections for which the front had no place.",
    "front_made_room": "Connections that the front closed to make room for others.",
    "relay_exchanges": "Exchanges relayed, tunnels included.",
}
PUBLISH_RATES = ("rate_publish", "rate_publish_channel")
WHY_REFUSED = (*LIMITS, *PUBLISH_RATES, *REASONS)
NEVER = Histogram()
NO_RATES: Counter[str] = Counter()
BUCKETS = (*map(floatToGoString, BOUNDS), "+Inf")
LATELY = 3  # seconds in which there was one of which everything is known, or something is wrong
RELAY_FAILED = (408, 502, 503, 504)
TOKEN_COUNTERS = {
    "token_cache_hits": "Tokens that had been verified before.",
    "token_cache_misses": "Tokens that had to be verified, or were none.",
}
ANSWERS = ("granted", "refused", "failed", "kept")
BACKPLANE_COUNTERS = {
    "calls": "Calls by which the backplane was given events.",
    "failures": "Publishes that it did not take.",
    "connections": "Times that a worker has connected to it.",
    "entries_read": "Entries of its log that were read.",
    "pages_read": "Reads of what this node's log no longer has, for streams that resume.",
    "missed": "Times that something was missing in what was read.",
    "marks": "Epochs that were seen to begin.",
}
HISTOGRAMS = {
    "delivery_seconds": "From the publish of an event to its write to a stream that had everything before.",
    "last_delivery_seconds": "The same once for each event, set of channels and worker: to the last of those streams.",
    "drain_seconds": "Of each turn of the loop in which events are handed out.",
    "loop_lag_seconds": "How late a timer of the event loop is, looked at four times a second.",
    "webhook_seconds": "Of each question to the webhook.",
}
LOG_GAUGES = {
    "capacity": "Bytes of events the log keeps at most.",
    "used": "Bytes of events the log keeps now.",
    "reserved": "Bytes of events that namespaces' reserves keep now, beyond the rest of the log.",
    "events": "Events the log keeps now.",
    "position": "Position of the newest event.",
}


class Metrics(Collector):
    """Collects what others count. `slots`: those of the node, if it is more than this process."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        streams: Streams,
        slots: Slots | None = None,
        history: History | None = None,
    ) -> None:
        self._hub, self._admission, self._streams, self._slots = hub, admission, streams, slots
        self.front: Front | None = None
        """That listens for this hub, if one does."""
        self.lag = LoopLag()
        self.history = history or History()
        self.said = self.said_bytes = 0
        """Deliveries of the figures themselves, which nobody but who watches asked for."""
        self.tokens: Tokens | None = None
        self.hook: Webhook | None = None
        self._started = time.time()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def totals(self) -> dict[str, int]:
        """What this worker has counted since it began."""
        hub, fanout, admission = self._hub, self._hub.fanout, self._admission
        rates = self._streams.rates.refused if self._streams.rates is not None else NO_RATES
        transports, listener, relay = self._streams.transports, *self._at_the_port
        return {
            "published": hub.published,
            "published_bytes": hub.backplane.published_bytes,
            "repeated": hub.keys.repeated if hub.keys is not None else hub.backplane.repeated,
            "deliveries": fanout.deliveries,
            "delivered_bytes": fanout.delivered_bytes,
            "compressed_bytes": fanout.compressed_bytes,
            "uncompressed_bytes": fanout.uncompressed_bytes,
            "writes": fanout.writes,
            "heartbeats": fanout.heartbeats,
            "gaps": fanout.gaps,
            "slow_disconnects": fanout.slow,
            **{f"refused {limit}": admission.refused[limit] + rates[limit] for limit in (*LIMITS, *PUBLISH_RATES)},
            **{f"refused {reason}": self._streams.refusals.counts[reason] for reason in REASONS},
            **{f"accepted {name}": transport.accepted for name, transport in transports.items()},
            **{
                f"ended {name} {reason}": transport.ended[reason]
                for name, transport in transports.items()
                for reason in EndReason
            },
            "front_turned_away": listener.turned_away if listener is not None else 0,
            "front_made_room": listener.evicted if listener is not None else 0,
            "relay_exchanges": relay.exchanges if relay is not None else 0,
            **{f"relay_failed {status}": relay.failed[status] if relay is not None else 0 for status in RELAY_FAILED},
            **self._measured(),
            **self._asked(),
            **{f"backplane_{name}": getattr(hub.backplane.counts, name, 0) for name in BACKPLANE_COUNTERS},
            "cpu": round(1e6 * time.process_time()),
            "watching_events": self._streams.watching.events,
            "watching_bytes": self._streams.watching.bytes,
            "stats_events": self.said,
            "stats_bytes": self.said_bytes,
        }

    def _asked(self) -> dict[str, int]:
        """What became of tokens, and of questions to the webhook."""
        by_head = self.front.known_credentials if self.front is not None else 0
        hits, misses = (self.tokens.hits, self.tokens.misses) if self.tokens is not None else (0, 0)
        told = dict.fromkeys(ANSWERS, 0)
        if self.hook is not None:
            told |= self.hook.outcomes | {"kept": self.hook.kept}
        answers = {f"webhook {answer}": told[answer] for answer in ANSWERS}
        return {"token_cache_hits": hits + by_head, "token_cache_misses": misses, **answers}

    def _measured(self) -> dict[str, int]:
        """The histograms: the count of each bound alone, and nanoseconds."""
        hook = self.hook.seconds if self.hook is not None else NEVER
        found = (self._hub.fanout.latency, self._hub.fanout.last, self._hub.fanout.drains, self.lag.seconds, hook)
        measured: dict[str, int] = {}
        for name, histogram in zip(HISTOGRAMS, found, strict=True):
            measured |= zip((f"{name} {bound}" for bound in BUCKETS), histogram.counts, strict=True)
            measured[f"{name} sum"] = histogram.nanoseconds
        return measured

    def gauges(self) -> dict[str, int]:
        """How things stand with this worker now."""
        transports, listener, relay = self._streams.transports, *self._at_the_port
        return {
            "blocked": self._hub.fanout.blocked,
            "watching": self._streams.watching.count,
            "backplane_away": self._hub.backplane.away,
            "send_memory": self._hub.memory.held,
            **{f"connections {name}": transport.connections for name, transport in transports.items()},
            "front_connections": listener.open if listener is not None else 0,
            "relay_under_way": relay.busy if relay is not None else 0,
            "relay_waiting": relay.queued if relay is not None else 0,
            "relay_tunnels": relay.tunnels if relay is not None else 0,
        }

    @property
    def _at_the_port(self) -> "tuple[Any, Relay | None]":
        """The listener and the relay of the front."""
        front = self.front
        if front is None:
            return None, None
        from sse_fast.transports.relay import Relay  # loaded by who made the front

        return front.listener, front.relay if isinstance(front.relay, Relay) else None

    def say(self) -> None:
        """Let the other workers know."""
        if self._slots is not None:
            self._slots.publish(list(self.totals().values()), list(self.gauges().values()))

    def _node(self) -> tuple[dict[str, int], list[Worker]]:
        """The counters of the whole node, and its workers."""
        totals, gauges = self.totals(), self.gauges()
        if self._slots is None:
            uptime = time.time() - self._started
            return totals | gauges, [Worker(0, os.getpid(), self._hub.open_streams.count, uptime, 0.0)]
        self.say()
        totals = dict(zip(totals, self._slots.totals(len(totals)), strict=True))
        gauges = dict(zip(gauges, self._slots.gauges(len(gauges)), strict=True))
        return totals | gauges, self._slots.workers()

    def remember(self) -> None:
        """Once a second: a row of the node's history, if no other worker has just written one."""
        now = time.time()
        if not self.history.is_due(now):
            return
        node, workers = self._node()
        index = self._hub.fanout.index
        self.history.add(
            now,
            {
                "published": node["published"],
                "deliveries": node["deliveries"] - node["stats_events"] - node["watching_events"],
                "handed": node["deliveries"] - node["stats_events"],
                "writes": node["writes"] - node["stats_events"],
                "bytes": node["delivered_bytes"] - node["stats_bytes"] - node["watching_bytes"],
                "cpu": node["cpu"],
                "gaps": node["gaps"],
                "slow": node["slow_disconnects"],
                "refused": sum(node[f"refused {reason}"] for reason in WHY_REFUSED),
                **{f"last {at}": node[f"last_delivery_seconds {bound}"] for at, bound in enumerate(BUCKETS)},
                "streams": sum(worker.streams for worker in workers) - node["watching"],
                "parked": node["blocked"],
                "send_memory": node["send_memory"],
                "channels": len(index) - sum(index.get(own) is not None for own in (FLEET, STATS.encode())),
                "log_used": self._hub.log.used,
            },
        )

    def snapshot(self) -> dict[str, Any]:
        """What /stats and the `$stats` channel carry. Totals count from the start of the node."""
        hub, fanout, now = self._hub, self._hub.fanout, time.time()
        node, workers = self._node()
        lately = self.history.seconds(now, last=LATELY)
        return {
            "time": now,
            "uptime": self._slots.age if self._slots is not None else now - self._started,
            "version": VERSION,
            "pid": os.getpid(),
            "workers": [{"pid": worker.pid, "connections": worker.streams, "uptime": worker.age} for worker in workers],
            "connections": sum(worker.streams for worker in workers),
            "watching": node["watching"],
            "blocked": node["blocked"],
            "send_memory": node["send_memory"],
            "channels": len(fanout.index) - (fanout.index.get(FLEET) is not None),
            **{name: node[name] for name in COUNTERS},
            "accepted": sum(node[f"accepted {name}"] for name in Transport),
            "refused": sum(node[f"refused {reason}"] for reason in WHY_REFUSED),
            "refused_by": {reason: node[f"refused {reason}"] for reason in WHY_REFUSED},
            "ended": {reason.value: sum(node[f"ended {name} {reason}"] for name in Transport) for reason in EndReason},
            "transports": {
                name.value: {
                    "connections": node[f"connections {name}"],
                    "accepted": node[f"accepted {name}"],
                    "ended": {reason.value: node[f"ended {name} {reason}"] for reason in EndReason},
                }
                for name in Transport
            },
            "front": {name: node[f"front_{name}"] for name in ("connections", "turned_away", "made_room")},
            "relay": {
                **{name: node[f"relay_{name}"] for name in ("exchanges", "under_way", "waiting", "tunnels")},
                "failed": {str(status): node[f"relay_failed {status}"] for status in RELAY_FAILED},
            },
            "tokens": {name.removeprefix("token_cache_"): node[name] for name in TOKEN_COUNTERS},
            "webhook": {answer: node[f"webhook {answer}"] for answer in ANSWERS},
            "histograms": {
                name: {
                    "le": dict(zip(BUCKETS, accumulate(node[f"{name} {bound}"] for bound in BUCKETS), strict=True)),
                    "sum": node[f"{name} sum"] / 1e9,
                }
                for name in HISTOGRAMS
            },
            "second": lately[-1]._asdict() if lately else None,
            "log": {
                "epoch": hub.log.epoch,
                "capacity": hub.log.capacity,
                "used": hub.log.used,
                "reserved": hub.log.reserved,
                "events": fanout.index.kept,
                "position": hub.log.position,
            },
            "backplane": None
            if hub.backplane.in_place
            else {
                "away": node["backplane_away"],
                "trouble": hub.backplane.what_is_wrong(),
                "behind": hub.backplane.behind,
                **{name: node[f"backplane_{name}"] for name in BACKPLANE_COUNTERS},
            },
            "idempotency": {
                "window": hub.keys.window / 1000 if hub.keys is not None else 0,
                "capacity": hub.keys.room if hub.keys is not None else 0,
                "forgotten": hub.keys.forgotten if hub.keys is not None else 0,
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
        for name, meaning in FRONT_GAUGES.items():
            part, _, what = name.partition("_")
            yield GaugeMetricFamily(f"sse_fast_{name}", meaning, value=now[part][what])
        for name, meaning in FRONT_COUNTERS.items():
            part, _, what = name.partition("_")
            yield CounterMetricFamily(f"sse_fast_{name}", meaning, value=now[part][what])
        failed = CounterMetricFamily(
            "sse_fast_relay_failed", "Relayed exchanges answered in the app's place, by status.", labels=["status"]
        )
        for status, count in now["relay"]["failed"].items():
            failed.add_metric([status], count)
        yield failed
        for name, meaning in LOG_GAUGES.items():
            yield GaugeMetricFamily(f"sse_fast_log_{name}", meaning, value=now["log"][name])
        yield CounterMetricFamily(
            "sse_fast_idempotency_keys_forgotten",
            "Idempotency keys that were forgotten before their window had ended.",
            value=now["idempotency"]["forgotten"],
        )
        if (behind := now["backplane"]) is not None:
            away = "Workers for whom the backplane takes no events now."
            yield GaugeMetricFamily("sse_fast_backplane_away", away, value=behind["away"])
            late = "Seconds that this node's log is behind the backplane."
            yield GaugeMetricFamily("sse_fast_backplane_behind_seconds", late, value=behind["behind"])
            for name, meaning in BACKPLANE_COUNTERS.items():
                yield CounterMetricFamily(f"sse_fast_backplane_{name}", meaning, value=behind[name])
        connections = GaugeMetricFamily("sse_fast_connections", "Streams open now.", labels=["transport"])
        accepted = CounterMetricFamily("sse_fast_accepted", "Streams accepted.", labels=["transport"])
        ended = CounterMetricFamily("sse_fast_ended", "Streams that ended, by reason.", labels=["transport", "reason"])
        for name, transport in now["transports"].items():
            connections.add_metric([name], transport["connections"])
            accepted.add_metric([name], transport["accepted"])
            for reason, count in transport["ended"].items():
                ended.add_metric([name, reason], count)
        yield from (connections, accepted, ended)
        refused = CounterMetricFamily(
            "sse_fast_refused", "Streams and publish requests refused, by reason.", labels=["reason"]
        )
        for reason, count in now["refused_by"].items():
            refused.add_metric([reason], count)
        yield refused
        for name, meaning in TOKEN_COUNTERS.items():
            yield CounterMetricFamily(
                f"sse_fast_{name}", meaning, value=now["tokens"][name.removeprefix("token_cache_")]
            )
        answers = CounterMetricFamily(
            "sse_fast_webhook_answers", "Answers of the webhook, and those that were kept.", labels=["answer"]
        )
        for answer, count in now["webhook"].items():
            answers.add_metric([answer], count)
        yield answers
        for name, meaning in HISTOGRAMS.items():
            measured = now["histograms"][name]
            buckets = list(measured["le"].items())
            yield HistogramMetricFamily(f"sse_fast_{name}", meaning, buckets=buckets, sum_value=measured["sum"])
        yield InfoMetricFamily("sse_fast", "The server.", value={"version": VERSION, "epoch": now["log"]["epoch"]})

    def exposition(self) -> tuple[bytes, str]:
        """The Prometheus text format and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
