"""A result as a page of its own: one HTML file with its plots in it, that needs nothing and runs nothing.

The same JSON gives the same bytes. Several results are compared first (`compare`), then each is shown.
"""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from xml.etree.ElementTree import Element, tostring

from sse_fast.bench import compare, units
from sse_fast.bench.curves import percentile_chart
from sse_fast.bench.facts import Facts, Json, words_of
from sse_fast.bench.figures import FIGURES, TIMED
from sse_fast.bench.plots import Axis, Band, Line, chart, fitting, linear, tag

TEMPLATE = Template(files(__package__).joinpath("report.html").read_text("utf-8"))
MEASURED = ("measure", "hold", "return")  # the phases that figures are taken over
PERCENTILES = ("p50", "p90", "p99", "p99_9", "max")

LATENCY = (("latency p50", "latency", "p50"), ("latency p99", "latency", "p99"), ("latency max", "latency", "max"))
COST = ("server_cpu_us_per_delivery", "user_memory_per_connection")
HEADLINES: dict[str, tuple[str | tuple[str, str, str], ...]] = {  # a figure, or (words, timing, which of it)
    "broadcast": ("deliveries_per_second", *LATENCY, *COST),
    "hold": (
        "connections",
        "user_memory_per_connection",
        "kernel_memory_per_connection",
        "connects_per_second",
        "server_cpu_us_per_connect",
        ("one event at the last of them", "last", "max"),
    ),
    "churn": (
        "came",
        "left",
        *LATENCY[:2],
        ("first byte p99", "first_byte", "p99"),
        "server_cpu_us_per_connect",
    ),
    "storm": (
        "came_back",
        "all_back_seconds",
        "all_complete_seconds",
        "connects_per_second",
        ("complete again p50", "complete", "p50"),
        "server_cpu_us_per_connect",
    ),
    "slow": ("slow", "slow_cut", "deliveries_per_second", *LATENCY[:2], "user_memory_per_connection"),
}
SHORT = {
    "deliveries_per_second": "deliveries",
    "connects_per_second": "connects",
    "user_memory_per_connection": "server memory per connection",
    "kernel_memory_per_connection": "kernel memory per connection",
}
CHECKED = (
    ("lost", ("lost", "lost_at_start")),
    ("doubled", ("duplicate",)),
    ("out of order", ("out_of_order", "ids_fell")),
    ("torn", ("torn", "checksum", "wrong_channel")),
)


def render(results: Sequence[Json]) -> str:
    """The page."""
    found = [Facts(result) for result in results]
    wrong = sum(bool(facts.problems) for facts in found)
    if len(found) == 1:
        title = found[0].label or found[0].mode
        pill = f"{len(found[0].problems)} kinds of problems" if wrong > 0 else "every stream was right"
        parts = report(found[0])
    else:
        title = f"{len(found)} results side by side"
        pill = f"{wrong} of {len(found)} have problems" if wrong else "every stream of every run was right"
        parts = compare.comparison(found)
        runs = [_folded(number, facts) for number, facts in enumerate(found, 1)]
        parts.append(tag("section", tag("h2", "Every run"), *runs))
    head = tag("header", _mark(), tag("h1", title), tag("span", pill, class_="pill bad" if wrong else "pill good"))
    body = "\n".join(tostring(part, encoding="unicode", method="html") for part in (head, *parts))
    return TEMPLATE.substitute(title=escape(f"{title} · sse-fast bench"), body=body)


def _folded(number: int, facts: Facts) -> Element:
    state = tag("span", "✗ " if facts.problems else "✓ ", class_="bad" if facts.problems else "good")
    name = tag("b", f"{number}. {compare.name_of(facts)} ")
    return tag(
        "details", tag("summary", state, name, tag("span", " · ".join(facts.load), class_="quiet")), *report(facts)
    )


def report(facts: Facts) -> list[Element]:
    """All about one result."""
    about = tag("p", " · ".join(facts.load), class_="about")
    started = str(facts.json.get("started") or "").replace("T", " ").replace("+00:00", " UTC")
    where = tag("p", " · ".join(filter(None, (facts.target, started))), class_="quiet")
    return [
        tag("section", about, where, _problems(facts), _headlines(facts), _checked(facts)),
        tag("section", tag("h2", "How long it took"), _percentile_plots(facts), _timings(facts)),
        tag("section", tag("h2", "Second by second"), _phases(facts), _time_plots(facts)),
        tag("section", tag("h2", "All figures, and what was run"), _all(facts)),
    ]


# ---- the headline ----------------------------------------------------------------------------------------------------


def _mark() -> Element:
    shapes = (tag("rect", width=32, height=32, rx=8), tag("path", d="M8 9h7l8 7-8 7H8l8-7z"))
    return tag("svg", *shapes, class_="mark", viewBox="0 0 32 32", aria_hidden="true")


def _headlines(facts: Facts) -> Element:
    tiles = []
    for entry in HEADLINES.get(facts.mode, HEADLINES["broadcast"]):
        if isinstance(entry, str):
            words, value = SHORT.get(entry, words_of(entry)), units.of_figure(entry, facts.figure(entry))
        else:
            words, value = entry[0], units.duration(facts.stated(*entry[1:]))
        missing = "missing" if value == units.NOT_MEASURED else ""
        tiles.append(tag("div", tag("h3", words), tag("b", *_apart(value), class_=missing), class_="card tile"))
    return tag("div", *tiles, class_="tiles")


def _apart(value: str) -> list[Element | str]:
    """A number large, its unit small."""
    number, gap, unit = value.rpartition(units.THIN)
    if gap and not unit.isdecimal() and "/" not in unit:
        return [number, tag("small", f"{gap}{unit}")]
    return [value.removesuffix("/s"), tag("small", f"{units.THIN}/s")] if value.endswith("/s") else [value]


def _checked(facts: Facts) -> Element:
    """What every stream was held to: zeros are the point of it."""
    found = {str(problem.get("kind")): problem.get("count") for problem in facts.problems}
    if not facts.figure("deliveries") and not any(kind in found for _, kinds in CHECKED for kind in kinds):
        return tag(
            "p", "Nothing was delivered in the measured window, so no delivery could be checked.", class_="quiet"
        )
    marks = []
    for words, kinds in CHECKED:
        count = sum(value for kind in kinds if isinstance(value := found.get(kind), int))
        text = f"{units.count(count)} {words}"
        marks.append(tag("li", text, class_="bad" if count else "good"))
    return tag("ul", *marks, class_="checked")


def _problems(facts: Facts) -> Element | None:
    if not facts.problems:
        return None
    lines = []
    for problem in facts.problems:
        count = problem.get("count")
        lines.append(
            tag(
                "tr",
                tag("td", units.count(count) if isinstance(count, int) else str(count), class_="n"),
                tag("td", str(problem.get("meaning") or problem.get("kind"))),
                tag("td", str(problem.get("example") or ""), class_="example"),
            )
        )
    head = _head_row("count", "what was wrong", "an example")
    return tag("div", tag("h2", "Problems"), _table(head, lines), class_="card problems")


# ---- plots -----------------------------------------------------------------------------------------------------------


def _percentile_plots(facts: Facts) -> Element:
    groups = (
        ("Events", "percentiles, every nine the same room", ("latency", "last", "answer", "lateness")),
        ("Connections", "percentiles of the whole run", ("first_byte", "connect")),
        ("Return", "percentiles, from the moment of return", ("back", "complete")),
    )
    plots = []
    for title, note, names in groups:
        curves = [(TIMED[name], number, facts.curve(name)) for number, name in enumerate(names)]
        if any(points for _, _, points in curves) or title != "Return":
            plots.append(percentile_chart(title, note, curves))
    return tag("div", *plots, class_="plots")


def _time_plots(facts: Facts) -> Element:
    ends = [end for _, _, end in facts.phases] + [at for at, _ in facts.moments()]
    x = linear(ends, lambda value: f"{units.short(value)}{units.THIN}s" if value else "0", parts=6)
    x = Axis(
        0.0, max(ends, default=x.high) or x.high, tuple(tick for tick in x.ticks if tick[0] <= max(ends, default=1))
    )
    bands = [Band(name, start, end, name in MEASURED) for name, start, end in facts.phases]
    moments = facts.moments()
    stops = moments[:: max(1, len(moments) // 120)]

    def plot(title: str, note: str, names: dict[str, str], form: Any, tick: Any, **how: Any) -> Element:
        lines = [Line(words, facts.series(name), number) for number, (name, words) in enumerate(names.items())]
        values = [value for line in lines for _, value in line.points if value is not None]
        y = (how.pop("axis", linear)(values, tick, **how)) if values else None
        return chart(title, note, lines, x, y, form, stops, bands)

    latency = {"p50": "p50", "p99": "p99", "max": "max"}
    cores = {"server_cores": "server", "client_cores": "load client"}
    return tag(
        "div",
        plot("Deliveries", "a second", {"deliveries_per_second": "deliveries"}, units.rate, units.short),
        plot("Latency", "of each second's deliveries", latency, units.duration, units.tick_of_time, axis=fitting),
        plot("Connections", "held", {"connections": "held"}, units.count, units.short),
        plot("Connects", "a second", {"connects_per_second": "connects"}, units.rate, units.short),
        plot("Processor", "cores busy", cores, units.amount, units.short),
        plot("Server memory", "resident", {"server_rss": "rss"}, units.memory, units.tick_of_memory, binary=True),
        class_="plots",
    )


def _phases(facts: Facts) -> Element:
    chips = [
        tag("li", f"{name} ", tag("span", units.seconds(end - start)), class_="strong" if name in MEASURED else "")
        for name, start, end in facts.phases
    ]
    return tag("ol", *chips, class_="phases")


# ---- tables ----------------------------------------------------------------------------------------------------------


def _timings(facts: Facts) -> Element:
    lines = []
    for name, words in TIMED.items():
        if name in facts.part("timings"):
            cells = [tag("td", units.duration(facts.stated(name, part)), class_="n") for part in PERCENTILES]
            count = tag("td", units.count(facts.stated(name, "count")), class_="n")
            lines.append(tag("tr", tag("th", words, scope="row"), *cells, count))
    return tag("div", _table(_head_row("", "p50", "p90", "p99", "p99.9", "max", "count"), lines), class_="card wide")


def _all(facts: Facts) -> Element:
    left = tag("div", _figures(facts), _machine(facts))
    return tag("div", left, _settings(facts), class_="columns")


def _figures(facts: Facts) -> Element:
    names = [*FIGURES, *(name for name in facts.part("figures") if name not in FIGURES)]
    there = facts.part("figures")
    return _pairs([(words_of(name), units.of_figure(name, facts.figure(name))) for name in names if name in there])


def _machine(facts: Facts) -> Element:
    machine = facts.part("machine")
    size = machine.get("memory")
    about = {name: machine.get(name) for name in ("cpu", "cores", "system")}
    about["memory"] = units.memory(size) if isinstance(size, int) else None
    return _pairs(list((about | facts.part("versions")).items()))


def _settings(facts: Facts) -> Element:
    """Values of headers stay out of it: they may be secrets, and reports are passed on."""
    server = facts.part("server")
    pairs = [("server", server.get("command") or "not on this machine, or not found"), ("pids", server.get("pids"))]
    for part in (facts.settings_of("target"), facts.settings_of("mode"), facts.settings):
        for name, value in part.items():
            if name.endswith("headers") and isinstance(value, list):
                pairs.append((name, ", ".join(str(pair[0]) for pair in value if isinstance(pair, list) and pair)))
            elif not isinstance(value, dict):
                pairs.append((name, value))
    return _pairs([(name.replace("_", " "), value) for name, value in pairs])


def _pairs(pairs: Sequence[tuple[str, Any]]) -> Element:
    lines = []
    for name, value in pairs:
        if value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(tag("tr", tag("th", name, scope="row"), tag("td", text)))
    return tag("div", tag("table", tag("tbody", *lines), class_="pairs"), class_="card")


def _head_row(*names: str) -> Element:
    return tag("tr", *(tag("th", name, scope="col") for name in names))


def _table(head: Element, lines: Sequence[Element]) -> Element:
    return tag("table", tag("thead", head), tag("tbody", *lines))
