"""The typed events of `--schema`, read once, by the server's own process: all its workers check by one document,
whatever becomes of the file or of the modules meanwhile.

Modules are an app's, and do what they like when they are imported. So that is another process's affair, and workers
are handed what came of it: there, beside an app, importing them early would make hubs that are not the server's.
"""

import subprocess
import sys

import orjson

from sse_fast.errors import InvalidSchema
from sse_fast.schema.checking import Checker
from sse_fast.schema.document import names_module, parse, read_schema, split
from sse_fast.schema.shape import Document
from sse_fast.settings import Settings

MOST_HANDED_DOWN = 96 * 1024  # bytes: with all other settings it is one variable, which has at most 128 KiB (execve(2))
SECONDS = 60.0


def with_schema(settings: Settings) -> Settings:
    """The settings for workers. Raises InvalidSchema for a schema that nothing could be checked by."""
    if settings.schema is None:
        return settings
    sources = split(settings.schema)
    by_modules = all(map(names_module, sources))
    document = _of_modules(sources) if by_modules else read_schema(*sources)
    Checker(document)
    text = orjson.dumps(document)
    if len(text) <= MOST_HANDED_DOWN:
        return settings.model_copy(update={"schema": text.decode()})
    if by_modules:
        raise InvalidSchema(
            f"the document of {settings.schema} has {len(text)} bytes, and at most {MOST_HANDED_DOWN} are handed to "
            f"workers; write it to a file, sse-fast schema {' '.join(sources)} -o FILE.json, and name that"
        )
    return settings  # the file has been looked at, and is there for workers too


def _of_modules(modules: list[str]) -> Document:
    try:
        run = subprocess.run(
            [sys.executable, "-m", "sse_fast", "schema", *modules],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidSchema(f"to import {', '.join(modules)} took more than {SECONDS:g} s") from None
    if run.returncode:
        told = run.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidSchema(told[-1].removeprefix("sse-fast: ") if told else "the modules cannot be imported")
    return parse(run.stdout, ", ".join(modules))
