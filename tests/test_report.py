"""The report of a run: it shows what the result says, whatever the result says, and is nothing but a page."""

import re
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import orjson
import pytest
from click.testing import CliRunner
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_fast.bench import Broadcast, Churn, Hold, Mode, Plan, Problem, Result, Slow, Storm, Target
from sse_fast.bench.compare import comparison, ratios
from sse_fast.bench.curves import curve, nines, percentile_at, percentile_chart, percentile_text
from sse_fast.bench.facts import Facts
from sse_fast.bench.plots import HEIGHT, TOP, Axis, Line, chart, fitting, linear, logarithmic
from sse_fast.bench.report import HEADLINES, render
from sse_fast.bench.results import MEANINGS, Timing, timing
from sse_fast.bench.units import NOT_MEASURED, THIN, amount, count, duration, memory, of_figure, tick_of_time
from sse_fast.cli.main import main

MODES: tuple[Mode, ...] = (Broadcast(), Broadcast(rate=40.0, channels=5), Hold(), Churn(), Storm(), Slow())
TIMED = ("latency", "last", "answer", "lateness", "connect", "first_byte", "back", "complete")
HOSTILE = "\"'></title></style></text></svg><script>alert(1)</script><img src=x onerror=alert(1)>&lt;"
Json = dict[str, Any]


def result(mode: Mode = MODES[0], *problems: Problem, label: str = "", latency: int = 1000, **figures: Any) -> Json:
    """A result as the load client writes it, read back."""
    target = Target.edge("http://127.0.0.1:8000")
    plan = Plan(mode=mode, target=target, label=label)
    setting = orjson.loads(orjson.dumps(plan))
    measured = {name: 1234.5 for line in HEADLINES.values() for name in line if isinstance(name, str)}
    made = Result(
        mode=mode.name,
        label=label,
        started=datetime(2026, 1, 31, 12, tzinfo=UTC),
        settings=setting | {"mode": setting["mode"] | {"channels": mode.channels}},
        server={"pids": [1, 2], "command": "sse-fast serve"},
        problems=list(problems),
        figures=measured | {"deliveries": 4321, "connections": 1000} | figures,
        timings=dict.fromkeys(TIMED, some_timing(latency)),
        series=[sample(second) for second in range(1, 6)],
        phases=[{"name": "ramp", "start": 0.1, "end": 1.0}, {"name": "measure", "start": 1.0, "end": 5.5}],
    )
    found: Json = orjson.loads(made.to_json())
    return found


@cache
def some_timing(place: int) -> Timing:
    found = timing({at: 10 + at % 7 for at in range(place, place + 300, 7)})
    assert found is not None
    return found


def sample(second: int) -> Json:
    empty = dict.fromkeys(("p50", "p90", "p99", "p99_9", "max", "server_cores", "server_rss"))
    seen = {"p50": 900, "p90": 1500, "p99": 30_000 * second, "p99_9": 90_000, "max": 700_000, "server_rss": 10**8}
    return {
        "t": second + 0.01,
        "phase": "measure",
        "connections": 1000,
        "deliveries_per_second": 160_000.0 * second,
        "events_per_second": 160.0,
        "connects_per_second": 0.0,
        "client_cores": 0.5,
    } | (empty if second == 3 else empty | seen | {"server_cores": 0.9})


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).replace(THIN, " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_mode_has_a_whole_page(mode: Mode) -> None:
    page = Page(render([result(mode)]))
    assert page.open == []
    assert mode.name in page.text
    assert "1 000 subscribers" in page.text
    assert "0 lost" in page.text
    assert sum(tag == "figure" for tag, _ in page.tags) >= 8
    assert not re.search(r"\bnan\b|\binf\b", " ".join(value for _, some in page.tags for value in some.values()))


def test_every_mode_has_headlines_of_its_own() -> None:
    assert {mode.name for mode in MODES} == set(HEADLINES)
    assert len({HEADLINES[name] for name in HEADLINES}) == len(HEADLINES)


@pytest.mark.parametrize("several", [1, 2])
def test_a_page_loads_nothing_and_runs_nothing(several: int) -> None:
    html = render([result(label=HOSTILE, mode=mode) for mode in MODES[:several]])
    for tag, attributes in Page(html).tags:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base", "form", "a", "use", "image")
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")}
        assert "url(" not in attributes.get("style", "")
        assert attributes.get("href", "data:").startswith("data:")
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)
    assert "default-src 'none'" in html
    named = set(re.findall(r"https?://[^\s'\"<]+", html))
    assert named == {"http://www.w3.org/2000/svg", *(url for url in named if url.startswith("http://127.0.0.1:8000/"))}


def poisoned(value: Any) -> Any:
    """The same with every string and every name of a figure hostile."""
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()} | {HOSTILE: 1}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value]
    return value + HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("several", [1, 3])
def test_what_a_result_says_is_never_markup(several: int) -> None:
    wrong = Problem("lost", 3, HOSTILE)
    bad = poisoned(result(MODES[0], wrong)) | {"mode": "broadcast"}
    html = render([bad] * several)
    assert HOSTILE in "".join(Page(html).words)
    clean = Page(render([result(MODES[0], wrong)] * several))
    assert {tag for tag, _ in Page(html).tags} == {tag for tag, _ in clean.tags}
    assert Page(html).open == []


def test_secrets_in_headers_stay_out() -> None:
    made = result()
    made["settings"]["target"]["headers"] = [["Authorization", "Bearer s3cr3t"]]
    made["settings"]["target"]["publish_headers"] = [["X-API-Key", "s3cr3t"]]
    html = render([made])
    assert "s3cr3t" not in html
    assert "Authorization" in html
    assert "X-API-Key" in html


def test_problems_are_shown_with_their_meaning_and_example() -> None:
    page = Page(render([result(MODES[0], Problem("lost", 1234, "number 17"), Problem("torn", 2))]))
    for words in ("1 234", MEANINGS["lost"], "number 17", MEANINGS["torn"], "1 234 lost", "2 torn", "0 doubled"):
        assert words in page.text
    assert {"class": "bad"} in [attributes for tag, attributes in page.tags if tag == "li"]
    assert "every stream was right" not in page.text


def test_nothing_is_called_right_that_was_not_checked() -> None:
    page = Page(render([result(Hold(), deliveries=0)]))
    assert "0 lost" not in page.text
    assert "Nothing was delivered" in page.text


def test_the_same_result_gives_the_same_bytes() -> None:
    results = [result(mode, label=mode.name) for mode in MODES]
    assert render(results) == render(deepcopy(results))


ODD = (None, "", "text", -1, 1e300, True, {}, {"x": []}, [], [1], [None], [{}])


def without_histograms(mode: Mode) -> Json:
    """Reading histograms takes most of the time; they have tests of their own."""
    made = result(mode, Problem("lost", 1))
    for some in made["timings"].values():
        some["histogram"] = ""
    return made


@pytest.mark.parametrize("part", result())
def test_a_part_that_is_missing_or_of_another_type_breaks_nothing(part: str) -> None:
    made = without_histograms(MODES[0])
    for odd in ODD:
        assert Page(render([made | {part: odd}])).open == []


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODES), st.data())
def test_a_number_that_is_missing_or_of_another_type_breaks_nothing(mode: Mode, data: st.DataObject) -> None:
    made = without_histograms(mode)
    inside: Any = made[data.draw(st.sampled_from([key for key, value in made.items() if value and key != "schema"]))]
    while isinstance(inside, dict | list) and inside:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(inside[key], dict | list):
            inside[key] = data.draw(st.sampled_from(ODD))
            break
        inside = inside[key]
    assert Page(render([made, made])).open == []  # compared, and each by itself


def test_what_is_missing_is_said_to_be() -> None:
    made = result(server_cpu_us_per_delivery=None)
    made |= {"server": None, "series": [], "timings": {}}
    page = Page(render([made]))
    assert f"server CPU per delivery {NOT_MEASURED}" in page.text
    assert f"latency p99 {NOT_MEASURED}" in page.text
    assert f"Events percentiles, every nine the same room {NOT_MEASURED}" in page.text
    assert f"Server memory resident {NOT_MEASURED}" in page.text


def test_one_line_of_two_that_was_not_measured_is_named() -> None:
    axis = linear([1.0], str)
    lines = [Line("server", [(0.0, None)]), Line("client", [(0.0, 1.0)], 1)]
    words = "".join(chart("Processor", "", lines, axis, axis, str, [(0.0, "now")]).itertext())
    assert f"server: {NOT_MEASURED}" in words


# ---- curves ----------------------------------------------------------------------------------------------------------


def histogram(values: list[int]) -> HdrHistogram:
    made = HdrHistogram(1, 1_000_000_000, 3)
    for value in values:
        made.record_value(value)
    return made


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300))
def test_the_points_of_a_curve_are_those_of_the_histogram(values: list[int]) -> None:
    made = histogram(values)
    points = curve(made)
    for place, value in points[:-1][:: max(1, len(points) // 4)]:
        assert value == made.get_value_at_percentile(percentile_at(place))
    assert points[-1][1] == made.get_value_at_percentile(100.0)
    assert [place for place, _ in points] == sorted({place for place, _ in points})
    assert [value for _, value in points] == sorted(value for _, value in points)


def test_every_nine_has_the_same_room() -> None:
    assert [nines(part) for part in (0, 90, 99, 99.9)] == pytest.approx([0, 1, 2, 3])
    assert [percentile_at(place) for place in (0, 1, 2, 3)] == pytest.approx([0, 90, 99, 99.9])
    words = [percentile_text(place).replace(THIN, " ") for place in (0, nines(50), 1, 1.75, 2, 3, 4.5)]
    assert words == ["0 %", "50 %", "90 %", "98.2 %", "99 %", "99.9 %", "99.9968 %"]


def test_a_result_gives_the_curve_of_its_histogram() -> None:
    facts = Facts(result())
    points = dict(facts.curve("latency"))
    assert points[nines(50)] == facts.stated("latency", "p50")
    assert points[1.0] == facts.stated("latency", "p90")
    assert points[2.0] == facts.stated("latency", "p99")
    assert max(points.values()) == facts.stated("latency", "max")


@pytest.mark.parametrize("encoded", ["", "nonsense", "HISTFAAAAIBt4nD16fWha"])
def test_without_a_histogram_the_curve_goes_through_the_percentiles_that_are_stated(encoded: str) -> None:
    made = result()
    made["timings"]["latency"] = Timing(10_000, 5.0, 1, 2, 3, 4, 5, encoded).__dict__
    points = Facts(made).curve("latency")
    assert [value for _, value in points] == [1, 2, 3, 4, 5]
    assert points[1][0] == pytest.approx(1)
    assert points[-1][0] == pytest.approx(4)


def test_a_curve_is_drawn_where_its_values_are_and_says_them() -> None:
    made = histogram([100] * 90 + [1000] * 9 + [10_000])
    figure = percentile_chart("Events", "", [("latency", 0, curve(made))])
    [line] = [part for part in figure.iter("path") if "line" in part.get("class", "")]
    heights = [float(pair.split()[1]) for pair in line.get("d", "").removeprefix("M").split("L")]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == pytest.approx(TOP, abs=1)
    tips = ["|".join(tip.itertext()) for tip in figure.iter("g") if tip.get("class") == "tip"]
    assert any(tip.startswith(f"50{THIN}% within|100{THIN}µs") for tip in tips)
    assert tips[-1].startswith("max|10.0")


# ---- comparisons -----------------------------------------------------------------------------------------------------


def texts(figure: Element, kind: str) -> list[str]:
    return ["".join(part.itertext()).replace(THIN, " ") for part in figure.iter("text") if part.get("class") == kind]


def test_several_results_are_compared_in_their_order() -> None:
    names = ["sse_fast", "zeta", "alpha"]
    made = [result(label=name, server_cpu_us_per_delivery=float(n)) for n, name in enumerate(names, 2)]
    assert "3 results side by side" in Page(render(made)).text
    bars = next(comparison([Facts(one) for one in made])[0].iter("figure"))
    assert texts(bars, "name") == names
    assert texts(bars, "value") == ["2.00 µs  ×1.00", "3.00 µs  ×1.50", "4.00 µs  ×2.00"]


def test_loads_are_told_apart_by_what_differs() -> None:
    made = [result(Broadcast(subscribers=size), label=name) for size in (1000, 10_000) for name in ("a", "b")]
    [section] = comparison([Facts(one) for one in made])
    assert texts(section, "group")[:2] == ["1 000 subscribers", "10 000 subscribers"]
    assert section[0].text == "broadcast · closed loop, 16 in flight · 64-byte payloads"


def test_repetitions_become_a_median_with_its_spread_and_one_curve() -> None:
    costs = {"ours": (1.0, 2.0, 9.0), "theirs": (4.0, 4.0, 9.0)}
    made = [
        result(label=name, latency=latency, server_cpu_us_per_delivery=costs[name][run])
        for run, latency in enumerate((100, 2000, 500))
        for name in costs
    ]
    text = Page(render(made)).text
    assert "ours 2.00 µs" in text
    assert "theirs 4.00 µs ×2.00 (1.00 to 4.00)" in text  # 4/1, 4/2, 9/9: in pairs
    [section] = comparison([Facts(one) for one in made])
    assert texts(section, "value")[:2] == ["2.00 µs  ×1.00", "4.00 µs  ×2.00"]
    greatest = max(one["timings"]["latency"]["max"] for one in made)
    assert any(duration(greatest) in "".join(tip.itertext()) for tip in section.iter("g") if tip.get("class") == "tip")


def test_ratios_skip_what_was_not_measured() -> None:
    assert ratios([2.0, None, 6.0, 1.0], [1.0, 1.0, 2.0, 0.0]) == [2.0, 3.0]


# ---- axes and numbers ------------------------------------------------------------------------------------------------

positive = st.floats(1e-3, 1e12)


@given(st.lists(positive, min_size=1), st.sampled_from([linear, logarithmic, fitting]))
def test_an_axis_holds_its_values_and_its_ticks(values: list[float], kind: Any) -> None:
    axis: Axis = kind(values, tick_of_time)
    for value in values:
        assert -0.01 <= axis.place(value) <= 1.01
    assert 1 <= len(axis.ticks) <= 18
    assert all(-0.01 <= axis.place(at) <= 1.01 for at, _ in axis.ticks)
    assert HEIGHT > TOP


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [-3.0, 0.0]])
def test_an_axis_of_nothing_above_zero_begins_at_zero(values: list[float]) -> None:
    axis = linear(values, str)
    assert (axis.low, axis.high) == (0.0, 1.0)
    assert [axis.place(value) for value in values] == [0.0] * len(values)


def test_an_axis_is_logarithmic_where_values_lie_far_apart() -> None:
    assert fitting([1, 1000], str).logarithmic
    assert not fitting([900, 1000, 0], str).logarithmic
    assert [text for _, text in logarithmic([120, 3000], tick_of_time).ticks] == [
        f"{text.replace(' ', THIN)}" for text in ("100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms")
    ]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (duration(0), "0 µs"),
        (duration(830), "830 µs"),
        (duration(999.6), "1.00 ms"),
        (duration(1234), "1.23 ms"),
        (duration(12_345_678), "12.3 s"),
        (duration(2.914), "2.91 µs"),
        (duration(None), NOT_MEASURED),
        (memory(21_408), "20.9 KiB"),
        (memory(1023), "1 023 B"),
        (memory(10**9), "954 MiB"),
        (count(4_494_282), "4 494 282"),
        (amount(374_429.2), "374 400"),
        (amount(0.0456), "0.0456"),
        (of_figure("server_cpu_us_per_delivery", 1.5), "1.50 µs"),
        (of_figure("user_memory_per_connection", 2048.0), "2.00 KiB"),
        (of_figure("all_back_seconds", 0.25), "250 ms"),
        (of_figure("deliveries_per_second", 12.0), "12.0/s"),
        (of_figure("never_heard_of", 12.0), "12"),
    ],
)
def test_numbers_are_rounded_and_have_their_unit(shown: str, expected: str) -> None:
    assert shown.replace(THIN, " ") == expected


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_makes_a_report_of_files(tmp_path: Path) -> None:
    paths = []
    for name in ("first", "second"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_bytes(orjson.dumps(result()))
    page = tmp_path / "report.html"
    done = CliRunner().invoke(main, ["bench", "report", *map(str, paths), "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = Page(page.read_text("utf-8")).text
    assert text.index("first") < text.index("second")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"schema": "other/1"}', b"\xff"])
def test_the_command_says_which_file_is_no_result(tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(content)
    done = CliRunner().invoke(main, ["bench", "report", str(wrong), "--html", str(tmp_path / "report.html")])
    assert done.exit_code == 2
    assert "wrong.json" in done.output
    assert not (tmp_path / "report.html").exists()


def test_a_run_writes_its_report_and_everything_drawn_was_measured(tmp_path: Path) -> None:
    made, page = tmp_path / "run.json", tmp_path / "run.html"
    order = ["bench", "broadcast", "-n", "20", "--seconds", "1.5", "--rate", "50", "--warm-up", "0"]
    done = CliRunner().invoke(main, [*order, "--json", str(made), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_text("utf-8") == render([orjson.loads(made.read_bytes())])
    assert NOT_MEASURED not in Page(page.read_text("utf-8")).text
