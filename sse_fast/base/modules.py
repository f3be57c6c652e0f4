"""Python modules that a user names."""

import importlib
import os
import sys
from types import ModuleType


class CannotImport(Exception):
    """A module that a user has named cannot be had; the message says why, and what to do. Its cause, if it has one, was
    raised by the user's own code; without, there is no such module."""


def module_named(name: str) -> ModuleType:
    """Modules of the working directory come first. Raises CannotImport."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{name}.".startswith(f"{missing}."):
            raise CannotImport(
                f"there is no module {missing!r}, neither in {here} nor among what is installed; start in the "
                "directory of the app, or set PYTHONPATH"
            ) from None
        raise CannotImport(f"{name} needs the module {missing!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise CannotImport(f"{name} cannot be imported: {words_of(error)}") from error


def words_of(error: BaseException) -> str:
    """Of what somebody else's code has raised."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
