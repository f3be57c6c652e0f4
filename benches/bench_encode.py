"""What one `encode` costs beside a bare f-string that checks nothing, sse-starlette and FastAPI.

    python benches/bench_encode.py [--rounds 15] [--json PATH]

The clock includes the statement shown, with what it builds on the way (sse-starlette's event object), the look-ups of
its names, freeing the result, and some 10 ns of timeit's loop; not making the inputs. The rows of a case run in turn,
round after round, so that a busy moment of the machine meets them all. Ratios are taken between medians of the same
run: quote those, not the nanoseconds. Exits with 1 if a goal is missed.
"""

import argparse
import json
import platform
import statistics
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from timeit import Timer

import orjson
from fastapi.sse import format_sse_event
from sse_starlette import JSONServerSentEvent, ServerSentEvent

from sse_fast._native.wire.frame import encode

SMALL = '{"user":48213,"kind":"message","text":"hello, wide world!!"}'
HTML = "\n".join(f'<li id="item-{n}" class="row"><a href="/items/{n}">Item number {n}</a></li>' for n in range(20))
# In two pieces: joined anew at each call, so that nobody profits from the UTF-8 form that a str keeps.
HEAD, TAIL = '{"user":48213,"kind":"message",', '"text":"grüß dich, Welt – ja!"}'
NAMES = {
    "encode": encode,
    "ServerSentEvent": ServerSentEvent,
    "JSONServerSentEvent": JSONServerSentEvent,
    "format_sse_event": format_sse_event,
    "orjson": orjson,
    "text": SMALL,
    "raw": SMALL.encode(),
    "value": orjson.loads(SMALL),
    "html": HTML,
    "crlf": HTML.replace("\n", "\r\n"),
    "head": HEAD,
    "tail": TAIL,
    "event": "message",
    "id": "k3x9a0qz-1048576",
}
assert len(SMALL) == 60
assert HTML.count("\n") == 19


@dataclass(frozen=True)
class Row:
    statement: str
    at_least: float | None = None  # the goal: this row costs at least so many times what sse_fast's row costs


CASES = {
    "small event: 60 bytes of JSON text as str, event, id": [
        Row("encode(text, event=event, id=id)"),
        Row(r'f"id: {id}\nevent: {event}\ndata: {text}\n\n".encode()', at_least=1 / 1.5),
        Row("ServerSentEvent(text, event=event, id=id).encode()", at_least=12),
        Row("format_sse_event(data_str=text, event=event, id=id)"),
    ],
    "the same, not all ASCII, a new str each time": [
        Row("encode(head + tail, event=event, id=id)"),
        Row(r'f"id: {id}\nevent: {event}\ndata: {head + tail}\n\n".encode()'),
        Row("ServerSentEvent(head + tail, event=event, id=id).encode()"),
        Row("format_sse_event(data_str=head + tail, event=event, id=id)"),
    ],
    "the same as bytes, without id: what a log takes": [
        Row("encode(raw, event=event)"),
        Row(r'b"event: %b\ndata: %b\n\n" % (event.encode(), raw)'),
    ],
    "the same as a dict": [
        Row("encode(value, event=event, id=id)"),
        Row(r'f"id: {id}\nevent: {event}\ndata: {orjson.dumps(value).decode()}\n\n".encode()'),
        Row("JSONServerSentEvent(value, event=event, id=id).encode()"),
        Row("format_sse_event(data_str=orjson.dumps(value).decode(), event=event, id=id)"),
    ],
    f"HTML fragment: 20 lines, {len(HTML)} bytes, event, id": [
        Row("encode(html, event=event, id=id)"),
        Row("ServerSentEvent(html, event=event, id=id).encode()", at_least=15),
        Row("format_sse_event(data_str=html, event=event, id=id)"),
    ],
    "the same with CRLF": [
        Row("encode(crlf, event=event, id=id)"),
        Row("ServerSentEvent(crlf, event=event, id=id).encode()"),
        Row("format_sse_event(data_str=crlf, event=event, id=id)"),
    ],
}


@dataclass(frozen=True)
class Result:
    case: str
    statement: str
    median_ns: float
    best_ns: float
    ratio: float  # median, over sse_fast's median in the same case
    at_least: float | None

    @property
    def missed(self) -> bool:
        return self.at_least is not None and self.ratio < self.at_least


def measure(case: str, rows: list[Row], rounds: int, seconds: float) -> list[Result]:
    timers = [Timer(row.statement, globals=dict(NAMES)) for row in rows]
    loops = []
    for timer in timers:
        timer.timeit(1000)  # warms the specialising interpreter
        loops.append(max(1, int(seconds / (timer.timeit(1000) / 1000))))
    times: list[list[float]] = [[] for _ in rows]
    for _ in range(rounds):
        for timer, count, taken in zip(timers, loops, times, strict=True):
            taken.append(timer.timeit(count) / count * 1e9)
    ours = statistics.median(times[0])
    return [
        Result(case, row.statement, statistics.median(t), min(t), statistics.median(t) / ours, row.at_least)
        for row, t in zip(rows, times, strict=True)
    ]


def show(results: list[Result]) -> None:
    print(f"\n{results[0].case}")
    print(f"  {'median ns':>9} {'best ns':>9} {'ratio':>7}  {'goal':>7}  statement")
    for result in results:
        goal = "" if result.at_least is None else f">={result.at_least:.2f}"
        verdict = "   MISSED" if result.missed else ""
        figures = f"{result.median_ns:9.0f} {result.best_ns:9.0f} {result.ratio:6.2f}x"
        print(f"  {figures}  {goal:>7}  {result.statement}{verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each row is timed (default 15)")
    parser.add_argument("--seconds", type=float, default=0.02, help="length of one timing (default 0.02)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    args = parser.parse_args()

    software = {name: version(name) for name in ("orjson", "sse-starlette", "fastapi")}
    software["python"] = platform.python_version()
    print("ratio: cost over sse_fast's in the same case;", ", ".join(f"{k} {v}" for k, v in software.items()))
    results = []
    for case, rows in CASES.items():
        measured = measure(case, rows, args.rounds, args.seconds)
        show(measured)
        results += measured
    if args.json:
        figures = {"rounds": args.rounds, "software": software, "rows": [asdict(result) for result in results]}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(result.missed for result in results))


if __name__ == "__main__":
    sys.exit(main())
