"""What a run of bench_peers.py measured, as its JSON has it: windows, by server, subscribers and events in flight.

A window without subscribers is one of publishing alone; then `in_flight` is the publishers' connections.
"""

from collections.abc import Callable
from typing import Any

OURS = "sse_fast"
FLOOR = "raw C"
Window = dict[str, Any]
Look = Callable[[Window], float | None]
ALMOST_WHOLE = 0.99  # of all deliveries; with less the figures say nothing


def figure(name: str, scale: float = 1) -> Look:
    def look(window: Window) -> float | None:
        value = window["figures"].get(name)
        return None if value is None else value / scale

    return look


def latency_ms(name: str) -> Look:
    def look(window: Window) -> float | None:
        value = window["latency_us"].get(name)
        return None if value is None else value / 1e3

    return look


CPU = figure("server_cpu_us_per_delivery")
CONNECT = figure("server_cpu_us_per_connect")
MEMORY = figure("user_memory_per_connection", 1024)
PUBLISH = figure("server_cpu_us_per_publish")


class Record:
    """What was measured, by server, subscribers and events in flight; `about`: all else that the JSON says."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.about = record
        self.names = list(record["peers"])
        windows = record["windows"]
        self.subscribers = sorted({window["subscribers"] for window in windows if window["subscribers"]})
        self.in_flight = sorted({window["in_flight"] for window in windows if window["subscribers"]})
        self.connections = sorted({window["in_flight"] for window in windows if not window["subscribers"]})

    def of(self, name: str, subscribers: int, in_flight: int) -> list[Window]:
        wanted = (name, subscribers, in_flight)
        windows = self.about["windows"]
        return [w for w in windows if (w["peer"], w["subscribers"], w["in_flight"]) == wanted and tells_something(w)]

    def values(self, look: Look, name: str, subscribers: int, in_flight: int) -> list[float]:
        return [value for window in self.of(name, subscribers, in_flight) if (value := look(window)) is not None]

    def ratios(self, look: Look, name: str, subscribers: int, in_flight: int) -> list[float]:
        """In multiples of sse_fast's, round by round."""
        ours = {window["round"]: look(window) for window in self.of(OURS, subscribers, in_flight)}
        found = []
        for window in self.of(name, subscribers, in_flight):
            value, other = look(window), ours.get(window["round"])
            if value is not None and other:
                found.append(value / other)
        return found

    def faulty(self, name: str, subscribers: int, in_flight: int) -> bool:
        """Is a window that has figures not whole?"""
        return any(window["problems"] for window in self.of(name, subscribers, in_flight))


def tells_something(window: Window) -> bool:
    figures = window["figures"]
    if not window["subscribers"]:
        return bool(figures.get("publishes"))
    expected = figures.get("events", 0) * window["subscribers"]
    return bool(expected and figures["deliveries"] >= ALMOST_WHOLE * expected)
