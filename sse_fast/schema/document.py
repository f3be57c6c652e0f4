"""The document of an app's typed events: made of its modules, or read from a file (`sse-fast schema` writes one)."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from sse_fast.base.modules import CannotImport, module_named
from sse_fast.errors import InvalidSchema
from sse_fast.event_rules import brief
from sse_fast.schema.definitions import Stream, streams_of
from sse_fast.schema.forms import schemas_of
from sse_fast.schema.shape import VERSION, Document, StreamForm, check, refuse_shared

MOST_BYTES = 4 * 1024 * 1024
INLINE = "{"


def read_schema(*sources: str) -> Document:
    """The document that a file has (`shop.json`, a path), or that of the streams of modules (`shop.events`); of several
    modules, one of all their streams. What begins with a brace is a document itself. Modules of the working directory
    come first. Raises InvalidSchema, in one line that names the source and says what to do."""
    whole = [source for source in sources if not names_module(source)]
    if not whole:
        return document_of(streams_in(sources), ", ".join(sources))
    if len(sources) > 1:
        called = "what begins with a brace" if whole[0].startswith(INLINE) else whole[0]
        raise InvalidSchema(f"{called} is a whole document, and goes alone; name it, or modules")
    if whole[0].startswith(INLINE):
        return parse(whole[0].encode("utf-8", "surrogatepass"), "the document")
    return read_file(Path(whole[0]))


def schema_of(given: str | Document | Iterable[Stream[Any]]) -> Document:
    """The document of what is given: streams, or what names them. Raises InvalidSchema."""
    if isinstance(given, str):
        return read_schema(*split(given))
    if isinstance(given, Mapping):
        return check(orjson.loads(orjson.dumps(given)), "the document")
    return document_of(given)


def split(sources: str) -> list[str]:
    """Several modules in one text, between commas."""
    return [sources] if sources.startswith(INLINE) else [each.strip() for each in sources.split(",")]


def names_module(source: str) -> bool:
    """Whether a module is meant, not a file and not a document."""
    is_file = source.endswith(".json") or (os.sep in source and not source.endswith(".py"))
    return not is_file and not source.startswith(INLINE)


def read_file(path: Path) -> Document:
    """Raises InvalidSchema."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidSchema(
            f"{path} cannot be read: {error.strerror}; `sse-fast schema MODULE -o {path}` writes it"
        ) from None
    return parse(text, str(path))


def parse(text: bytes, where: str) -> Document:
    """Raises InvalidSchema."""
    if len(text) > MOST_BYTES:
        raise InvalidSchema(f"{where} is larger than {MOST_BYTES} bytes, the most that a document has")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSchema(f"{where} is not JSON: {error}") from None
    return check(document, where)


def document_of(streams: Iterable[Stream[Any]], where: str = "schema") -> Document:
    """The JSON form of streams. Raises InvalidSchema."""
    streams = list(streams)
    forms = {kind: form for stream in streams for kind, (_, form) in stream.forms.items()}
    schemas, defs = schemas_of(list(forms), forms)
    listed: list[StreamForm] = []
    for stream in streams:
        form: StreamForm = {
            "name": stream.name,
            "channel": stream.template.text,
            "parameters": {name: {"type": kind} for name, kind in stream.parameters.items()},
            "events": {name: schemas[kind] for name, kind in stream.events.items()},
        }
        if stream.description:
            form["description"] = stream.description
        listed.append(form)
    refuse_shared(listed, where)  # before what follows: it names both
    # As it would be read: no other values than those of JSON, and each one its own.
    return check(orjson.loads(orjson.dumps({"sse_fast": VERSION, "streams": listed, "$defs": defs})), where)


def streams_in(modules: Sequence[str]) -> list[Stream[Any]]:
    """The streams that these modules have names for, each once. Raises InvalidSchema."""
    found: dict[Stream[Any], None] = {}
    for name in modules:
        streams = streams_of(vars(_imported(name)))
        if not streams:
            raise InvalidSchema(
                f"{name} has no streams; it defines one as `Comments = stream('item:{{item_id}}', CommentAdded)`, with "
                "`from sse_fast import stream`"
            )
        found |= dict.fromkeys(streams)
    return list(found)


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        hint = f"; its module is {name.removesuffix('.py').replace('/', '.')}" if name.endswith(".py") else ""
        raise InvalidSchema(f"{brief(name)} is neither a module, as shop.events, nor a file, as shop.json{hint}")
    try:
        return module_named(name)
    except CannotImport as error:
        hint = ". A file's name ends with .json" if error.__cause__ is None else ""
        raise InvalidSchema(f"{error}{hint}") from error.__cause__
