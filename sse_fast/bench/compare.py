"""Several results side by side: what a delivery and a connection cost, how long subscribers wait, and the ratios.

Results of one name under one load are repetitions: their median stands for them, between the least and the greatest,
and their histograms are added up. Ratios are to the name that came first, of repetitions in pairs: what the machine did
meanwhile, it did to both.
"""

from collections.abc import Callable, Sequence
from statistics import median
from xml.etree.ElementTree import Element

from sse_fast.bench import units
from sse_fast.bench.curves import Curve, curve, percentile_chart
from sse_fast.bench.facts import Facts, words_of
from sse_fast.bench.plots import Row, linear, logarithmic, rows, tag

Runs = list[Facts]
Reading = Callable[[Facts], float | None]
Load = tuple[str, ...]
Loads = dict[Load, dict[str, Runs]]
"""Load -> name -> its repetitions; all in the order of their coming."""

# By mode: figures, and timings of which p50 and p99 are shown.
SHOWN: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "broadcast": (
        ("server_cpu_us_per_delivery", "deliveries_per_second", "user_memory_per_connection"),
        (("latency", "Latency"),),
    ),
    "hold": (
        (
            "user_memory_per_connection",
            "kernel_memory_per_connection",
            "server_cpu_us_per_connect",
            "connects_per_second",
        ),
        (("first_byte", "Connect to first byte"),),
    ),
    "churn": (
        ("server_cpu_us_per_connect", "server_cores"),
        (("latency", "Latency"), ("first_byte", "Connect to first byte")),
    ),
    "storm": (
        ("all_back_seconds", "all_complete_seconds", "server_cpu_us_per_connect"),
        (("complete", "Complete again"),),
    ),
    "slow": (("deliveries_per_second", "server_cores", "slow_cut"), (("latency", "Latency of the others"),)),
}
PARTS = ("p50", "p99")
MORE_IS_BETTER = ("deliveries_per_second", "connects_per_second")


def name_of(facts: Facts) -> str:
    return facts.label or facts.target or facts.mode


def comparison(found: Sequence[Facts]) -> list[Element]:
    """A section for every mode."""
    modes: dict[str, Loads] = {}
    for facts in found:
        modes.setdefault(facts.mode, {}).setdefault(facts.load, {}).setdefault(name_of(facts), []).append(facts)
    colors = {name: number for number, name in enumerate(dict.fromkeys(map(name_of, found)))}
    return [_section(mode, loads, colors) for mode, loads in modes.items()]


def _section(mode: str, loads: Loads, colors: dict[str, int]) -> Element:
    figures, timings = SHOWN.get(mode, SHOWN["broadcast"])
    plots = [_bars(name, loads, colors) for name in figures]
    plots[1:1] = [_ranges(name, title, loads, colors) for name, title in timings]
    wholes = []
    for load, names in loads.items():
        for timing, title in timings:
            curves = [(name, colors[name], _merged(timing, runs)) for name, runs in names.items()]
            wholes.append(percentile_chart(f"{title}: percentiles", _apart(load, loads), curves))
    return tag(
        "section",
        tag("h2", " · ".join(_common(loads))),
        tag("div", *plots, class_="plots"),
        tag("div", *wholes, class_="plots"),
        _table(figures, timings, loads),
    )


def _common(loads: Loads) -> Load:
    """What is the same in all of them."""
    first, *others = loads
    return tuple(part for part in first if all(part in other for other in others))


def _apart(load: Load, loads: Loads) -> str:
    """What tells it from the others; nothing where it is alone."""
    return " · ".join(part for part in load if part not in _common(loads))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)


def ratios(values: Sequence[float | None], first: Sequence[float | None]) -> list[float]:
    """Of repetitions in pairs, in their order."""
    return [value / base for value, base in zip(values, first, strict=False) if value is not None and base]


def _bars(figure: str, loads: Loads, colors: dict[str, int]) -> Element:
    values, groups = [], []
    for load, names in loads.items():
        readings = {name: [facts.figure(figure) for facts in runs] for name, runs in names.items()}
        first = next(iter(readings.values()))
        members = []
        for name, read in readings.items():
            known = [value for value in read if value is not None]
            values += known
            text = units.of_figure(figure, median(known) if known else None)
            if len(readings) > 1 and (ratio := ratios(read, first)):
                text += f"  ×{units.rounded(median(ratio))}"
            members.append(Row(name, text, [spread(known)] if known else [], colors[name]))
        groups.append((_apart(load, loads), members))
    note = "more is better" if figure in MORE_IS_BETTER else "less is better"
    title = words_of(figure)
    return rows(title[0].upper() + title[1:], note, groups, linear(values, str) if values else None)


def _ranges(timing: str, title: str, loads: Loads, colors: dict[str, int]) -> Element:
    values, groups = [], []
    for load, names in loads.items():
        members = []
        for name, runs in names.items():
            read = [[value for facts in runs if (value := facts.stated(timing, part)) is not None] for part in PARTS]
            known = [spread(part) for part in read if part]
            values += [value for triple in known for value in triple]
            text = " – ".join(units.duration(middle) for _, middle, _ in known) or units.NOT_MEASURED
            members.append(Row(name, text, known, colors[name]))
        groups.append((_apart(load, loads), members))
    axis = logarithmic(values, units.tick_of_time) if values else None
    return rows(title, "○ p50 to ● p99, less is better", groups, axis)


def _merged(timing: str, runs: Runs) -> Curve:
    """The curve of all repetitions' values."""
    histograms = [found for facts in runs if (found := facts.histogram(timing)) is not None]
    if len(runs) == 1 or not histograms:
        return runs[0].curve(timing)
    for other in histograms[1:]:
        histograms[0].add(other)
    return curve(histograms[0])


def _table(figures: Sequence[str], timings: Sequence[tuple[str, str]], loads: Loads) -> Element:
    columns: list[tuple[str, str, Reading]] = [(words_of(name), name, _figure(name)) for name in figures]
    for name, title in timings:
        columns += [(f"{title} {part}", "_us_", _stated(name, part)) for part in PARTS]
    head = ["", *(words for words, _, _ in columns), "runs", "wrong"]
    lines = []
    for load, names in loads.items():
        if len(loads) > 1:
            lines.append(tag("tr", tag("th", _apart(load, loads), scope="rowgroup", colspan=len(head)), class_="group"))
        first = next(iter(names.values()))
        for name, runs in names.items():
            cells = [_cell(runs, first, figure, reading) for _, figure, reading in columns]
            wrong = sum(bool(facts.problems) for facts in runs)
            ends = (tag("td", str(len(runs)), class_="n"), tag("td", str(wrong), class_="n bad" if wrong else "n good"))
            lines.append(tag("tr", tag("th", name, scope="row"), *cells, *ends))
    top = tag("tr", *(tag("th", words, scope="col") for words in head))
    return tag("div", tag("table", tag("thead", top), tag("tbody", *lines)), class_="card wide")


def _figure(name: str) -> Reading:
    return lambda facts: facts.figure(name)


def _stated(timing: str, part: str) -> Reading:
    return lambda facts: facts.stated(timing, part)


def _cell(runs: Runs, first: Runs, figure: str, reading: Reading) -> Element:
    values = [reading(facts) for facts in runs]
    known = [value for value in values if value is not None]
    cell = tag("td", units.of_figure(figure, median(known) if known else None), class_="n")
    if runs is not first and (ratio := ratios(values, [reading(facts) for facts in first])):
        least, middle, greatest = spread(ratio)
        text = f"×{units.rounded(middle)}"
        if least < greatest:
            text += f" ({units.rounded(least)} to {units.rounded(greatest)})"
        cell.append(tag("small", text))
    return cell
