"""The extensions; everything else is in pyproject.toml.

SSE_FAST_DEBUG=1 builds with bounds checks, assertions and line tracing instead of speed. SSE_FAST_PORTABLE=1 leaves
out what needs Linux, which is left out elsewhere in any case. SSE_FAST_CFLAGS has flags for the compiler that come
after all others, as those of scripts/sanitized.
"""

import os
import shlex
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, "src_ext/base")
import system

DEBUG = os.environ.get("SSE_FAST_DEBUG") == "1"
FLAGS = system.DEBUG if DEBUG else system.FAST
LAST_FLAGS = shlex.split(os.environ.get("SSE_FAST_CFLAGS", ""))
MACROS = system.MACROS + ([("CYTHON_TRACE_NOGIL", "1")] if DEBUG else [])
CORES = system.cores()
ROOT = Path("src_ext")
SOURCES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.pyx"))}

# The qualified name decides where Cython looks for a .pxd: sse_fast/_native/, never beside the .pyx. And it does not
# follow the cimports of a .pxd that stands apart: without `stale`, a module built against an old struct would crash.
HEADERS = sorted(map(str, Path("sse_fast/_native").rglob("*.pxd")))
changed = max(Path(header).stat().st_mtime for header in HEADERS)
stale = any(made.stat().st_mtime < changed for made in Path("src_ext").rglob("*.c"))

extensions = [
    Extension(
        ".".join(("sse_fast._native", *module.split("/"))),
        [str(source)],
        depends=HEADERS,
        extra_compile_args=FLAGS + LAST_FLAGS,
        define_macros=MACROS,
    )
    for module, source in SOURCES.items()
    if system.is_built(module)
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


class Build(build_ext):
    """An editable install takes what stands in the tree already, if it was made of these sources in this way: with one
    more extra nothing is compiled again."""

    AS = Path("build/in_place")  # how the modules in the tree were made

    def run(self) -> None:
        how = repr((sys.version, FLAGS + LAST_FLAGS, MACROS, os.environ.get("CFLAGS"), os.environ.get("CC")))
        in_place = self.inplace
        self._as_asked = self.editable_mode and self.AS.exists() and self.AS.read_text() == how
        if in_place:
            self.AS.unlink(missing_ok=True)  # until all of them are made
        super().run()
        if in_place:
            self.AS.parent.mkdir(exist_ok=True)
            self.AS.write_text(how)

    def build_extension(self, extension: Extension) -> None:
        made = Path(self.get_ext_fullpath(extension.name))
        standing = Path(*extension.name.split(".")).parent / made.name
        if self._as_asked and standing.exists():
            sources = [*extension.sources, *extension.depends, "setup.py", "src_ext/base/system.py"]
            if standing.stat().st_mtime > max(Path(source).stat().st_mtime for source in sources):
                made.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(standing), str(made))
                return
        super().build_extension(extension)


setup(
    ext_modules=extensions if "sdist" in sys.argv else translated(),  # an sdist has nothing that is translated
    cmdclass={"build_ext": Build},
    options={"build_ext": {"parallel": CORES}},
)
