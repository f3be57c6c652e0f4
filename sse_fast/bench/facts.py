"""Reading a result's JSON (`sse_fast.bench/1`) for people. Nothing is trusted to be there, or to be of its type."""

import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException
from hdrh.histogram import HdrHistogram

from sse_fast.bench import units
from sse_fast.bench.curves import Curve, curve, nines
from sse_fast.bench.figures import FIGURES
from sse_fast.bench.results import SCHEMA
from sse_fast.errors import SSEFastError

Json = dict[str, Any]
UNREADABLE = (HdrCookieException, HdrHistogramSettingsException, HdrLengthException, zlib.error, TypeError, ValueError)
STATED = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9))


class InvalidResult(SSEFastError):
    """A file that is no result of a run."""


def load(path: Path) -> Json:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidResult(f"{path}: {error}") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InvalidResult(f"{path} is no result of a run ({SCHEMA})")
    return found


class Facts:
    """A result. What is not there, or is not what it should be, is None or empty."""

    def __init__(self, result: Json) -> None:
        self.json = result
        self.mode = str(result.get("mode") or "run")
        self.label = str(result.get("label") or "")
        self.settings = self.part("settings")
        self.problems = [entry for entry in self._list("problems") if isinstance(entry, dict)]
        self.phases = [
            (str(phase.get("name")), start, end)
            for phase in self._list("phases")
            if (start := number(phase, "start")) is not None and (end := number(phase, "end")) is not None
        ]

    def part(self, name: str) -> Json:
        return _mapping(self.json.get(name))

    def settings_of(self, name: str) -> Json:
        return _mapping(self.settings.get(name))

    def _list(self, name: str) -> list[Any]:
        found = self.json.get(name)
        return found if isinstance(found, list) else []

    @property
    def target(self) -> str:
        return str(self.settings_of("target").get("subscribe") or "")

    @property
    def load(self) -> tuple[str, ...]:
        """What was done to the server, in words: the same for every repetition."""
        mode, n = self.settings_of("mode"), units.count
        subscribers, channels, per_second = (number(mode, name) for name in ("subscribers", "channels", "rate"))
        words = [self.mode]
        if subscribers is not None:
            words.append(
                f"{n(subscribers)} subscribers" + (f" on {n(channels)} channels" if (channels or 1) > 1 else "")
            )
        if self.mode in ("broadcast", "channels") and per_second is None:
            words.append(f"closed loop, {n(number(mode, 'in_flight'))} in flight")
        elif per_second is not None:
            words.append(f"{units.short(per_second)} events/s on schedule")
        if self.mode == "churn":
            words.append(
                f"{units.short(number(mode, 'comes') or 0)} more come a second and stay {_seconds(mode, 'life')}"
            )
        if self.mode == "storm":
            words.append(f"cut, away for {_seconds(mode, 'away')}")
        if self.mode == "slow":
            drip = number(mode, "drip")
            reads = f"{n(drip)} B every {_seconds(mode, 'every')}" if drip else "nothing"
            words.append(f"{units.short((number(mode, 'share') or 0) * 100)}{units.THIN}% of them read {reads}")
        size = number(self.settings, "size")
        return (*words, f"{n(size)}-byte payloads") if size is not None else tuple(words)

    def figure(self, name: str) -> float | None:
        return number(self.part("figures"), name)

    def stated(self, timing: str, name: str) -> float | None:
        """A number of a timing: p50, max, count."""
        return number(_mapping(self.part("timings").get(timing)), name)

    def histogram(self, timing: str) -> HdrHistogram | None:
        encoded = _mapping(self.part("timings").get(timing)).get("histogram")
        try:
            return HdrHistogram.decode(encoded) if encoded else None
        except UNREADABLE:
            return None

    def curve(self, timing: str) -> Curve:
        """From the histogram; where there is none, from the percentiles that are stated."""
        histogram = self.histogram(timing)
        if histogram is not None:
            return curve(histogram)
        points = [(nines(part), value) for name, part in STATED if (value := self.stated(timing, name)) is not None]
        count, greatest = self.stated(timing, "count"), self.stated(timing, "max")
        end = math.log10(max(count or 1, 1))
        return [point for point in points if point[0] < end] + ([] if greatest is None else [(end, greatest)])

    def series(self, name: str) -> list[tuple[float, float | None]]:
        """(seconds since the start, value) of every second."""
        return [(at, number(entry, name)) for entry in self._samples() if (at := number(entry, "t")) is not None]

    def moments(self) -> list[tuple[float, str]]:
        """(seconds since the start, the moment in words)."""
        return [
            (at, f"{units.short(at)}{units.THIN}s, {entry.get('phase')}")
            for entry in self._samples()
            if (at := number(entry, "t")) is not None
        ]

    def _samples(self) -> Iterable[Json]:
        return (entry for entry in self._list("series") if isinstance(entry, dict))


def number(part: Any, name: str) -> float | None:
    value = _mapping(part).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _seconds(part: Json, name: str) -> str:
    value = number(part, name)
    return units.NOT_MEASURED if value is None else units.tick_of_time(value * 1e6)


def words_of(figure: str) -> str:
    return FIGURES[figure][0] if figure in FIGURES else figure.replace("_", " ")
