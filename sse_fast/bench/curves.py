"""Percentiles as a curve: HdrHistogram's way to plot, every nine has the same room."""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from hdrh.histogram import HdrHistogram

from sse_fast.bench import units
from sse_fast.bench.plots import LEFT, RIGHT, WIDTH, Axis, Line, chart, fitting

Curve = list[tuple[float, float]]
"""(nines, microseconds): 0 nines are 0 %, one is 90 %, two are 99 %."""

STEPS = 20  # of a curve, from one nine to the next
WIDEST_LETTER = 8.5  # as on a phone


def nines(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def percentile_at(place: float) -> float:
    return 100 - 100 * 10**-place


def curve(histogram: HdrHistogram) -> Curve:
    """The whole of a histogram; it ends with the greatest value, where there is no part of one value left."""
    end = math.log10(max(histogram.total_count, 1))
    places = sorted({nines(50), *(round(step / STEPS, 2) for step in range(int(end * STEPS) + 1))})
    places = [place for place in places if place < end]
    values = histogram.get_percentile_to_value_dict([*map(percentile_at, places), 100.0])
    return [(place, values[percentile_at(place)]) for place in places] + [(end, values[100.0])]


def percentile_chart(title: str, note: str, curves: Sequence[tuple[str, int, Curve]]) -> Element:
    """Latencies over percentiles: every nine has the same room. `curves`: name, color, points."""
    curves = [entry for entry in curves if entry[2]]
    end = max([1.0, *(points[-1][0] for _, _, points in curves)])
    marks = [0.0, nines(50), *(float(nine) for nine in range(1, int(end) + 1))]
    x = Axis(0.0, end, _with_room(marks, end))
    values = [value for _, _, points in curves for _, value in points]
    last = {points[-1][0] for _, _, points in curves}
    stops = sorted({at for _, _, points in curves for at, _ in points if at in last or _is_stop(at)})
    heads = [(at, "max" if at in last else f"{percentile_text(at)} within") for at in stops]
    lines = [Line(name, points, color) for name, color, points in curves]
    y = fitting(values, units.tick_of_time) if values else None
    return chart(title, note, lines, x, y, units.duration, heads)


def percentile_text(place: float) -> str:
    """As many digits as tell it from the next nine: 90 %, 99.9 %, 98.2 %."""
    digits = max(0, math.ceil(place) - 1 - (place == int(place)))
    return f"{percentile_at(place):.{digits}f}{units.THIN}%"


def _with_room(marks: Sequence[float], end: float) -> tuple[tuple[float, str], ...]:
    """The marks whose text does not touch that of the one before."""
    ticks: list[tuple[float, str]] = []
    taken = -math.inf
    for mark in marks:
        text = percentile_text(mark)
        half = WIDEST_LETTER * (len(text) + 2) / 2 / (WIDTH - LEFT - RIGHT) * end
        if mark - half > taken:
            ticks.append((mark, text))
            taken = mark + half
    return tuple(ticks)


def _is_stop(place: float) -> bool:
    return place == nines(50) or round(place * STEPS) % 5 == 0
