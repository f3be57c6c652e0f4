"""The extensions; everything else is in pyproject.toml.

SSE_FAST_DEBUG=1 builds with bounds checks, assertions and line tracing instead of speed. SSE_FAST_CFLAGS has flags for
the compiler that come after all others, as those of scripts/sanitized.
"""

import os
import shlex
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("SSE_FAST_DEBUG") == "1"
FLAGS = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-fno-plt"]
LAST_FLAGS = shlex.split(os.environ.get("SSE_FAST_CFLAGS", ""))
CORES = len(os.sched_getaffinity(0))
SOURCES = sorted(Path("src_ext").rglob("*.pyx"))

# The qualified name decides where Cython looks for a .pxd: sse_fast/_native/, never beside the .pyx. And it does not
# follow the cimports of a .pxd that stands apart: without `stale`, a module built against an old struct would crash.
HEADERS = sorted(map(str, Path("sse_fast/_native").rglob("*.pxd")))
changed = max(Path(header).stat().st_mtime for header in HEADERS)
stale = any(made.stat().st_mtime < changed for made in Path("src_ext").rglob("*.c"))

extensions = [
    Extension(
        ".".join(("sse_fast._native", *source.relative_to("src_ext").with_suffix("").parts)),
        [str(source)],
        depends=HEADERS,
        extra_compile_args=FLAGS + LAST_FLAGS,
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if DEBUG else [],
    )
    for source in SOURCES
]


def translated() -> list[Extension]:
    return cythonize(
        extensions,
        force=stale,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "linetrace": DEBUG,
        },
        nthreads=CORES,
    )


setup(
    ext_modules=extensions if "sdist" in sys.argv else translated(),  # an sdist has nothing that is translated
    options={"build_ext": {"parallel": CORES}},
)
