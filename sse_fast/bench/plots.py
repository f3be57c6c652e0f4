"""Plots as inline SVG, drawn while the page is made: no script, nothing to download. Pointing shows the values there.

A page is built of elements, never of strings: the serialiser escapes, so no text of a result can become markup.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree.ElementTree import Element

from sse_fast.bench.units import NOT_MEASURED

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 20, 28
LETTER, LINE = 6.6, 17  # of a tip, a little more than the font takes
DOTS = 24  # so many points are shown as such
COLORS = 12

Form = Callable[[float], str]


def tag(name: str, *children: Element | str | None, **attributes: str | float) -> Element:
    """An element. `class_` is class, `text_anchor` is text-anchor; None among the children is nothing."""
    made = Element(name)
    for key, value in attributes.items():
        text = value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        made.set(key.rstrip("_").replace("_", "-"), text)
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + child
        elif child is not None:
            made.text = (made.text or "") + child
    return made


# ---- axes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """From a value to its place between 0 and 1."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        value = max(value, self.low)  # nothing that is drawn is below it; what a file says may be
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(values: Iterable[float], form: Form, *, parts: int = 4, binary: bool = False) -> Axis:
    """From zero to the nice number above the greatest value."""
    greatest = max(values, default=0)
    if greatest <= 0:
        greatest = 1.0
    unit = 1024.0 ** int(math.log(max(greatest, 1), 1024)) if binary else 1.0
    step = _nice(greatest / unit / parts) * unit
    steps = max(1, math.ceil(greatest / step - 1e-9))
    return Axis(0.0, steps * step, tuple((step * n, form(step * n)) for n in range(steps + 1)))


def logarithmic(values: Iterable[float], form: Form) -> Axis:
    """Between the nice numbers round the values; zeros stand at the foot."""
    found = [value for value in values if value > 0] or [1.0]
    low, high = _nice(min(found), down=True), _nice(max(found))
    if low == high:
        high = low * 10
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low <= 100 else (1,)
    ticks = (10.0**decade * factor for decade in decades for factor in factors)
    return Axis(low, high, tuple((tick, form(tick)) for tick in ticks if low * 0.999 < tick < high * 1.001), True)


def fitting(values: Iterable[float], form: Form) -> Axis:
    """Logarithmic where the values lie far apart."""
    found = [value for value in values if value > 0]
    wide = found and max(found) / min(found) > 20
    return logarithmic(found, form) if wide else linear(found, form)


def _nice(value: float, *, down: bool = False) -> float:
    """The next of 1, 2, 5, 10, 20 and so on."""
    size = 10.0 ** math.floor(math.log10(value))
    factors = (5, 2, 1) if down else (1, 2, 5, 10)
    for factor in factors:
        if (value >= size * factor * 0.999) if down else (value <= size * factor * 1.001):
            return size * factor
    return size


# ---- lines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float | None]]
    color: int = 0

    @property
    def measured(self) -> bool:
        return any(value is not None for _, value in self.points)


@dataclass(frozen=True)
class Band:
    """A stretch of the x axis with a name."""

    name: str
    start: float
    end: float
    strong: bool = False


def chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis | None,
    form: Form,
    stops: Sequence[tuple[float, str]],
    bands: Sequence[Band] = (),
) -> Element:
    """A figure with lines. At every stop of the x axis the values are shown to who points there; y None: no values."""
    key = tag("div", *map(_key, lines), class_="key") if len(lines) > 1 and y is not None else None
    head = tag("figcaption", tag("b", title), tag("span", note, class_="quiet") if note else None, key)
    lines = [line for line in lines if line.measured]
    if y is None or not lines:
        return tag("figure", head, tag("p", NOT_MEASURED, class_="nothing"), class_="card")
    plot = tag("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}. {note}".strip())
    for number, band in enumerate(bands):
        plot.extend(_band(band, x, number))
    plot.extend(_grid(x, y))
    for line in lines:
        plot.extend(_line(line, x, y, filled=len(lines) == 1 and not y.logarithmic))
    plot.extend(_tips(lines, x, y, form, stops))
    return tag("figure", head, plot, class_="card")


def _key(line: Line) -> Element:
    text = line.name if line.measured else f"{line.name}: {NOT_MEASURED}"
    return tag("span", text, class_=_color(line.color))


def _color(number: int) -> str:
    return f"c{number % COLORS}" + (" dashed" if number >= COLORS else "")


def _across(x: Axis, value: float) -> float:
    return LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)


def _up(y: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - y.place(value) * (HEIGHT - BOTTOM - TOP)


def _band(band: Band, x: Axis, number: int) -> Iterable[Element]:
    start, end = _across(x, band.start), _across(x, band.end)
    kind = "band strong" if band.strong else "band odd" if number % 2 else "band"
    yield tag("rect", class_=kind, x=start, y=TOP, width=max(0, end - start), height=HEIGHT - TOP - BOTTOM)
    if band.strong or end - start > LETTER * len(band.name) + 4:
        yield tag("text", band.name, class_="phase", x=(start + end) / 2, y=TOP - 6)


def _grid(x: Axis, y: Axis) -> Iterable[Element]:
    for value, text in y.ticks:
        at = _up(y, value)
        yield tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at)
        yield tag("text", text, class_="y", x=LEFT - 7, y=at + 4)
    for value, text in x.ticks:
        at = _across(x, value)
        yield tag("line", class_="tick", x1=at, x2=at, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4)
        yield tag("text", text, class_="x", x=at, y=HEIGHT - BOTTOM + 18)


def _line(line: Line, x: Axis, y: Axis, *, filled: bool) -> Iterable[Element]:
    color = _color(line.color)
    count = sum(value is not None for _, value in line.points)
    for there, run in groupby(line.points, key=lambda point: point[1] is not None):
        if not there:
            continue
        places = [(_across(x, at), _up(y, value)) for at, value in run if value is not None]
        path = "M" + "L".join(f"{at:.1f} {up:.1f}" for at, up in places)
        if filled:
            foot = HEIGHT - BOTTOM
            yield tag("path", class_=f"area {color}", d=f"{path}L{places[-1][0]:.1f} {foot}L{places[0][0]:.1f} {foot}Z")
        yield tag("path", class_=f"line {color}", d=path)
        if count <= DOTS or len(places) == 1:
            yield from (tag("circle", class_=f"dot {color}", cx=at, cy=up, r=2) for at, up in places)


def _tips(lines: Sequence[Line], x: Axis, y: Axis, form: Form, stops: Sequence[tuple[float, str]]) -> Iterable[Element]:
    values = [(line, dict(line.points)) for line in lines]
    edges = [_across(x, at) for at, _ in stops]
    for number, (at, head) in enumerate(stops):
        here = [(line, value) for line, found in values if (value := found.get(at)) is not None]
        if not here:
            continue
        place = edges[number]
        start = (edges[number - 1] + place) / 2 if number else LEFT
        end = (place + edges[number + 1]) / 2 if number + 1 < len(edges) else WIDTH - RIGHT
        hair = tag("line", class_="hair", x1=place, x2=place, y1=TOP, y2=HEIGHT - BOTTOM)
        dots = [
            tag("circle", class_=f"c{line.color % COLORS}", cx=place, cy=_up(y, value), r=4) for line, value in here
        ]
        rows = [
            (f"c{line.color % COLORS}", f"{form(value)}  {line.name if len(lines) > 1 else ''}") for line, value in here
        ]
        yield tag(
            "g",
            tag("rect", class_="hit", x=start, y=0, width=max(0, end - start), height=HEIGHT),
            tag("g", hair, *dots, *_tip(head, rows, place), class_="tip"),
            class_="at",
        )


def _tip(head: str, rows: Sequence[tuple[str, str]], place: float) -> Iterable[Element]:
    """A box beside the hair, on the side with room."""
    width = LETTER * max(len(head), *(len(text.rstrip()) + 2 for _, text in rows)) + 16
    left = place + 10 if place < (LEFT + WIDTH) / 2 else place - 10 - width
    yield tag("rect", class_="box", x=left, y=TOP + 4, width=width, height=LINE * (len(rows) + 1) + 8, rx=6)
    yield tag("text", head, class_="head", x=left + 8, y=TOP + LINE + 2)
    for number, (color, text) in enumerate(rows, 2):
        y = TOP + LINE * number + 2
        yield tag("circle", class_=color, cx=left + 11, cy=y - 4, r=3)
        yield tag("text", text.rstrip(), x=left + 20, y=y)


# ---- rows ------------------------------------------------------------------------------------------------------------

ROW, GROUP, ROWS_LEFT = 38, 26, 2
ROW_LETTERS = 28  # of a name


@dataclass(frozen=True)
class Row:
    """One result beside others: a bar of one value, or a range of several, each with its least and its greatest."""

    name: str
    text: str
    values: Sequence[tuple[float, float, float]]  # least, median, greatest of the repetitions
    color: int = 0


def rows(title: str, note: str, groups: Sequence[tuple[str, Sequence[Row]]], axis: Axis | None) -> Element:
    """A figure that compares: bars from zero where the axis is linear, ranges where it is logarithmic."""
    head = tag("figcaption", tag("b", title), tag("span", note, class_="quiet") if note else None)
    if axis is None:
        return tag("figure", head, tag("p", NOT_MEASURED, class_="nothing"), class_="card")
    drawn: list[Element] = []
    top = 0.0
    for name, members in groups:
        if name:
            drawn.append(tag("text", name, class_="group", x=ROWS_LEFT, y=top + 17))
            top += GROUP
        for row in members:
            drawn.extend(_row(row, axis, top))
            top += ROW
    if axis.logarithmic:
        last = len(axis.ticks) - 1
        for number, (value, text) in enumerate(axis.ticks):
            at = _along(axis, value)
            drawn.insert(0, tag("line", class_="grid", x1=at, x2=at, y1=0, y2=top))
            anchor = "start" if number == 0 else "end" if number == last else "middle"
            drawn.append(tag("text", text, class_="y", style=f"text-anchor: {anchor}", x=at, y=top + 14))
        top += 18
    plot = tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {top:g}", role="img", aria_label=f"{title}. {note}".strip())
    return tag("figure", head, plot, class_="card rows")


def _along(axis: Axis, value: float) -> float:
    return ROWS_LEFT + axis.place(value) * (WIDTH - 2 * ROWS_LEFT - 6)


def _cut(name: str) -> str:
    return name if len(name) <= ROW_LETTERS else f"{name[: ROW_LETTERS - 1]}…"


def _row(row: Row, axis: Axis, top: float) -> Iterable[Element]:
    color, middle = f"c{row.color % COLORS}", top + 27
    yield tag("text", _cut(row.name), class_="name", x=ROWS_LEFT, y=top + 15)
    yield tag("text", row.text, class_="value", x=WIDTH - ROWS_LEFT, y=top + 15)
    if not row.values:
        return
    places = [_along(axis, value) for _, value, _ in row.values]
    if axis.logarithmic:
        yield tag("line", class_=f"range {color}", x1=places[0], x2=places[-1], y1=middle, y2=middle)
        for number, at in enumerate(places):
            yield tag("circle", class_=f"{'hollow ' if number == 0 else ''}{color}", cx=at, cy=middle, r=4.5)
    else:
        yield tag("rect", class_="track", x=ROWS_LEFT, y=middle - 4, width=WIDTH - 2 * ROWS_LEFT, height=8, rx=3)
        yield tag("rect", class_=color, x=ROWS_LEFT, y=middle - 4, width=max(2, places[0] - ROWS_LEFT), height=8, rx=3)
    for least, _, greatest in row.values:
        if least < greatest:
            start, end = _along(axis, least), _along(axis, greatest)
            yield tag("path", class_="spread", d=f"M{start:.1f} {middle - 6}v12M{start:.1f} {middle}H{end:.1f}m0 -6v12")
