"""No native module is left out of `make sanitize`."""

import subprocess
import sys

from sanitize import DRIVERS, HERE

SOURCES = HERE.parent / "src_ext"
MODULES = {".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in SOURCES.rglob("*.pyx")}


def test_every_native_module_is_driven_under_the_sanitizers_by_something_that_ci_runs() -> None:
    assert {module for driver in DRIVERS if driver.short for module in driver.modules.split()} == MODULES


def test_what_drives_a_module_is_there() -> None:
    assert all((HERE / file).is_file() for driver in DRIVERS for file in driver.files.split())


def test_without_the_sanitizers_a_pass_fails_and_says_how_to_run_it() -> None:
    command = [sys.executable, str(HERE / "sanitize.py"), "--seconds", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make sanitize" in done.stderr
