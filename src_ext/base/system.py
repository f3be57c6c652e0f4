"""What of the build is of one system, compiler or architecture. It stands here, and nowhere else outside of this room.

SSE_FAST_PORTABLE=1 leaves out on Linux, too, what needs Linux.
"""

import os
import sys

PORTABLE = os.environ.get("SSE_FAST_PORTABLE") == "1" or not sys.platform.startswith("linux")
NEED_LINUX = ("front", "bench", "base/tcp")  # rooms and modules
MACROS = [("SSE_FAST_PORTABLE", "1")] if PORTABLE else []

if sys.platform == "win32":  # Microsoft's compiler; `setuptools` has it optimize
    FAST, DEBUG = [], ["/Od", "/Zi", "/UNDEBUG"]
else:
    FAST, DEBUG = ["-O3"] if PORTABLE else ["-O3", "-fno-plt"], ["-O0", "-g", "-UNDEBUG"]


def is_built(module: str) -> bool:
    """Whether "front/listener" is part of this build."""
    return not PORTABLE or (module not in NEED_LINUX and module.partition("/")[0] not in NEED_LINUX)


def cores() -> int:
    """To compile with."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
