"""Allocations that fail, one by one: `allocations.c`, built at its first use, and what tests say with it."""

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from conftest import program

P = ParamSpec("P")
T = TypeVar("T")
SOURCE = Path(__file__).with_suffix("").parent / "allocations.c"
FOR_GOOD = sys.maxsize


@cache
def allocations() -> Any:
    """The module that fails allocations; ends the test if it cannot be built."""
    compiler = shlex.split(os.environ.get("CC", "")) or [program("cc")]
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory, "allocations" + str(sysconfig.get_config_var("EXT_SUFFIX")))
        include = sysconfig.get_paths()["include"]
        command = [*compiler, "-shared", "-fPIC", "-O1", f"-I{include}", str(SOURCE), "-o", str(built)]
        subprocess.run(command, check=True)
        spec = importlib.util.spec_from_file_location("allocations", built)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


class Failing:
    """The `number`th allocation fails; `lasting`: all from there on do, until what was being done has failed."""

    def __init__(self, number: int, *, lasting: bool = False) -> None:
        self.failed = False
        self.allocations = allocations()
        self.allocations.fail(number, FOR_GOOD if lasting else number)

    def once(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something with what fails. Afterwards there is memory again."""
        count = self.allocations.count
        count(True)
        try:
            return action(*args, **kwargs)
        finally:
            count(False)
            if not self.failed and self.allocations.failures():
                self.failed = True
                self.allocations.fail(FOR_GOOD, FOR_GOOD)

    def until_done(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it again where there was no memory for it, as callers may."""
        try:
            return self.once(action, *args, **kwargs)
        except MemoryError:
            return action(*args, **kwargs)
