"""The report of benches/bench_peers.py: what it says of windows in which somebody did not get everything, and its
picture."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

BENCHES = Path(__file__).resolve().parent.parent / "benches"
sys.path.append(str(BENCHES))
record_of, report, picture = (importlib.import_module(f"peers.{name}") for name in ("record", "report", "picture"))
SVG = "{http://www.w3.org/2000/svg}"


def window(
    peer: str, round_: int, cpu: float, *, deliveries: int = 1000, problems: dict[str, str] | None = None
) -> Any:
    return {
        "peer": peer,
        "subscribers": 100,
        "in_flight": 1,
        "round": round_,
        "problems": problems or {},
        "figures": {"server_cpu_us_per_delivery": cpu, "events": 10, "deliveries": deliveries},
        "latency_us": {},
    }


def publishing(peer: str, cpu: float, **figures: float) -> Any:
    figures = {"publishes": 100, "server_cpu_us_per_publish": cpu} | figures
    return window(peer, 0, 0) | {"subscribers": 0, "in_flight": 16, "figures": figures}


def record(*windows: Any, names: tuple[str, ...] = ("sse_fast", "other")) -> Any:
    about = {
        "started": "2026-01-02T03:04:05+00:00",
        "machine": {"cores": 2, "cpu": "a & b", "system": "Linux 6"},
        "versions": {"python": "3.11"},
        "settings": {"bytes": 64, "rounds": 1, "seconds": 4.0},
        "peers": {name: {"about": name, "version": "1"} for name in names},
    }
    return record_of.Record(about | {"windows": list(windows)})


def test_a_ratio_is_taken_within_its_round() -> None:
    made = record(window("sse_fast", 0, 1), window("sse_fast", 1, 10), window("other", 0, 3), window("other", 1, 20))
    assert made.ratios(record_of.CPU, "other", 100, 1) == [3, 2]


def test_a_round_without_sse_fast_has_no_ratio() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3), window("other", 1, 20))
    assert made.ratios(record_of.CPU, "other", 100, 1) == [3]


def test_a_window_that_lost_much_has_no_figures() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3, deliveries=900, problems={"lost": "100"}))
    assert made.values(record_of.CPU, "other", 100, 1) == []
    assert f"| other | {report.NOTHING} |" in report.fan_out_table(made, 100, 1)


def test_a_window_that_lost_little_has_figures_and_a_star() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3, deliveries=995, problems={"cut": "1"}))
    assert made.values(record_of.CPU, "other", 100, 1) == [3]
    assert r"| other \* | 3.00 | 3.00 |" in report.fan_out_table(made, 100, 1)
    assert "| sse_fast | 1.00 | 1.00 |" in report.fan_out_table(made, 100, 1)


def test_a_server_that_could_not_be_measured_is_in_the_table() -> None:
    broken = window("other", 0, 0) | {"figures": {}, "problems": {"broken": "it did not start"}}
    assert f"| other | {report.NOTHING} |" in report.fan_out_table(record(window("sse_fast", 0, 1), broken), 100, 1)


def test_publishing_alone_is_a_table_of_its_own_and_no_number_of_subscribers() -> None:
    made = record(publishing("sse_fast", 5), publishing("other", 10), window("sse_fast", 0, 1))
    assert (made.subscribers, made.in_flight, made.connections) == ([100], [1], [16])
    text = report.page(made)
    assert "## Publishing over 16 connections" in text
    assert "| other | 10.00 | 2.00 |" in text
    assert "## 0 " not in text


def test_a_server_that_answered_no_publisher_has_no_figures_and_its_reason_is_told() -> None:
    refused = publishing("other", 0, publishes=0) | {"problems": {"publish_refused": "16 refused"}}
    text = report.page(record(publishing("sse_fast", 5), refused))
    assert f"| other | {report.NOTHING} |" in text
    assert "- other, publishing over 16, round 1: 16 refused" in text


# ---- the picture -----------------------------------------------------------------------------------------------------


def drawn(made: Any) -> ElementTree.Element:
    return ElementTree.fromstring(picture.draw(made))


def words(svg: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


def bars(svg: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in svg.iter(f"{SVG}rect") if one.get("class") == kind]


def test_the_picture_has_each_figure_beside_its_bar_and_sse_fast_alone_in_its_colour() -> None:
    svg = drawn(record(publishing("sse_fast", 5), publishing("other", 12.5), window("sse_fast", 0, 1)))
    assert {"sse_fast", "other", "5.00", "12.52.5×"} <= set(words(svg))
    assert len(bars(svg, "bar ours")) == 2
    (other,) = bars(svg, "bar")
    ours = min(bars(svg, "bar ours"), key=lambda bar: float(bar.get("x", "")))
    assert float(other.get("width", "")) / float(ours.get("width", "")) == 2.5


def test_the_picture_says_where_nothing_was_measured_and_who_was_not_whole() -> None:
    lossy = window("other", 0, 3, deliveries=995, problems={"cut": "1"})
    svg = drawn(record(publishing("sse_fast", 5), window("sse_fast", 0, 1), lossy))
    assert "other *" in words(svg)
    assert "* Not every stream got everything." in " ".join(words(svg))
    assert "–" in words(svg)


def test_a_bar_that_would_dwarf_all_others_is_broken() -> None:
    names = ("sse_fast", "a", "b", "c")
    svg = drawn(record(*(window(name, 0, cpu) for name, cpu in zip(names, (1, 2, 2, 400), strict=True)), names=names))
    lengths = [float(bar.get("width", "")) for bar in bars(svg, "bar")]
    assert max(lengths) == picture.MOST
    assert lengths[0] > picture.MOST / 4
    assert [path.get("class") for path in svg.iter(f"{SVG}path")].count("break") == 1
    assert "400400×" in words(svg)


def test_the_floor_stands_below_the_servers_and_is_no_bar_of_theirs() -> None:
    names = ("sse_fast", "raw C", "other")
    svg = drawn(record(*(window(name, 0, 1) for name in names), names=names))
    assert [word for word in words(svg) if word in names] == ["sse_fast", "other", "raw C"]
    assert bars(svg, "floor")


def test_the_picture_has_colours_for_light_and_dark_and_names_the_day_and_the_machine() -> None:
    svg = drawn(record(window("sse_fast", 0, 1)))
    style = next(svg.iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--\w+)\)", style))
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--\w+):", scheme))
    assert "2026-01-02, 2 cores (a & b), Linux 6." in " ".join(words(svg))


def test_what_stands_in_the_repository_is_drawn_from_the_record_beside_it() -> None:
    results = BENCHES / "results"
    made = record_of.Record(json.loads((results / "peers.json").read_text()))
    assert (results / "peers.svg").read_text() == picture.draw(made)
    assert (results / "peers.md").read_text() == report.page(made)
