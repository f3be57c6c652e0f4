"""The load client for any SSE server: `run(Plan(...)) -> Result`; on the command line `sse-fast bench`."""

import sse_fast._native.bench  # noqa: F401 - first: where it is not in this build, that says so
from sse_fast.bench.modes import run
from sse_fast.bench.plan import Broadcast, Channels, Churn, Hold, InvalidPlan, Mode, Plan, Slow, Storm, Target
from sse_fast.bench.results import Problem, Result, Timing
from sse_fast.bench.runner import Progress
from sse_fast.bench.server import CannotStart

__all__ = [
    "Broadcast",
    "CannotStart",
    "Channels",
    "Churn",
    "Hold",
    "InvalidPlan",
    "Mode",
    "Plan",
    "Problem",
    "Progress",
    "Result",
    "Slow",
    "Storm",
    "Target",
    "Timing",
    "run",
]
