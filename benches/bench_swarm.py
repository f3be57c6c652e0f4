"""The load client against a bare reader: its own CPU per received event, for the same traffic.

    python benches/bench_swarm.py [--subscribers 1000] [--rates 200,1000] [--rounds 5] [--seconds 3] [--quick]

One edge. In turn, and each as often as the other, two readers hold N streams of a channel: `reader.c`, which only reads
and counts marks, and the load client, which parses, checks and times everything. A third process, another load client
without streams, publishes on schedule for the bare one; the load client publishes its events itself, and that is on its
bill. So both get the same traffic, batched by the server as it comes.

The server batches by its own timing, so the two may get different numbers of events in a read; the last column takes
that out.

What the clock includes: user and system time of the reading process in the window, from all streams open to the last
look, divided by the events it received. The ratio is taken within a round: both readers one after the other.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from sse_fast.bench.plan import Broadcast, Plan, Target
from sse_fast.bench.results import machine
from sse_fast.bench.runner import Fleet
from sse_fast.bench.server import Edge

HERE = Path(__file__).resolve().parent
PATH = "/sse/bench-0"


@dataclass(frozen=True)
class Look:
    """One reader, one window."""

    cpu_us: float  # per received event
    events: int
    per_read: float  # events in one read


def build() -> Path:
    program = HERE / "build" / "reader"
    program.parent.mkdir(exist_ok=True)
    subprocess.run(["gcc", "-O2", "-std=gnu11", "-Wall", "-o", str(program), str(HERE / "reader.c")], check=True)
    return program


@contextmanager
def publishing(target: Target, rate: float) -> Iterator[None]:
    """A load client that only publishes. Its run id is its own, so readers need not know what is in a payload."""
    with Fleet(Plan(Broadcast(0, rate=rate), target)) as fleet, fleet.in_phase("publish"):
        fleet.order("open_loop", rate=rate, events=0)
        time.sleep(0.5)
        yield
        fleet.order("quiet")


def bare(program: Path, edge: Edge, subscribers: int, rate: float, seconds: float) -> Look:
    command = [str(program), "127.0.0.1", str(edge.port), PATH, str(subscribers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def look() -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            answer: dict[str, float] = json.loads(process.stdout.readline())
            return answer

        process.stdout.readline()
        with publishing(edge.target, rate):
            before = look()
            time.sleep(seconds)
            after = look()
        process.stdin.close()
    events, reads = after["marks"] - before["marks"], after["reads"] - before["reads"]
    return Look((after["cpu"] - before["cpu"]) / events * 1e6, int(events), events / max(1, reads))


def load_client(edge: Edge, subscribers: int, rate: float, seconds: float) -> Look:
    plan = Plan(Broadcast(subscribers, rate=rate, warm_up=0), replace(edge.target))
    with Fleet(plan) as fleet, fleet.in_phase("read"):
        fleet.open(subscribers)
        fleet.wait(lambda: fleet.board.counters()["streaming"] / subscribers)
        fleet.order("open_loop", rate=rate, events=0)
        time.sleep(0.5)
        before = fleet.moment()
        time.sleep(seconds)
        after = fleet.moment()
        fleet.order("quiet")
        faults = fleet.board.faults()
    if faults:
        sys.exit(f"the stream was wrong: {faults}")
    events, reads = (after.counters[name] - before.counters[name] for name in ("deliveries", "reads"))
    return Look((after.client_cpu - before.client_cpu) / events * 1e6, events, events / max(1, reads))


def main() -> None:
    parser = argparse.ArgumentParser(description="The load client's CPU per event against a bare reader's.")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--rates", default="100,400", help="events a second (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.subscribers = 1, 0.5, 200
    program, record = build(), []
    print(__doc__.split("\n\n")[-1].strip(), "\n")
    print("| events/s | subscribers | bare reader µs | load client µs | ratio | events a read | ratio per read |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with Edge() as edge:
        for rate in map(float, arguments.rates.split(",")):
            pairs = []
            for round_ in range(arguments.rounds):
                args = (edge, arguments.subscribers, rate, arguments.seconds)
                if round_ % 2:
                    client, reader = load_client(*args), bare(program, *args)
                else:
                    reader, client = bare(program, *args), load_client(*args)
                pairs.append((reader, client))
            ratios = sorted(client.cpu_us / reader.cpu_us for reader, client in pairs)
            reads = sorted(c.cpu_us * c.per_read / (r.cpu_us * r.per_read) for r, c in pairs)
            cells = (
                f"{rate:g}",
                f"{arguments.subscribers:,}",
                f"{median(reader.cpu_us for reader, _ in pairs):.3f}",
                f"{median(client.cpu_us for _, client in pairs):.3f}",
                f"{median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})",
                f"{median(r.per_read for r, _ in pairs):.1f}, {median(c.per_read for _, c in pairs):.1f}",
                f"{median(reads):.2f} ({reads[0]:.2f}–{reads[-1]:.2f})",
            )
            print(f"| {' | '.join(cells)} |", flush=True)
            record.append(
                {"rate": rate, "subscribers": arguments.subscribers, "ratios": ratios, "ratios_per_read": reads}
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "runs": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
