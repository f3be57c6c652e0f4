"""The extensions; everything else is in pyproject.toml.

SSE_FAST_DEBUG=1 builds with bounds checks, assertions and line tracing instead of speed.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("SSE_FAST_DEBUG") == "1"
MODULES = ("frame", "ring", "index", "fanout", "publication", "board", "stream_parser", "dial", "publisher", "swarm")

# The qualified name decides where Cython looks for a .pxd: sse_fast/_native/, never beside the .pyx.
extensions = [
    Extension(
        f"sse_fast._native.{name}",
        [f"src_ext/{name}.pyx"],
        extra_compile_args=["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-fno-plt"],
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if DEBUG else [],
    )
    for name in MODULES
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "linetrace": DEBUG,
        },
    )
)
