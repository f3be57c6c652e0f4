"""The modes: what is done to a server, in which order, and which figures come of it.

`run(plan)` does all of it and blocks; it is safe to call from any thread.

Every mode ends the same way: publishing stops, and everybody gets the time to receive what is out; what does not come
then is lost.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from sse_fast.bench.plan import Broadcast, Churn, Hold, Plan, Slow, Storm
from sse_fast.bench.results import Problem, Result, difference, timing
from sse_fast.bench.runner import Fleet, Moment, Watch, WorkerDied
from sse_fast.bench.server import Edge


class NothingOpened(Exception):
    """Not one of the streams that should be there has begun: there is nothing to measure."""


def run(plan: Plan, watch: Watch | None = None) -> Result:
    """Run a plan to its end. What the server does wrong is in the result; raises InvalidPlan or CannotStart only."""
    plan.check()
    with ExitStack() as stack:
        if plan.target is None:
            plan = replace(plan, target=stack.enter_context(Edge()).target)
        fleet = stack.enter_context(Fleet(plan, watch))
        try:
            drive(fleet, plan)
        except NothingOpened:
            pass  # the problems say why
        except WorkerDied as died:
            fleet.problems.append(Problem("worker_died", 1, str(died)))
        return fleet.result()


def drive(fleet: Fleet, plan: Plan) -> None:
    """Run the plan's mode on the fleet."""
    match plan.mode:
        case Hold():
            hold(fleet, plan.mode)
        case Broadcast():
            broadcast(fleet, plan.mode)
        case Churn():
            churn(fleet, plan.mode)
        case Storm():
            storm(fleet, plan.mode)
        case Slow():
            slow(fleet, plan.mode)


def hold(fleet: Fleet, mode: Hold) -> None:
    ramp(fleet, mode.subscribers)
    before = fleet.moment()
    with fleet.in_phase("hold"):
        fleet.stay(mode.seconds)
    if fleet.target.publish is not None:
        with fleet.in_phase("one broadcast"):
            fleet.order("closed_loop", in_flight=1, events=1)
            fleet.wait(lambda: float(fleet.board.counters()["settled"]), fleet.plan.drain)
        settle(fleet)
    measure(fleet, before, fleet.moment())


def broadcast(fleet: Fleet, mode: Broadcast) -> None:
    ramp(fleet, mode.subscribers)
    if mode.warm_up:
        with fleet.in_phase("warm-up"):
            publish(fleet, mode, 0)
            fleet.stay(mode.warm_up)
            if mode.events:
                fleet.order("quiet")
                fleet.wait(lambda: float(not fleet.order("busy")), fleet.plan.drain)
    before = fleet.moment()
    with fleet.in_phase("measure"):
        if mode.events or not mode.warm_up:
            publish(fleet, mode, mode.events)
        if mode.events:
            deadline = time.monotonic() + mode.seconds
            began = before.counters["answered"]
            fleet.wait(
                lambda: (fleet.board.counters()["answered"] - began) / mode.events if time.monotonic() < deadline else 1
            )
            fleet.wait(lambda: float(not fleet.order("busy")), fleet.plan.drain)
        else:
            fleet.stay(mode.seconds)
        after = fleet.moment()
    settle(fleet)
    measure(fleet, before, after)


def publish(fleet: Fleet, mode: Broadcast, events: int) -> None:
    if mode.rate is None:
        fleet.order("closed_loop", in_flight=mode.in_flight, events=events)
    else:
        fleet.order("open_loop", rate=mode.rate, events=events)


def churn(fleet: Fleet, mode: Churn) -> None:
    ramp(fleet, mode.subscribers)
    before = fleet.moment()
    with fleet.in_phase("measure"):
        fleet.order("open_loop", rate=mode.rate, events=0)
        fleet.order_all("churn", rate=mode.comes / fleet.workers, life=mode.life)
        fleet.stay(mode.seconds)
        after = fleet.moment()
    fleet.order_all("churn", rate=0, life=0)
    settle(fleet)
    measure(fleet, before, after)
    fleet.figures["came"] = after.counters["opened"] - before.counters["opened"]
    fleet.figures["left"] = after.counters["closed_by_us"] - before.counters["closed_by_us"]


def storm(fleet: Fleet, mode: Storm) -> None:
    ramp(fleet, mode.subscribers)
    with fleet.in_phase("before"):
        fleet.order("open_loop", rate=mode.rate, events=0)
        fleet.stay(mode.before)
    with fleet.in_phase("away"):
        fleet.order_all("cut")
        fleet.stay(mode.away)
    streams = fleet.board.counters()["unfinished"]
    before = fleet.moment()
    with fleet.in_phase("return"):
        fleet.board.aim()
        fleet.order_all("come_back", rate=fleet.plan.connect_rate / fleet.workers)
        fleet.wait(lambda: fleet.board.counters()["caught_up"] / max(1, streams), fleet.plan.drain)
        after = fleet.moment()
    settle(fleet)
    measure(fleet, before, after)
    cpu, back = _spent(before, after), after.counters["came_back"]
    fleet.figures |= {
        "cut": streams,
        "came_back": back,
        "caught_up": after.counters["caught_up"],
        "all_back_seconds": _longest(fleet, "back"),
        "all_complete_seconds": _longest(fleet, "complete"),
        "connects_per_second": _per(back, _longest(fleet, "back")),
        "server_cpu_us_per_connect": None if cpu is None else _per(cpu * 1e6, back),
        "server_cpu_us_per_delivery": None,  # it cannot be told from that of connecting
    }


def slow(fleet: Fleet, mode: Slow) -> None:
    lazy, stopped = round(mode.subscribers * mode.share), round(mode.subscribers * mode.stopped)
    ramp(fleet, mode.subscribers - lazy - stopped)
    with fleet.in_phase("the slow come"):
        fleet.open(lazy, slow=True)
        fleet.open(stopped, stopped=True)
        opened(fleet)
        fleet.order_all("slow_down", every=mode.every, most=mode.drip)
    before = fleet.moment()
    with fleet.in_phase("measure"):
        fleet.order("open_loop", rate=mode.rate, events=0)
        fleet.stay(mode.seconds)
        after = fleet.moment()
    settle(fleet)
    measure(fleet, before, after)
    fleet.figures |= {"slow": lazy + stopped, "slow_cut": after.counters["slow_cut"]}
    if mode.wake:
        wake_up(fleet)


def wake_up(fleet: Fleet) -> None:
    """Let the slow and the stopped read on: they must get everything, too."""
    had = fleet.board.counters()
    lazy = had["slow_streams"] + had["slow_cut"]
    with fleet.in_phase("the slow wake up"):
        fleet.board.aim()
        fleet.order_all("wake_up")
        fleet.wait(lambda: (fleet.board.counters()["caught_up"] - had["caught_up"]) / max(1, lazy), fleet.plan.drain)
    settle(fleet)
    fleet.figures["slow_complete"] = fleet.board.counters()["caught_up"] - had["caught_up"]


# ---- what they share -------------------------------------------------------------------------------------------------


def ramp(fleet: Fleet, subscribers: int, workers: Sequence[int] | None = None) -> None:
    """Open the streams, from these workers (None: all); what connecting and holding costs."""
    user, kernel = fleet.memory()
    before = fleet.moment()
    with fleet.in_phase("ramp"):
        fleet.open(subscribers, workers=workers)
        opened(fleet)
        after = fleet.moment()
    opened_streams = after.counters["opened"] - before.counters["opened"]
    if subscribers and not opened_streams:
        fleet.figures |= {"connections": 0, "connects": 0}
        raise NothingOpened
    with fleet.in_phase("settle"):
        fleet.stay(fleet.plan.settle)
    streams = fleet.board.counters()["streaming"] - before.counters["streaming"]  # without those turned away meanwhile
    user_after, kernel_after = fleet.memory()
    cpu = _spent(before, after)
    fleet.figures |= {
        "connections": streams,
        "connects": opened_streams,
        "connects_per_second": _per(opened_streams, after.at - before.at),
        "server_cpu_us_per_connect": None if cpu is None else _per(cpu * 1e6, opened_streams),
        "user_memory_per_connection": None
        if user is None or user_after is None
        else _per(max(0, user_after - user), streams),
        "kernel_memory_per_connection": _per(max(0, kernel_after - kernel), streams),
    }


def opened(fleet: Fleet) -> None:
    """Wait for the streams to open or fail. Where the first to come have met nobody who answers, the rest, for whom
    there is no room before those have given up, need not wait as long again."""
    wanted = max(1, fleet.board.counters()["unfinished"])

    def done() -> float:
        counters = fleet.board.counters()
        silent = not counters["opened"] and "timed_out" in fleet.board.faults()
        return 1 if silent else 1 - counters["unfinished"] / wanted

    fleet.wait(done, fleet.plan.patience + 5)


def settle(fleet: Fleet) -> None:
    """Publish no more; give everybody time to receive what is out. The rest is lost."""
    with fleet.in_phase("drain"):
        fleet.order("quiet")
        worst = 1

        def done() -> float:
            nonlocal worst
            missing: int = sum(behind + events for behind, events in fleet.order_all("audit")) + fleet.order("busy")
            worst = max(worst, missing)
            return 1 - missing / worst

        if not fleet.wait(done, fleet.plan.drain):
            fleet.order_all("give_up")
            audits = fleet.order_all("audit")
            behind, events = (sum(column) for column in zip(*audits, strict=True))
            words = f"after {fleet.plan.drain:g} s without progress {behind} streams still missed {events} deliveries"
            fleet.problems.append(Problem("stalled", 1, words))


def measure(fleet: Fleet, before: Moment, after: Moment) -> None:
    """The figures of the measured window. Connecting, and what only the end can tell, is taken over the whole run."""
    seconds = after.at - before.at
    deliveries = after.counters["deliveries"] - before.counters["deliveries"]
    events = after.counters["answered"] - before.counters["answered"]  # a refused one was never out
    cpu, client_cpu = _spent(before, after), after.client_cpu - before.client_cpu
    fleet.figures |= {
        "seconds": round(seconds, 3),
        "deliveries": deliveries,
        "deliveries_per_second": _per(deliveries, seconds),
        "events": events,
        "events_per_second": _per(events, seconds),
        "late_events": after.counters["late"] - before.counters["late"],
        "server_cpu_us_per_delivery": None if cpu is None else _per(cpu * 1e6, deliveries),
        "server_cores": None if cpu is None else _per(cpu, seconds),
        "client_cpu_us_per_delivery": _per(client_cpu * 1e6, deliveries),
        "client_cores": _per(client_cpu, seconds),
    }
    whole_run = ("connect", "first_byte", "back", "complete")
    for name, counts in after.histograms.items():
        found = timing(counts if name in whole_run else difference(counts, before.histograms[name]))
        if found is not None:
            fleet.timings[name] = found


def _spent(before: Moment, after: Moment) -> float | None:
    return None if before.server_cpu is None or after.server_cpu is None else after.server_cpu - before.server_cpu


def _per(amount: float, count: float | None) -> float | None:
    """To the thousandth."""
    return round(amount / count, 3) if count else None


def _longest(fleet: Fleet, name: str) -> float | None:
    found = fleet.timings.get(name)
    return found.max / 1e6 if found else None
