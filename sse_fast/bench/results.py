"""What a run found, and its JSON.

The JSON (`Result.to_json`, schema `sse_fast.bench/1`; times in microseconds where a name says `_us` or stands under
`timings`, else in seconds; memory in bytes; what was not measured is null):

    {
      "schema": "sse_fast.bench/1",
      "mode": "broadcast",                  hold, broadcast, channels, churn, storm, slow
      "label": "",                          what the caller calls the run
      "started": "2026-01-31T12:00:00+00:00",
      "ok": true,                           false: something is in `problems`
      "problems": [{"kind": "lost", "count": 3, "meaning": "...", "example": "..."}],
      "machine": {"cores": 2, "system": "Linux 6.1", "cpu": "...", "memory": 25769803776},
      "versions": {"python": "3.12.1", "sse-fast": "0.1.0", "granian": "2.8.0", ...},
      "settings": {"mode": {...}, "target": {...}, "size": 64, "publishers": 16, "processes": 1, ...},
      "server": {"pids": [1, 2], "command": "..."},          null: not on this machine, or not found
      "figures": {                          over the measured window, see `phases`
        "seconds": 10.0, "deliveries": 1600000, "deliveries_per_second": 160000.0,
        "events": 1600, "events_per_second": 160.0, "late_events": 0,
        "connections": 1000, "connects": 1000, "connects_per_second": 5000.0,
        "server_cpu_us_per_delivery": 2.9, "server_cpu_us_per_connect": 60.0, "server_cores": 0.9,
        "client_cpu_us_per_delivery": 0.8, "client_cores": 0.5,
        "user_memory_per_connection": 14000.0, "kernel_memory_per_connection": 0.0,
        ... and figures of the mode: storm has "all_back_seconds", "all_complete_seconds"; slow has "slow", "slow_cut",
            "slow_complete" (if woken);
            churn has "came", "left"
      },
      "timings": {"latency": {"count": 9, "mean": 1.0, "p50": 1, "p90": 1, "p99": 1, "p99_9": 1, "max": 1,
                              "histogram": "HISTFAAA..."}, ...},
      "series": [{"t": 1.0, "phase": "measure", "connections": 1000, "deliveries_per_second": 1.0,
                  "events_per_second": 1.0, "connects_per_second": 0.0, "p50": 1, "p90": 1, "p99": 1, "p99_9": 1,
                  "max": 1, "server_cores": 0.9, "server_rss": 1, "client_cores": 0.5}, ...],
      "phases": [{"name": "ramp", "start": 0.0, "end": 0.4}, ...]
    }

`timings`: latency (an event at a subscriber; from when it was due in an open loop, from just before it was sent in a
closed one), last (an event at its last subscriber; closed loop), answer (the publish request), lateness (of publishing
in an open loop), connect (TCP), first_byte (from connect to the response head), back and complete (storm: from the
moment of return). A timing without values is absent. `histogram` is HdrHistogram's own compressed encoding (V2, base64)
with values in microseconds, so results of several runs can be merged exactly.
`series`: one entry a second since the start; percentiles are of that second, null if nothing came. `t` and `phases`
count from `started`.
`figures.kernel_memory_per_connection` is what sockstat counts (the buffers of sockets, not the sockets), on loopback
for both ends. `figures.server_cpu_us_per_connect` of a storm includes resuming: sending what was missed, and the events
that flow meanwhile.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
from hdrh.histogram import HdrHistogram

from sse_fast._native.bench.board import bucket_value

SCHEMA = "sse_fast.bench/1"
PACKAGES = ("sse-fast", "granian", "uvloop", "starlette", "orjson", "hdrhistogram", "psutil")
MOST_MICROSECONDS = 1_000_000_000  # with its precision, the layout of the native histograms
DIGITS = 3

MEANINGS = {
    "refused": "connections that were refused",
    "unreachable": "connections that could not be made",
    "timed_out": "connections without a response head in time",
    "redirect": "answered with a redirect",
    "no_content": "answered with 204: do not come back",
    "status": "answered with another status than 200",
    "not_event_stream": "answered with another Content-Type than text/event-stream",
    "bad_head": "answered with something that is no HTTP/1.1 response head",
    "bad_chunk": "streams with a broken chunk",
    "ended": "streams that the server ended",
    "cut": "streams that were closed in the middle of a body",
    "at_limit": "streams that the server turned away: it has as many as it may; raise its limit, or ask for fewer",
    "let_go": "streams that the server ended, and said so",
    "reset": "streams that were reset",
    "event_too_long": "streams with an event that never ends",
    "torn": "payloads that are not whole",
    "checksum": "payloads whose checksum is wrong",
    "wrong_channel": "payloads of another channel",
    "lost": "deliveries that never came",
    "lost_at_start": "deliveries lost between a stream's head and its first event",
    "duplicate": "deliveries that came twice",
    "out_of_order": "deliveries that came after a later one of the same publisher",
    "ids_fell": "event ids that did not rise",
    "no_id": "streams that had no event id to come back with",
    "publish_refused": "events that the server refused",
    "publish_failed": "events whose publishing was not answered",
    "publish_unsent": "events that could not be sent",
    "stalled": "waits that were given up",
    "worker_died": "load client processes that died",
}


@dataclass(frozen=True)
class Problem:
    """A wrong stream, or a run that could not be made."""

    kind: str
    count: int
    example: str = ""

    @property
    def meaning(self) -> str:
        return MEANINGS.get(self.kind, self.kind)


@dataclass(frozen=True)
class Timing:
    """Percentiles of a histogram, in microseconds."""

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    p99_9: int
    max: int
    histogram: str = ""


@dataclass
class Result:
    """What a run found."""

    mode: str
    label: str
    started: datetime
    settings: dict[str, Any]
    server: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    figures: dict[str, float | int | None] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "mode": self.mode,
            "label": self.label,
            "started": self.started.isoformat(timespec="seconds"),
            "ok": self.ok,
            "problems": [asdict(problem) | {"meaning": problem.meaning} for problem in self.problems],
            "machine": machine(),
            "versions": versions(),
            "settings": self.settings,
            "server": self.server,
            "figures": self.figures,
            "timings": {name: asdict(timing) for name, timing in self.timings.items()},
            "series": self.series,
            "phases": self.phases,
        }

    def to_json(self) -> bytes:
        return orjson.dumps(self.to_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


Counts = Mapping[int, int]
"""A native histogram: place -> count."""


def difference(now: Counts, before: Counts) -> dict[int, int]:
    """What was counted between two moments."""
    return {place: count - before.get(place, 0) for place, count in now.items() if count > before.get(place, 0)}


def histogram(counts: Counts) -> HdrHistogram:
    """The same as an HdrHistogram: nothing is rounded, the layouts are the same."""
    made = HdrHistogram(1, MOST_MICROSECONDS, DIGITS)
    for place, count in counts.items():
        made.record_value(bucket_value(place), count)
    return made


def timing(counts: Counts, *, encoded: bool = True) -> Timing | None:
    """Percentiles; None where nothing was counted."""
    if not counts:
        return None
    made = histogram(counts)
    at = made.get_percentile_to_value_dict([50, 90, 99, 99.9, 100])
    return Timing(
        made.total_count,
        made.get_mean_value(),
        at[50],
        at[90],
        at[99],
        at[99.9],
        at[100],
        made.encode().decode() if encoded else "",
    )


def machine() -> dict[str, Any]:
    """What the run ran on."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
