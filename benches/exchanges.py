"""Requests in a closed loop over kept-alive connections, each answered before the next: what one costs the server, and
how long its answer takes. The load client's publishers make them (sse_fast.bench), natively and with no stream open;
and with streams open, `publish_for` has them publish in whole events.

What is published goes to so many channels in turn. Server CPU is user and system time of all its processes, over the
window; the time of an answer is from just before the request is sent until its last byte is read.
"""

from dataclasses import dataclass, field

from harness import Running

from sse_fast.bench import Broadcast, Plan, Target, modes
from sse_fast.bench.results import difference, timing
from sse_fast.bench.runner import Fleet

WARM_UP = 0.5  # seconds, at most half a window
PATIENCE = 60.0  # seconds without a delivery, until what is missing is lost: some write nothing for long under load


@dataclass(frozen=True)
class Exchanges:
    """What one window showed. Without answers there is nothing to say but the problems."""

    answers: int
    seconds: float
    cpu_us: float = 0.0  # the server's, per answer
    client_cpu_us: float = 0.0
    latency_us: dict[str, int] = field(default_factory=dict)  # p50, p99, max
    problems: dict[str, str] = field(default_factory=dict)  # kind -> how many, what it means, an example


def exchange(running: Running, target: Target, connections: int, seconds: float, channels: int = 1) -> Exchanges:
    """Keep so many connections busy for so long. What is not answered with 2xx is a problem."""
    plan = Plan(
        Broadcast(subscribers=0, channels=channels, in_flight=connections),
        target,
        publishers=connections,
        processes=1,
        server_pid=running.process.pid,
    )
    with Fleet(plan) as fleet:
        fleet.order("closed_loop", in_flight=connections, events=0)
        fleet.stay(min(WARM_UP, seconds / 2))
        before = fleet.moment()
        fleet.stay(seconds)
        after = fleet.moment()
        modes.settle(fleet)
        problems = {one.kind: f"{one.count:,} {one.meaning}: {one.example}" for one in fleet.result().problems}
    answers, passed = after.counters["answered"] - before.counters["answered"], after.at - before.at
    timed = timing(difference(after.histograms["answer"], before.histograms["answer"]))
    if not answers or timed is None:
        return Exchanges(0, passed, problems=problems or {"silent": "not one answer in the window"})
    return Exchanges(
        answers,
        passed,
        cpu_us=((after.server_cpu or 0.0) - (before.server_cpu or 0.0)) / answers * 1e6,
        client_cpu_us=(after.client_cpu - before.client_cpu) / answers * 1e6,
        latency_us={name: getattr(timed, name) for name in ("p50", "p99", "max")},
        problems=problems,
    )


def publish_for(fleet: Fleet, in_flight: int, seconds: float) -> None:
    """A closed loop for so long; over when the last event has reached everybody, so that a window has whole events,
    however slow the server is."""
    fleet.order("closed_loop", in_flight=in_flight, events=0)
    fleet.stay(seconds)
    fleet.order("quiet")
    fleet.wait(lambda: 1 - 1 / (2 + fleet.board.counters()["deliveries"]) if fleet.order("busy") else 1, PATIENCE)
