"""The load client for any SSE server: `run(Plan(...)) -> Result`; on the command line `sse-fast bench`."""

from .plan import Broadcast, Churn, Hold, InvalidPlan, Mode, Plan, Slow, Storm, Target
from .results import Problem, Result, Timing
from .runner import Progress, run
from .server import CannotStart

__all__ = [
    "Broadcast",
    "CannotStart",
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
