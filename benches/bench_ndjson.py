"""Publishing 100,000 events in one NDJSON request, beside a bare loop over the same lines.

    python benches/bench_ndjson.py [--rounds 5] [--json PATH]

The edge's clock: user and system time of all its processes from before the request is sent until its answer is read;
nobody is subscribed. It includes reading 10 MB from the socket, checking, appending to the log and naming each id in
the answer. The bare loop's clock: this process's time to split the same bytes into lines, parse each with orjson and
encode it; it keeps nothing. They take turns; the ratio is taken within a round. Exits with 1 if the goal is missed.
"""

import argparse
import http.client
import json
import sys
import time
from pathlib import Path
from statistics import median

import orjson
from harness import EDGE, Running, machine

from sse_fast._native.wire.frame import encode

EVENTS = 100_000
AT_MOST = 2.5
PATIENCE_SECONDS = 60


def make_body() -> bytes:
    """Lines with about 60 bytes of data each; all differ, as real events do."""
    lines = (
        orjson.dumps(
            {"channel": "bench", "data": {"n": n, "kind": "message", "text": "hello, wide world!!"}, "event": "tick"}
        )
        for n in range(10_000_000, 10_000_000 + EVENTS)
    )
    return b"\n".join(lines)


def bare_loop(body: bytes) -> float:
    """Seconds of this process's CPU."""
    began = time.process_time()
    for line in body.split(b"\n"):
        event = orjson.loads(line)
        encode(event["data"], event=event["event"])
    return time.process_time() - began


def publish(running: Running, connection: http.client.HTTPConnection, body: bytes) -> float:
    """Seconds of the server's CPU."""
    began = running.cpu_seconds()
    connection.request("POST", "/publish", body, {"Content-Type": "application/x-ndjson"})
    response = connection.getresponse()
    answer = response.read()
    spent = running.cpu_seconds() - began
    if response.status != 200 or len(orjson.loads(answer)["ids"]) != EVENTS:
        raise RuntimeError(f"the edge answered {response.status}: {answer[:500]!r}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a large NDJSON publish beside a bare loop over its lines.")
    parser.add_argument("--rounds", type=int, default=5, help="turns each takes, after one to warm up")
    parser.add_argument("--json", type=Path, help="write every round there too")
    arguments = parser.parse_args()
    body = make_body()
    rounds: list[tuple[float, float]] = []
    with Running(EDGE) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_SECONDS)
        for _ in range(1 + arguments.rounds):
            rounds.append((publish(running, connection, body), bare_loop(body)))
        connection.close()
    del rounds[0]

    edge = sorted(edge / EVENTS * 1e6 for edge, _ in rounds)
    bare = sorted(bare / EVENTS * 1e6 for _, bare in rounds)
    ratio = sorted(edge / bare for edge, bare in rounds)
    print(f"{machine()}; {EVENTS:,} events, {len(body) / 1e6:.1f} MB a request, {len(rounds)} rounds\n")
    print("| CPU, µs an event | median | least | greatest |\n|---|--:|--:|--:|")
    for name, values in (("sse_fast: POST /publish", edge), ("bare loop: parse and encode", bare), ("ratio", ratio)):
        print(f"| {name} | {median(values):.2f} | {values[0]:.2f} | {values[-1]:.2f} |")
    met = median(ratio) <= AT_MOST
    print(f"\n{'met' if met else 'MISSED'}: {median(ratio):.2f} of the bare loop's CPU, goal {AT_MOST}")
    if arguments.json:
        record = {"machine": machine(), "events": EVENTS, "rounds": [{"edge": e, "bare": b} for e, b in rounds]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if not met:
        sys.exit(1)


if __name__ == "__main__":
    main()
