"""The report of benches/bench_peers.py: what it says of windows in which somebody did not get everything."""

import importlib.util
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent.parent / "benches" / "peers" / "report.py"
spec = importlib.util.spec_from_file_location("peers_report", PATH)
assert spec is not None
assert spec.loader is not None
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)


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


def record(*windows: Any) -> Any:
    return report.Record({"peers": {"sse_fast": {}, "other": {}}, "windows": list(windows)})


def test_a_ratio_is_taken_within_its_round() -> None:
    made = record(window("sse_fast", 0, 1), window("sse_fast", 1, 10), window("other", 0, 3), window("other", 1, 20))
    assert made.ratios(report.CPU, "other", 100, 1) == [3, 2]


def test_a_round_without_sse_fast_has_no_ratio() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3), window("other", 1, 20))
    assert made.ratios(report.CPU, "other", 100, 1) == [3]


def test_a_window_that_lost_much_has_no_figures() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3, deliveries=900, problems={"lost": "100"}))
    assert made.values(report.CPU, "other", 100, 1) == []
    assert f"| other | {report.NOTHING} |" in report.fan_out_table(made, 100, 1)


def test_a_window_that_lost_little_has_figures_and_a_star() -> None:
    made = record(window("sse_fast", 0, 1), window("other", 0, 3, deliveries=995, problems={"cut": "1"}))
    assert made.values(report.CPU, "other", 100, 1) == [3]
    assert r"| other \* | 3.00 | 3.00 |" in report.fan_out_table(made, 100, 1)
    assert "| sse_fast | 1.00 | 1.00 |" in report.fan_out_table(made, 100, 1)


def test_a_server_that_could_not_be_measured_is_in_the_table() -> None:
    broken = window("other", 0, 0) | {"figures": {}, "problems": {"broken": "it did not start"}}
    assert f"| other | {report.NOTHING} |" in report.fan_out_table(record(window("sse_fast", 0, 1), broken), 100, 1)
