"""Every setting in one place: flag, `SSE_FAST_*` variable, key in `sse-fast.toml`, default, meaning.

`settings` has the fields and reads all sources, `values` what each may be, `names` what they are called, `safety` which
settings no server starts with.
"""

from sse_fast.settings.names import GONE, HANDED_DOWN, BadSettings, flag, variable
from sse_fast.settings.safety import refuse_idle, refuse_unsafe
from sse_fast.settings.settings import Settings, unknown_variables
from sse_fast.settings.values import MIB, PUBLISH_KEY, is_loopback_host, types_of

__all__ = [
    "GONE",
    "HANDED_DOWN",
    "MIB",
    "PUBLISH_KEY",
    "BadSettings",
    "Settings",
    "flag",
    "is_loopback_host",
    "refuse_idle",
    "refuse_unsafe",
    "types_of",
    "unknown_variables",
    "variable",
]
